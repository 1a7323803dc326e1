"""Point-in-time delivery rates of items, by whole days.

Of the requests in which an item got into pre-ranking, ``item_delivery_D`` is the share that put it
into a slate, ``item_passing_D`` the share that passed it to the ranker, in the last D whole days:
the simplest statistic of what the later stages will do with it (the set route of cascade models).
A share of few requests is drawn to that of all items in the same days, as if ``DOUBT`` more had
gone like theirs. The running day never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..log import Log
from ..log.delivery import COLUMNS, ENTERED, PASSED, SHOWN, DeliveryFiles
from ..ops import popularity as ops
from ..schema import RATES
from .popularity import DAY_MS

Array = NDArray[Any]
DOUBT = 20.0  # requests
LONGEST_DAYS = max(days for _, days in RATES.values())
GOT = {"delivery": SHOWN, "passing": PASSED}


@dataclass(frozen=True)
class Delivery:
    """Cumulative daily counts of every item, as ops/popularity.py reads them.

    Row 0, which is no item, holds the sums over all.
    """

    offsets: Array  # (I + 1,) int64
    day: Array  # (n,) int32
    total: dict[str, Array]  # entered, passed, shown -> (n,) int64

    @classmethod
    def read(cls, log: Log, *, since_day: int | None = None) -> Delivery:
        """What was counted beside a log, by default ever. Raises DataError for a damaged file."""
        files = DeliveryFiles(log)
        days = [day for day in files.days() if since_day is None or day >= since_day]
        item, when, count = [], [], []
        for day in days:
            told = files.read(day)
            item += [np.zeros(1, np.int64), told.item]
            when.append(np.full(1 + len(told.item), day))
            count += [told.count_3n.sum(axis=1, keepdims=True), told.count_3n]
        if not days:
            return cls.none(log.manifest.num_items)
        return cls._of(
            np.concatenate(item),
            np.concatenate(when),
            np.concatenate(count, axis=1),
            log.manifest.num_items,
        )

    @classmethod
    def none(cls, num_items: int) -> Delivery:
        """Nothing was ever counted."""
        nothing = np.zeros(0, np.int64)
        return cls._of(nothing, nothing, np.zeros((3, 0), np.int64), num_items)

    @classmethod
    def _of(cls, item: Array, day: Array, count_3n: Array, num_items: int) -> Delivery:
        order = np.lexsort((day, item))
        offsets = np.searchsorted(item[order], np.arange(num_items + 1))
        every_3n = np.concatenate([np.zeros((3, 1), np.int64), count_3n[:, order]], axis=1)
        every_3n = every_3n.cumsum(axis=1)
        base_3n = np.repeat(every_3n[:, offsets[:-1]], np.diff(offsets), axis=1)
        total_3n = every_3n[:, 1:] - base_3n
        return cls(offsets, day[order].astype(np.int32), dict(zip(COLUMNS, total_3n, strict=True)))

    @classmethod
    def needed(cls, log: Log, features: Sequence[str]) -> Delivery:
        """What these features of the schema are made of.

        Raises DataError if nothing was ever counted, or a file is damaged.
        """
        found = cls.read(log)
        if not len(found.day):
            raise DataError(
                f"{DeliveryFiles(log).folder}: no counts there, of which schema.features."
                f"{features[0]} is made; replay a trained run, `headrace prerank delivery RUN`, "
                "or serve one with [serving] delivery = true"
            )
        return found

    def rate(self, column: str, item_N: Array, time_N: Array) -> Array:  # (N,) float64
        """A rate of RATES as of each time; not a number for items that never got that far."""
        what, days = RATES[column]
        part, whole = self.total[GOT[what]], self.total[ENTERED]
        day_N = time_N // DAY_MS
        return ops.share(self.offsets, self.day, part, whole, item_N, day_N, days, DOUBT)
