"""Logged requests with what every action would have brought them.

N requests, J actions, F features, G families of actions, S statistics of pre-ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..data import Ragged
from ..errors import DataError

Array = NDArray[Any]
PLACES = (1, 5, 10, 20, 32, 64, 128)  # of the pre-ranker's order, whose worth is told
STATISTICS = ("candidates", "best_10", *(f"worth_{place}" for place in PLACES))


@dataclass(frozen=True)
class Logged:
    """What a replay leaves behind."""

    feature_NF: Array
    statistics_NGS: Array
    gain_NJ: Array  # the slate's value by the formula, as the widest plan sees its items
    real_NJ: Array  # value of what was really taken of the slate
    user_N: Array
    time_ms_N: Array

    def __len__(self) -> int:
        return len(self.user_N)

    def take(self, rows: Array) -> Logged:
        """Some of the requests."""
        return Logged(
            self.feature_NF[rows],
            self.statistics_NGS[rows],
            self.gain_NJ[rows],
            self.real_NJ[rows],
            self.user_N[rows],
            self.time_ms_N[rows],
        )

    def knowing(self, more_NX: Array) -> Logged:
        """With more known of each request beforehand."""
        return replace(self, feature_NF=np.concatenate([self.feature_NF, more_NX], axis=1))

    def only(self, action_J: Array, family_G: Array) -> Logged:
        """Some of the actions, and the families that they belong to."""
        return Logged(
            self.feature_NF,
            self.statistics_NGS[:, family_G],
            self.gain_NJ[:, action_J],
            self.real_NJ[:, action_J],
            self.user_N,
            self.time_ms_N,
        )

    @classmethod
    def join(cls, parts: Sequence[Logged]) -> Logged:
        """All requests, in order of time."""
        columns = [asdict(part) for part in parts]
        whole = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        return cls(**whole).take(np.argsort(whole["time_ms_N"], kind="stable"))

    def write(self, path: Path) -> None:
        """Keep as NumPy arrays."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **asdict(self))

    @classmethod
    def read(cls, path: Path) -> Logged:
        """Take up what ``write`` left. Raises DataError."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except OSError as error:
            remedy = "run `headrace allocate replay` first"
            raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, TypeError, EOFError, BadZipFile) as error:
            raise DataError(f"{path}: no replay ({error}); replay again") from None


def statistics(worth: Ragged) -> Array:  # (B, S) float64
    """Numbers of what pre-ranking told; ``worth`` is best first."""
    offsets, value = worth.offsets.numpy(), worth.values.double().numpy()
    size_B = np.diff(offsets)
    out_BS = np.zeros((len(size_B), len(STATISTICS)))
    out_BS[:, 0] = size_B
    total = np.concatenate([[0.0], np.cumsum(value)])
    out_BS[:, 1] = total[offsets[:-1] + np.minimum(size_B, 10)] - total[offsets[:-1]]
    for at, place in enumerate(PLACES, 2):
        there_B = size_B >= place
        out_BS[there_B, at] = value[offsets[:-1][there_B] + place - 1]
    return np.nan_to_num(out_BS, posinf=0.0, neginf=0.0)
