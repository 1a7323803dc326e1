"""The steps of ``graph_search.py``: to enter a level, to visit nodes, to take up their scores.

B  requests    I  items    W  bytes of a bitmap of the items    F  nodes kept    K  best items
M  nodes of level 1    R  rows of ``shown``: one for all requests, or one each    X  nodes visited
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .graph_keys import NEW, advance, improve, item_of, key_of, ordered
from .prefetch import ask_for

Array = NDArray[Any]
_SEEN, _KNOWN, _FRESH = 0, 1, 2  # what a visit finds
_AHEAD = 8  # nodes whose links are asked for before they are needed


class Walk(NamedTuple):
    """What is known of the requests of a search."""

    kept_LB: Array  # int64, nodes to keep on each level
    limit_LB: Array  # int64, and at most, with those that may not be returned
    shown_RW: Array  # uint8, items that may be returned
    above_I: Array  # int32, rows of level 1
    visited_BW: Array  # uint8, on this level
    scored_BW: Array  # uint8, on coarser levels
    memory_BM: Array  # int32, scores of those
    front_BF: Array  # int64
    front_size_B: Array
    best_BK: Array  # int64
    best_size_B: Array
    num_scored_B: Array
    going_B: Array  # bool


class Desk(NamedTuple):
    """What one hop found, request by request, and room to sort it."""

    fresh_X: Array  # int32, items to be scored
    fresh_offsets: Array  # (B+1,)
    bits_X: Array  # int32, the bits of their scores
    known_X: Array  # int64, keys of what was scored on a coarser level
    known_offsets: Array  # (B+1,)
    key_X: Array  # int64; the rest is room
    pool_X: Array
    spare_X: Array


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
def descend(walk: Walk) -> None:
    """Begin a level: what was kept is visited and, for its first hop, new."""
    for b in range(len(walk.front_size_B)):
        walk.going_B[b] = True
        front_F, visited_W = walk.front_BF[b], walk.visited_BW[b]
        visited_W[:] = 0
        for f in range(walk.front_size_B[b]):
            item = item_of(front_F[f])
            visited_W[item >> 3] |= np.uint8(1 << (item & 7))
            front_F[f] |= NEW


@njit(cache=True, nogil=True)
def plant(walk: Walk, desk: Desk, offsets: Array, item_S: Array) -> int:
    """Visit given items of each request, unknown ones ignored; how many were visited."""
    num = (0, 0)
    for b in range(len(offsets) - 1):
        num = _visit(walk, desk, b, item_S[offsets[b] : offsets[b + 1]], num)
        desk.fresh_offsets[b + 1], desk.known_offsets[b + 1] = num
    return num[0] + num[1]


@njit(cache=True, nogil=True)
def expand(walk: Walk, desk: Desk, neighbours: Array, row_of_I: Array) -> int:
    """Visit the neighbours of what is new in front; how many were visited."""
    num = (0, 0)
    for b in range(len(walk.front_size_B)):
        front_F = walk.front_BF[b]
        kept = walk.front_size_B[b] if walk.going_B[b] else 0
        for f in range(kept):
            key = front_F[f]
            if f + _AHEAD < kept and front_F[f + _AHEAD] & NEW:
                ask_for(neighbours, row_of_I[item_of(front_F[f + _AHEAD])])
            if key & NEW:
                front_F[f] = key & ~NEW
                num = _visit(walk, desk, b, neighbours[row_of_I[item_of(key)]], num)
        desk.fresh_offsets[b + 1], desk.known_offsets[b + 1] = num
    return num[0] + num[1]


@njit(cache=True, nogil=True, inline="always")
def _visit(walk: Walk, desk: Desk, b: int, item_S: Array, num: tuple[int, int]) -> tuple[int, int]:
    """Visit nodes of a request: after ``num`` others, to be scored and known already."""
    num_fresh, num_known = num
    visited_W, scored_W = walk.visited_BW[b], walk.scored_BW[b]
    for i in item_S:
        if 0 <= i < len(walk.above_I):
            at, bit = i >> 3, np.uint8(1 << (i & 7))
            if not visited_W[at] & bit:
                visited_W[at] |= bit
                if scored_W[at] & bit:
                    shown_W = walk.shown_RW[b if len(walk.shown_RW) > 1 else 0]
                    rank = walk.memory_BM[b, walk.above_I[i]]
                    desk.known_X[num_known] = key_of(rank, i, shown_W)
                    num_known += 1
                else:
                    desk.fresh_X[num_fresh] = i
                    num_fresh += 1
    return num_fresh, num_known


@njit(cache=True, nogil=True)
def absorb(walk: Walk, desk: Desk, level: int, add: bool, stop: float) -> None:
    """Take up scored nodes: to ``add`` them to those in front, or to replace these.

    A request that found nothing keeps its front, and stops.
    """
    for b in range(len(walk.front_size_B)):
        num = _gather(walk, desk, b, level > 0)
        if num == 0:
            walk.going_B[b] = False
            continue
        num_known = desk.known_offsets[b + 1] - desk.known_offsets[b]
        walk.num_scored_B[b] += num - num_known
        room = desk.pool_X, desk.spare_X
        size, renewed = improve(
            walk.best_BK[b], walk.best_size_B[b], desk.key_X, num_known, num, *room
        )
        walk.best_size_B[b] = size
        walk.going_B[b] = walk.going_B[b] and renewed >= stop * size
        walk.front_size_B[b] = advance(
            walk.front_BF[b],
            walk.front_size_B[b] if add else 0,
            desk.key_X,
            num,
            walk.kept_LB[level, b],
            walk.limit_LB[level, b],
            *room,
        )


@njit(cache=True, nogil=True)
def _gather(walk: Walk, desk: Desk, b: int, remember: bool) -> int:
    """Put the keys of a request's nodes together, the known ones first; how many."""
    shown_W = walk.shown_RW[b if len(walk.shown_RW) > 1 else 0]
    num = 0
    for n in range(desk.known_offsets[b], desk.known_offsets[b + 1]):
        desk.key_X[num] = desk.known_X[n]
        num += 1
    for n in range(desk.fresh_offsets[b], desk.fresh_offsets[b + 1]):
        i, rank = desk.fresh_X[n], ordered(desk.bits_X[n])
        desk.key_X[num] = key_of(rank, i, shown_W)
        num += 1
        if remember:
            walk.scored_BW[b, i >> 3] |= np.uint8(1 << (i & 7))
            walk.memory_BM[b, walk.above_I[i]] = rank
    return num
