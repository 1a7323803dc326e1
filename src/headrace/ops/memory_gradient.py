"""The gradient of the scan of ``memory_kernels.py``; letters as there.

A segment is run again from the state it began with, then backwards. What a step adds to the
gradient of a weight is the product of what went in and the gradient of what came out; both lie on
the tape, so that a segment adds one small matrix product a weight.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .memory_kernels import NONE, SAID, SHIFT, USAGE, sharpness, step
from .memory_tape import SEGMENT, State, Tape, Weights, load, save, states
from .numeric import Array, add_product, add_row, entry, leaf, part


class Slope(NamedTuple):
    """Gradients of a row's state, moving backwards, and room to work."""

    state: State  # one; its usage is the same at every step, since usage is a sum
    said: Array  # (T, Q)
    balance: Array  # (T, S), of its logits
    weight: Array  # (3, S): read, addressed, written
    old_control: Array  # (1, H)
    inner: Array  # (1, C)
    old_inner: Array  # (1, C)
    row: Array  # (1, W)


def slope(w: Weights, p: Tape) -> Slope:
    """Room for the gradients along a tape."""
    slots, channel = p.balance.shape[1], w.channel_CG.shape[0]
    shapes = (p.said.shape, p.balance.shape, (3, slots), (1, w.control_HG.shape[0]))
    shapes = (*shapes, (1, channel), (1, channel), (1, w.read_WG.shape[0]))
    return Slope(states(w, 1), *(np.zeros(shape, w.head_HQ.dtype) for shape in shapes))


@leaf
def _cell(
    c: tuple[Any, ...],
    input_RG: Array,
    recur_RG: Array,
    r: Any,
    gate_R3H: Array,
    old_RH: Array,
    a: Any,
    of_new_1H: Array,
    of_old_1H: Array,
) -> None:
    """Gradients of a recurrent unit; those of its gates take the gates' places on the tape."""
    width = old_RH.shape[1]
    for k in range(width):
        u, new = gate_R3H[r, 0, k], gate_R3H[r, 2, k]
        input_RG[r, k] = of_new_1H[0, k] * (new - old_RH[a, k]) * u * (c[13] - u)
    for k in range(width):
        u, new = gate_R3H[r, 0, k], gate_R3H[r, 2, k]
        input_RG[r, 2 * width + k] = of_new_1H[0, k] * u * (c[13] - new * new)
    for k in range(width):
        of_remembered = input_RG[r, 2 * width + k] * recur_RG[r, 2 * width + k]
        gate = gate_R3H[r, 1, k]
        input_RG[r, width + k] = of_remembered * gate * (c[13] - gate)
    for k in range(2 * width):
        recur_RG[r, k] = input_RG[r, k]
    for k in range(width):
        recur_RG[r, 2 * width + k] = input_RG[r, 2 * width + k] * gate_R3H[r, 1, k]
    for k in range(width):
        of_old_1H[0, k] = of_new_1H[0, k] * (c[13] - gate_R3H[r, 0, k])


@leaf
def _write(c: tuple[Any, ...], p: Tape, t: int, d: Slope) -> None:
    slots, width = d.state.memory.shape[1:]
    zero = c[13] - c[13]
    for k in range(d.said.shape[1]):
        d.said[t, k] = zero
    for i in range(slots):
        written, of_written = p.weight[3 * t + 2, i], d.state.usage[0, i]
        for k in range(width):
            removed = p.said[t, 2 * width + k] * p.state.memory[t, i, k]
            of_written += d.state.memory[0, i, k] * (p.said[t, 3 * width + k] - removed)
        d.weight[2, i] = of_written
        for k in range(width):
            d.said[t, 2 * width + k] -= written * p.state.memory[t, i, k] * d.state.memory[0, i, k]
        for k in range(width):
            d.said[t, 3 * width + k] += written * d.state.memory[0, i, k]
        for k in range(width):
            d.state.memory[0, i, k] *= c[13] - written * p.said[t, 2 * width + k]


@leaf
def _induce(
    c: tuple[Any, ...], back: Weights, p: Tape, t: int, d: Slope, of_x_UG: Array, u: Any
) -> None:
    channel, top, width = d.state.channel.shape[2], p.chosen.shape[1], d.state.read.shape[1]
    begin = p.input.shape[1]
    for place in range(top):
        i, r = p.chosen[t, place], t * top + place
        for k in range(channel):
            d.inner[0, k] = d.state.channel[0, i, k]
        _cell(
            c,
            p.inner_input,
            p.inner_recur,
            r,
            p.inner_gate,
            p.picked_channel,
            r,
            d.inner,
            d.old_inner,
        )
        add_row(p.inner_recur, r, back.channel_CG, d.old_inner, 0)
        for k in range(channel):
            d.state.channel[0, i, k] = d.old_inner[0, k]
        for k in range(width):
            d.row[0, k] = 0
        add_row(p.inner_input, r, back.memory_WG, d.row, 0)
        for k in range(width):
            d.state.memory[0, i, k] += d.row[0, k]
        for k in range(3 * channel):
            of_x_UG[u, begin + k] += p.inner_input[r, k]


@leaf
def _softmax(
    weight_RK: Array, r: Any, of_weight_RK: Array, q: Any, of_logit_RK: Array, s: Any
) -> None:
    dot = weight_RK[r, 0] * 0
    for k in range(weight_RK.shape[1]):
        dot += weight_RK[r, k] * of_weight_RK[q, k]
    for k in range(weight_RK.shape[1]):
        of_logit_RK[s, k] = weight_RK[r, k] * (of_weight_RK[q, k] - dot)


@leaf
def _rebalance(c: tuple[Any, ...], balance: int, p: Tape, t: int, d: Slope) -> None:
    slots, at = d.state.usage.shape[1], 4 * d.state.read.shape[1] + 2
    if balance == NONE:
        for i in range(slots):
            d.weight[1, i] = d.weight[2, i]
    elif balance == USAGE:
        for i in range(slots):
            d.weight[1, i] = d.weight[2, i] * p.balance[t, i]
            d.weight[2, i] *= p.weight[3 * t + 1, i]
        _softmax(p.balance, t, d.weight, 2, d.balance, t)
    else:
        _softmax(p.weight, 3 * t + 2, d.weight, 2, d.weight, 2)
        gamma, of_gamma = sharpness(p.said, t, SAID - 1), c[13] - c[13]
        for i in range(slots):
            of_gamma += d.weight[2, i] * np.log(p.balance[t, i])
            d.weight[2, i] *= gamma / p.balance[t, i]
            d.weight[1, i] = 0
        for i in range(slots):
            for j in range(3):
                near = (i + j - 1) % slots
                d.weight[1, near] += p.said[t, at + j] * d.weight[2, i]
                d.said[t, at + j] += p.weight[3 * t + 1, near] * d.weight[2, i]
        dot = c[13] - c[13]
        for j in range(3):
            dot += p.said[t, at + j] * d.said[t, at + j]
        for j in range(3):
            d.said[t, at + j] = p.said[t, at + j] * (d.said[t, at + j] - dot)
        d.said[t, at + 3] = 4 * of_gamma / (1 + np.exp(-p.said[t, at + 3]))


@leaf
def _address(
    c: tuple[Any, ...], w: Weights, key_norm_S: Array, p: Tape, t: int, d: Slope, of_key_SW: Array
) -> None:
    slots, width = d.state.memory.shape[1:]
    keys, one, half = w.key_SW.shape[0] > 0, c[13], c[12]
    for h in range(2):
        _softmax(p.weight, 3 * t + h, d.weight, h, d.weight, h)
        key_norm = p.norm[t, slots + h]
        factor, of_sharpness = one, one - one
        if keys:
            factor = half * sharpness(p.said, t, h)
        for i in range(slots):
            of_cosine, norm = factor * d.weight[h, i], p.norm[t, i]
            inverse, cosine = one / (norm * key_norm), p.cosine[t, h, i]
            for k in range(width):
                key, memory = p.said[t, h * width + k], p.state.memory[t, i, k]
                d.state.memory[0, i, k] += of_cosine * (
                    key * inverse - cosine * memory / (norm * norm)
                )
            for k in range(width):
                key, memory = p.said[t, h * width + k], p.state.memory[t, i, k]
                d.said[t, h * width + k] += of_cosine * (
                    memory * inverse - cosine * key / (key_norm * key_norm)
                )
            if keys:
                of_sharpness += d.weight[h, i] * (cosine + p.cosine[t, 2 + h, i])
                norm, cosine = key_norm_S[i], p.cosine[t, 2 + h, i]
                inverse = one / (norm * key_norm)
                for k in range(width):
                    key, memory = p.said[t, h * width + k], w.key_SW[i, k]
                    of_key_SW[i, k] += of_cosine * (key * inverse - cosine * memory / (norm * norm))
                    d.said[t, h * width + k] += of_cosine * (
                        memory * inverse - cosine * key / (key_norm * key_norm)
                    )
        if keys:  # 2 (softplus + 1), and half of it before the cosines
            at = 4 * width + h
            d.said[t, at] = of_sharpness / (1 + np.exp(-p.said[t, at]))


@leaf
def _step(
    c: tuple[Any, ...],
    balance: int,
    w: Weights,
    back: Weights,
    key_norm_S: Array,
    p: Tape,
    t: int,
    d: Slope,
    grad: Weights,
    of_x_UG: Array,
    u: Any,
) -> None:
    """From the gradient of the state at t + 1 to that of the state at t."""
    slots, width = d.state.memory.shape[1:]
    one = c[13]
    _write(c, p, t, d)
    if d.state.channel.shape[2] > 0:
        _induce(c, back, p, t, d, of_x_UG, u)
    for i in range(slots):
        dot = one - one
        for k in range(width):
            dot += d.state.read[0, k] * p.state.memory[t, i, k]
        d.weight[0, i] = dot
        for k in range(width):
            d.state.memory[0, i, k] += p.weight[3 * t, i] * d.state.read[0, k]
    _rebalance(c, balance, p, t, d)
    _address(c, w, key_norm_S, p, t, d, grad.key_SW)
    for k in range(4 * width):
        said = p.said[t, k]
        if 2 * width <= k < 3 * width:
            d.said[t, k] *= said * (one - said)
        else:
            d.said[t, k] *= one - said * said
    add_row(d.said, t, back.head_HQ, d.state.control, 0)
    _cell(c, p.input, p.recur, t, p.gate, p.state.control, t, d.state.control, d.old_control)
    add_row(p.recur, t, back.control_HG, d.old_control, 0)
    for k in range(d.state.control.shape[1]):
        d.state.control[0, k] = d.old_control[0, k]
    for k in range(width):
        d.state.read[0, k] = 0
    add_row(p.input, t, back.read_WG, d.state.read, 0)
    for k in range(p.input.shape[1]):
        of_x_UG[u, k] += p.input[t, k]


@part
def _add(a_RK: Array, b_KJ: Array, out_RJ: Array, rows: int, inner: int) -> None:
    add_product(a_RK, b_KJ, out_RJ, rows, inner)


@part
def _of_weights(balance: int, p: Tape, d: Slope, steps: int, grad: Weights) -> None:
    """Add a segment's share to the gradients of the weights."""
    control, width, top = p.state.control.shape[1], p.state.read.shape[1], p.chosen.shape[1]
    _add(p.state.read.T, p.input, grad.read_WG, width, steps)
    _add(p.state.control.T, p.recur, grad.control_HG, control, steps)
    for t in range(steps):
        for k in range(d.said.shape[1]):
            grad.head_bias_1Q[0, k] += d.said[t, k]
    _add(p.state.control[1:].T, d.said, grad.head_HQ, control, steps)
    if balance == SHIFT:
        _add(p.share.T, d.said, grad.usage_SX, p.share.shape[1], steps)
    elif balance == USAGE:
        _add(p.share.T, d.balance, grad.usage_SX, p.share.shape[1], steps)
    if p.state.channel.shape[2] > 0:
        picks = steps * top
        _add(p.picked_memory.T, p.inner_input, grad.memory_WG, width, picks)
        _add(p.picked_channel.T, p.inner_recur, grad.channel_CG, p.state.channel.shape[2], picks)


@entry
def backward(
    c: tuple[Any, ...],
    balance: int,
    w: Weights,
    back: Weights,
    key_norm_S: Array,
    x_UG: Array,
    place_E: Array,
    offsets: Array,
    p: Tape,
    d: Slope,
    kept_PZ: Array,
    of_state_NZ: Array,
    of_seen_EO: Array,
    of_start_NZ: Array,
    of_x_UG: Array,
    grad: Weights,
) -> None:
    """Write the gradients of the rows' first states and of x, and add those of the weights.

    ``back`` are the weights transposed; ``of_seen_EO`` may have no rows.
    """
    control, width = p.state.control.shape[1], p.state.read.shape[1]
    segment = 0
    for n in range(len(offsets) - 1):
        load(of_state_NZ, n, d.state)
        count = (offsets[n + 1] - offsets[n] + SEGMENT - 1) // SEGMENT
        for s in range(count - 1, -1, -1):
            begin = offsets[n] + s * SEGMENT
            steps = min(SEGMENT, offsets[n + 1] - begin)
            load(kept_PZ, segment + s, p.state)
            for t in range(steps):
                step(c, balance, w, key_norm_S, x_UG, place_E[begin + t], p, t)
            for t in range(steps - 1, -1, -1):
                if of_seen_EO.shape[0] > 0:
                    for k in range(control):
                        d.state.control[0, k] += of_seen_EO[begin + t, k]
                    for k in range(width):
                        d.state.read[0, k] += of_seen_EO[begin + t, control + k]
                _step(c, balance, w, back, key_norm_S, p, t, d, grad, of_x_UG, place_E[begin + t])
            _of_weights(balance, p, d, steps, grad)
        segment += count
        save(d.state, of_start_NZ, n)
