"""Which items go together in the same units: baskets, or the lives of users.

``item_X`` cut by ``unit_offsets`` are the distinct items of each unit. ``place_X`` cut by
``item_offsets`` are the places in ``item_X`` where each item stands, ``unit_X`` the units there.
A graph of items is offsets ``(rows + 1,)``, neighbours ``(.,) int32`` and weights ``(.,) float32``,
best first, ties by item. Both builders make the rows of items ``first <= i < last``, so that
threads can share the work; how they share it changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import put

Array = NDArray[Any]
Graph = tuple[Array, Array, Array]


@njit(cache=True, nogil=True)
def cosine(
    first: int,
    last: int,
    unit_offsets: Array,
    item_X: Array,
    day_X: Array,
    item_offsets: Array,
    place_X: Array,
    unit_X: Array,
    weight_U: Array,
    fade_D: Array,
    least: int,
    keep: int,
) -> Graph:
    """The ``keep`` best neighbours by weighted cosine of the units that items share.

    ``w_ij = Σ_{u has i and j} weight_u fade[|day_ui - day_uj|] / sqrt(n_i n_j)``, n counting units.
    Pairs that share fewer than ``least`` units are left out.
    """
    num_items = item_offsets.shape[0] - 1
    total = np.zeros((num_items, 2), np.float32)  # weight and number of the units shared
    touched = np.empty(num_items, np.int32)
    score = np.empty(num_items, np.float32)
    offsets = np.zeros(last - first + 1, np.int64)
    neighbour = np.empty((last - first, keep), np.int32)
    weight = np.empty((last - first, keep), np.float32)
    for i in range(first, last):
        num_i = item_offsets[i + 1] - item_offsets[i]
        found = 0
        if num_i >= least:
            for x in range(item_offsets[i], item_offsets[i + 1]):
                u, day = unit_X[x], day_X[place_X[x]]
                for y in range(unit_offsets[u], unit_offsets[u + 1]):
                    j = item_X[y]
                    if total[j, 1] == 0:
                        touched[found] = j
                        found += 1
                    total[j, 0] += weight_U[u] * fade_D[abs(day_X[y] - day)]
                    total[j, 1] += 1
        n = 0
        for k in range(found):
            j = touched[k]
            if j != i and total[j, 1] >= least:
                num_j = item_offsets[j + 1] - item_offsets[j]
                touched[n] = j
                score[n] = total[j, 0] / np.sqrt(np.float64(num_i) * num_j)
                n += 1
            total[j] = 0
        _keep_best(i - first, score, touched, n, offsets, neighbour, weight)
    return _compact(offsets, neighbour, weight)


@njit(cache=True, nogil=True)
def swing(
    first: int,
    last: int,
    unit_offsets: Array,
    item_X: Array,
    item_offsets: Array,
    unit_X: Array,
    weight_U: Array,
    alpha: float,
    most_units: int,
    seed: int,
    keep: int,
) -> Graph:
    r"""The ``keep`` best neighbours by pairs of units that agree on little else.

    ``s(i, j) = Σ_{u<v have i and j} w_u w_v / (alpha + |I_u ∩ I_v \\ {i}|)``. At most
    ``most_units`` units of an item are looked at, drawn at random by ``seed`` and item.
    """
    num_items = item_offsets.shape[0] - 1
    slot = np.full(num_items, -1, np.int32)  # an item's row among those found beside i
    touched = np.empty(num_items, np.int32)
    count = np.empty(num_items, np.int32)
    start = np.empty(num_items + 1, np.int64)
    score = np.empty(num_items, np.float32)
    holder = np.empty(1024, np.int32)  # who of the units of i has an item, rows cut by ``start``
    pair = np.zeros((most_units, most_units), np.float32)
    offsets = np.zeros(last - first + 1, np.int64)
    neighbour = np.empty((last - first, keep), np.int32)
    weight = np.empty((last - first, keep), np.float32)
    for i in range(first, last):
        unit_A = _draw(unit_X[item_offsets[i] : item_offsets[i + 1]], most_units, seed, i)
        found = _beside(i, unit_A, unit_offsets, item_X, slot, touched, count, start)
        if start[found] > holder.shape[0]:
            holder = np.empty(2 * start[found], np.int32)
        _list_holders(unit_A, unit_offsets, item_X, slot, count, start, holder)
        _weigh_pairs(pair, holder, start, found, weight_U[unit_A], alpha)
        n = _add_pairs(pair, holder, start, found, slot, touched, score)
        _keep_best(i - first, score, touched, n, offsets, neighbour, weight)
    return _compact(offsets, neighbour, weight)


@njit(cache=True, nogil=True)
def _draw(unit_A: Array, most: int, seed: int, item: int) -> Array:
    """At most ``most`` of an item's units, in order; selection sampling, Knuth 3.4.2 S."""
    if len(unit_A) <= most:
        return unit_A
    np.random.seed((seed * 1_000_003 + item) % 4_294_967_296)
    out = np.empty(most, unit_A.dtype)
    n = 0
    for a in range(len(unit_A)):
        if np.random.random() * (len(unit_A) - a) < most - n:
            out[n] = unit_A[a]
            n += 1
    return out


@njit(cache=True, nogil=True)
def _beside(
    i: int,
    unit_A: Array,
    unit_offsets: Array,
    item_X: Array,
    slot: Array,
    touched: Array,
    count: Array,
    start: Array,
) -> int:
    """Find the items of i's units: number k of each in ``slot``, the item in ``touched[k]``.

    ``start`` makes room for the holders of each item that two units have; the seed and all others
    have none, and no slot. ``count`` is left zero. Returns how many were found.
    """
    found = 0
    for u in unit_A:
        for y in range(unit_offsets[u], unit_offsets[u + 1]):
            j = item_X[y]
            if slot[j] < 0:
                slot[j] = found
                touched[found] = j
                count[found] = 0
                found += 1
            count[slot[j]] += 1
    room = 0
    for k in range(found):
        start[k] = room
        if touched[k] == i or count[k] < 2:  # the seed itself, and what no pair shares
            slot[touched[k]] = -1
        else:
            room += count[k]
        count[k] = 0
    start[found] = room
    return found


@njit(cache=True, nogil=True)
def _list_holders(
    unit_A: Array,
    unit_offsets: Array,
    item_X: Array,
    slot: Array,
    count: Array,
    start: Array,
    holder: Array,
) -> None:
    """Write, for each item with a slot, the places in ``unit_A`` of the units that have it."""
    for a in range(len(unit_A)):
        for y in range(unit_offsets[unit_A[a]], unit_offsets[unit_A[a] + 1]):
            k = slot[item_X[y]]
            if k >= 0:
                holder[start[k] + count[k]] = a
                count[k] += 1


@njit(cache=True, nogil=True)
def _add_pairs(
    pair: Array,
    holder: Array,
    start: Array,
    found: int,
    slot: Array,
    touched: Array,
    score: Array,
) -> int:
    """Add up what the pairs of each item's holders say; move items that have any to the front.

    Leaves all slots empty. Returns how many items have a score.
    """
    n = 0
    for k in range(found):
        slot[touched[k]] = -1
        if start[k + 1] > start[k]:
            shared = np.float32(0)
            for p in range(start[k] + 1, start[k + 1]):
                for q in range(start[k], p):
                    shared += pair[holder[p], holder[q]]
            touched[n], score[n] = touched[k], shared
            n += 1
    return n


@njit(cache=True, nogil=True)
def _weigh_pairs(
    pair: Array, holder: Array, start: Array, found: int, weight_A: Array, alpha: float
) -> None:
    """Fill ``pair[a, b]``, b < a, with what each pair of units says for an item it shares."""
    for a in range(len(weight_A)):
        pair[a, :a] = 0
    for k in range(found):
        for p in range(start[k] + 1, start[k + 1]):
            for q in range(start[k], p):
                pair[holder[p], holder[q]] += 1
    for a in range(len(weight_A)):
        for b in range(a):
            pair[a, b] = weight_A[a] * weight_A[b] / (alpha + pair[a, b])


@njit(cache=True, nogil=True)
def _keep_best(
    row: int,
    score: Array,
    item: Array,
    size: int,
    offsets: Array,
    neighbour: Array,
    weight: Array,
) -> None:
    kept = put(score, item, size, neighbour.shape[1], neighbour[row], weight[row], 0)
    offsets[row + 1] = offsets[row] + kept


@njit(cache=True, nogil=True)
def _compact(offsets: Array, neighbour: Array, weight: Array) -> Graph:
    """Rows end to end, without the room that they did not fill."""
    neighbour_Y = np.empty(offsets[-1], np.int32)
    weight_Y = np.empty(offsets[-1], np.float32)
    for row in range(offsets.shape[0] - 1):
        start, end = offsets[row], offsets[row + 1]
        neighbour_Y[start:end] = neighbour[row, : end - start]
        weight_Y[start:end] = weight[row, : end - start]
    return offsets, neighbour_Y, weight_Y
