"""Target attention of one candidate after the other, forth and back; see ``target_attention``.

What lies between a candidate's events and its interest stays in the near caches: that of some
events at a time, but where a softmax needs the scores of all of them before the first gradient.

  X  width of an event with its sides    H  width of a hidden layer; both multiples of ``LANES``
  J  hidden layers    L  events of the candidate, or some of them

All arrays are flat: rows are named by where they begin, as in ``tiles``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lanes import LANES, lent
from .rows import add_multiplied, add_scaled, dot, rectify, rectify_backward
from .tiles import put_product

Array = NDArray[Any]
FAST = {"contract", "reassoc", "nsz", "arcp"}  # not nnan, ninf: a NaN must stay one
BLOCK = 128  # events whose layers stay in the second cache at the latest


class Unit(NamedTuple):
    """What is read; the first layer is ``q A + k (B + diag(q) C)``."""

    start_N: Array  # int64, each candidate's first event
    length_N: Array  # int64, and how many it has
    scale_N: Array  # its scores are multiplied by
    width_J: Array  # int64
    target: Array  # (N, X)
    query: Array  # (N, H), q A and the bias
    event: Array  # (E, X)
    fixed: Array  # (X, H), B
    product: Array  # (X, H), C
    slope: Array  # of PReLU behind each hidden layer, end to end
    weight: Array  # (to, from) between hidden layers, end to end
    bias: Array  # end to end
    last: Array  # (H,), from the last hidden layer to the score
    last_bias: Array  # (1,)
    turned: Array  # ``weight``, each layer transposed
    fixed_turned: Array  # (H, X)
    product_turned: Array  # (H, X)


class Grads(NamedTuple):
    """Gradients of what is learnt, added to what is there."""

    target: Array
    query: Array
    event: Array
    fixed: Array
    product: Array
    slope: Array
    weight: Array
    bias: Array
    last: Array
    last_bias: Array


class Room(NamedTuple):
    """Room to work in, for some events at a time and all of a candidate's scores."""

    before: Array  # what goes into each activation
    after: Array  # and what comes out
    spare: Array  # a layer
    score_L: Array
    of_score_L: Array
    folded: Array  # (X, H), the first layer of a candidate
    turned: Array  # (H, X)
    of_folded: Array  # (X, H)
    one: Array  # as many as there are events
    zero: Array  # a row


def room(unit: Unit, block: int, longest: int) -> Room:
    """For ``block`` events at a time of candidates with up to ``longest``."""
    total, widest, size = block * unit.width_J.sum(), unit.width_J.max(), len(unit.fixed)
    sizes = total, total, block * widest, longest, longest, size, size, size
    kind = unit.scale_N.dtype
    rooms = (np.empty(n, kind) for n in sizes)
    return Room._make((*rooms, np.ones(block, kind), np.zeros(widest, kind)))


@njit(cache=True, nogil=True, fastmath=FAST)
def forward(unit: Unit, room: Room, softmax: bool, first: int, last: int, interest: Array) -> None:
    """Interests (N, X) of the candidates from ``first`` to ``last``; they are zeros before."""
    _forward(lent(unit), lent(room), softmax, first, last, interest)


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(
    unit: Unit,
    room: Room,
    softmax: bool,
    first: int,
    last: int,
    of_interest: Array,
    grads: Grads,
) -> None:
    """Gradients by way of the candidates from ``first`` to ``last``.

    With a softmax, ``room`` must be for all events of a candidate at a time.
    """
    _backward(lent(unit), lent(room), softmax, first, last, of_interest, lent(grads))


@njit(cache=True, nogil=True, fastmath=FAST)
def _forward(unit: Unit, room: Room, softmax: bool, first: int, last: int, interest: Array) -> None:
    width, block = _width(unit), len(room.one)
    for n in range(first, last):
        size, start = unit.length_N[n], unit.start_N[n]
        _fold(unit, n, room)
        for low in range(0, size, block):
            rows = min(block, size - low)
            y_at = _hidden(unit, n, start + low, rows, room)
            _score(unit, n, rows, y_at, room, low)
        if softmax:
            _softmax(room.score_L, size)
        events, out = (unit.event, start * width), (interest, n * width)
        put_product((1, size, width), (room.score_L, 0, 0, 1), events, (*out, 0), out)


@njit(cache=True, nogil=True, fastmath=FAST)
def _backward(
    unit: Unit,
    room: Room,
    softmax: bool,
    first: int,
    last: int,
    of_interest: Array,
    grads: Grads,
) -> None:
    width, hidden, block = _width(unit), _layer(unit, 0), len(room.one)
    of, of_folded, of_event, turned = room.before, room.of_folded, grads.event, room.turned
    for n in range(first, last):
        size = unit.length_N[n]
        _fold(unit, n, room)
        _fold_turned(unit, n, room)
        _clear(of_folded)
        for low in range(0, size, block):
            event, rows = unit.start_N[n] + low, min(block, size - low)
            y_at = _hidden(unit, n, event, rows, room)
            _score(unit, n, rows, y_at, room, 0)
            if softmax:
                _softmax(room.score_L, size)
            _pool_backward(unit, n, softmax, rows, event, of_interest, room, of_event)
            _hidden_backward(unit, rows, y_at, room, grads)
            # ``of`` is that of the first layer now
            to, at = (grads.query, n * hidden), event * width
            put_product((1, rows, hidden), (room.one, 0, 0, 1), (of, 0), (*to, 0), to)
            events = (unit.event, at, 1, width)
            put_product(
                (width, rows, hidden), events, (of, 0), (of_folded, 0, hidden), (of_folded, 0)
            )
            to = (of_event, at)
            put_product((rows, hidden, width), (of, 0, hidden, 1), (turned, 0), (*to, width), to)
        _fold_backward(unit, n, of_folded, grads)


@njit(cache=True, nogil=True, inline="always")
def _width(unit: Unit) -> int:
    return len(unit.fixed) // unit.width_J[0] & -LANES


@njit(cache=True, nogil=True, inline="always")
def _layer(unit: Unit, j: int) -> int:
    """The width of a hidden layer, which tells LLVM that its rows leave nothing over."""
    return unit.width_J[j] & -LANES


@njit(cache=True, nogil=True)
def _copy(x: Array, y: Array) -> None:
    """``y[:] = x``, which Numba makes slow."""
    for i in range(len(x)):
        y[i] = x[i]


@njit(cache=True, nogil=True)
def _clear(x: Array) -> None:
    for i in range(len(x)):
        x[i] = 0


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _fold(unit: Unit, n: int, room: Room) -> None:
    """The first layer of a candidate: ``B + diag(q) C``."""
    width, hidden = _width(unit), _layer(unit, 0)
    _copy(unit.fixed, room.folded)
    for x in range(width):
        q, at = unit.target[n * width + x], x * hidden
        add_scaled(q, unit.product, at, room.folded, at, hidden)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _fold_turned(unit: Unit, n: int, room: Room) -> None:
    """Its transpose."""
    width, turned = _width(unit), room.turned
    _copy(unit.fixed_turned, turned)
    for at in range(0, len(turned), width):
        add_multiplied(unit.target, n * width, unit.product_turned, at, turned, at, width)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _fold_backward(unit: Unit, n: int, of_folded: Array, grads: Grads) -> None:
    width, hidden, one = _width(unit), _layer(unit, 0), unit.scale_N.dtype.type(1)
    for x in range(width):
        q, at = n * width + x, x * hidden
        add_scaled(one, of_folded, at, grads.fixed, at, hidden)
        add_scaled(unit.target[q], of_folded, at, grads.product, at, hidden)
        grads.target[q] += dot(of_folded, at, unit.product, at, hidden)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _hidden(unit: Unit, n: int, event: int, rows: int, room: Room) -> int:
    """Run some events through a candidate's hidden layers, which stay in ``room``.

    Returns where the last one begins in ``room.after``.
    """
    width, a, x, y = _width(unit), _layer(unit, 0), room.before, room.after
    events = (unit.event, event * width, width, 1)
    put_product((rows, width, a), events, (room.folded, 0), (unit.query, n * a, 0), (x, 0))
    _activate(rows, a, unit.slope, 0, x, 0, y)
    at, slope_at, weight_at, bias_at = 0, a, 0, 0
    for j in range(1, len(unit.width_J)):
        b, to = _layer(unit, j), at + rows * a
        weights, bias = (unit.turned, weight_at), (unit.bias, bias_at, 0)
        put_product((rows, a, b), (y, at, a, 1), weights, bias, (x, to))
        _activate(rows, b, unit.slope, slope_at, x, to, y)
        slope_at, weight_at, bias_at = slope_at + b, weight_at + a * b, bias_at + b
        at, a = to, b
    return at


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _hidden_backward(unit: Unit, rows: int, y_at: int, room: Room, grads: Grads) -> None:
    """From the scores' gradients to that of the first layer, which is then in ``room.before``."""
    of_score_L, of, y = room.of_score_L, room.before, room.after
    j = len(unit.width_J) - 1
    b, at = _layer(unit, j), y_at
    zero, to = (room.zero, 0, 0), (grads.last, 0)
    put_product((1, rows, b), (of_score_L, 0, 0, 1), (y, at), (*to, 0), to)
    put_product((rows, 1, b), (of_score_L, 0, 1, 0), (unit.last, 0), zero, (room.spare, 0))
    for e in range(rows):
        grads.last_bias[0] += of_score_L[e]
    slope_at, weight_at, bias_at = len(unit.slope) - b, len(unit.weight), len(unit.bias)
    _activate_backward(rows, b, unit.slope, slope_at, room, at, grads.slope)
    while j > 0:
        a = _layer(unit, j - 1)
        low, slope_at = at - rows * a, slope_at - a
        weight_at, bias_at = weight_at - a * b, bias_at - b
        to = (grads.bias, bias_at)
        put_product((1, rows, b), (room.one, 0, 0, 1), (of, at), (*to, 0), to)
        to = (grads.weight, weight_at)
        put_product((b, rows, a), (of, at, 1, b), (y, low), (*to, a), to)
        weights = (unit.weight, weight_at)
        put_product((rows, b, a), (of, at, b, 1), weights, zero, (room.spare, 0))
        _activate_backward(rows, a, unit.slope, slope_at, room, low, grads.slope)
        at, b, j = low, a, j - 1


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _score(unit: Unit, n: int, rows: int, y_at: int, room: Room, score_at: int) -> None:
    """The scores of some events, scaled."""
    scale, bias, width = unit.scale_N[n], unit.last_bias[0], len(unit.last) & -LANES
    for e in range(rows):
        score = dot(room.after, y_at + e * width, unit.last, 0, width) + bias
        room.score_L[score_at + e] = scale * score


@njit(cache=True, nogil=True, fastmath=FAST)
def _softmax(score_L: Array, size: int) -> None:
    """Put the softmax of the first ``size`` scores in their place."""
    if size == 0:
        return
    top = score_L[:size].max()
    total = top * 0
    for e in range(size):
        score_L[e] = np.exp(score_L[e] - top)
        total += score_L[e]
    for e in range(size):
        score_L[e] /= total


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _pool_backward(
    unit: Unit,
    n: int,
    softmax: bool,
    rows: int,
    event: int,
    of_interest: Array,
    room: Room,
    of_event: Array,
) -> None:
    """Gradients of the scores; add what the events get as that which is added up."""
    scale, width = unit.scale_N[n], _width(unit)
    weight_L, of_score_L, of_at = room.score_L, room.of_score_L, n * width
    mean = scale * 0
    for e in range(rows):
        at = (event + e) * width
        of_score_L[e] = scale * dot(unit.event, at, of_interest, of_at, width)
        mean += weight_L[e] * of_score_L[e]
        add_scaled(weight_L[e], of_interest, of_at, of_event, at, width)
    if softmax:
        for e in range(rows):
            of_score_L[e] = weight_L[e] * (of_score_L[e] - mean)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _activate(
    rows: int, width: int, slope: Array, slope_at: int, x: Array, at: int, y: Array
) -> None:
    """PReLU, from a place in ``x`` to the same place in ``y``."""
    for e in range(rows):
        rectify(x, at + e * width, slope, slope_at, y, at + e * width, width)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _activate_backward(
    rows: int, width: int, slope: Array, slope_at: int, room: Room, at: int, of_slope: Array
) -> None:
    """From the gradient in ``room.spare`` to that in place of the input in ``room.before``."""
    of, x, to = room.spare, room.before, (of_slope, slope_at)
    for e in range(rows):
        rectify_backward(of, e * width, slope, slope_at, x, at + e * width, width)
    put_product((1, rows, width), (room.one, 0, 0, 1), (of, 0), (*to, 0), to)
