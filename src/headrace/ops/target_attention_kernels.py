"""What target attention does between its matrix products, a block of pairs at a time.

Candidate n of a block has the pairs ``pair_N[n]`` to ``pair_N[n + 1]``, of the events from
``start_N[n]`` on; N, E and P count those of the block. Rows of a matrix are contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
FAST = {"contract", "reassoc", "nsz", "arcp"}  # not nnan, ninf: a NaN must stay one


@njit(cache=True, nogil=True, fastmath=FAST)
def multiply(
    target_ND: Array, event_ED: Array, start_N: Array, pair_N: Array, product_PD: Array
) -> None:
    """``q ∘ k`` of every pair."""
    for n in range(len(start_N)):
        for p in range(pair_N[n], pair_N[n + 1]):
            e = start_N[n] + p - pair_N[n]
            for d in range(target_ND.shape[1]):
                product_PD[p, d] = target_ND[n, d] * event_ED[e, d]


@njit(cache=True, nogil=True, fastmath=FAST)
def add(query_NH: Array, key_EH: Array, start_N: Array, pair_N: Array, x_PH: Array) -> None:
    """Add ``q A`` and ``k B`` of every pair to what is there."""
    for n in range(len(start_N)):
        for p in range(pair_N[n], pair_N[n + 1]):
            e = start_N[n] + p - pair_N[n]
            for h in range(query_NH.shape[1]):
                x_PH[p, h] += query_NH[n, h] + key_EH[e, h]


@njit(cache=True, nogil=True, fastmath=FAST)
def weigh(score_P: Array, pair_N: Array, scale_N: Array, softmax: bool) -> None:
    """Turn scores to weights, in place."""
    for n in range(len(scale_N)):
        first, last = pair_N[n], pair_N[n + 1]
        for p in range(first, last):
            score_P[p] *= scale_N[n]
        if softmax and first < last:
            top = score_P[first]
            for p in range(first, last):
                top = max(top, score_P[p])
            total = score_P[first] * 0  # a zero of the same type
            for p in range(first, last):
                score_P[p] = np.exp(score_P[p] - top)
                total += score_P[p]
            for p in range(first, last):
                score_P[p] /= total


@njit(cache=True, nogil=True, fastmath=FAST)
def pool(
    weight_P: Array, event_ED: Array, start_N: Array, pair_N: Array, interest_ND: Array
) -> None:
    """Add up each candidate's events by their weights."""
    for n in range(len(start_N)):
        for p in range(pair_N[n], pair_N[n + 1]):
            e, weight = start_N[n] + p - pair_N[n], weight_P[p]
            for d in range(interest_ND.shape[1]):
                interest_ND[n, d] += weight * event_ED[e, d]


@njit(cache=True, nogil=True, fastmath=FAST)
def pool_backward(
    of_interest_ND: Array,
    weight_P: Array,
    event_ED: Array,
    start_N: Array,
    pair_N: Array,
    scale_N: Array,
    softmax: bool,
    of_score_P: Array,
    of_event_ED: Array,
) -> None:
    """Gradients of the scores, and what the events get as that which is added up."""
    zero = scale_N[0] * 0
    for n in range(len(start_N)):
        mean = zero
        for p in range(pair_N[n], pair_N[n + 1]):
            e, weight, of_weight = start_N[n] + p - pair_N[n], weight_P[p], zero
            for d in range(of_interest_ND.shape[1]):
                of_weight += of_interest_ND[n, d] * event_ED[e, d]
                of_event_ED[e, d] += weight * of_interest_ND[n, d]
            of_score_P[p] = scale_N[n] * of_weight
            mean += weight * of_score_P[p]
        if softmax:
            for p in range(pair_N[n], pair_N[n + 1]):
                of_score_P[p] = weight_P[p] * (of_score_P[p] - mean)


@njit(cache=True, nogil=True, fastmath=FAST)
def prelu_backward(of_PH: Array, x_PH: Array, slope_H: Array, of_slope_H: Array) -> None:
    """Gradient of the input, in place of the output's, and of the slopes."""
    zero = slope_H[0] * 0
    for p in range(len(of_PH)):
        for h in range(len(slope_H)):
            x, of = x_PH[p, h], of_PH[p, h]
            of_slope_H[h] += zero if x > 0 else of * x
            of_PH[p, h] = of if x > 0 else of * slope_H[h]


@njit(cache=True, nogil=True, fastmath=FAST)
def collapse(
    of_x_PH: Array,
    of_product_PD: Array,
    target_ND: Array,
    event_ED: Array,
    start_N: Array,
    pair_N: Array,
    of_target_ND: Array,
    of_query_NH: Array,
    of_event_ED: Array,
    of_key_EH: Array,
) -> None:
    """The gradients of ``multiply`` and ``add``, added to what is there."""
    for n in range(len(start_N)):
        for p in range(pair_N[n], pair_N[n + 1]):
            e = start_N[n] + p - pair_N[n]
            for d in range(target_ND.shape[1]):
                of = of_product_PD[p, d]
                of_target_ND[n, d] += of * event_ED[e, d]
                of_event_ED[e, d] += of * target_ND[n, d]
            for h in range(of_query_NH.shape[1]):
                of_query_NH[n, h] += of_x_PH[p, h]
                of_key_EH[e, h] += of_x_PH[p, h]
