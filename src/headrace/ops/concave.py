"""The least concave, non-decreasing curve over points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def concave(gain_BJ: Array, cost_J: Array) -> Array:  # (B, J)
    """Each row's running maximum, then its upper hull along rising costs."""
    size, actions = gain_BJ.shape
    out_BJ = np.empty((size, actions))
    hull = np.empty(actions, np.int64)
    for b in range(size):
        top = -np.inf
        for j in range(actions):
            top = max(top, gain_BJ[b, j])
            out_BJ[b, j] = top
        count = 0
        for j in range(actions):
            while count >= 2:
                first, second = hull[count - 2], hull[count - 1]
                rise = (out_BJ[b, second] - out_BJ[b, first]) * (cost_J[j] - cost_J[first])
                wanted = (out_BJ[b, j] - out_BJ[b, first]) * (cost_J[second] - cost_J[first])
                if rise > wanted:
                    break
                count -= 1
            hull[count] = j
            count += 1
        for h in range(count - 1):
            first, last = hull[h], hull[h + 1]
            width = cost_J[last] - cost_J[first]
            for j in range(first + 1, last):
                share = (cost_J[j] - cost_J[first]) / width if width > 0 else 1.0
                out_BJ[b, j] = out_BJ[b, first] + share * (out_BJ[b, last] - out_BJ[b, first])
    return out_BJ
