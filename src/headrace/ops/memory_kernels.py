"""The kernels of ``memory.py``: a step of the memory, and the scan.

  S  slots     W  width of a slot     H  width of the controller     C  width of a channel
  K  channels that an event changes   Q  what the controller says    G  gates, side by side
  N  rows      E  events              U  distinct inputs     T  steps of a segment
  Z  a row's whole state

A step reads the state at place t of a tape and writes it at t + 1, with what the gradient will ask
for between them. The scan runs a segment at a time over one tape that stays in the cache; of every
segment only the state at its beginning is kept, and the gradient runs the segment again.
"""

from __future__ import annotations

import math
from typing import Any

from .memory_tape import SEGMENT, Tape, Weights, load, rewind, save
from .numeric import Array, add_row, entry, leaf, sigmoid, softmax, tanh

NONE, USAGE, SHIFT = range(3)
TINY = 1e-8  # under the root of a norm
SAID = 6  # numbers beside the vectors that a controller with keys says


@leaf
def _cell(
    c: tuple[Any, ...],
    input_RG: Array,
    recur_RG: Array,
    r: Any,
    gate_R3H: Array,
    old_RH: Array,
    a: Any,
    new_RH: Array,
    b: Any,
) -> None:
    """A gated recurrent unit: row a of old to row b of new, by what row r is told."""
    width = old_RH.shape[1]
    for k in range(width):
        gate_R3H[r, 0, k] = sigmoid(input_RG[r, k] + recur_RG[r, k], c)
    for k in range(width):
        gate_R3H[r, 1, k] = sigmoid(input_RG[r, width + k] + recur_RG[r, width + k], c)
    for k in range(width):
        remembered = gate_R3H[r, 1, k] * recur_RG[r, 2 * width + k]
        gate_R3H[r, 2, k] = tanh(input_RG[r, 2 * width + k] + remembered, c)
    for k in range(width):
        u = gate_R3H[r, 0, k]
        new_RH[b, k] = (c[13] - u) * old_RH[a, k] + u * gate_R3H[r, 2, k]


@leaf
def softplus(x: Any) -> Any:
    """``log(1 + exp x)``."""
    return max(x, x - x) + math.log1p(math.exp(-abs(x)))


@leaf
def sharpness(said_TQ: Array, t: int, at: int) -> Any:
    """How sharp addressing is: β of the read (0) and the write key (1), γ of the shift (5)."""
    width = (said_TQ.shape[1] - SAID) // 4
    factor = 4 if at == SAID - 1 else 2
    return factor * (softplus(said_TQ[t, 4 * width + at]) + 1)


@leaf
def _speak(c: tuple[Any, ...], balance: int, w: Weights, p: Tape, t: int) -> None:
    """Both keys, what to erase, what to add, and how sharply."""
    slots, width = p.state.usage.shape[1], p.state.read.shape[1]
    total = c[13]
    for i in range(slots):
        total += p.state.usage[t, i]
    for i in range(slots):
        p.share[t, i] = p.state.usage[t, i] / total
    for k in range(p.said.shape[1]):
        p.said[t, k] = w.head_bias_1Q[0, k]
    add_row(p.state.control, t + 1, w.head_HQ, p.said, t)
    if balance == SHIFT:
        add_row(p.share, t, w.usage_SX, p.said, t)
    for k in range(2 * width):
        p.said[t, k] = tanh(p.said[t, k], c)
    for k in range(2 * width, 3 * width):
        p.said[t, k] = sigmoid(p.said[t, k], c)
    for k in range(3 * width, 4 * width):
        p.said[t, k] = tanh(p.said[t, k], c)


@leaf
def _address(w: Weights, key_norm_S: Array, p: Tape, t: int) -> None:
    """Weights of the slots for reading and for writing."""
    slots, width, keys = p.state.usage.shape[1], p.state.read.shape[1], w.key_SW.shape[0] > 0
    for h in range(2):
        square = p.said[t, 0] * 0 + TINY
        for k in range(width):
            square += p.said[t, h * width + k] * p.said[t, h * width + k]
        p.norm[t, slots + h] = math.sqrt(square)
    for i in range(slots):
        square = p.said[t, 0] * 0 + TINY
        for k in range(width):
            square += p.state.memory[t, i, k] * p.state.memory[t, i, k]
        p.norm[t, i] = math.sqrt(square)
        for h in range(2):
            dot = square * 0
            for k in range(width):
                dot += p.state.memory[t, i, k] * p.said[t, h * width + k]
            p.cosine[t, h, i] = dot / (p.norm[t, i] * p.norm[t, slots + h])
            p.weight[3 * t + h, i] = p.cosine[t, h, i]
            if keys:
                dot = square * 0
                for k in range(width):
                    dot += w.key_SW[i, k] * p.said[t, h * width + k]
                p.cosine[t, 2 + h, i] = dot / (key_norm_S[i] * p.norm[t, slots + h])
                both = (p.cosine[t, h, i] + p.cosine[t, 2 + h, i]) / 2
                p.weight[3 * t + h, i] = sharpness(p.said, t, h) * both
    for h in range(2):
        softmax(p.weight, 3 * t + h, p.weight)


@leaf
def _rebalance(balance: int, w: Weights, p: Tape, t: int) -> None:
    """What is written where, in the light of what has been."""
    slots, said = p.state.usage.shape[1], 4 * p.state.read.shape[1] + 2
    if balance == NONE:
        for i in range(slots):
            p.weight[3 * t + 2, i] = p.weight[3 * t + 1, i]
    elif balance == USAGE:
        for i in range(slots):
            p.balance[t, i] = 0
        add_row(p.share, t, w.usage_SX, p.balance, t)
        softmax(p.balance, t, p.balance)
        for i in range(slots):
            p.weight[3 * t + 2, i] = p.weight[3 * t + 1, i] * p.balance[t, i]
    else:
        total, top = p.said[t, 0] * 0, max(p.said[t, said], p.said[t, said + 1])
        top = max(top, p.said[t, said + 2])
        for j in range(3):  # the shift's softmax, in place
            p.said[t, said + j] = math.exp(p.said[t, said + j] - top)
            total += p.said[t, said + j]
        for j in range(3):
            p.said[t, said + j] /= total
        gamma = sharpness(p.said, t, SAID - 1)
        for i in range(slots):
            moved = total * 0
            for j in range(3):
                moved += p.said[t, said + j] * p.weight[3 * t + 1, (i + j - 1) % slots]
            p.balance[t, i] = moved
            p.weight[3 * t + 2, i] = gamma * math.log(moved)
        softmax(p.weight, 3 * t + 2, p.weight)


@leaf
def _induce(c: tuple[Any, ...], w: Weights, x_UG: Array, u: Any, p: Tape, t: int) -> None:
    """Let the channels that were read most take note of the event."""
    slots, channel, top = p.state.usage.shape[1], p.state.channel.shape[2], p.chosen.shape[1]
    for i in range(slots):
        for k in range(channel):
            p.state.channel[t + 1, i, k] = p.state.channel[t, i, k]
    begin = p.input.shape[1]
    for place in range(top):
        best = -1
        for i in range(slots):
            taken = False
            for q in range(place):
                taken |= p.chosen[t, q] == i
            if not taken and (best < 0 or p.weight[3 * t, i] > p.weight[3 * t, best]):
                best = i
        p.chosen[t, place] = best
        r = t * top + place
        for k in range(p.state.read.shape[1]):
            p.picked_memory[r, k] = p.state.memory[t, best, k]
        for k in range(channel):
            p.picked_channel[r, k] = p.state.channel[t, best, k]
        for k in range(3 * channel):
            p.inner_input[r, k] = x_UG[u, begin + k]
            p.inner_recur[r, k] = 0
        add_row(p.picked_memory, r, w.memory_WG, p.inner_input, r)
        add_row(p.picked_channel, r, w.channel_CG, p.inner_recur, r)
        _cell(
            c,
            p.inner_input,
            p.inner_recur,
            r,
            p.inner_gate,
            p.picked_channel,
            r,
            p.fresh_channel,
            r,
        )
        for k in range(channel):
            p.state.channel[t + 1, best, k] = p.fresh_channel[r, k]


@leaf
def step(
    c: tuple[Any, ...],
    balance: int,
    w: Weights,
    key_norm_S: Array,
    x_UG: Array,
    u: Any,
    p: Tape,
    t: int,
) -> None:
    """One event: from the state at place t to that at t + 1."""
    slots, width = p.state.usage.shape[1], p.state.read.shape[1]
    for k in range(p.input.shape[1]):
        p.input[t, k] = x_UG[u, k]
        p.recur[t, k] = 0
    add_row(p.state.read, t, w.read_WG, p.input, t)
    add_row(p.state.control, t, w.control_HG, p.recur, t)
    _cell(c, p.input, p.recur, t, p.gate, p.state.control, t, p.state.control, t + 1)
    _speak(c, balance, w, p, t)
    _address(w, key_norm_S, p, t)
    _rebalance(balance, w, p, t)
    for k in range(width):
        p.state.read[t + 1, k] = 0
    for i in range(slots):
        for k in range(width):
            p.state.read[t + 1, k] += p.weight[3 * t, i] * p.state.memory[t, i, k]
    if p.state.channel.shape[2] > 0:
        _induce(c, w, x_UG, u, p, t)
    for i in range(slots):
        written = p.weight[3 * t + 2, i]
        p.state.usage[t + 1, i] = p.state.usage[t, i] + written
        for k in range(width):
            erased = (c[13] - written * p.said[t, 2 * width + k]) * p.state.memory[t, i, k]
            p.state.memory[t + 1, i, k] = erased + written * p.said[t, 3 * width + k]


@entry
def forward(
    c: tuple[Any, ...],
    balance: int,
    w: Weights,
    key_norm_S: Array,
    x_UG: Array,
    place_E: Array,
    offsets: Array,
    p: Tape,
    state_NZ: Array,
    seen_EO: Array,
    kept_PZ: Array,
) -> None:
    """Run every row; ``state_NZ`` is where it starts and, in the end, where it is.

    ``seen_EO`` takes controller and read vector after each event, ``kept_PZ`` the state at the
    beginning of every segment; of no rows they take nothing.
    """
    control, width = p.state.control.shape[1], p.state.read.shape[1]
    segment = 0
    for n in range(len(offsets) - 1):
        load(state_NZ, n, p.state)
        for begin in range(offsets[n], offsets[n + 1], SEGMENT):
            if kept_PZ.shape[0] > 0:
                save(p.state, kept_PZ, segment)
                segment += 1
            steps = min(SEGMENT, offsets[n + 1] - begin)
            for t in range(steps):
                step(c, balance, w, key_norm_S, x_UG, place_E[begin + t], p, t)
                if seen_EO.shape[0] > 0:
                    for k in range(control):
                        seen_EO[begin + t, k] = p.state.control[t + 1, k]
                    for k in range(width):
                        seen_EO[begin + t, control + k] = p.state.read[t + 1, k]
            rewind(p.state, steps)
        save(p.state, state_NZ, n)
