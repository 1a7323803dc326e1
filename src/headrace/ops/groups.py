"""Look-ups in exposure groups: which items were on show together, items ascending in a group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def find(offsets: Array, item: Array, group_N: Array, item_N: Array) -> Array:
    """Position of each item in its group, ``(N,) int64``; -1 when it is not there.

    Halves the group without a branch that hangs on what was read: processors guess those wrong half
    the time, which costs more than the reading.
    """
    out = np.full(group_N.shape[0], -1, np.int64)
    for n in range(group_N.shape[0]):
        g = group_N[n]
        if 0 <= g < offsets.shape[0] - 1 and offsets[g + 1] > offsets[g]:
            a, size, wanted = offsets[g], offsets[g + 1] - offsets[g], item_N[n]
            while size > 1:
                half = size // 2
                a += half * (item[a + half - 1] < wanted)
                size -= half
            if item[a] == wanted:
                out[n] = a
    return out


@njit(cache=True, nogil=True)
def taken(shown: Array, code_S: Array, at_N: Array) -> Array:
    """``code_S[shown[at]]`` of what is at ``at_N``, ``code_S[0]`` where that is -1."""
    out = np.empty(at_N.shape[0], code_S.dtype)
    for n in range(at_N.shape[0]):
        out[n] = code_S[shown[at_N[n]]] if at_N[n] >= 0 else code_S[0]
    return out
