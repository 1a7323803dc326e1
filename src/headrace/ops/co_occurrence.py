"""Which items occur together in the same units: baskets, pages or lives of users.

``item_X`` cut by ``unit_offsets`` are each unit's distinct items, ``unit_X`` cut by
``item_offsets`` each item's units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def cosine(
    unit_offsets: Array,
    item_X: Array,
    item_offsets: Array,
    unit_X: Array,
    weight_U: Array,
    keep: int,
    shrink: float,
) -> tuple[Array, Array, Array]:
    """The ``keep`` best neighbours of each item by weighted cosine of the units they share.

    ``w_ij = sum_{u has i and j} weight_u / (sqrt(n_i n_j) + shrink)``, n counting units. Returns
    offsets ``(I+1,)``, neighbours and weights, best first, ties by item.
    """
    num_items = item_offsets.shape[0] - 1
    offsets = np.zeros(num_items + 1, np.int64)
    neighbour = np.empty(num_items * 8, np.int32)
    weight = np.empty(num_items * 8, np.float32)
    total = np.zeros(num_items)
    touched = np.empty(num_items, np.int32)
    for i in range(num_items):
        found = 0
        for x in range(item_offsets[i], item_offsets[i + 1]):
            u = unit_X[x]
            for y in range(unit_offsets[u], unit_offsets[u + 1]):
                j = item_X[y]
                if j != i:
                    if total[j] == 0:
                        touched[found] = j
                        found += 1
                    total[j] += weight_U[u]
        others = np.sort(touched[:found])
        score = np.empty(found, np.float32)
        for k in range(found):
            n_j = item_offsets[others[k] + 1] - item_offsets[others[k]]
            n_i = item_offsets[i + 1] - item_offsets[i]
            score[k] = total[others[k]] / (np.sqrt(np.float64(n_i) * n_j) + shrink)
            total[others[k]] = 0
        best = np.argsort(-score, kind="mergesort")[:keep]
        start = offsets[i]
        while start + len(best) > neighbour.shape[0]:
            neighbour = np.concatenate((neighbour, np.empty_like(neighbour)))
            weight = np.concatenate((weight, np.empty_like(weight)))
        for k in range(len(best)):
            neighbour[start + k] = others[best[k]]
            weight[start + k] = score[best[k]]
        offsets[i + 1] = start + len(best)
    return offsets, neighbour[: offsets[-1]].copy(), weight[: offsets[-1]].copy()


@njit(cache=True, nogil=True)
def gather(
    offsets: Array,
    neighbour: Array,
    weight: Array,
    seed_offsets: Array,
    seed_E: Array,
    seed_weight_E: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
) -> tuple[Array, Array, Array]:
    """Add up the neighbours of each request's seeds: offsets ``(B+1,)``, items, scores, best first.

    Excluded items and item 0 are left out.
    """
    size = seed_offsets.shape[0] - 1
    num_items = offsets.shape[0] - 1
    out = np.zeros(size + 1, np.int64)
    room = 0
    for b in range(size):
        room += quota_B[b]
    item_N = np.empty(room, np.int64)
    score_N = np.empty(room, np.float32)
    total = np.zeros(num_items, np.float32)
    touched = np.empty(num_items, np.int32)
    for b in range(size):
        found = 0
        for e in range(seed_offsets[b], seed_offsets[b + 1]):
            i = seed_E[e]
            if 0 < i < num_items:
                for k in range(offsets[i], offsets[i + 1]):
                    j = neighbour[k]
                    if total[j] == 0:
                        touched[found] = j
                        found += 1
                    total[j] += weight[k] * seed_weight_E[e]
        for x in range(exclude_offsets[b], exclude_offsets[b + 1]):
            if exclude_X[x] < num_items:
                total[exclude_X[x]] = -1
        items = np.sort(touched[:found])
        score = np.empty(found, np.float32)
        for k in range(found):
            score[k] = total[items[k]]
            total[items[k]] = 0
        for x in range(exclude_offsets[b], exclude_offsets[b + 1]):
            if exclude_X[x] < num_items:
                total[exclude_X[x]] = 0
        n = out[b]
        for k in np.argsort(-score, kind="mergesort"):
            if n - out[b] >= quota_B[b] or score[k] <= 0:
                break
            item_N[n], score_N[n] = items[k], score[k]
            n += 1
        out[b + 1] = n
    return out, item_N[: out[-1]].copy(), score_N[: out[-1]].copy()


@njit(cache=True, nogil=True)
def swing(
    unit_offsets: Array,
    item_X: Array,
    item_offsets: Array,
    unit_X: Array,
    keep: int,
    alpha: float,
    most_units: int,
) -> tuple[Array, Array, Array]:
    """The ``keep`` best neighbours of each item by the pairs of units that share both.

    ``s_ij = sum_{u<v has i and j} 1/sqrt(|I_u||I_v|) / (alpha + |I_u & I_v - {i}|)``. Of an item
    in more than ``most_units`` units, evenly spaced ones are taken. Returns as ``cosine``.
    """
    num_items = item_offsets.shape[0] - 1
    offsets = np.zeros(num_items + 1, np.int64)
    neighbour = np.empty(num_items * 8, np.int32)
    weight = np.empty(num_items * 8, np.float32)
    total = np.zeros(num_items)
    touched = np.empty(num_items, np.int32)
    owner = np.full(num_items, -1, np.int64)  # the pass that last marked an item
    shared = np.empty(num_items, np.int32)
    mark = np.int64(0)
    for i in range(num_items):
        there = item_offsets[i + 1] - item_offsets[i]
        taken = min(there, most_units)
        found = 0
        for a in range(taken):
            u = unit_X[item_offsets[i] + a * there // taken]
            mark += 1
            for x in range(unit_offsets[u], unit_offsets[u + 1]):
                owner[item_X[x]] = mark
            for b in range(a + 1, taken):
                v = unit_X[item_offsets[i] + b * there // taken]
                both = 0
                for y in range(unit_offsets[v], unit_offsets[v + 1]):
                    j = item_X[y]
                    if j != i and owner[j] == mark:
                        shared[both] = j
                        both += 1
                size_u = unit_offsets[u + 1] - unit_offsets[u]
                size_v = unit_offsets[v + 1] - unit_offsets[v]
                worth = 1.0 / (np.sqrt(np.float64(size_u) * size_v) * (alpha + both))
                for k in range(both):
                    if total[shared[k]] == 0:
                        touched[found] = shared[k]
                        found += 1
                    total[shared[k]] += worth
        others = np.sort(touched[:found])
        score = np.empty(found, np.float32)
        for k in range(found):
            score[k] = total[others[k]]
            total[others[k]] = 0
        best = np.argsort(-score, kind="mergesort")[:keep]
        start = offsets[i]
        while start + len(best) > neighbour.shape[0]:
            neighbour = np.concatenate((neighbour, np.empty_like(neighbour)))
            weight = np.concatenate((weight, np.empty_like(weight)))
        for k in range(len(best)):
            neighbour[start + k] = others[best[k]]
            weight[start + k] = score[best[k]]
        offsets[i + 1] = start + len(best)
    return offsets, neighbour[: offsets[-1]].copy(), weight[: offsets[-1]].copy()
