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
def count(
    offsets: Array, day: Array, total: Array, item_N: Array, day_N: Array, window: int
) -> Array:
    """Events of each item in the ``window`` whole days before each day, ``(N,)`` like total."""
    out = np.zeros(item_N.shape[0], total.dtype)
    for n in range(item_N.shape[0]):
        i = item_N[n]
        if 0 <= i < offsets.shape[0] - 1:
            low, high = offsets[i], offsets[i + 1]
            end = low + np.searchsorted(day[low:high], day_N[n], side="left")
            start = low + np.searchsorted(day[low:high], day_N[n] - window, side="left")
            if end > low:
                out[n] = total[end - 1]
            if start > low:
                out[n] -= total[start - 1]
    return out
