"""Several ranked lists a request into one, by what a place in each list is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import best

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
def merge(
    item_N: Array,
    offsets_CX: Array,
    worth_CP: Array,
    adds_up: bool,
    quota_B: Array,
    slot_I: Array,
) -> tuple[Array, Array, Array, Array]:
    """The ``quota_B`` distinct items of each request that are worth most, best first.

    An item at place p of list c is worth ``worth_CP[c, p]``, at later places than there are the
    last; worths of several lists add up, or else the highest counts. Equal ones go by first
    mention: earlier list, earlier place. Lists and ``slot_I`` as in ``collect``. Returns offsets
    ``(B+1,)``, items ``(K,) int64``, worths ``(K,) float32`` and the lists as bits ``(K,) int64``.
    """
    lists, size = offsets_CX.shape[0], offsets_CX.shape[1] - 1
    last = worth_CP.shape[1] - 1
    out = np.zeros(size + 1, np.int64)
    room, longest = 0, 0
    for b in range(size):
        found = 0
        for c in range(lists):
            found += offsets_CX[c, b + 1] - offsets_CX[c, b]
        longest = max(longest, found)
        room += min(quota_B[b], found)
    item_K = np.empty(room, np.int64)
    worth_K = np.empty(room, np.float32)
    bits_K = np.empty(room, np.int64)
    item = np.empty(longest, np.int64)
    worth = np.empty(longest, np.float32)
    bits = np.empty(longest, np.int64)
    mention = np.arange(longest)
    for b in range(size):
        found = 0
        for c in range(lists):
            start = offsets_CX[c, b]
            for n in range(start, offsets_CX[c, b + 1]):
                this = worth_CP[c, min(n - start, last)]
                k = slot_I[item_N[n]] - 1
                if k < 0:
                    item[found], worth[found], bits[found] = item_N[n], this, 1 << c
                    found += 1
                    slot_I[item_N[n]] = found
                else:
                    worth[k] = worth[k] + this if adds_up else max(worth[k], this)
                    bits[k] |= 1 << c
        for k in range(found):
            slot_I[item[k]] = 0
        at = out[b]
        top = best(worth, mention, found, quota_B[b])
        for k in range(len(top)):
            item_K[at + k], worth_K[at + k] = item[top[k]], worth[top[k]]
            bits_K[at + k] = bits[top[k]]
        out[b + 1] = at + len(top)
    return out, item_K[: out[-1]].copy(), worth_K[: out[-1]].copy(), bits_K[: out[-1]].copy()
