"""Scores of items under target attention and a small net, for one request, in one pass.

I  items    X  width of an item's row    N  items asked for    R  rows of a tile
A  heads    Q  width of query and key    L  keys, padded       V  width of an item's vector
H  width of the first layer, padded      J  layers behind it but the last

    x = item half + user half + Σ_heads softmax(q K + b) V' + log Σ exp(q K + b) · c
    score = ⟨u, v⟩ + net(x) + bonus

``TILE`` items go through all of it at a time, so that what lies between their rows and their scores
stays in the first caches; products are those of ``tiles``. Rows are float32, or the upper halves of
float32 (bfloat16, as uint16); everything else is float32, and so are all sums. An item's score does
not depend on what else is asked for: each row is summed up in the same order, wherever it lies.
Against PyTorch in float64 scores of size s differ by some 1e-6 (1 + s).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .fast_math import exp, log
from .parallel import spread
from .tiles import LANES, add_product

Array = NDArray[Any]
TILE = 48  # rows; a multiple of six, the rows of ``tiles``
SHARE = 768  # items that make a thread worth while
PADDING = np.float32(-1e30)  # logit of a key that is none
_SUM = {"contract", "reassoc"}
_TOP = {"nnan", "nsz", "reassoc"}


class Unit(NamedTuple):
    """The request's part, all contiguous; ``unit`` makes it."""

    product_V: Array
    half_H: Array
    key_AQL: Array
    bias_AL: Array
    value_ALH: Array
    count_AH: Array
    width_J: Array  # int64, the outputs of the layers behind the first but the last, padded
    slope: Array  # below 0, of the activation before each layer behind the first, end to end
    weight: Array  # (from, to) of each of those layers but the last, end to end
    shift: Array  # their biases, end to end
    last: Array  # weights of the last layer and its bias; empty without a net


def unit(
    product_V: Array,
    half_H: Array,
    attention: tuple[Array, Array, Array, Array] | None,
    layers: Sequence[tuple[Array | None, Array, Array]],
) -> Unit:
    """Pad what a request brings to whole vectors.

    ``attention`` holds keys ``(A, Q, L)``, biases ``(A, L)``, values ``(A, L, H)`` and what the log
    of the sum is multiplied by, ``(A, H)``. ``layers`` hold slopes of the activation before (None:
    ReLU), weights ``(to, from)`` and biases; the last has one output. Without layers the score is
    the product alone.
    """
    none = np.zeros((0, 0), np.float32)
    attention = attention or (none[None], none, none[None], none)
    key_AQL, bias_AL, value_ALH, count_AH = attention
    if not len(bias_AL):
        key_AQL, value_ALH = key_AQL[:0], value_ALH[:0]
    slopes, weights, shifts = list[Array](), list[Array](), list[Array]()
    last = np.zeros(0, np.float32)
    for at, (slope, weight, shift) in enumerate(layers):
        slopes.append(_padded(np.zeros(weight.shape[1]) if slope is None else slope))
        if at == len(layers) - 1:
            last = np.append(_padded(weight[0]), shift).astype(np.float32)
        else:
            weights.append(_padded(_padded(weight.T, 0), 1))
            shifts.append(_padded(shift))
    return Unit(
        np.ascontiguousarray(product_V, np.float32),
        _padded(half_H),
        _padded(key_AQL),
        _padded(bias_AL, filler=PADDING),
        _padded(_padded(value_ALH, 1), 2),
        _padded(count_AH),
        np.array([len(shift) for shift in shifts], np.int64),
        _end_to_end(slopes),
        _end_to_end(weights),
        _end_to_end(shifts),
        last,
    )


def score(
    unit: Unit, table_IX: Array, bonus_I: Array, item_N: Array, width: int, threads: int
) -> Array:  # (N,) float32
    """Scores of some items, by their numbers (int32).

    A row of the table begins with the item's half of the first layer, ``width`` wide, and the
    queries of each head; it ends with the item's vector. Few items take one thread.
    """
    score_N = np.empty(len(item_N), np.float32)
    bits_IX = table_IX.view(np.uint32) if table_IX.dtype == np.float32 else table_IX
    parts = unit, bits_IX, bonus_I, item_N, width
    spread(lambda a, z: _score(*parts, a, z, score_N), len(item_N), SHARE, threads)
    return score_N


def _padded(x: Array, axis: int = -1, filler: float = 0.0) -> Array:
    """Up to a multiple of ``LANES`` along one axis, float32."""
    axis %= x.ndim
    shape = list(x.shape)
    shape[axis] += -shape[axis] % LANES
    out = np.full(shape, filler, np.float32)
    out[tuple(map(slice, x.shape))] = x
    return out


def _end_to_end(parts: list[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.float32), *(part.ravel() for part in parts)])


@njit(cache=True, nogil=True)
def _score(
    unit: Unit,
    bits_IX: Array,
    bonus_I: Array,
    item_N: Array,
    width: int,
    first: int,
    last: int,
    score_N: Array,
) -> None:
    """Scores of the items from ``first`` to ``last``, a tile at a time."""
    heads, depth, keys = unit.key_AQL.shape
    widest = max(len(unit.half_H), unit.width_J.max() if len(unit.width_J) else 0)
    x_flat, y_flat = np.empty(TILE * widest, np.float32), np.empty(TILE * widest, np.float32)
    query_flat = np.empty(TILE * heads * depth, np.float32)
    share_flat, total_R = np.empty(TILE * keys, np.float32), np.empty(TILE, np.float32)
    row_X = np.empty(bits_IX.shape[1], np.float32)
    for start in range(first, last, TILE):
        rows = min(TILE, last - start)
        x_RH = _sheet(x_flat, 0, rows, len(unit.half_H))
        query_ARQ = query_flat[: heads * rows * depth].reshape(heads, rows, depth)
        score_R = score_N[start : start + rows]
        _gather(unit, bits_IX, bonus_I, item_N[start : start + rows], width, row_X, x_RH, query_ARQ, score_R)
        share_RL = _sheet(share_flat, 0, rows, keys)
        for a in range(heads):
            _fill_rows(share_RL, unit.bias_AL[a])
            add_product(query_ARQ[a], unit.key_AQL[a], share_RL)
            _softmax(share_RL, total_R)
            add_product(share_RL, unit.value_ALH[a], x_RH)
            _add_outer(total_R, unit.count_AH[a], x_RH)
        if len(unit.last):
            _net(unit, rows, x_flat, y_flat, score_R)


@njit(cache=True, nogil=True)
def _sheet(flat: Array, at: int, rows: int, width: int) -> Array:
    """Part of a flat array as a matrix."""
    return flat[at : at + rows * width].reshape(rows, width)


@njit(cache=True, nogil=True)
def _gather(
    unit: Unit,
    bits_IX: Array,
    bonus_I: Array,
    item_R: Array,
    width: int,
    row_X: Array,
    x_RH: Array,
    query_ARQ: Array,
    score_R: Array,
) -> None:
    """Read rows: halves of the first layer with the user's, queries, and the product's scores."""
    heads, _, depth = query_ARQ.shape
    vector_at = len(row_X) - len(unit.product_V)
    for r in range(len(item_R)):
        item = item_R[r]
        _widen(bits_IX[item], row_X.view(np.uint32))
        for h in range(x_RH.shape[1]):
            x_RH[r, h] = unit.half_H[h]
        for h in range(width):
            x_RH[r, h] += row_X[h]
        for a in range(heads):
            for q in range(depth):
                query_ARQ[a, r, q] = row_X[width + a * depth + q]
        score_R[r] = bonus_I[item] + _dot(row_X[vector_at:], unit.product_V)


@njit(cache=True, nogil=True)
def _widen(bits_X: Array, wide_X: Array) -> None:
    """Bits of float32, of which some types hold the upper half."""
    shift = np.uint32(32 - 8 * bits_X.itemsize)
    for x in range(len(wide_X)):
        wide_X[x] = np.uint32(bits_X[x]) << shift


@njit(cache=True, nogil=True, fastmath=_SUM)
def _dot(a: Array, b: Array) -> Any:
    total = np.float32(0.0)
    for i in range(len(b)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def _fill_rows(x_RH: Array, row_H: Array) -> None:
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x_RH[r, h] = row_H[h]


@njit(cache=True, nogil=True)
def _softmax(x_RL: Array, total_R: Array) -> None:
    """Put shares in place of logits, and the log of their sum of exponentials into ``total_R``."""
    rows, keys = x_RL.shape
    for r in range(rows):
        top = _largest(x_RL[r])
        for k in range(keys):
            x_RL[r, k] = exp(x_RL[r, k] - top)
        total = _sum(x_RL[r])
        part = np.float32(1.0) / total
        for k in range(keys):
            x_RL[r, k] *= part
        total_R[r] = top + log(total)


@njit(cache=True, nogil=True, fastmath=_TOP)
def _largest(x_L: Array) -> Any:
    top = x_L[0]
    for k in range(1, len(x_L)):
        top = max(top, x_L[k])
    return top


@njit(cache=True, nogil=True, fastmath=_SUM)
def _sum(x_L: Array) -> Any:
    total = np.float32(0.0)
    for k in range(len(x_L)):
        total += x_L[k]
    return total


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_outer(a_R: Array, b_H: Array, x_RH: Array) -> None:
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x_RH[r, h] += a_R[r] * b_H[h]


@njit(cache=True, nogil=True)
def _net(unit: Unit, rows: int, x_flat: Array, y_flat: Array, score_R: Array) -> None:
    """Add the rest of the net; the sheets take turns."""
    a = len(unit.half_H)
    slope_at = weight_at = shift_at = 0
    x_RH = _sheet(x_flat, 0, rows, a)
    for b in unit.width_J:
        _activate(x_RH, unit.slope[slope_at : slope_at + a])
        y_RH = _sheet(y_flat, 0, rows, b)
        _fill_rows(y_RH, unit.shift[shift_at : shift_at + b])
        add_product(x_RH, _sheet(unit.weight, weight_at, a, b), y_RH)
        slope_at, weight_at, shift_at = slope_at + a, weight_at + a * b, shift_at + b
        x_flat, y_flat, x_RH, a = y_flat, x_flat, y_RH, b
    _activate(x_RH, unit.slope[slope_at : slope_at + a])
    for r in range(rows):
        score_R[r] += _dot(x_RH[r], unit.last[:a]) + unit.last[a]


@njit(cache=True, nogil=True)
def _activate(x_RH: Array, slope_H: Array) -> None:
    """PReLU, in place."""
    for r in range(x_RH.shape[0]):
        for h in range(x_RH.shape[1]):
            x = x_RH[r, h]
            x_RH[r, h] = x if x > 0 else slope_H[h] * x
