"""The kernels of ``graph_walk.py``: a level walked in one call, by one thread that others help.

The threads share a ``board`` of numbers. Items to be scored are cut into tiles, which all hops of a
request count on; whoever is free takes the next. The one that walks waits for no more than the tile
that another is at: helpers that come late, or never, are not missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from . import atomics
from .attention_score_kernels import TILE, Catalogue, Room, Unit, room_for, score_tile
from .graph_search_kernels import Desk, Walk, absorb, descend, expand, plant

Array = NDArray[Any]
BOARD = 32  # numbers of a board
_NEXT, _DONE, _END, _BASE, _COUNT, _ROWS, _OVER = 0, 8, 16, 17, 18, 19, 24
_HALF = 10 * TILE  # fewer items than this are cut into half tiles
_PATIENCE = 100_000  # looks at the board without work, less than a millisecond: then a helper goes


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
        rows = TILE if count >= _HALF else TILE // 2
        base = board[_END]
        end = base + (count + rows - 1) // rows
        board[_BASE], board[_COUNT], board[_ROWS] = base, count, rows
        atomics.store(board, _END, end)
        _take_tiles(unit, items, room, desk.fresh_X, desk.bits_X.view(np.float32), board)
        while atomics.load(board, _DONE) < end:
            pass
    scored = atomics.ticks()
    absorb(walk, desk, level, add, stop)
    ended = atomics.ticks()
    spent_3[0] += visited - begun
    spent_3[1] += scored - visited
    spent_3[2] += ended - scored
    return ended


@njit(cache=True, nogil=True)
def _take_tiles(
    unit: Unit, items: Catalogue, room: Room, item_X: Array, score_X: Array, board: Array
) -> int:
    """Score tiles while there are any; how many."""
    done = 0
    while True:
        tile = atomics.load(board, _NEXT)
        if tile >= atomics.load(board, _END):
            return done
        if atomics.swap(board, _NEXT, tile, tile + 1):
            count, rows = board[_COUNT], board[_ROWS]
            start = (tile - board[_BASE]) * rows
            stop = min(start + rows, count)
            near = min(stop + rows, count), min(stop + 2 * rows, count)
            score_tile(unit, items, room, item_X, (start, stop), near, score_X)
            atomics.add(board, _DONE, 1)
            done += 1


@njit(cache=True, nogil=True)
def help_out(unit: Unit, items: Catalogue, item_X: Array, score_X: Array, board: Array) -> None:
    """Score tiles until the walk is over."""
    room, idle = room_for(unit, items), 0
    while idle < _PATIENCE and not atomics.load(board, _OVER):
        idle = 0 if _take_tiles(unit, items, room, item_X, score_X, board) else idle + 1


@njit(cache=True, nogil=True)
def end(board: Array) -> None:
    """Let the helpers go."""
    atomics.store(board, _OVER, 1)
