"""A memory that events are written into, along ragged rows: MIMN's scan (arXiv:1905.09248).

  S  slots     W  width of a slot     H  width of the controller     C  width of a channel
  N  rows      E  events              U  distinct inputs             Z  a row's whole state
  O  H + W, what is seen

Row n begins in a state of its own and reads the events between its offsets. For each event x:

    controller   c ← GRU(c; x, r)           k^r, k^w = tanh(.)   e = σ(.)   a = tanh(.)   of c
    addressing   w^r = softmax_i cos(k^r, M_i)              w^w = softmax_i cos(k^w, M_i)
    balance      w̃ = w^w ∘ softmax(W_g g)                   g ← g + w̃
    read         r = Σ_i w^r_i M_i
    induction    S_i ← GRU(S_i; x, M_i)                     for the top channels by w^r
    write        M ← (1 - w̃ ⊗ e) ∘ M + w̃ ⊗ a

which is the paper. With keys, as in the authors' code, a slot also has a learned key of its own:
addressing goes by the mean of both cosines, sharpened; under ``SHIFT`` the write weights are moved
by a circular shift and sharpened again, and the controller is told the usage. Usage is told as
shares, which have no gradient, as in the code.

A step costs the same however many there were, and the state is all that a later one needs. On CPU
the scan and its gradient are one Numba kernel each; elsewhere, and as the reference in the tests,
they are a PyTorch loop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .memory_gradient import backward, slope
from .memory_kernels import NONE, SAID, SHIFT, TINY, USAGE, forward
from .memory_tape import SEGMENT, Weights, tape
from .numeric import CONSTANTS

__all__ = ["NONE", "SAID", "SHIFT", "USAGE", "Read", "Sizes", "Weights", "look", "scan"]


class Sizes(NamedTuple):
    """What a flat state is made of, in this order."""

    control: int
    slots: int
    width: int
    channel: int

    @property
    def total(self) -> int:
        """Z."""
        return self.control + self.width + self.slots * (1 + self.width + self.channel)

    def parts(self, state_NZ: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Controller (N, H), read (N, W), usage (N, S), memory (N, S, W), channels (N, S, C)."""
        slots = self.slots
        sizes = [self.control, self.width, slots, slots * self.width, slots * self.channel]
        control, read, usage, memory, channel = state_NZ.split(sizes, dim=1)
        shape = (len(state_NZ), slots)
        return control, read, usage, memory.view(*shape, -1), channel.view(*shape, self.channel)


class Read(NamedTuple):
    """What a controller makes of an input before anything is written."""

    control_NH: Tensor
    read_NW: Tensor
    weight_NS: Tensor  # of the read
    key_NW: Tensor  # of the write
    said_NQ: Tensor


def scan(
    balance: int,
    top: int,
    w: Weights,
    x_UG: Tensor,
    place_E: Tensor,
    offsets: Tensor,
    state_NZ: Tensor,
    *,
    see: bool = False,
) -> tuple[Tensor, Tensor]:
    """The state ``(N, Z)`` after each row's events, and what was seen after each, ``(E, O)``.

    ``x_UG`` are inputs projected to the gates of the controller and, behind them, of the channels,
    biases included: G = 3 H + 3 C. Event e is of input ``place_E[e]``, so that what repeats is
    projected once. ``top`` channels take note of an event. Without
    ``see`` the second answer has no rows.
    """
    inputs = *w, x_UG, state_NZ
    if any(t.device.type != "cpu" or t.dtype not in CONSTANTS for t in inputs):
        return scan_reference(balance, top, w, x_UG, place_E, offsets, state_NZ, see=see)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    return _Scan.apply(balance, top, see, keep, place_E, offsets, *inputs)


def scan_reference(
    balance: int,
    top: int,
    w: Weights,
    x_UG: Tensor,
    place_E: Tensor,
    offsets: Tensor,
    state_NZ: Tensor,
    *,
    see: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, a step of all rows at a time."""
    length_N = offsets.diff()
    seen: list[Tensor] = []
    sizes = sizes_of(w)
    for t in range(int(length_N.max()) if len(length_N) else 0):
        at_N = (offsets[:-1] + t).clamp(max=len(place_E) - 1)
        new_NZ = _step(balance, top, w, x_UG[place_E[at_N]], state_NZ)
        state_NZ = torch.where((t < length_N).unsqueeze(1), new_NZ, state_NZ)
        seen.append(state_NZ[:, : sizes.control + sizes.width])
    if not see or not seen:
        return state_NZ, state_NZ.new_zeros(0, sizes.control + sizes.width)
    real_NL = torch.arange(len(seen)) < length_N.unsqueeze(1)
    return state_NZ, torch.stack(seen, dim=1)[real_NL]


def look(balance: int, w: Weights, x_NG: Tensor, state_NZ: Tensor) -> Read:
    """What controllers read of states when told ``x``; nothing is written."""
    control_NH, read_NW, usage_NS, memory_NSW, _ = sizes_of(w).parts(state_NZ)
    width, gates = read_NW.shape[1], 3 * control_NH.shape[1]
    input_NG = x_NG[:, :gates] + read_NW @ w.read_WG
    control_NH = _cell(input_NG, control_NH @ w.control_HG, control_NH)
    said_NQ = w.head_bias_1Q + control_NH @ w.head_HQ
    if balance == SHIFT:
        said_NQ = said_NQ + _share(usage_NS) @ w.usage_SX
    read_key_NW, key_NW = said_NQ[:, :width].tanh(), said_NQ[:, width : 2 * width].tanh()
    weight_NS = _address(w, read_key_NW, memory_NSW, said_NQ[:, 4 * width :][:, :1])
    found_NW = (weight_NS.unsqueeze(1) @ memory_NSW).squeeze(1)
    return Read(control_NH, found_NW, weight_NS, key_NW, said_NQ)


def sizes_of(w: Weights) -> Sizes:
    """The sizes of a state that these weights fit."""
    return Sizes(len(w.control_HG), len(w.usage_SX), len(w.read_WG), len(w.channel_CG))


def _step(balance: int, top: int, w: Weights, x_NG: Tensor, state_NZ: Tensor) -> Tensor:
    _, _, usage_NS, memory_NSW, channel_NSC = sizes_of(w).parts(state_NZ)
    seen = look(balance, w, x_NG, state_NZ)
    width, extra_NX = memory_NSW.shape[2], seen.said_NQ[:, 4 * memory_NSW.shape[2] :]
    weight_NS = _address(w, seen.key_NW, memory_NSW, extra_NX[:, 1:2])
    if balance == USAGE:
        weight_NS = weight_NS * (_share(usage_NS) @ w.usage_SX).softmax(1)
    elif balance == SHIFT:
        shift_N3 = extra_NX[:, 2:5].softmax(1)
        moved = [shift_N3[:, j : j + 1] * weight_NS.roll(1 - j, 1) for j in range(3)]
        gamma_N1 = 4 * (F.softplus(extra_NX[:, 5:]) + 1)
        weight_NS = (gamma_N1 * torch.stack(moved).sum(0).log()).softmax(1)
    if channel_NSC.shape[2]:
        gates = 3 * seen.control_NH.shape[1]
        input_NSG = x_NG[:, None, gates:] + memory_NSW @ w.memory_WG
        fresh_NSC = _cell(input_NSG, channel_NSC @ w.channel_CG, channel_NSC)
        best_NK = seen.weight_NS.topk(top, dim=1).indices
        chosen_NS = torch.zeros_like(weight_NS, dtype=torch.bool).scatter(1, best_NK, True)
        channel_NSC = torch.where(chosen_NS.unsqueeze(2), fresh_NSC, channel_NSC)
    erase_NW = seen.said_NQ[:, 2 * width : 3 * width].sigmoid()
    add_NW = seen.said_NQ[:, 3 * width : 4 * width].tanh()
    weight_NS1 = weight_NS.unsqueeze(2)
    memory_NSW = (1 - weight_NS1 * erase_NW.unsqueeze(1)) * memory_NSW
    memory_NSW = memory_NSW + weight_NS1 * add_NW.unsqueeze(1)
    parts = (memory_NSW.flatten(1), channel_NSC.flatten(1))
    return torch.cat([seen.control_NH, seen.read_NW, usage_NS + weight_NS, *parts], dim=1)


def _cell(input_NG: Tensor, recur_NG: Tensor, old_NH: Tensor) -> Tensor:
    (iu, ir, ih), (qu, qr, qh) = input_NG.chunk(3, -1), recur_NG.chunk(3, -1)
    u_NH, r_NH = (iu + qu).sigmoid(), (ir + qr).sigmoid()
    return (1 - u_NH) * old_NH + u_NH * (ih + r_NH * qh).tanh()


def _address(w: Weights, key_NW: Tensor, memory_NSW: Tensor, sharpness_N1: Tensor) -> Tensor:
    logit_NS = _cosine(key_NW, memory_NSW)
    if len(w.key_SW):
        logit_NS = (logit_NS + _cosine(key_NW, w.key_SW.expand_as(memory_NSW))) / 2
        logit_NS = logit_NS * 2 * (F.softplus(sharpness_N1) + 1)
    return logit_NS.softmax(1)


def _cosine(key_NW: Tensor, slot_NSW: Tensor) -> Tensor:  # (N, S)
    dot_NS = (slot_NSW @ key_NW.unsqueeze(2)).squeeze(2)
    return dot_NS / (_norm(slot_NSW) * _norm(key_NW).unsqueeze(1))


def _norm(vector: Tensor) -> Tensor:
    return (vector.square().sum(-1) + TINY).sqrt()


def _share(usage_NS: Tensor) -> Tensor:
    usage_NS = usage_NS.detach()
    return usage_NS / (1 + usage_NS.sum(1, keepdim=True))


class _Scan(torch.autograd.Function):
    """The fused scan."""

    @staticmethod
    def forward(
        ctx: Any,
        balance: int,
        top: int,
        see: bool,
        keep: bool,
        place_E: Tensor,
        offsets: Tensor,
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        *weights, x_UG, start_NZ = (t.detach().contiguous() for t in inputs)
        w, sizes = Weights(*weights), sizes_of(Weights(*weights))
        segments = int((-(-offsets.diff() // SEGMENT)).sum()) if keep else 0
        state_NZ = start_NZ.clone()
        seen_EO = x_UG.new_empty(len(place_E) if see else 0, sizes.control + sizes.width)
        kept_PZ = x_UG.new_empty(segments, sizes.total)
        ctx.balance, ctx.top = balance, top
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*w, x_UG, place_E, offsets, kept_PZ)
        arrays = _arrays(w)
        forward(
            CONSTANTS[x_UG.dtype],
            balance,
            arrays,
            _norm(w.key_SW).numpy(),
            x_UG.numpy(),
            place_E.numpy(),
            offsets.numpy(),
            tape(arrays, top),
            state_NZ.numpy(),
            seen_EO.numpy(),
            kept_PZ.numpy(),
        )
        return state_NZ, seen_EO

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        *weights, x_UG, place_E, offsets, kept_PZ = ctx.saved_tensors
        w = Weights(*weights)
        sizes = sizes_of(w)
        empty = x_UG.new_zeros(len(offsets) - 1, sizes.total), x_UG.new_zeros(0, sizes.control)
        of_state, of_seen = (
            none if g is None else g.contiguous()
            for g, none in zip(grad_outputs, empty, strict=True)
        )
        grad = Weights(*(torch.zeros_like(t) for t in w))
        of_x_UG, of_start_NZ = torch.zeros_like(x_UG), torch.zeros_like(of_state)
        arrays = _arrays(w)
        room = tape(arrays, ctx.top)
        backward(
            CONSTANTS[x_UG.dtype],
            ctx.balance,
            arrays,
            _arrays(Weights(*(t.T.contiguous() for t in w))),
            _norm(w.key_SW).numpy(),
            x_UG.numpy(),
            place_E.numpy(),
            offsets.numpy(),
            room,
            slope(arrays, room),
            kept_PZ.numpy(),
            of_state.numpy(),
            of_seen.numpy(),
            of_start_NZ.numpy(),
            of_x_UG.numpy(),
            _arrays(grad),
        )
        return None, None, None, None, None, None, *grad, of_x_UG, of_start_NZ


def _arrays(w: Weights) -> Weights:
    return Weights(*(t.numpy(force=True) for t in w))
