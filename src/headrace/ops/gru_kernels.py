"""The kernels of ``gru.py``: the scan and its gradient.

  N  rows    E  events    H  width of the state    G  3 H, gates side by side
  R  rows of a block      P  steps, summed over rows

Rows of like length go side by side, so that a step is a small matrix product out of the first-level
cache. The gradient is given the states alone and computes the gates anew: that is cheaper than to
fetch them from memory. Loops over the width are written for the compiler to vectorise: no division
by zero to raise, no order of summation to keep, few arrays at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .numeric import Array, add_product, entry, leaf, sigmoid, tanh

PLAIN, AUGRU, AIGRU, AGRU = range(4)
BLOCK = 16  # rows side by side; their gates and the weights stay in the first-level cache


@leaf
def _blend(mode: int, a: Any, c: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """What attention does: ``i = scale x + b`` and ``ũ = factor u + term``."""
    if mode == AUGRU:
        return c[13], a, c[13] - c[13]
    if mode == AGRU:
        return c[13], c[13] - c[13], a
    return (a if mode == AIGRU else c[13]), c[13], c[13] - c[13]


@entry
def forward(
    mode: int,
    c: tuple[Any, ...],
    x_E3H: Array,
    weight_HG: Array,
    bias_3H: Array,
    attention_NL: Array,
    start_N: Array,
    length_N: Array,
    first_N: Array,
    order_N: Array,
    state_PH: Array,
    last_NH: Array,
) -> None:
    """Write every state and the last of each row; see ``gru.py``."""
    width, size = weight_HG.shape[0], start_N.shape[0]
    h_RH = np.empty((BLOCK, width), x_E3H.dtype)
    q_RG = np.empty((BLOCK, 3 * width), x_E3H.dtype)
    q_R3H = q_RG.reshape(BLOCK, 3, width)
    keep = state_PH.shape[0] > 0
    for block in range(0, size, BLOCK):
        alive = min(BLOCK, size - block)
        h_RH[:] = 0
        for t in range(length_N[order_N[block]]):
            while length_N[order_N[block + alive - 1]] <= t:
                alive -= 1
            rows = 4 * ((alive + 3) // 4)  # those beyond the living are computed and not used
            q_RG[:rows] = 0
            add_product(h_RH, weight_HG, q_RG, rows, width)
            for i in range(alive):
                n = order_N[block + i]
                e = start_N[n] + t
                a = attention_NL[n, t] if mode != PLAIN else c[13]
                scale, factor, term = _blend(mode, a, c)
                for k in range(width):
                    u = sigmoid(scale * x_E3H[e, 0, k] + bias_3H[0, k] + q_R3H[i, 0, k], c)
                    r = sigmoid(scale * x_E3H[e, 1, k] + bias_3H[1, k] + q_R3H[i, 1, k], c)
                    new = tanh(scale * x_E3H[e, 2, k] + bias_3H[2, k] + r * q_R3H[i, 2, k], c)
                    step = factor * u + term
                    h_RH[i, k] = (c[13] - step) * h_RH[i, k] + step * new
                if keep:
                    state_PH[first_N[n] + t] = h_RH[i]
                if t == length_N[n] - 1:
                    last_NH[n] = h_RH[i]


@leaf
def _gates(
    scale: Any,
    c: tuple[Any, ...],
    i: int,
    e: Any,
    x_E3H: Array,
    bias_3H: Array,
    q_R3H: Array,
    gate_3H: Array,
) -> None:
    """Update gate, reset gate and proposed state of row i at event e."""
    for k in range(gate_3H.shape[1]):
        x = scale * x_E3H[e, 0, k] + bias_3H[0, k]
        gate_3H[0, k] = sigmoid(x + q_R3H[i, 0, k], c)
    for k in range(gate_3H.shape[1]):
        x = scale * x_E3H[e, 1, k] + bias_3H[1, k]
        gate_3H[1, k] = sigmoid(x + q_R3H[i, 1, k], c)
    for k in range(gate_3H.shape[1]):
        x = scale * x_E3H[e, 2, k] + bias_3H[2, k]
        gate_3H[2, k] = tanh(x + gate_3H[1, k] * q_R3H[i, 2, k], c)


@leaf
def _gate_gradients(
    mode: int,
    factor: Any,
    term: Any,
    c: tuple[Any, ...],
    i: int,
    h_RH: Array,
    dh_RH: Array,
    gate_3H: Array,
    q_R3H: Array,
    di_3H: Array,
    dq_R3H: Array,
) -> Any:
    """From the gradient of row i's new state to those of its gates; that of attention is returned.

    One array is written at a time: a loop that writes several is not vectorised, since the compiler
    would have to prove too many of them apart. ``dh_RH`` is left with what reaches the old state
    directly.
    """
    width = h_RH.shape[1]
    da = c[13] - c[13]
    if mode == AUGRU:
        for k in range(width):
            da += dh_RH[i, k] * (gate_3H[2, k] - h_RH[i, k]) * gate_3H[0, k]
    elif mode == AGRU:
        for k in range(width):
            da += dh_RH[i, k] * (gate_3H[2, k] - h_RH[i, k])
    for k in range(width):
        u = gate_3H[0, k]
        di_3H[0, k] = factor * u * (c[13] - u) * dh_RH[i, k] * (gate_3H[2, k] - h_RH[i, k])
    for k in range(width):
        step, new = factor * gate_3H[0, k] + term, gate_3H[2, k]
        di_3H[2, k] = step * (c[13] - new * new) * dh_RH[i, k]
    for k in range(width):
        r = gate_3H[1, k]
        di_3H[1, k] = di_3H[2, k] * q_R3H[i, 2, k] * r * (c[13] - r)
    for k in range(width):
        dq_R3H[i, 0, k] = di_3H[0, k]
    for k in range(width):
        dq_R3H[i, 1, k] = di_3H[1, k]
    for k in range(width):
        dq_R3H[i, 2, k] = di_3H[2, k] * gate_3H[1, k]
    for k in range(width):
        dh_RH[i, k] *= c[13] - (factor * gate_3H[0, k] + term)
    return da


@entry
def backward(
    mode: int,
    c: tuple[Any, ...],
    x_E3H: Array,
    weight_HG: Array,
    weight_GH: Array,
    bias_3H: Array,
    attention_NL: Array,
    start_N: Array,
    length_N: Array,
    first_N: Array,
    order_N: Array,
    state_PH: Array,
    state_grad_PH: Array,
    last_grad_NH: Array,
    x_grad_E3H: Array,
    weight_grad_HG: Array,
    bias_grad_3H: Array,
    attention_grad_NL: Array,
) -> None:
    """Write the gradients of x, weights, bias and attention, given those of the states."""
    width, size = weight_HG.shape[0], start_N.shape[0]
    kind = x_E3H.dtype
    h_RH, dh_RH = np.empty((BLOCK, width), kind), np.empty((BLOCK, width), kind)
    gate_3H, di_3H = np.empty((3, width), kind), np.empty((3, width), kind)
    q_RG, dq_RG = np.empty((BLOCK, 3 * width), kind), np.empty((BLOCK, 3 * width), kind)
    q_R3H, dq_R3H = q_RG.reshape(BLOCK, 3, width), dq_RG.reshape(BLOCK, 3, width)
    for block in range(0, size, BLOCK):
        most, alive = min(BLOCK, size - block), 0
        h_RH[:], dq_RG[:] = 0, 0  # of rows not yet alive
        for t in range(length_N[order_N[block]] - 1, -1, -1):
            while alive < most and length_N[order_N[block + alive]] > t:
                dh_RH[alive] = 0
                if last_grad_NH.shape[0] > 0:
                    dh_RH[alive] = last_grad_NH[order_N[block + alive]]
                alive += 1
            for i in range(alive):
                p = first_N[order_N[block + i]] + t
                for k in range(width):
                    h_RH[i, k] = state_PH[p - 1, k] if t > 0 else 0
                if state_grad_PH.shape[0] > 0:
                    for k in range(width):
                        dh_RH[i, k] += state_grad_PH[p, k]
            rows = 4 * ((alive + 3) // 4)  # those beyond the living are computed and not used
            q_RG[:rows] = 0
            add_product(h_RH, weight_HG, q_RG, rows, width)
            for i in range(alive):
                n = order_N[block + i]
                e = start_N[n] + t
                a = attention_NL[n, t] if mode != PLAIN else c[13]
                scale, factor, term = _blend(mode, a, c)
                _gates(scale, c, i, e, x_E3H, bias_3H, q_R3H, gate_3H)
                da = _gate_gradients(
                    mode, factor, term, c, i, h_RH, dh_RH, gate_3H, q_R3H, di_3H, dq_R3H
                )
                if mode == AIGRU:
                    for g in range(3):
                        for k in range(width):
                            da += di_3H[g, k] * x_E3H[e, g, k]
                if mode != PLAIN:
                    attention_grad_NL[n, t] = da
                for g in range(3):
                    for k in range(width):
                        x_grad_E3H[e, g, k] += scale * di_3H[g, k]
                    for k in range(width):
                        bias_grad_3H[g, k] += di_3H[g, k]
            add_product(h_RH.T, dq_RG, weight_grad_HG, width, rows)
            add_product(dq_RG, weight_GH, dh_RH, rows, 3 * width)
