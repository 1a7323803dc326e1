"""The kernels of ``attention_score.py``, whose letters they use: R rows of a tile, X across one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .fast_math import exp, log
from .prefetch import ask_for
from .row_attention import attend_one
from .tiles import add_product

Array = NDArray[Any]
Span = tuple[int, int]  # from and to
TILE = 48  # rows; a multiple of six, the rows of ``tiles``
AHEAD = 24  # rows that are asked for before they are needed
_SUM = {"contract", "reassoc"}
_TOP = {"nnan", "nsz", "reassoc"}


class Lifetime(NamedTuple):
    """Many events, in groups by the category of the items that may attend to them."""

    category_I: Array  # int64
    code: int  # the request's category 0 has this code, the next ones follow
    code_P: Array  # int64, ascending
    start_P: Array  # int64, first event
    length_P: Array  # int64
    key_ED: Array
    bias_E: Array
    value_EW: Array
    nothing_X: Array  # (W + 1,) what an item without a group is told
    out_XH: Array  # (W + 1, H)


class Net(NamedTuple):
    """The layers behind the first, all contiguous; ``net`` makes it."""

    width_J: Array  # int64, the outputs of the layers but the last, padded
    slope: Array  # below 0, of the activation before each layer, end to end
    weight: Array  # (from, to) of each layer but the last, end to end
    shift: Array  # their biases, end to end
    last: Array  # weights of the last layer; empty without a net
    last_shift: float


class Unit(NamedTuple):
    """The request's part, all contiguous; ``unit`` makes it."""

    product_V: Array
    half_H: Array
    key_AQL: Array
    bias_AL: Array
    value_ALH: Array
    count_AH: Array
    net: Net
    lifetime: Lifetime


class Catalogue(NamedTuple):
    """The item part, all contiguous."""

    bits_IX: Array  # uint32, bits of float32, or uint16, their upper halves
    bonus_I: Array
    width: int  # of an item's half of the first layer


class Room(NamedTuple):
    """Where a thread keeps what lies between the rows of a tile and their scores."""

    row: Array
    x: Array
    y: Array
    query: Array
    share: Array
    total_R: Array
    logit_L: Array
    said: Array


@njit(cache=True, nogil=True)
def room_for(unit: Unit, items: Catalogue) -> Room:
    """Room for one tile after the other."""
    heads, depth, keys = unit.key_AQL.shape
    widest = max(len(unit.half_H), unit.net.width_J.max() if len(unit.net.width_J) else 0)
    longest = unit.lifetime.length_P.max() if len(unit.lifetime.length_P) else 1
    return Room(
        np.empty(TILE * items.bits_IX.shape[1], np.float32),
        np.empty(TILE * widest, np.float32),
        np.empty(TILE * widest, np.float32),
        np.empty(TILE * heads * depth, np.float32),
        np.empty(TILE * keys, np.float32),
        np.empty(TILE, np.float32),
        np.empty(longest, np.float32),
        np.empty(TILE * len(unit.lifetime.nothing_X), np.float32),
    )


@njit(cache=True, nogil=True)
def score(
    unit: Unit, items: Catalogue, item_N: Array, first: int, last: int, score_N: Array
) -> None:
    """Score the items from ``first`` to ``last``."""
    room = room_for(unit, items)
    score_span(unit, items, room, item_N, (first, last), last, score_N)


@njit(cache=True, nogil=True)
def score_span(
    unit: Unit, items: Catalogue, room: Room, item_N: Array, span: Span, end: int, score_N: Array
) -> None:
    """Score items, a tile at a time; those after it, up to ``end``, are likely to be next."""
    heads, depth, keys = unit.key_AQL.shape
    across, wide = items.bits_IX.shape[1], room.row.view(np.uint32)
    for start in range(span[0], span[1], TILE):
        stop = min(start + TILE, span[1])
        rows = stop - start
        row_RX, x_RH = _sheet(room.row, 0, rows, across), _sheet(room.x, 0, rows, len(unit.half_H))
        query_ARQ = room.query[: heads * rows * depth].reshape(heads, rows, depth)
        _widen(items.bits_IX, item_N, start, end, _sheet(wide, 0, rows, across))
        for n in range(start, stop):
            score_N[n] = unit.net.last_shift + items.bonus_I[item_N[n]]
        _add_products(row_RX, unit.product_V, score_N, start)
        _part(row_RX, items.width, unit.half_H, x_RH, query_ARQ)
        share_RL = _sheet(room.share, 0, rows, keys)
        for a in range(heads):
            _fill_rows(share_RL, unit.bias_AL[a])
            add_product(query_ARQ[a], unit.key_AQL[a], share_RL)
            _softmax(share_RL, room.total_R)
            add_product(share_RL, unit.value_ALH[a], x_RH)
            _add_outer(room.total_R, unit.count_AH[a], x_RH)
        if len(unit.lifetime.out_XH):
            at = items.width + heads * depth
            _add_lifetime(unit.lifetime, item_N, start, row_RX, at, room.logit_L, room.said, x_RH)
        if len(unit.net.last):
            _net(unit.net, len(unit.half_H), rows, room.x, room.y, score_N, start)


@njit(cache=True, nogil=True)
def _sheet(flat: Array, at: int, rows: int, width: int) -> Array:
    """Part of a flat array as a matrix."""
    return flat[at : at + rows * width].reshape(rows, width)


@njit(cache=True, nogil=True)
def _widen(bits_IX: Array, item_N: Array, first: int, end: int, wide_RX: Array) -> None:
    """Read the rows of some items as bits of float32, of which some types hold the upper half."""
    shift = np.uint32(32 - 8 * bits_IX.itemsize)
    for r in range(wide_RX.shape[0]):
        item = item_N[first + r]
        if first + r + AHEAD < end:
            ask_for(bits_IX, item_N[first + r + AHEAD])
        for x in range(wide_RX.shape[1]):
            wide_RX[r, x] = np.uint32(bits_IX[item, x]) << shift


@njit(cache=True, nogil=True)
def _part(row_RX: Array, width: int, half_H: Array, x_RH: Array, query_ARQ: Array) -> None:
    """Cut rows into halves of the first layer, which the user's are added to, and queries."""
    heads, rows, depth = query_ARQ.shape
    width = max(0, width)
    for r in range(rows):
        for h in range(width):
            x_RH[r, h] = half_H[h] + row_RX[r, h]
        for h in range(width, x_RH.shape[1]):
            x_RH[r, h] = 0.0
    for a in range(heads):
        for r in range(rows):
            for q in range(depth):
                query_ARQ[a, r, q] = row_RX[r, width + a * depth + q]


@njit(cache=True, nogil=True, fastmath=_SUM)
def _add_products(row_RX: Array, b_V: Array, score_N: Array, first: int) -> None:
    """Add each row's product, of its last columns, to its score."""
    at = max(0, row_RX.shape[1] - len(b_V))  # at least 0: or each index is looked at
    for r in range(row_RX.shape[0]):
        total = np.float32(0.0)
        for v in range(len(b_V)):
            total += row_RX[r, at + v] * b_V[v]
        score_N[first + r] += total


@njit(cache=True, nogil=True)
def _fill_rows(x_RH: Array, row_H: Array) -> None:
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x_RH[r, h] = row_H[h]


@njit(cache=True, nogil=True)
def _softmax(x_RL: Array, total_R: Array) -> None:
    """Put shares in place of logits, and the log of their sum of exponentials into ``total_R``."""
    rows, keys = x_RL.shape
    top_R, part_R = np.empty(rows, np.float32), np.empty(rows, np.float32)
    _find_largest(x_RL, top_R)
    for r in range(rows):
        for k in range(keys):
            x_RL[r, k] = exp(x_RL[r, k] - top_R[r])
    _sum_up(x_RL, total_R)
    for r in range(rows):
        part_R[r] = np.float32(1.0) / total_R[r]
        total_R[r] = top_R[r] + log(total_R[r])
    for r in range(rows):
        for k in range(keys):
            x_RL[r, k] *= part_R[r]


@njit(cache=True, nogil=True, fastmath=_TOP)
def _find_largest(x_RL: Array, top_R: Array) -> None:
    for r in range(x_RL.shape[0]):
        top = x_RL[r, 0]
        for k in range(x_RL.shape[1]):
            top = x_RL[r, k] if x_RL[r, k] > top else top
        top_R[r] = top


@njit(cache=True, nogil=True, fastmath=_SUM)
def _sum_up(x_RL: Array, total_R: Array) -> None:
    for r in range(x_RL.shape[0]):
        total = np.float32(0.0)
        for k in range(x_RL.shape[1]):
            total += x_RL[r, k]
        total_R[r] = total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_outer(a_R: Array, b_H: Array, x_RH: Array) -> None:
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x_RH[r, h] += a_R[r] * b_H[h]


@njit(cache=True, nogil=True)
def _add_lifetime(
    life: Lifetime,
    item_N: Array,
    first: int,
    row_RX: Array,
    at: int,
    logit_L: Array,
    said_flat: Array,
    x_RH: Array,
) -> None:
    """Add what each item's group says; its query begins at column ``at``."""
    rows, depth = len(row_RX), life.key_ED.shape[1]
    said_RX = _sheet(said_flat, 0, rows, len(life.nothing_X))
    for r in range(rows):
        code = life.code + life.category_I[item_N[first + r]]
        p = int(np.searchsorted(life.code_P, code))
        found = p < len(life.code_P) and life.code_P[p] == code
        start, length = (life.start_P[p], life.length_P[p]) if found else (0, 0)
        attend_one(
            row_RX[r, at : at + depth],
            life.key_ED,
            life.bias_E,
            life.value_EW,
            start,
            length,
            life.nothing_X,
            logit_L,
            said_RX[r],
        )
    add_product(said_RX, life.out_XH, x_RH)


@njit(cache=True, nogil=True)
def _net(
    net: Net, a: int, rows: int, x_flat: Array, y_flat: Array, score_N: Array, first: int
) -> None:
    """Add what the layers make of ``a`` numbers a row; the sheets take turns."""
    slope_at = weight_at = shift_at = 0
    x_RH = _sheet(x_flat, 0, rows, a)
    for b in net.width_J:
        _activate(x_RH, net.slope[slope_at : slope_at + a])
        y_RH = _sheet(y_flat, 0, rows, b)
        _fill_rows(y_RH, net.shift[shift_at : shift_at + b])
        add_product(x_RH, _sheet(net.weight, weight_at, a, b), y_RH)
        slope_at, weight_at, shift_at = slope_at + a, weight_at + a * b, shift_at + b
        x_flat, y_flat, x_RH, a = y_flat, x_flat, y_RH, b
    _activate(x_RH, net.slope[slope_at : slope_at + a])
    _add_products(x_RH, net.last, score_N, first)


@njit(cache=True, nogil=True)
def _activate(x_RH: Array, slope_H: Array) -> None:
    """PReLU, in place."""
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x = x_RH[r, h]
            x_RH[r, h] = x if x > 0 else slope_H[h] * x
