"""Softmax attention of many queries, each over a row of keys of its own, of very different lengths.

N  queries    E  keys    D  width of both    V  width of values
"""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def attend(
    query_ND: Array,
    key_ED: Array,
    bias_E: Array,
    value_EV: Array,
    start_N: Array,
    length_N: Array,
    nothing_X: Array,
) -> Array:  # (N, V + 1)
    """``[Σ_e softmax_e(q · k_e + b_e) v_e ; log Σ_e exp(q · k_e + b_e)]``, all float32.

    Query n's keys are the ``length_N[n]`` from ``start_N[n]`` on; without any the answer is
    ``nothing_X``.
    """
    out_NX = np.empty((query_ND.shape[0], value_EV.shape[1] + 1), np.float32)
    logit_L = np.empty(max(1, length_N.max() if len(length_N) else 1), np.float32)
    for n in range(query_ND.shape[0]):
        attend_one(
            query_ND[n],
            key_ED,
            bias_E,
            value_EV,
            start_N[n],
            length_N[n],
            nothing_X,
            logit_L,
            out_NX[n],
        )
    return out_NX


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def attend_one(
    query_D: Array,
    key_ED: Array,
    bias_E: Array,
    value_EV: Array,
    start: int,
    length: int,
    nothing_X: Array,
    logit_L: Array,
    out_X: Array,
) -> None:
    """Of one query; ``logit_L`` is room for as many logits as it has keys."""
    width, dim = value_EV.shape[1], query_D.shape[0]
    if length == 0:
        out_X[:] = nothing_X
        return
    top = np.float32(-np.inf)
    for j in range(length):
        dot = bias_E[start + j]
        for d in range(dim):
            dot += query_D[d] * key_ED[start + j, d]
        logit_L[j] = dot
        top = max(top, dot)
    total = np.float32(0.0)
    for v in range(width):
        out_X[v] = 0.0
    for j in range(length):
        weight = np.float32(exp(logit_L[j] - top))
        total += weight
        for v in range(width):
            out_X[v] += weight * value_EV[start + j, v]
    share = np.float32(1.0) / total
    for v in range(width):
        out_X[v] *= share
    out_X[width] = top + np.float32(log(total))
