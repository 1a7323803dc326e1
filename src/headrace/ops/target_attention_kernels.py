"""Target attention of one candidate after the other, forth and back; see ``target_attention``.

What lies between a candidate's events and its interest stays in the cache: that of one history.

  X  width of an event with its sides    H  width of a hidden layer; both multiples of ``LANES``
  J  hidden layers, the score as the last one    L  events of the candidate
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .tiles import add_product, add_product_of_turned

Array = NDArray[Any]
FAST = {"contract", "reassoc", "nsz", "arcp"}  # not nnan, ninf: a NaN must stay one


class Unit(NamedTuple):
    """What is read; the first layer is ``q A + k (B + diag(q) C)``. Column 0 of the last scores."""

    start_N: Array  # int64, each candidate's first event
    length_N: Array  # int64, and how many it has
    scale_N: Array  # its scores are multiplied by
    width_J: Array  # int64
    target_NX: Array
    query_NH: Array  # q A and the bias
    event_EX: Array
    fixed_XH: Array  # B
    product_XH: Array  # C
    slope: Array  # of PReLU before each layer but the first, end to end
    weight: Array  # (to, from) of each layer but the first, end to end
    bias: Array  # end to end
    turned: Array  # ``weight``, each layer transposed


class Grads(NamedTuple):
    """Gradients of what is learnt, added to what is there."""

    target_NX: Array
    query_NH: Array
    event_EX: Array
    fixed_XH: Array
    product_XH: Array
    slope: Array
    weight: Array
    bias: Array


@njit(cache=True, nogil=True, fastmath=FAST)
def forward(unit: Unit, softmax: bool, first: int, last: int, interest_NX: Array) -> None:
    """Interests of the candidates from ``first`` to ``last``; they are zeros before."""
    before, after, _ = _scratch(unit, first, last)
    folded_XH = np.empty_like(unit.fixed_XH)
    weight_L = np.empty(_longest(unit, first, last), unit.scale_N.dtype)
    for n in range(first, last):
        size, start = unit.length_N[n], unit.start_N[n]
        score_LH = _score(unit, n, folded_XH, before, after)
        _weigh(score_LH, unit.scale_N[n], softmax, weight_L)
        for e in range(size):
            for x in range(interest_NX.shape[1]):
                interest_NX[n, x] += weight_L[e] * unit.event_EX[start + e, x]


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(
    unit: Unit, softmax: bool, first: int, last: int, of_interest_NX: Array, grads: Grads
) -> None:
    """Gradients by way of the candidates from ``first`` to ``last``."""
    before, after, spare = _scratch(unit, first, last)
    folded_XH = np.empty_like(unit.fixed_XH)
    fixed_HX, product_HX = unit.fixed_XH.T.copy(), unit.product_XH.T.copy()
    turned_HX = np.empty_like(fixed_HX)
    weight_L = np.empty(_longest(unit, first, last), unit.scale_N.dtype)
    for n in range(first, last):
        size, start = unit.length_N[n], unit.start_N[n]
        score_LH = _score(unit, n, folded_XH, before, after)
        _weigh(score_LH, unit.scale_N[n], softmax, weight_L)
        event_LX = unit.event_EX[start : start + size]
        of_event_LX = grads.event_EX[start : start + size]
        _pool_backward(
            of_interest_NX[n], weight_L, unit.scale_N[n], softmax, event_LX, score_LH, of_event_LX
        )
        of_LH = _layers_backward(unit, size, before, after, spare, grads)
        _add_rows(of_LH, grads.query_NH[n])
        folded_XH[:] = 0
        add_product_of_turned(event_LX, of_LH, folded_XH)
        target_X = unit.target_NX[n]
        for x in range(len(target_X)):
            of_target = target_X[x] * 0  # a zero of the same type
            for h in range(folded_XH.shape[1]):
                of = folded_XH[x, h]
                grads.fixed_XH[x, h] += of
                grads.product_XH[x, h] += target_X[x] * of
                of_target += of * unit.product_XH[x, h]
            grads.target_NX[n, x] += of_target
        for h in range(len(turned_HX)):
            for x in range(len(target_X)):
                turned_HX[h, x] = fixed_HX[h, x] + target_X[x] * product_HX[h, x]
        add_product(of_LH, turned_HX, of_event_LX)


@njit(cache=True, nogil=True)
def _longest(unit: Unit, first: int, last: int) -> int:
    longest = 0
    for n in range(first, last):
        longest = max(longest, unit.length_N[n])
    return longest


@njit(cache=True, nogil=True)
def _scratch(unit: Unit, first: int, last: int) -> tuple[Array, Array, Array]:
    """Room for what goes into each activation, what comes out, and for one layer."""
    longest = _longest(unit, first, last)
    total = longest * unit.width_J.sum()
    kind = unit.scale_N.dtype
    spare = np.empty(longest * unit.width_J.max(), kind)
    return np.empty(total, kind), np.empty(total, kind), spare


@njit(cache=True, nogil=True)
def _sheet(flat: Array, at: int, rows: int, width: int) -> Array:
    """Part of a flat array as a matrix."""
    return flat[at : at + rows * width].reshape(rows, width)


@njit(cache=True, nogil=True, fastmath=FAST)
def _score(unit: Unit, n: int, folded_XH: Array, before: Array, after: Array) -> Array:  # (L, H)
    """The last layer of a candidate; leaves the others in ``before`` and ``after``."""
    size, start, width_J = unit.length_N[n], unit.start_N[n], unit.width_J
    target_X = unit.target_NX[n]
    for x in range(len(target_X)):
        for h in range(folded_XH.shape[1]):
            folded_XH[x, h] = unit.fixed_XH[x, h] + target_X[x] * unit.product_XH[x, h]
    x_LH = _sheet(before, 0, size, width_J[0])
    _fill_rows(x_LH, unit.query_NH[n])
    add_product(unit.event_EX[start : start + size], folded_XH, x_LH)
    at = slope_at = weight_at = bias_at = 0
    for j in range(len(width_J) - 1):
        a, b = width_J[j], width_J[j + 1]
        y_LH = _sheet(after, at, size, a)
        _activate(x_LH, unit.slope[slope_at : slope_at + a], y_LH)
        at += size * a
        x_LH = _sheet(before, at, size, b)
        _fill_rows(x_LH, unit.bias[bias_at : bias_at + b])
        add_product(y_LH, _sheet(unit.turned, weight_at, a, b), x_LH)
        slope_at, weight_at, bias_at = slope_at + a, weight_at + a * b, bias_at + b
    return x_LH


@njit(cache=True, nogil=True, fastmath=FAST)
def _layers_backward(
    unit: Unit, size: int, before: Array, after: Array, spare: Array, grads: Grads
) -> Array:  # (L, H)
    """From the gradient of the last layer, in its place in ``before``, to that of the first."""
    width_J = unit.width_J
    at = size * (width_J.sum() - width_J[-1])
    slope_at, weight_at, bias_at = len(unit.slope), len(unit.weight), len(unit.bias)
    of_LH = _sheet(before, at, size, width_J[-1])
    for j in range(len(width_J) - 2, -1, -1):
        a, b = width_J[j], width_J[j + 1]
        at, slope_at = at - size * a, slope_at - a
        weight_at, bias_at = weight_at - a * b, bias_at - b
        x_LH, y_LH = _sheet(before, at, size, a), _sheet(after, at, size, a)
        _add_rows(of_LH, grads.bias[bias_at : bias_at + b])
        add_product_of_turned(of_LH, y_LH, _sheet(grads.weight, weight_at, b, a))
        of_y_LH = _sheet(spare, 0, size, a)
        of_y_LH[:] = 0
        add_product(of_LH, _sheet(unit.weight, weight_at, b, a), of_y_LH)
        span = slice(slope_at, slope_at + a)
        _activate_backward(of_y_LH, unit.slope[span], x_LH, grads.slope[span])
        of_LH = x_LH
    return of_LH


@njit(cache=True, nogil=True, fastmath=FAST)
def _weigh(score_LH: Array, scale: float, softmax: bool, weight_L: Array) -> None:
    """Weights of the events out of their scores."""
    for e in range(len(score_LH)):
        weight_L[e] = scale * score_LH[e, 0]
    if softmax and len(score_LH):
        top = weight_L[: len(score_LH)].max()
        total = scale * 0
        for e in range(len(score_LH)):
            weight_L[e] = np.exp(weight_L[e] - top)
            total += weight_L[e]
        for e in range(len(score_LH)):
            weight_L[e] /= total


@njit(cache=True, nogil=True, fastmath=FAST)
def _pool_backward(
    of_interest_X: Array,
    weight_L: Array,
    scale: float,
    softmax: bool,
    event_LX: Array,
    score_LH: Array,
    of_event_LX: Array,
) -> None:
    """Put gradients in place of the scores; add what the events get as that which is added up."""
    score_LH[:] = 0
    mean = scale * 0
    for e in range(len(event_LX)):
        of_weight, weight = scale * 0, weight_L[e]
        for x in range(len(of_interest_X)):
            of_weight += of_interest_X[x] * event_LX[e, x]
        for x in range(len(of_interest_X)):
            of_event_LX[e, x] += weight * of_interest_X[x]
        score_LH[e, 0] = scale * of_weight
        mean += weight * score_LH[e, 0]
    if softmax:
        for e in range(len(event_LX)):
            score_LH[e, 0] = weight_L[e] * (score_LH[e, 0] - mean)


@njit(cache=True, nogil=True, fastmath=FAST)
def _activate(x_LH: Array, slope_H: Array, y_LH: Array) -> None:
    """PReLU."""
    for e in range(x_LH.shape[0]):
        for h in range(x_LH.shape[1]):
            x = x_LH[e, h]
            y_LH[e, h] = x if x > 0 else slope_H[h] * x


@njit(cache=True, nogil=True, fastmath=FAST)
def _activate_backward(of_LH: Array, slope_H: Array, x_LH: Array, of_slope_H: Array) -> None:
    """Put the gradient of PReLU's input in place of the input; add that of the slopes."""
    for e in range(x_LH.shape[0]):
        for h in range(x_LH.shape[1]):
            x, of, slope, of_slope = x_LH[e, h], of_LH[e, h], slope_H[h], of_slope_H[h]
            of_slope_H[h] = of_slope if x > 0 else of_slope + of * x
            x_LH[e, h] = of if x > 0 else of * slope


@njit(cache=True, nogil=True, fastmath=FAST)
def _fill_rows(x_LH: Array, row_H: Array) -> None:
    for e in range(x_LH.shape[0]):
        for h in range(x_LH.shape[1]):
            x_LH[e, h] = row_H[h]


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_rows(x_LH: Array, total_H: Array) -> None:
    for e in range(x_LH.shape[0]):
        for h in range(x_LH.shape[1]):
            total_H[h] += x_LH[e, h]
