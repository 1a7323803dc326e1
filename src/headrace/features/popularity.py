"""Point-in-time popularity of items, by whole days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..log import Log
from ..ops import popularity as ops

Array = NDArray[Any]
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Popularity:
    """Cumulative daily counts of every item; see ops/popularity.py."""

    offsets: Array
    day: Array
    total: Array

    @classmethod
    def of(cls, log: Log) -> Popularity:
        """Count all events of a log."""
        day = (log.event("time_ms") // DAY_MS).astype(np.int32)
        order = np.argsort(day, kind="stable")
        return cls(*ops.cumulate(log.event("item"), day, order, log.manifest.num_items))

    def count(self, item_N: Array, time_N: Array, window_days: int) -> Array:
        """Events of each item in the whole days before each time, ``(N,) int32``."""
        return ops.count(self.offsets, self.day, self.total, item_N, time_N // DAY_MS, window_days)
