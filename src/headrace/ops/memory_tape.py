"""What ``memory_kernels.py`` works on: weights, states of a row, and the tape of a segment."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numeric import Array, part

SEGMENT = 32  # steps of a tape: it stays in the cache


class Weights(NamedTuple):
    """What a step multiplies with."""

    read_WG: Any
    control_HG: Any
    head_HQ: Any
    head_bias_1Q: Any
    usage_SX: Any  # X: S logits under USAGE, Q under SHIFT, none under NONE
    key_SW: Any  # no rows where slots are addressed by what they hold alone
    memory_WG: Any
    channel_CG: Any


class State(NamedTuple):
    """Some states of one row; ``memory.Sizes`` has their order in a flat one."""

    control: Array  # (T, H)
    read: Array  # (T, W)
    usage: Array  # (T, S)
    memory: Array  # (T, S, W)
    channel: Array  # (T, S, C)


class Tape(NamedTuple):
    """What happens in a segment; a vector of each step but for the states, which are one more."""

    state: State
    input: Array  # (T, 3 H), what the controller's gates are told; their gradient, in the end
    recur: Array  # (T, 3 H), what they remember; likewise
    gate: Array  # (T, 3, H)
    said: Array  # (T, Q), first the vectors: read key, write key, erase, add
    norm: Array  # (T, S + 2), of slots and both keys
    cosine: Array  # (T, 4, S), read and write key with the slots, then with their keys
    weight: Array  # (3 T, S), in turn: read, addressed, written
    share: Array  # (T, S), of the usage
    balance: Array  # (T, S)
    chosen: Array  # (T, K) int64
    picked_memory: Array  # (T K, W)
    picked_channel: Array  # (T K, C)
    fresh_channel: Array  # (T K, C)
    inner_input: Array  # (T K, 3 C), as input
    inner_recur: Array  # (T K, 3 C), as recur
    inner_gate: Array  # (T K, 3, C)


def states(w: Weights, count: int) -> State:
    """Room for some states."""
    width, control = w.read_WG.shape[0], w.control_HG.shape[0]
    slots, channel, kind = w.usage_SX.shape[0], w.channel_CG.shape[0], w.head_HQ.dtype
    shapes = ((control,), (width,), (slots,), (slots, width), (slots, channel))
    return State(*(np.zeros((count, *shape), kind) for shape in shapes))


def tape(w: Weights, top: int) -> Tape:
    """Room for a segment."""
    (width, gates), said = w.read_WG.shape, w.head_HQ.shape[1]
    slots, (channel, inner) = w.usage_SX.shape[0], w.channel_CG.shape
    outer = ((gates,), (gates,), (3, gates // 3), (said,), (slots + 2,), (4, slots))
    picked = ((width,), (channel,), (channel,), (inner,), (inner,), (3, channel))

    def room(steps: int, *shapes: tuple[int, ...]) -> list[Any]:
        return [np.zeros((steps, *shape), w.head_HQ.dtype) for shape in shapes]

    steps, picks = SEGMENT, SEGMENT * top
    (weight,), chosen = room(3 * steps, (slots,)), np.zeros((steps, top), np.int64)
    rooms = [*room(steps, *outer), weight, *room(steps, (slots,), (slots,)), chosen]
    return Tape(states(w, steps + 1), *rooms, *room(picks, *picked))


@part
def load(state_NZ: Array, n: int, s: State) -> None:
    """Put a row's flat state at the beginning."""
    z = 0
    for k in range(s.control.shape[1]):
        s.control[0, k] = state_NZ[n, z + k]
    z += s.control.shape[1]
    for k in range(s.read.shape[1]):
        s.read[0, k] = state_NZ[n, z + k]
    z += s.read.shape[1]
    for k in range(s.usage.shape[1]):
        s.usage[0, k] = state_NZ[n, z + k]
    z += s.usage.shape[1]
    for i in range(s.memory.shape[1]):
        for k in range(s.memory.shape[2]):
            s.memory[0, i, k] = state_NZ[n, z + k]
        z += s.memory.shape[2]
    for i in range(s.channel.shape[1]):
        for k in range(s.channel.shape[2]):
            s.channel[0, i, k] = state_NZ[n, z + k]
        z += s.channel.shape[2]


@part
def save(s: State, state_NZ: Array, n: int) -> None:
    """Take a row's flat state from the beginning."""
    z = 0
    for k in range(s.control.shape[1]):
        state_NZ[n, z + k] = s.control[0, k]
    z += s.control.shape[1]
    for k in range(s.read.shape[1]):
        state_NZ[n, z + k] = s.read[0, k]
    z += s.read.shape[1]
    for k in range(s.usage.shape[1]):
        state_NZ[n, z + k] = s.usage[0, k]
    z += s.usage.shape[1]
    for i in range(s.memory.shape[1]):
        for k in range(s.memory.shape[2]):
            state_NZ[n, z + k] = s.memory[0, i, k]
        z += s.memory.shape[2]
    for i in range(s.channel.shape[1]):
        for k in range(s.channel.shape[2]):
            state_NZ[n, z + k] = s.channel[0, i, k]
        z += s.channel.shape[2]


@part
def rewind(s: State, t: int) -> None:
    """Make the state at place t the first."""
    for k in range(s.control.shape[1]):
        s.control[0, k] = s.control[t, k]
    for k in range(s.read.shape[1]):
        s.read[0, k] = s.read[t, k]
    for i in range(s.usage.shape[1]):
        s.usage[0, i] = s.usage[t, i]
        for k in range(s.memory.shape[2]):
            s.memory[0, i, k] = s.memory[t, i, k]
        for k in range(s.channel.shape[2]):
            s.channel[0, i, k] = s.channel[t, i, k]
