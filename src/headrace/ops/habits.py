"""Plain facts of a user's history, one pass over its events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
DAY_MS = 86_400_000
NAMES = (
    "events",
    "visits",
    "value",
    "value_28",
    "value_7",
    "events_28",
    "events_7",
    "visits_28",
    "days_since",
    "days_between",
    "value_visit",
    "value_last_visit",
)


@njit(cache=True, nogil=True)
def habits(
    offsets: Array, time_ms_E: Array, value_E: Array, now_ms_B: Array
) -> Array:  # (B, len(NAMES)) float64
    """Counts, sums and gaps; events are oldest first, those at one instant are one visit."""
    size = len(now_ms_B)
    out = np.zeros((size, 12))
    for b in range(size):
        start, end, now = offsets[b], offsets[b + 1], now_ms_B[b]
        last = -1
        for e in range(start, end):
            moment, value = time_ms_E[e], value_E[e]
            fresh = moment != last
            days = (now - moment) / DAY_MS
            if fresh:
                out[b, 1] += 1
                out[b, 11] = 0.0
            last = moment
            out[b, 2] += value
            out[b, 11] += value
            if days <= 28:
                out[b, 3] += value
                out[b, 5] += 1
                out[b, 7] += fresh
            if days <= 7:
                out[b, 4] += value
                out[b, 6] += 1
        out[b, 0] = end - start
        out[b, 8] = 400.0 if end == start else (now - last) / DAY_MS
        visits = out[b, 1]
        if visits > 1:
            out[b, 9] = (last - time_ms_E[start]) / DAY_MS / (visits - 1)
        else:
            out[b, 9] = 400.0
        if visits:
            out[b, 10] = out[b, 2] / visits
    return out
