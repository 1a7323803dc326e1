"""One step in a graph of items (``co_occurrence.py``), from each of a request's seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import put

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def gather(
    offsets: Array,
    neighbour: Array,
    weight: Array,
    seed_offsets: Array,
    seed_S: Array,
    worth_S: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
    total_I: Array,
) -> tuple[Array, Array, Array]:
    """Add up the neighbours of each request's seeds: offsets ``(B+1,)``, item, score, best first.

    ``total_I`` are zeros, float32, one for each item of the graph, and are left so.
    """
    size, num_items = seed_offsets.shape[0] - 1, offsets.shape[0] - 1
    out = np.zeros(size + 1, np.int64)
    item_N = np.empty(quota_B.sum(), np.int64)
    score_N = np.empty(quota_B.sum(), np.float32)
    touched = np.empty(num_items + 1, np.int32)
    score = np.empty(num_items, np.float32)
    for b in range(size):
        found = 0
        for s in range(seed_offsets[b], seed_offsets[b + 1]):
            i = seed_S[s]
            if 0 < i < num_items:
                own = worth_S[s]
                for k in range(offsets[i], offsets[i + 1]):
                    j, worth, before = neighbour[k], weight[k] * own, total_I[neighbour[k]]
                    touched[found] = j
                    # no branches to guess; what is added may be too small for a float
                    found += (before == 0) & (worth > 0)
                    total_I[j] = before + worth
        for x in range(exclude_offsets[b], exclude_offsets[b + 1]):
            if exclude_X[x] < num_items:
                total_I[exclude_X[x]] = 0
        n = 0
        for k in range(found):
            j = touched[k]
            touched[n], score[n] = j, total_I[j]
            n += (total_I[j] > 0) & (j > 0)
            total_I[j] = 0
        out[b + 1] = put(score, touched, n, quota_B[b], item_N, score_N, out[b])
    return out, item_N[: out[-1]].copy(), score_N[: out[-1]].copy()
