"""The samples as every contender gets them: packed in one .npz, padded by those who need it.

N samples, E events, L length of a padded history. Ids count from 1; 0 is padding and unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """Samples in order of time: the first ``num_train`` are to learn from, the others to judge."""

    user_N: Array  # int64
    item_N: Array  # int64
    label_N: Array  # float32
    event_E: Array  # int32, items, oldest first
    offsets: Array  # (N + 1,) int64
    category_I: Array  # int64, of every item
    num_users: int
    num_categories: int
    num_train: int

    @classmethod
    def load(cls, path: Path) -> Data:
        """Read what ``save`` wrote."""
        with np.load(path) as file:
            columns = {name: file[name] for name in file.files}
        counts = ("num_users", "num_categories", "num_train")
        return cls(**{k: int(v) if k in counts else v for k, v in columns.items()})

    def save(self, path: Path) -> None:
        """Write all columns."""
        np.savez(path, **vars(self))

    @property
    def num_items(self) -> int:
        """Items, the unknown one included."""
        return len(self.category_I)

    @property
    def train(self) -> Array:
        """Rows to learn from."""
        return np.arange(self.num_train)

    @property
    def test(self) -> Array:
        """Rows to judge on."""
        return np.arange(self.num_train, len(self.user_N))

    def histories(self, rows: Array, length: int) -> tuple[Array, Array]:
        """The newest ``length`` events of some samples: items ``(N, L)`` padded behind, lengths."""
        end_N = self.offsets[rows + 1]
        kept_N = np.minimum(end_N - self.offsets[rows], length)
        column_L = np.arange(length)
        at_NL = np.minimum((end_N - kept_N)[:, None] + column_L, max(len(self.event_E) - 1, 0))
        item_NL = np.where(column_L < kept_N[:, None], self.event_E[at_NL], 0)
        return item_NL.astype(np.int64), kept_N

    def columns(self, rows: Array, length: int) -> dict[str, Array]:
        """Samples as peers with padded histories name their columns."""
        item_N = self.item_N[rows]
        item_NL, length_N = self.histories(rows, length)
        return {
            "user": self.user_N[rows],
            "item": item_N,
            "category": self.category_I[item_N],
            "hist_item": item_NL,
            "hist_category": self.category_I[item_NL],
            "length": length_N,
        }
