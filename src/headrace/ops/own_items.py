"""Add up weights of equal items within rows and rank the items."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def rank(
    offsets: Array,
    item_E: Array,
    weight_E: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
) -> tuple[Array, Array, Array]:
    """Distinct items of each row by the sum of their weights, at most ``quota_B`` a row.

    Ties go to the lower item; excluded items and item 0 are left out. Returns offsets ``(B+1,)``,
    items ``(N,) int64`` and sums ``(N,) float32``, best first.
    """
    size = offsets.shape[0] - 1
    out = np.zeros(size + 1, np.int64)
    item_N = np.empty(item_E.shape[0], np.int64)
    sum_N = np.empty(item_E.shape[0], np.float32)
    n = 0
    for b in range(size):
        items = item_E[offsets[b] : offsets[b + 1]]
        weights = weight_E[offsets[b] : offsets[b + 1]]
        excluded = np.sort(exclude_X[exclude_offsets[b] : exclude_offsets[b + 1]])
        order = np.argsort(items, kind="mergesort")
        distinct = np.empty(len(items), np.int64)
        total = np.zeros(len(items))
        found = 0
        for k in order:
            if found == 0 or distinct[found - 1] != items[k]:
                distinct[found] = items[k]
                found += 1
            total[found - 1] += weights[k]
        kept = 0
        for k in np.argsort(-total[:found], kind="mergesort"):
            if kept == quota_B[b]:
                break
            at = np.searchsorted(excluded, distinct[k])
            if distinct[k] > 0 and not (at < len(excluded) and excluded[at] == distinct[k]):
                item_N[n], sum_N[n] = distinct[k], total[k]
                n += 1
                kept += 1
        out[b + 1] = n
    return out, item_N[:n].copy(), sum_N[:n].copy()
