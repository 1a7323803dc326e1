"""How often an item occurred in the last whole days before a moment.

Counts are kept a day and item, cumulated: item i has the days day[offsets[i]:offsets[i+1]]
(ascending) and total[...], its events up to and including that day. The current day never counts,
so an answer as of a time cannot see that day's future.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def cumulate(
    item_E: Array, day_E: Array, order_E: Array, num_items: int
) -> tuple[Array, Array, Array]:
    """Build offsets, day and total from events; ``order_E`` sorts them by day."""
    last = np.full(num_items, -1, np.int64)
    offsets = np.zeros(num_items + 1, np.int64)
    for e in order_E:
        i = item_E[e]
        if day_E[e] != last[i]:
            offsets[i + 1] += 1
            last[i] = day_E[e]
    for i in range(num_items):
        offsets[i + 1] += offsets[i]
    day = np.empty(offsets[num_items], np.int32)
    total = np.zeros(offsets[num_items], np.int32)
    at = offsets[:num_items] - 1
    last[:] = -1
    for e in order_E:
        i = item_E[e]
        if day_E[e] != last[i]:
            at[i] += 1
            day[at[i]] = day_E[e]
            total[at[i]] = total[at[i] - 1] if at[i] > offsets[i] else 0
            last[i] = day_E[e]
        total[at[i]] += 1
    return offsets, day, total


@njit(cache=True, nogil=True)
def tally(count_I: Array, item_N: Array) -> None:
    """Add 1 for each of some items, in place."""
    for i in item_N:
        count_I[i] += 1


@njit(cache=True, nogil=True)
def count(
    offsets: Array, day: Array, total: Array, item_N: Array, day_N: Array, window: int
) -> Array:
    """Events of each item in the ``window`` whole days before ``day_N``, ``(N,) int32``."""
    out = np.zeros(item_N.shape[0], np.int32)
    for n in range(item_N.shape[0]):
        i = item_N[n]
        if 0 <= i < offsets.shape[0] - 1:
            start, end = _bounds(offsets, day, i, day_N[n], window)
            out[n] = _between(offsets, total, i, start, end)
    return out


@njit(cache=True, nogil=True)
def share(
    offsets: Array,
    day: Array,
    part: Array,
    whole: Array,
    item_N: Array,
    day_N: Array,
    window: int,
    doubt: float,
) -> Array:
    """Part of the whole of each item in the ``window`` days before, ``(N,) float64``.

    Drawn to the share of row 0, as if ``doubt`` more of the whole had gone like that; not a number
    where an item has no whole.
    """
    out = np.full(item_N.shape[0], np.nan)
    usual, of_day = 0.0, -1
    for n in range(item_N.shape[0]):
        i = item_N[n]
        if not 0 <= i < offsets.shape[0] - 1:
            continue
        start, end = _bounds(offsets, day, i, day_N[n], window)
        of = _between(offsets, whole, i, start, end)
        if of == 0:
            continue
        if day_N[n] != of_day:
            low, high = _bounds(offsets, day, 0, day_N[n], window)
            every = _between(offsets, whole, 0, low, high)
            usual = _between(offsets, part, 0, low, high) / max(every, 1)
            of_day = day_N[n]
        out[n] = (_between(offsets, part, i, start, end) + doubt * usual) / (of + doubt)
    return out


@njit(cache=True, nogil=True)
def _bounds(offsets: Array, day: Array, i: int, today: int, window: int) -> tuple[int, int]:
    """Where an item's days within the window begin and end."""
    low, high = offsets[i], offsets[i + 1]
    end = low + np.searchsorted(day[low:high], today, side="left")
    return low + np.searchsorted(day[low:end], today - window, side="left"), end


@njit(cache=True, nogil=True)
def _between(offsets: Array, total: Array, i: int, start: int, end: int) -> int:
    """What an item's total grew by from ``start`` to ``end``."""
    if end == start:
        return 0
    return total[end - 1] - (total[start - 1] if start > offsets[i] else 0)
