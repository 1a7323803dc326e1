"""Features of an item that stay as they are for a whole day: popularity and delivery rates.

Where all requests are of one day, as in serving, an item's ids are made when first asked for and
kept until the day is over. Threads share them without a lock: a cell is written whole, and always
with the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops import crosses
from ..schema import RATES
from .delivery import Delivery
from .encoders import Bucket
from .popularity import DAY_MS, Popularity
from .space import FeatureSpace

Array = NDArray[Any]
POPULARITY = "item_popularity_"  # and a number of days
DAYS = 2  # that are kept: requests around midnight


class Daily:
    """Makes these features, for any items at any times."""

    def __init__(
        self, space: FeatureSpace, popularity: Popularity, delivery: Delivery | None
    ) -> None:
        """Without ``delivery`` nobody may ask for its rates."""
        self._popularity, self._delivery = popularity, delivery
        self._columns = {n: f.column or n for n, f in space.schema.features.items()}
        self._encoders = space.encoders
        kept = [n for n in space.schema.names("cross") if by_day(self._columns[n])]
        self._place = {n: place for place, n in enumerate(kept)}
        rows = max((space.encoders[n].rows for n in kept), default=0)
        self._shape = len(space.catalogue), len(kept)
        self._type = np.int16 if rows < np.iinfo(np.int16).max else np.int32
        self._days: tuple[tuple[int, Array], ...] = ()  # newest first

    def ids(
        self, names: Sequence[str], item_N: Array, time_B: Array, offsets: Array
    ) -> Mapping[str, Array]:  # (N,) int64 each
        """What the whole days before its request tell of each item; ``offsets`` cut the items."""
        day_B = time_B // DAY_MS
        if len(day_B) and bool((day_B == day_B[0]).all()):
            kept = [n for n in names if n in self._place]
            found = dict(zip(kept, self._of_day(kept, item_N, int(day_B[0])), strict=True))
        else:
            found = dict[str, Array]()
        time_N = (
            np.empty(0, np.int64) if len(found) == len(names) else time_B.repeat(np.diff(offsets))
        )
        return {n: found[n] if n in found else self._made(n, item_N, time_N) for n in names}

    def _of_day(self, names: Sequence[str], item_N: Array, day: int) -> Array:  # (F, N)
        if not names:
            return np.empty((0, len(item_N)), np.int64)
        id_IF = self._kept(day)
        column_F = np.array([self._place[n] for n in names])
        out_FN, lacking_M = crosses.made(id_IF, item_N, column_F)
        if len(lacking_M):
            item_M = item_N[lacking_M]
            time_M = np.full(len(item_M), day * DAY_MS)
            for f, name in enumerate(names):
                out_FN[f, lacking_M] = self._made(name, item_M, time_M)
                id_IF[item_M, column_F[f]] = out_FN[f, lacking_M] + 1
        return out_FN

    def _kept(self, day: int) -> Array:  # (I, F)
        for known, id_IF in self._days:
            if known == day:
                return id_IF
        id_IF = np.zeros(self._shape, self._type)
        self._days = ((day, id_IF), *self._days[: DAYS - 1])
        return id_IF

    def _made(self, name: str, item_N: Array, time_N: Array) -> Array:  # (N,)
        column, encoder = self._columns[name], self._encoders[name]
        assert isinstance(encoder, Bucket)
        if column in RATES:
            assert self._delivery is not None
            return encoder.encode_numbers(self._delivery.rate(column, item_N, time_N))
        window = int(column.removeprefix(POPULARITY))
        return encoder.encode_numbers(self._popularity.count(item_N, time_N, window).astype(float))


def by_day(column: str) -> bool:
    """Whether a cross column is one of these."""
    return column in RATES or column.startswith(POPULARITY)
