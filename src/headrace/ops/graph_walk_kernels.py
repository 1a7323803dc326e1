"""The kernels of ``graph_walk.py``: a level walked in one call, by one thread that others help.

The threads share a ``board`` of numbers. Items to be scored are cut into tiles, which all hops of a
request count on; whoever is free takes the next. Helpers that come late, or never, are not missed:
the one that walks scores a tile itself if another holds it for long, as one that the system has
taken off its core does. A helper keeps its scores to itself until it has the tile's owner changed,
which only one of the two can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from . import atomics
from .attention_score_kernels import TILE, Catalogue, Room, Unit, room_for, score_span
from .graph_search_kernels import Desk, Walk, absorb, descend, expand, plant

Array = NDArray[Any]
_NEXT, _END, _BASE, _COUNT, _ROWS, _OVER, _OWNERS = 0, 8, 9, 10, 11, 16, 24  # places on a board
_SCORED, _HELD = -1, -2  # instead of a tile's number, which says that its scores are wanted
LEAST = TILE // 2  # rows of a tile
_FEW = 10 * TILE  # items: fewer are cut into the least tiles
_PATIENCE = 100_000  # looks at the board without work, less than a millisecond: then a helper goes
_WAIT = 5_000  # looks at a tile that another holds, some microseconds


@njit(cache=True, nogil=True)
def walk_level(
    unit: Unit,
    items: Catalogue,
    walk: Walk,
    desk: Desk,
    board: Array,
    level: int,
    links: tuple[Array, Array],
    entry: tuple[Array, Array],
    hops: int,
    add: bool,
    stop: float,
    spent_3: Array,
) -> None:
    """Enter a level and expand it, as ``graph_search.search`` does, for one request.

    Adds what it took, in ticks, to ``spent_3``: visits, scores, choices.
    """
    room, begun = room_for(unit, items), atomics.ticks()
    descend(walk)
    if plant(walk, desk, entry[0], entry[1]):
        begun = _score_and_absorb(
            unit, items, room, walk, desk, board, level, True, stop, begun, spent_3
        )
        walk.going_B[0] = True
    for _ in range(hops):
        if not expand(walk, desk, links[0], links[1]):
            break
        begun = _score_and_absorb(
            unit, items, room, walk, desk, board, level, add, stop, begun, spent_3
        )
        if not walk.going_B[0]:
            break
    spent_3[0] += atomics.ticks() - begun


@njit(cache=True, nogil=True)
def _score_and_absorb(
    unit: Unit,
    items: Catalogue,
    room: Room,
    walk: Walk,
    desk: Desk,
    board: Array,
    level: int,
    add: bool,
    stop: float,
    begun: int,
    spent_3: Array,
) -> int:
    """Score what was visited and take it up; when that was done."""
    visited = atomics.ticks()
    count = desk.fresh_offsets[1]
    if count:
        score_X = desk.bits_X.view(np.float32)
        _score(unit, items, room, desk.fresh_X, count, score_X, board)
    scored = atomics.ticks()
    absorb(walk, desk, level, add, stop)
    ended = atomics.ticks()
    spent_3[0] += visited - begun
    spent_3[1] += scored - visited
    spent_3[2] += ended - scored
    return ended


@njit(cache=True, nogil=True)
def _score(
    unit: Unit,
    items: Catalogue,
    room: Room,
    item_X: Array,
    count: int,
    score_X: Array,
    board: Array,
) -> None:
    """Score the first ``count`` items, together with who helps."""
    rows, base = TILE if count >= _FEW else LEAST, board[_END]
    end = base + (count + rows - 1) // rows
    for tile in range(base, end):
        board[_OWNERS + tile - base] = tile
    atomics.store(board, _BASE, base)
    atomics.store(board, _COUNT, count)
    atomics.store(board, _ROWS, rows)
    atomics.store(board, _END, end)
    while True:
        tile = atomics.load(board, _NEXT)
        if tile >= end:
            break
        if atomics.swap(board, _NEXT, tile, tile + 1):
            atomics.store(board, _OWNERS + tile - base, _SCORED)
            span, near = _spans(tile - base, rows, count)
            score_span(unit, items, room, item_X, span, near, score_X)
    for tile in range(base, end):
        at, looks = _OWNERS + tile - base, 0
        while atomics.load(board, at) != _SCORED:
            looks += 1
            if looks >= _WAIT and atomics.swap(board, at, tile, _SCORED):
                span, _ = _spans(tile - base, rows, count)
                score_span(unit, items, room, item_X, span, span[1], score_X)


@njit(cache=True, nogil=True)
def _spans(tile: int, rows: int, count: int) -> tuple[tuple[int, int], int]:
    """The items of a tile, and the end of those that whoever takes it is likely to be at next."""
    start = tile * rows
    stop = min(start + rows, count)
    return (start, stop), min(stop + rows, count)


@njit(cache=True, nogil=True)
def help_out(unit: Unit, items: Catalogue, item_X: Array, score_X: Array, board: Array) -> None:
    """Score tiles until the walk is over."""
    room, idle = room_for(unit, items), 0
    own_X, own_score_X = np.empty(2 * TILE, np.int32), np.empty(TILE, np.float32)
    while idle < _PATIENCE and not atomics.load(board, _OVER):
        end, tile = atomics.load(board, _END), atomics.load(board, _NEXT)
        base, count = atomics.load(board, _BASE), atomics.load(board, _COUNT)
        rows = atomics.load(board, _ROWS)
        idle += 1
        if tile >= end or atomics.load(board, _END) != end:
            continue  # nothing to do, or numbers of different hops
        if atomics.swap(board, _NEXT, tile, tile + 1):
            idle, at = 0, _OWNERS + tile - base
            (start, stop), last = _spans(tile - base, rows, count)
            size, both = stop - start, last - start
            own_X[:both] = item_X[start:last]
            score_span(unit, items, room, own_X, (0, size), both, own_score_X)
            if atomics.swap(board, at, tile, _HELD):
                score_X[start:stop] = own_score_X[:size]
                atomics.store(board, at, _SCORED)


@njit(cache=True, nogil=True)
def board_for(num_items: int) -> Array:
    """A board for hops of up to so many items."""
    return np.zeros(_OWNERS + (num_items + LEAST - 1) // LEAST, np.int64)


@njit(cache=True, nogil=True)
def end(board: Array) -> None:
    """Let the helpers go."""
    atomics.store(board, _OVER, 1)
