"""Scored nodes as numbers that order as they should, and the best of them kept.

W  bytes of a bitmap of the items    F  nodes kept    K  best items    N  scored nodes

A scored node is one int64, its key: score (32 bits, ordered like the float), item (30 bits, so that
of equal scores the lower item is the larger key), whether it may not be returned, whether the last
hop found it. The largest keys are the best nodes; no two of a request are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_ITEMS = 1 << 30
NOTHING = -(1 << 63)  # below all keys
HIDDEN, NEW = 2, 1
_EXPONENT = 0x7F800000
_WORST = -_EXPONENT  # minus infinity
_MAGNITUDE = 0x7FFFFFFF
_SHORT = 12  # keys that are sorted rather than parted


@njit(cache=True, nogil=True, inline="always")
def ordered(bits: int) -> int:
    """Turn a float's bits into an integer that is ordered like the float, and back.

    What is not finite becomes minus infinity, and -0 becomes 0.
    """
    if bits & _EXPONENT == _EXPONENT:
        return _WORST
    return bits if bits >= 0 else -(bits & _MAGNITUDE)


@njit(cache=True, nogil=True, inline="always")
def key_of(rank: int, item: int, shown_W: Array) -> Any:
    """The key of a node that was just found."""
    hidden = 0 if shown_W[item >> 3] >> (item & 7) & 1 else HIDDEN
    return np.int64(rank) << 32 | (MOST_ITEMS - 1 - item) << 2 | hidden | NEW


@njit(cache=True, nogil=True, inline="always")
def item_of(key: int) -> int:
    """The item of a key."""
    return MOST_ITEMS - 1 - (key >> 2 & MOST_ITEMS - 1)


@njit(cache=True, nogil=True)
def unpack(key_N: Array) -> tuple[Array, Array]:
    """Items and the bits of their scores."""
    item_N = np.empty(len(key_N), np.int32)
    bits_N = np.empty(len(key_N), np.int32)
    for n in range(len(key_N)):
        rank = key_N[n] >> 32
        item_N[n] = item_of(key_N[n])
        bits_N[n] = rank if rank >= 0 else -rank - (1 << 31)
    return item_N, bits_N


@njit(cache=True, nogil=True)
def improve(
    best_K: Array, size: int, key_N: Array, first: int, last: int, room: Array, spare: Array
) -> tuple[int, int]:
    """Let the nodes from ``first`` to ``last`` into the answer; its size, how much of it is new."""
    full = size == len(best_K)
    floor = np.int64(NOTHING)
    if full:
        floor = best_K[0]
        for k in range(size):
            floor = min(floor, best_K[k])
    total = size
    room[:size] = best_K[:size]
    for n in range(first, last):
        key = key_N[n]
        if key > floor and not key & HIDDEN and key >> 32 > _WORST:
            room[total] = key
            total += 1
    if total > len(best_K):
        _part(room, total, len(best_K), spare)
        total = len(best_K)
    renewed = 0
    for k in range(total):
        renewed += room[k] & NEW
        best_K[k] = room[k] & ~NEW
    return total, renewed


@njit(cache=True, nogil=True)
def advance(
    front_F: Array,
    size: int,
    key_N: Array,
    num: int,
    kept: int,
    limit: int,
    room: Array,
    spare: Array,
) -> int:
    """Keep the best of old and ``num`` new: ``kept`` that may be returned, at most ``limit``."""
    num_shown, floor = 0, np.int64(NOTHING)
    if size >= kept:
        floor = front_F[0]
        for f in range(size):
            num_shown += 0 if front_F[f] & HIDDEN else 1
            floor = min(floor, front_F[f])
        if num_shown < kept and size < limit:
            floor = np.int64(NOTHING)
    room[:size] = front_F[:size]
    for n in range(num):
        room[size] = key_N[n]
        size += key_N[n] > floor
    size = _cut(room, size, kept, limit, spare)
    front_F[:size] = room[:size]
    return size


@njit(cache=True, nogil=True)
def _cut(keys: Array, size: int, kept: int, limit: int, spare: Array) -> int:
    """Move the best to the front: the fewest that hold ``kept`` shown ones, or ``limit``."""
    num_shown = 0
    for k in range(size):
        num_shown += 0 if keys[k] & HIDDEN else 1
    if num_shown == size and size > kept:
        _part(keys, size, kept, spare)
        return kept
    if num_shown >= kept:
        floor = _floor(keys, size, kept)
        total, size = size, 0
        for k in range(total):
            if keys[k] >= floor:
                keys[size] = keys[k]
                size += 1
    if size > limit:
        _part(keys, size, limit, spare)
        return limit
    return size


@njit(cache=True, nogil=True)
def _floor(keys: Array, size: int, kept: int) -> Any:
    """The least of the ``kept`` largest that may be returned."""
    shown, num = np.empty(size, np.int64), 0
    for k in range(size):
        if not keys[k] & HIDDEN:
            shown[num] = keys[k]
            num += 1
    _part(shown, num, kept, np.empty(num, np.int64))
    return shown[:kept].min()


@njit(cache=True, nogil=True)
def _part(keys: Array, size: int, kept: int, spare: Array) -> None:
    """Move the ``kept`` largest of the first ``size`` keys to the front, in no order.

    Each key is written to both ends of ``spare``, of which one moves on: a branch that nobody can
    foretell would cost more.
    """
    low, high = 0, size
    while high - low > _SHORT:
        a, m, z = keys[low], keys[(low + high) // 2], keys[high - 1]
        pivot = max(min(a, m), min(max(a, m), z))
        i, j = low, high - 1
        for k in range(low, high):
            key = keys[k]
            spare[i] = key
            spare[j] = key
            large = np.int64(key >= pivot)
            i += large
            j -= 1 - large
        for k in range(low, high):
            keys[k] = spare[k]
        if kept == i:
            return
        low, high = (low, i) if kept < i else (i, high)
    for k in range(low + 1, high):
        key, at = keys[k], k
        while at > low and keys[at - 1] < key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
