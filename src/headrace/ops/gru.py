"""A gated recurrent unit along ragged rows, plain or led by attention: DIEN's two scans.

  N  rows to scan            E  events, summed over requests     H  width of the state
  L  longest row             P  steps, summed over rows          3  gates: update, reset, state

Row n reads the events ``start_N[n] + t`` for ``t < length_N[n]`` and starts from a state of zeros:

    u = σ(i_u + h U_u)   r = σ(i_r + h U_r)   h̃ = tanh(i_h + r ∘ (h U_h))   h ← (1 - ũ) ∘ h + ũ ∘ h̃

with ``i = x + b``, or ``i = a x + b`` under ``aigru``; ũ is ``a u`` under ``augru``, ``a`` under
``agru`` and otherwise ``u`` (DIEN, arXiv:1809.03672). Several rows may read the
same events: what the events say, ``x``, is projected once, and the rows are the candidates.

On CPU the scan and its gradient are one Numba kernel each, in ``gru_kernels.py``. Elsewhere, and as
the reference in the tests, they are a PyTorch loop.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .gru_kernels import AGRU, AIGRU, AUGRU, PLAIN, backward, forward
from .numeric import CONSTANTS

Gating = Literal["augru", "aigru", "agru"]
_MODE: dict[Gating, int] = {"augru": AUGRU, "aigru": AIGRU, "agru": AGRU}


def gru(x_EG: Tensor, weight_HG: Tensor, bias_G: Tensor, offsets: Tensor) -> Tensor:  # (E, H)
    """The state after every event; ``offsets`` ``(B + 1,)`` cut the events into rows.

    ``x_EG`` are the events' projections and ``weight_HG`` the state's, each of the gates update,
    reset and state side by side, G = 3 H.
    """
    none_NL = x_EG.new_zeros(0, 0)
    return scan(PLAIN, x_EG, weight_HG, bias_G, none_NL, offsets[:-1], offsets.diff())[0]


def attention_gru(
    gating: Gating,
    x_EG: Tensor,
    weight_HG: Tensor,
    bias_G: Tensor,
    attention_NL: Tensor,
    start_N: Tensor,
    length_N: Tensor,
) -> Tensor:  # (N, H)
    """The last state of each row, a row of no events being zeros.

    ``attention_NL[n, t]`` is how much step t matters to row n; L is at least the longest row.
    """
    return scan(_MODE[gating], x_EG, weight_HG, bias_G, attention_NL, start_N, length_N)[1]


def scan(
    mode: int,
    x_EG: Tensor,
    weight_HG: Tensor,
    bias_G: Tensor,
    attention_NL: Tensor,
    start_N: Tensor,
    length_N: Tensor,
) -> tuple[Tensor, Tensor]:
    """Every state ``(P, H)``, rows end to end, and the last of each row ``(N, H)``.

    Where nothing is to be learnt and attention leads, the states in between are not kept.
    """
    inputs = x_EG, weight_HG, bias_G, attention_NL
    if any(x.device.type != "cpu" or x.dtype not in CONSTANTS for x in inputs):
        return scan_reference(mode, *inputs, start_N, length_N)
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return _Scan.apply(mode, mode == PLAIN or learning, *inputs, start_N, length_N)


def scan_reference(
    mode: int,
    x_EG: Tensor,
    weight_HG: Tensor,
    bias_G: Tensor,
    attention_NL: Tensor,
    start_N: Tensor,
    length_N: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, a step of all rows at a time."""
    h_NH = x_EG.new_zeros(len(start_N), len(weight_HG))
    longest = int(length_N.max()) if len(length_N) else 0
    states = [h_NH[:, None][:, :0]]
    for t in range(longest):
        alive_N1 = (t < length_N).unsqueeze(1)
        x_NG = x_EG[(start_N + t).clamp(max=len(x_EG) - 1)]
        a_N1 = attention_NL[:, t : t + 1] if mode != PLAIN else torch.ones_like(h_NH[:, :1])
        i_NG = (x_NG * a_N1 if mode == AIGRU else x_NG) + bias_G
        (iu, ir, ih), (qu, qr, qh) = i_NG.chunk(3, 1), (h_NH @ weight_HG).chunk(3, 1)
        u_NH, r_NH = (iu + qu).sigmoid(), (ir + qr).sigmoid()
        if mode == AUGRU:
            u_NH = a_N1 * u_NH
        elif mode == AGRU:
            u_NH = a_N1
        new_NH = (1 - u_NH) * h_NH + u_NH * (ih + r_NH * qh).tanh()
        h_NH = torch.where(alive_N1, new_NH, h_NH)
        states.append(h_NH[:, None])
    state_NLH = torch.cat(states, dim=1)
    return state_NLH[torch.arange(longest) < length_N.unsqueeze(1)], h_NH


class _Scan(torch.autograd.Function):
    """The fused scan."""

    @staticmethod
    def forward(ctx: Any, mode: int, keep: bool, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        x_EG, weight_HG, bias_G, attention_NL, start_N, length_N = (t.contiguous() for t in inputs)
        size, width = len(start_N), len(weight_HG)
        first_N = length_N.cumsum(0) - length_N
        order_N = length_N.argsort(descending=True, stable=True)
        state_PH = x_EG.new_empty(int(length_N.sum()) if keep else 0, width)
        last_NH = x_EG.new_zeros(size, width)
        ctx.mode = mode
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            x_EG, weight_HG, bias_G, attention_NL, start_N, length_N, first_N, order_N, state_PH
        )
        forward(
            mode,
            CONSTANTS[x_EG.dtype],
            x_EG.numpy(force=True).reshape(-1, 3, width),
            weight_HG.numpy(force=True),
            bias_G.numpy(force=True).reshape(3, width),
            attention_NL.numpy(force=True),
            start_N.numpy(),
            length_N.numpy(),
            first_N.numpy(),
            order_N.numpy(),
            state_PH.numpy(),
            last_NH.numpy(),
        )
        return state_PH, last_NH

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        x_EG, weight_HG, bias_G, attention_NL, start, length, first, order, states = (
            ctx.saved_tensors
        )
        width = len(weight_HG)
        given = x_EG, weight_HG, bias_G, attention_NL
        grad_x, grad_weight, grad_bias, grad_attention = (torch.zeros_like(t) for t in given)
        none_PH = x_EG.new_zeros(0, width)
        of_state, of_last = (none_PH if g is None else g.contiguous() for g in grad_outputs)
        backward(
            ctx.mode,
            CONSTANTS[x_EG.dtype],
            x_EG.numpy(force=True).reshape(-1, 3, width),
            weight_HG.numpy(force=True),
            weight_HG.detach().T.contiguous().numpy(),
            bias_G.numpy(force=True).reshape(3, width),
            attention_NL.numpy(force=True),
            start.numpy(),
            length.numpy(),
            first.numpy(),
            order.numpy(),
            states.numpy(),
            of_state.numpy(),
            of_last.numpy(),
            grad_x.numpy().reshape(-1, 3, width),
            grad_weight.numpy(),
            grad_bias.numpy().reshape(3, width),
            grad_attention.numpy(),
        )
        return None, None, grad_x, grad_weight, grad_bias, grad_attention, None, None
