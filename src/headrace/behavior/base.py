"""The interface of every behaviour store, and the columns that it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..ops import history

Array = NDArray[Any]
EVERY_TYPE = history.EVERY_TYPE


@dataclass(frozen=True, slots=True)
class Events:
    """Events of several rows, end to end; oldest first within a row."""

    offsets: Array  # (R + 1,) int64
    item: Array  # (E,) int32
    category: Array  # (E,) int32, as it was when the event happened
    type: Array  # (E,) uint8
    time_ms: Array  # (E,) int64
    value: Array  # (E,) float32

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def none(cls, rows: int) -> Events:
        """No events in any of ``rows`` rows."""
        return cls(
            np.zeros(rows + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
        )

    def merge(self, later: Events, n: int) -> Events:
        """Row by row, the newest ``n`` of these events and ``later``'s, in order of time."""
        if not len(later):
            return self
        at, offsets = history.merge(self.time_ms, self.offsets, later.time_ms, later.offsets, n)
        return Events(
            offsets,
            np.concatenate([self.item, later.item])[at],
            np.concatenate([self.category, later.category])[at],
            np.concatenate([self.type, later.type])[at],
            np.concatenate([self.time_ms, later.time_ms])[at],
            np.concatenate([self.value, later.value])[at],
        )


class BehaviorStore(Protocol):
    """Reads are batched, as of a time (strictly before it), and answer with the newest ``n``.

    Users are rows of the log's user table; a user that the store does not know has no events.
    """

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        """The last ``n`` events of each user, of the types whose bits are set in the mask."""
        ...

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        """The last ``n`` events of each (user, category)."""
        ...
