"""The kernels of ``graph_search.py``.

B  requests    I  items    W  bytes of a bitmap of the items    F  nodes kept    K  best items
M  nodes of level 1    R  rows of ``shown``: one for all requests, or one each

A scored node is one int64, its key: score (32 bits, ordered like the float), item (30 bits, so that
of equal scores the lower item is the larger key), whether it may not be returned, whether the last
hop found it. The largest keys are the best nodes; no two of a request are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .prefetch import ask_for

Array = NDArray[Any]
MOST_ITEMS = 1 << 30
NOTHING = -(1 << 63)  # below all keys
_UNKNOWN = -(1 << 31)  # below all scores
_EXPONENT = 0x7F800000
_WORST = -_EXPONENT  # minus infinity
_MAGNITUDE = 0x7FFFFFFF
_HIDDEN, _NEW = 2, 1
_SEEN, _KNOWN, _FRESH = 0, 1, 2  # what a visit finds
_AHEAD = 8  # nodes whose links are asked for before they are needed


@njit(cache=True, nogil=True, inline="always")
def _ordered(bits: int) -> int:
    """Turn a float's bits into an integer that is ordered like the float, and back.

    What is not finite becomes minus infinity, and -0 becomes 0.
    """
    if bits & _EXPONENT == _EXPONENT:
        return _WORST
    return bits if bits >= 0 else -(bits & _MAGNITUDE)


@njit(cache=True, nogil=True, inline="always")
def _key(rank: int, item: int, shown_W: Array) -> Any:
    """The key of a node that was just found."""
    hidden = 0 if shown_W[item >> 3] >> (item & 7) & 1 else _HIDDEN
    return np.int64(rank) << 32 | (MOST_ITEMS - 1 - item) << 2 | hidden | _NEW


@njit(cache=True, nogil=True, inline="always")
def _item(key: int) -> int:
    return MOST_ITEMS - 1 - (key >> 2 & MOST_ITEMS - 1)


@njit(cache=True, nogil=True)
def unpack(key_N: Array) -> tuple[Array, Array]:
    """Items and the bits of their scores."""
    item_N = np.empty(len(key_N), np.int32)
    bits_N = np.empty(len(key_N), np.int32)
    for n in range(len(key_N)):
        rank = key_N[n] >> 32
        item_N[n] = _item(key_N[n])
        bits_N[n] = rank if rank >= 0 else -rank - (1 << 31)
    return item_N, bits_N


@njit(cache=True, nogil=True)
def without(bits_W: Array, offsets: Array, item_X: Array, num_items: int) -> Array:
    """The bits once a request, ``(B, W)``, less those of the items that it excludes."""
    shown_BW = np.empty((len(offsets) - 1, len(bits_W)), np.uint8)
    for b in range(len(offsets) - 1):
        shown_BW[b] = bits_W
        for x in range(offsets[b], offsets[b + 1]):
            if 0 <= item_X[x] < num_items:
                shown_BW[b, item_X[x] >> 3] &= ~np.uint8(1 << (item_X[x] & 7))
    return shown_BW


@njit(cache=True, nogil=True)
def descend(front_BF: Array, front_size_B: Array, visited_BW: Array, going_B: Array) -> None:
    """Begin a level: what was kept is visited and, for its first hop, new."""
    for b in range(len(front_size_B)):
        going_B[b] = True
        visited_BW[b] = 0
        for f in range(front_size_B[b]):
            item = _item(front_BF[b, f])
            visited_BW[b, item >> 3] |= np.uint8(1 << (item & 7))
            front_BF[b, f] |= _NEW


@njit(cache=True, nogil=True)
def expand(
    neighbours: Array,
    row_of_I: Array,
    above_I: Array,
    front_BF: Array,
    front_size_B: Array,
    going_B: Array,
    visited_BW: Array,
    scored_BW: Array,
    memory_BM: Array,
    shown_RW: Array,
) -> tuple[Array, Array, Array, Array]:
    """Visit the neighbours of what is new in front.

    Returns the items to be scored and their offsets ``(B+1,)``, and likewise the keys of those that
    were scored on a coarser level.
    """
    size = len(front_size_B)
    width = neighbours.shape[1]
    room = front_size_B.sum() * width
    fresh, fresh_offsets = np.empty(room, np.int32), np.zeros(size + 1, np.int64)
    known, known_offsets = np.empty(room, np.int64), np.zeros(size + 1, np.int64)
    num_fresh = num_known = 0
    for b in range(size):
        visited_W, scored_W = visited_BW[b], scored_BW[b]
        shown_W = shown_RW[b if len(shown_RW) > 1 else 0]
        kept = front_size_B[b] if going_B[b] else 0
        for f in range(kept):
            key = front_BF[b, f]
            if f + _AHEAD < kept and front_BF[b, f + _AHEAD] & _NEW:
                ask_for(neighbours, row_of_I[_item(front_BF[b, f + _AHEAD])])
            if not key & _NEW:
                continue
            front_BF[b, f] = key & ~_NEW
            row_W = neighbours[row_of_I[_item(key)]]
            for k in range(width):
                i = row_W[k]
                if i < 0:
                    break
                met = _visit(visited_W, scored_W, i)
                if met == _KNOWN:
                    known[num_known] = _key(memory_BM[b, above_I[i]], i, shown_W)
                    num_known += 1
                elif met == _FRESH:
                    fresh[num_fresh] = i
                    num_fresh += 1
        fresh_offsets[b + 1], known_offsets[b + 1] = num_fresh, num_known
    return fresh[:num_fresh], fresh_offsets, known[:num_known], known_offsets


@njit(cache=True, nogil=True)
def plant(
    offsets: Array,
    item_S: Array,
    above_I: Array,
    visited_BW: Array,
    scored_BW: Array,
    memory_BM: Array,
    shown_RW: Array,
) -> tuple[Array, Array, Array, Array]:
    """Visit given items of each request, as ``expand`` visits neighbours; ignores unknown ones."""
    size = len(offsets) - 1
    fresh, fresh_offsets = np.empty(len(item_S), np.int32), np.zeros(size + 1, np.int64)
    known, known_offsets = np.empty(len(item_S), np.int64), np.zeros(size + 1, np.int64)
    num_fresh = num_known = 0
    for b in range(size):
        shown_W = shown_RW[b if len(shown_RW) > 1 else 0]
        for s in range(offsets[b], offsets[b + 1]):
            i = item_S[s]
            if i < 0 or i >= len(above_I):
                continue
            met = _visit(visited_BW[b], scored_BW[b], i)
            if met == _KNOWN:
                known[num_known] = _key(memory_BM[b, above_I[i]], i, shown_W)
                num_known += 1
            elif met == _FRESH:
                fresh[num_fresh] = i
                num_fresh += 1
        fresh_offsets[b + 1], known_offsets[b + 1] = num_fresh, num_known
    return fresh[:num_fresh], fresh_offsets, known[:num_known], known_offsets


@njit(cache=True, nogil=True)
def _visit(visited_W: Array, scored_W: Array, i: int) -> int:
    """Mark a node; whether it was marked before, or has a score already, or is new."""
    at, bit = i >> 3, np.uint8(1 << (i & 7))
    if visited_W[at] & bit:
        return _SEEN
    visited_W[at] |= bit
    return _KNOWN if scored_W[at] & bit else _FRESH


@njit(cache=True, nogil=True)
def absorb(
    fresh: Array,
    bits: Array,
    fresh_offsets: Array,
    known: Array,
    known_offsets: Array,
    above_I: Array,
    remember: bool,
    add: bool,
    stop: float,
    kept_B: Array,
    limit_B: Array,
    front_BF: Array,
    front_size_B: Array,
    best_BK: Array,
    best_size_B: Array,
    going_B: Array,
    scored_BW: Array,
    memory_BM: Array,
    shown_RW: Array,
) -> None:
    """Take up scored nodes: to ``add`` them to those in front, or to replace these.

    Scores come as their bits. A request that found nothing keeps its front, and stops.
    """
    size = len(kept_B)
    longest = (np.diff(fresh_offsets) + np.diff(known_offsets)).max()
    room = np.empty(longest + max(front_BF.shape[1], best_BK.shape[1]), np.int64)
    key_N = np.empty(longest, np.int64)
    spare = np.empty_like(room)
    for b in range(size):
        shown_W = shown_RW[b if len(shown_RW) > 1 else 0]
        num_known = num = known_offsets[b + 1] - known_offsets[b]
        key_N[:num] = known[known_offsets[b] : known_offsets[b + 1]]
        for n in range(fresh_offsets[b], fresh_offsets[b + 1]):
            i, rank = fresh[n], _ordered(bits[n])
            key_N[num] = _key(rank, i, shown_W)
            num += 1
            if remember:
                scored_BW[b, i >> 3] |= np.uint8(1 << (i & 7))
                memory_BM[b, above_I[i]] = rank
        if num == 0:
            going_B[b] = False
            continue
        best_size_B[b], renewed = _improve(best_BK[b], best_size_B[b], key_N[num_known:num], room)
        going_B[b] = going_B[b] and renewed >= stop * best_size_B[b]
        front_size_B[b] = _advance(
            front_BF[b],
            front_size_B[b] if add else 0,
            key_N[:num],
            kept_B[b],
            limit_B[b],
            room,
            spare,
        )


@njit(cache=True, nogil=True)
def _improve(best_K: Array, size: int, key_N: Array, room: Array) -> tuple[int, int]:
    """Let new nodes into the answer; its size, and how much of it is new."""
    full = size == len(best_K)
    floor = best_K[:size].min() if full else np.int64(NOTHING)
    total = size
    room[:size] = best_K[:size]
    for key in key_N:
        if key > floor and not key & _HIDDEN and key >> 32 > _WORST:
            room[total] = key
            total += 1
    if total > len(best_K):
        _partition(room, total, len(best_K))
        total = len(best_K)
    renewed = 0
    for k in range(total):
        renewed += room[k] & _NEW
        best_K[k] = room[k] & ~_NEW
    return total, renewed


@njit(cache=True, nogil=True)
def _advance(
    front_F: Array, size: int, key_N: Array, kept: int, limit: int, room: Array, spare: Array
) -> int:
    """Keep the best nodes of old and new: ``kept`` that may be returned, at most ``limit``."""
    num_shown, floor = 0, np.int64(NOTHING)
    if size >= kept:
        floor = front_F[0]
        for f in range(size):
            num_shown += 0 if front_F[f] & _HIDDEN else 1
            floor = min(floor, front_F[f])
        if num_shown < kept and size < limit:
            floor = np.int64(NOTHING)
    room[:size] = front_F[:size]
    for key in key_N:
        if key > floor:
            room[size] = key
            size += 1
    size = _cut(room, size, kept, limit, spare)
    front_F[:size] = room[:size]
    return size


@njit(cache=True, nogil=True)
def _cut(keys: Array, size: int, kept: int, limit: int, spare: Array) -> int:
    """Move the best to the front: the fewest that hold ``kept`` shown ones, or ``limit``."""
    num_shown = 0
    for k in range(size):
        if not keys[k] & _HIDDEN:
            spare[num_shown] = keys[k]
            num_shown += 1
    if num_shown == size and size > kept:
        _partition(keys, size, kept)
        return kept
    if num_shown >= kept:
        _partition(spare, num_shown, kept)
        floor = spare[:kept].min()
        total, size = size, 0
        for k in range(total):
            if keys[k] >= floor:
                keys[size] = keys[k]
                size += 1
    if size > limit:
        _partition(keys, size, limit)
        return limit
    return size


@njit(cache=True, nogil=True)
def _partition(keys: Array, size: int, kept: int) -> None:
    """Move the ``kept`` largest of the first ``size`` keys to the front, in no order (Hoare)."""
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        a, m, z = keys[low], keys[middle], keys[high]
        pivot = max(min(a, m), min(max(a, m), z))
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if kept <= j:
            high = j
        elif kept >= i + 1:
            low = i
        else:
            break
