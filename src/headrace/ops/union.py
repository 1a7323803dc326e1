"""Several ranked lists a request as one set of items, each with its place in every list."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def collect(item_N: Array, offsets_CX: Array, slot_I: Array) -> tuple[Array, Array, Array]:
    """The distinct items of each request with their place in every list, -1 none.

    List c of request b is ``item_N[offsets_CX[c, b]:offsets_CX[c, b + 1]]``. Items come in the
    order of first mention, lists one after the other. Returns offsets ``(B+1,)``, items
    ``(M,) int64`` and places ``(M, C) int32``. ``slot_I`` are zeros, int32, one for each item that
    may occur, and are left so.
    """
    lists, size = offsets_CX.shape[0], offsets_CX.shape[1] - 1
    out = np.zeros(size + 1, np.int64)
    item_M = np.empty(item_N.shape[0], np.int64)
    place_MC = np.full((item_N.shape[0], lists), -1, np.int32)
    m = 0
    for b in range(size):
        for c in range(lists):
            start = offsets_CX[c, b]
            for n in range(start, offsets_CX[c, b + 1]):
                i = item_N[n]
                if slot_I[i] == 0:
                    item_M[m] = i
                    m += 1
                    slot_I[i] = m - out[b]
                place_MC[out[b] + slot_I[i] - 1, c] = n - start
        for k in range(out[b], m):
            slot_I[item_M[k]] = 0
        out[b + 1] = m
    return out, item_M[:m].copy(), place_MC[:m].copy()


@njit(cache=True, nogil=True)
def quadratic(place_MC: Array, nearness_P: Array, weight_ZZ: Array) -> Array:
    """The upper triangle of ``zᵀ W z`` for each item, ``(M,) float64``.

    ``z = (1, f_0, n_0, f_1, n_1, ...)``: f_c is 1 if list c has the item, n_c is its nearness to
    the top, ``nearness_P`` at its place; both are 0 if it has not. Z = 1 + 2 C.
    """
    size, lists = place_MC.shape
    last = nearness_P.shape[0] - 1
    out = np.empty(size, np.float64)
    at = np.zeros(1 + 2 * lists, np.int64)
    z = np.ones(1 + 2 * lists, np.float64)
    for m in range(size):
        known = 1
        for c in range(lists):
            if place_MC[m, c] >= 0:
                at[known], z[known] = 1 + 2 * c, 1.0
                at[known + 1], z[known + 1] = 2 + 2 * c, nearness_P[min(place_MC[m, c], last)]
                known += 2
        total = 0.0
        for i in range(known):
            for j in range(i, known):
                total += weight_ZZ[at[i], at[j]] * z[i] * z[j]
        out[m] = total
    return out
