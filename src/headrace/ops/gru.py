"""A gated recurrent unit along ragged rows, plain or led by attention: DIEN's two scans.

  N  rows to scan            E  events, summed over requests     H  width of the state
  L  longest row             P  steps, summed over rows          3  gates: update, reset, state

Row n reads the events ``start_N[n] + t`` for ``t < length_N[n]`` and starts from a state of zeros:

    u = σ(i_u + h U_u)   r = σ(i_r + h U_r)   h̃ = tanh(i_h + r ∘ (h U_h))   h ← (1 - ũ) ∘ h + ũ ∘ h̃

with ``i = x + b``, or ``i = a x + b`` under ``aigru``; ũ is ``a u`` under ``augru``, ``a`` under
``agru`` and otherwise ``u`` (DIEN, arXiv:1809.03672, eqs. 2-5 and 12-16). Several rows may read the
same events: what the events say, ``x``, is projected once, and the rows are the candidates.

On CPU the scan and its gradient are one Numba kernel each: a few rows side by side, so that a step
is a small matrix product out of the first-level cache. The gradient keeps the states alone and
computes the gates anew, which is cheaper than to fetch them from memory. Elsewhere, and as the
reference in the tests, they are a PyTorch loop.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx

Array = NDArray[Any]
Gating = Literal["augru", "aigru", "agru"]
PLAIN, AUGRU, AIGRU, AGRU = range(4)
_MODE: dict[Gating, int] = {"augru": AUGRU, "aigru": AIGRU, "agru": AGRU}
BLOCK = 16  # rows side by side; their gates and the weights stay in the first-level cache
#: Rational approximation of tanh on [-7.9053, 7.9053], where float32 reaches 1: odd coefficients
#: above, even ones below, highest first, within 3 units in the last place of float32. From Eigen's
#: ``generic_fast_tanh_float``. The C library's tanh is called a number at a time.
_TANH = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    *(1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
    *(7.90531110763549805, 0.5, 1.0),
)


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
    if any(x.device.type != "cpu" or x.dtype not in _CONSTANTS for x in inputs):
        return scan_reference(mode, *inputs, start_N, length_N)
    return _Scan.apply(mode, *inputs, start_N, length_N)


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
    def forward(ctx: Any, mode: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        x_EG, weight_HG, bias_G, attention_NL, start_N, length_N = (t.contiguous() for t in inputs)
        size, width = len(start_N), len(weight_HG)
        first_N = length_N.cumsum(0) - length_N
        order_N = length_N.argsort(descending=True, stable=True)
        kept = mode == PLAIN or any(ctx.needs_input_grad)
        state_PH = x_EG.new_empty(int(length_N.sum()) if kept else 0, width)
        last_NH = x_EG.new_zeros(size, width)
        ctx.mode = mode
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            x_EG, weight_HG, bias_G, attention_NL, start_N, length_N, first_N, order_N, state_PH
        )
        _forward(
            mode,
            _CONSTANTS[x_EG.dtype],
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
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, *grad_outputs)


def _gradients(
    ctx: Any, grad_PH: Tensor | None, grad_NH: Tensor | None
) -> tuple[Tensor | None, ...]:
    x_EG, weight_HG, bias_G, attention_NL, start_N, length_N, first_N, order_N, state_PH = (
        ctx.saved_tensors
    )
    if state_PH.shape[0] == 0 or (grad_PH is None and grad_NH is None):
        nothing = [torch.zeros_like(t) for t in (x_EG, weight_HG, bias_G, attention_NL)]
        return None, *nothing, None, None
    width = len(weight_HG)
    none = x_EG.new_zeros(0, width)
    grads = [torch.zeros_like(t) for t in (x_EG, weight_HG, bias_G, attention_NL)]
    _backward(
        ctx.mode,
        _CONSTANTS[x_EG.dtype],
        x_EG.numpy(force=True).reshape(-1, 3, width),
        weight_HG.numpy(force=True),
        weight_HG.detach().T.contiguous().numpy(),
        bias_G.numpy(force=True).reshape(3, width),
        attention_NL.numpy(force=True),
        start_N.numpy(),
        length_N.numpy(),
        first_N.numpy(),
        order_N.numpy(),
        state_PH.numpy(),
        (none if grad_PH is None else grad_PH.contiguous()).numpy(),
        (none if grad_NH is None else grad_NH.contiguous()).numpy(),
        grads[0].numpy().reshape(-1, 3, width),
        grads[1].numpy(),
        grads[2].numpy().reshape(3, width),
        grads[3].numpy(),
    )
    return None, *grads, None, None


def _constants(kind: type[np.floating[Any]]) -> tuple[Any, ...]:
    return tuple(kind(value) for value in _TANH)


#: In the kernel's own precision: a float64 literal would make float32 arithmetic double.
_CONSTANTS = {torch.float32: _constants(np.float32), torch.float64: _constants(np.float64)}
fast = njit(cache=True, nogil=True, fastmath={"contract", "reassoc"}, error_model="numpy")


@fast
def _tanh(x: Any, c: tuple[Any, ...]) -> Any:
    x = c[11] if x > c[11] else x  # a NaN fails both comparisons and stays
    x = -c[11] if x < -c[11] else x
    s = x * x
    above = (((((c[0] * s + c[1]) * s + c[2]) * s + c[3]) * s + c[4]) * s + c[5]) * s + c[6]
    below = ((c[7] * s + c[8]) * s + c[9]) * s + c[10]
    return x * above / below


@fast
def _sigmoid(x: Any, c: tuple[Any, ...]) -> Any:
    return c[12] + c[12] * _tanh(c[12] * x, c)


@fast
def _product(a_RK: Array, b_KJ: Array, out_RJ: Array, rows: int) -> None:
    """The product of the first ``rows`` rows, four columns of a at a time."""
    inner, width = b_KJ.shape
    fours = inner // 4
    for i in range(rows):
        for j in range(width):
            out_RJ[i, j] = 0
        for q in range(fours):
            k = 4 * q
            a, b, c, d = a_RK[i, k], a_RK[i, k + 1], a_RK[i, k + 2], a_RK[i, k + 3]
            for j in range(width):
                out_RJ[i, j] += (
                    a * b_KJ[k, j] + b * b_KJ[k + 1, j] + c * b_KJ[k + 2, j] + d * b_KJ[k + 3, j]
                )
        for k in range(4 * fours, inner):
            a = a_RK[i, k]
            for j in range(width):
                out_RJ[i, j] += a * b_KJ[k, j]


@fast
def _add_outer(a_RK: Array, b_RJ: Array, out_KJ: Array, rows: int) -> None:
    """Add ``aᵀ b`` of the first ``rows`` rows, four of them at a time."""
    inner, width = out_KJ.shape
    fours = rows // 4
    for q in range(fours):
        i = 4 * q
        for k in range(inner):
            a, b, c, d = a_RK[i, k], a_RK[i + 1, k], a_RK[i + 2, k], a_RK[i + 3, k]
            for j in range(width):
                out_KJ[k, j] += (
                    a * b_RJ[i, j] + b * b_RJ[i + 1, j] + c * b_RJ[i + 2, j] + d * b_RJ[i + 3, j]
                )
    for i in range(4 * fours, rows):
        for k in range(inner):
            a = a_RK[i, k]
            for j in range(width):
                out_KJ[k, j] += a * b_RJ[i, j]


@fast
def _blend(mode: int, a: Any, c: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """What attention does: ``i = scale x + b`` and ``ũ = factor u + term``."""
    if mode == AUGRU:
        return c[13], a, c[13] - c[13]
    if mode == AGRU:
        return c[13], c[13] - c[13], a
    return (a if mode == AIGRU else c[13]), c[13], c[13] - c[13]


@fast
def _forward(
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
            _product(h_RH, weight_HG, q_RG, alive)
            for i in range(alive):
                n = order_N[block + i]
                e = start_N[n] + t
                a = attention_NL[n, t] if mode != PLAIN else c[13]
                scale, factor, term = _blend(mode, a, c)
                for k in range(width):
                    u = _sigmoid(scale * x_E3H[e, 0, k] + bias_3H[0, k] + q_R3H[i, 0, k], c)
                    r = _sigmoid(scale * x_E3H[e, 1, k] + bias_3H[1, k] + q_R3H[i, 1, k], c)
                    new = _tanh(scale * x_E3H[e, 2, k] + bias_3H[2, k] + r * q_R3H[i, 2, k], c)
                    step = factor * u + term
                    h_RH[i, k] = (c[13] - step) * h_RH[i, k] + step * new
                if keep:
                    state_PH[first_N[n] + t] = h_RH[i]
                if t == length_N[n] - 1:
                    last_NH[n] = h_RH[i]


@fast
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
        di_3H[0, k] = (
            factor * u * (c[13] - u) * dh_RH[i, k] * (gate_3H[2, k] - h_RH[i, k])
        )
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


@fast
def _backward(
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
    width, size = weight_HG.shape[0], start_N.shape[0]
    kind = x_E3H.dtype
    h_RH, dh_RH = np.empty((BLOCK, width), kind), np.empty((BLOCK, width), kind)
    back_RH, gate_3H, di_3H = dh_RH.copy(), np.empty((3, width), kind), np.empty((3, width), kind)
    q_RG, dq_RG = np.empty((BLOCK, 3 * width), kind), np.empty((BLOCK, 3 * width), kind)
    q_R3H, dq_R3H = q_RG.reshape(BLOCK, 3, width), dq_RG.reshape(BLOCK, 3, width)
    for block in range(0, size, BLOCK):
        most, alive = min(BLOCK, size - block), 0
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
            _product(h_RH, weight_HG, q_RG, alive)
            for i in range(alive):
                n = order_N[block + i]
                e = start_N[n] + t
                a = attention_NL[n, t] if mode != PLAIN else c[13]
                scale, factor, term = _blend(mode, a, c)
                for k in range(width):
                    x = scale * x_E3H[e, 0, k] + bias_3H[0, k]
                    gate_3H[0, k] = _sigmoid(x + q_R3H[i, 0, k], c)
                for k in range(width):
                    x = scale * x_E3H[e, 1, k] + bias_3H[1, k]
                    gate_3H[1, k] = _sigmoid(x + q_R3H[i, 1, k], c)
                for k in range(width):
                    x = scale * x_E3H[e, 2, k] + bias_3H[2, k]
                    gate_3H[2, k] = _tanh(x + gate_3H[1, k] * q_R3H[i, 2, k], c)
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
            _product(dq_RG, weight_GH, back_RH, alive)
            _add_outer(h_RH, dq_RG, weight_grad_HG, alive)
            for i in range(alive):
                for k in range(width):
                    dh_RH[i, k] += back_RH[i, k]
