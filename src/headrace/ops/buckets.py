"""Which interval a number falls in: ids 1 and on between ascending edges, 0 for what is none.

N  numbers    M  edges
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def ids(edge_M: Array, number_N: Array) -> Array:  # (N,) int64
    """``1 + searchsorted(edge_M, number, "right")``, 0 for what is not a number.

    Columns repeat themselves, so the answer to the number before is kept.
    """
    out_N = np.empty(len(number_N), np.int64)
    last, found = np.nan, 0
    for n in range(len(number_N)):
        if number_N[n] != last:
            last = number_N[n]
            found = id_of(edge_M, last)
        out_N[n] = found
    return out_N


def ids_reference(edge_M: Array, number_N: Array) -> Array:  # (N,) int64
    """The same in plain NumPy."""
    placed_N = 1 + np.searchsorted(edge_M, number_N, side="right")
    return np.where(np.isnan(number_N), 0, placed_N)


@njit(nogil=True, inline="always")
def id_of(edge_M: Array, number: Any) -> int:
    """The id of one number."""
    if number != number:
        return 0
    low, high = 0, len(edge_M)
    while low < high:
        middle = (low + high) // 2
        if edge_M[middle] <= number:
            low = middle + 1
        else:
            high = middle
    return low + 1
