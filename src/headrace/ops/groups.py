"""Look-ups in exposure groups: which items were on show together, items ascending in a group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def find(offsets: Array, item: Array, group_N: Array, item_N: Array) -> Array:
    """Position of each item in its group, ``(N,) int64``; -1 when it is not there."""
    out = np.full(group_N.shape[0], -1, np.int64)
    for n in range(group_N.shape[0]):
        g = group_N[n]
        if 0 <= g < offsets.shape[0] - 1:
            a, z = offsets[g], offsets[g + 1]
            end = z
            while a < z:
                middle = (a + z) // 2
                if item[middle] < item_N[n]:
                    a = middle + 1
                else:
                    z = middle
            if a < end and item[a] == item_N[n]:
                out[n] = a
    return out
