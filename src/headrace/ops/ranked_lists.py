"""Lists made beforehand, one a key; a request takes the head of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def head(
    offsets: Array,
    item_Y: Array,
    list_B: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
    barred_I: Array,
) -> tuple[Array, Array]:
    """Where the first ``quota_B`` items of each request's list stand that it does not exclude.

    ``list_B`` is the row of lists ``item_Y`` cut by ``offsets`` that a request reads, -1 none.
    Returns offsets ``(B+1,)`` and positions in ``item_Y``, ``(N,) int64``. ``barred_I`` are zeros,
    uint8, one for each item of the lists, and are left so.
    """
    size = list_B.shape[0]
    out = np.zeros(size + 1, np.int64)
    room = 0
    for b in range(size):
        if list_B[b] >= 0:
            room += min(quota_B[b], offsets[list_B[b] + 1] - offsets[list_B[b]])
    position_N = np.empty(room, np.int64)
    n = 0
    for b in range(size):
        if list_B[b] >= 0:
            _mark(barred_I, exclude_X[exclude_offsets[b] : exclude_offsets[b + 1]], 1)
            for y in range(offsets[list_B[b]], offsets[list_B[b] + 1]):
                if n - out[b] >= quota_B[b]:
                    break
                if not barred_I[item_Y[y]]:
                    position_N[n] = y
                    n += 1
            _mark(barred_I, exclude_X[exclude_offsets[b] : exclude_offsets[b + 1]], 0)
        out[b + 1] = n
    return out, position_N[:n].copy()


@njit(cache=True, nogil=True)
def _mark(barred_I: Array, item_X: Array, flag: int) -> None:
    for i in item_X:
        if i < barred_I.shape[0]:
            barred_I[i] = flag
