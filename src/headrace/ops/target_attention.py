"""DIN's target attention over ragged rows: every pair of a candidate and an event of its request.

  N  candidates   E  events    P  pairs of both within a request, the candidate's events in a row
  D  width of candidate and event    S  of what is known of the event alone    H  hidden widths
  X  D and S together                J  hidden layers and the score

The unit scores a pair by an MLP whose first layer is taken apart, ``q A + [k, s] B + (q ∘ k) C``;
a candidate's interest is the sum of its events, weighted by these scores.

On CPU the first layer is folded for each candidate, ``k (B + diag(q) C)``, so that a pair costs one
product and not two, and Numba kernels go from a candidate's events to its interest, and back, in
the cache. Nothing of the size of P outlives a candidate: backward computes its scores anew, so that
memory does not grow with candidates times events. Elsewhere, and as the reference in the tests, it
is plain PyTorch over all pairs at once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import ragged
from . import target_attention_kernels as kernels
from .lanes import LANES
from .parallel import Span, each

Norm = Literal["none", "sqrt", "softmax"]
Array = NDArray[Any]
SHARE = 10_000  # pairs that are worth a thread


class Rows(NamedTuple):
    """Which events are a candidate's: ``length_N`` of them from ``start_N`` on, both int64."""

    start_N: Tensor
    length_N: Tensor


class Layer(NamedTuple):
    """PReLU of these slopes, ReLU if there are none, and the linear layer behind it."""

    slope_H: Tensor | None
    weight_KH: Tensor
    bias_K: Tensor


def attend(
    target_ND: Tensor,
    query_NH: Tensor,
    event_ED: Tensor,
    side_ES: Tensor,
    event_HX: Tensor,
    product_DH: Tensor,
    layers: tuple[Layer, ...],
    rows: Rows,
    norm: Norm,
) -> Tensor:  # (N, D)
    """Interest of each candidate; ``query_NH`` is ``q A`` with its bias, ``event_HX`` is ``B.T``.

    norm: ``none`` takes the scores as weights, ``sqrt`` divides them by the square root of the
    history's length, ``softmax`` takes their softmax, divided by the square root of D before.
    """
    inputs = target_ND, query_NH, event_ED, side_ES, event_HX, product_DH
    if any(x.device.type != "cpu" for x in inputs):
        return attend_reference(*inputs, layers, rows, norm)
    width = target_ND.shape[1]
    every_EX = torch.cat([event_ED, side_ES], dim=1) if side_ES.shape[1] else event_ED
    event_EX = _padded(every_EX, columns=LANES)
    # a side has no candidate to be multiplied by: zeros there
    more = event_EX.shape[1] - width
    matrices = (
        _padded(event_HX.T, rows=LANES, columns=LANES),
        _padded(F.pad(product_DH, (0, 0, 0, more)) if more else product_DH, columns=LANES),
    )
    wide_NX = F.pad(target_ND, (0, more)) if more else target_ND
    interest_NX = _Attend.apply(
        (norm, rows, scales(norm, rows, target_ND), _widths(layers)),
        *(wide_NX, _padded(query_NH, columns=LANES), event_EX, *matrices),
        *_flat(layers),
    )
    return interest_NX[:, :width]


def attend_reference(
    target_ND: Tensor,
    query_NH: Tensor,
    event_ED: Tensor,
    side_ES: Tensor,
    event_HX: Tensor,
    product_DH: Tensor,
    layers: tuple[Layer, ...],
    rows: Rows,
    norm: Norm,
) -> Tensor:  # (N, D)
    """The same in plain PyTorch, all pairs at once."""
    offsets = torch.cat([rows.length_N.new_zeros(1), rows.length_N.cumsum(0)])
    row_P = ragged.rows_of(offsets, int(offsets[-1]))
    at_P = rows.start_N[row_P] + torch.arange(len(row_P)) - offsets[:-1][row_P]
    event_PD = event_ED[at_P]
    key_PH = torch.cat([event_PD, side_ES[at_P]], dim=1) @ event_HX.T
    x_PH = query_NH[row_P] + key_PH + (target_ND[row_P] * event_PD) @ product_DH
    for slope_H, weight_KH, bias_K in layers:
        low_PH = x_PH.clamp(max=0)
        x_PH = x_PH.clamp(min=0) if slope_H is None else x_PH.clamp(min=0) + slope_H * low_PH
        x_PH = x_PH @ weight_KH.T + bias_K
    weight_P = x_PH[:, 0] * scales(norm, rows, target_ND)[row_P]
    if norm == "softmax":
        weight_P = ragged.segment_softmax(weight_P, offsets)
    return ragged.segment_sum(weight_P.unsqueeze(1) * event_PD, offsets)


def scales(norm: Norm, rows: Rows, target_ND: Tensor) -> Tensor:  # (N,)
    """What a candidate's scores are multiplied by."""
    if norm == "sqrt":
        return rows.length_N.clamp(min=1).to(target_ND.dtype).rsqrt()
    return target_ND.new_full(
        (len(target_ND),), target_ND.shape[1] ** -0.5 if norm == "softmax" else 1.0
    )


def _padded(x: Tensor, *, rows: int = 1, columns: int = 1) -> Tensor:
    """Zeros below and to the right of ``x``, up to multiples of these."""
    down, right = -x.shape[0] % rows, -x.shape[1] % columns
    return F.pad(x, (0, right, 0, down)) if down or right else x


def _widths(layers: tuple[Layer, ...]) -> list[int]:
    """Of the hidden layers."""
    every = [layer.weight_KH.shape[1] for layer in layers]
    return [width + -width % LANES for width in every]


def _flat(layers: tuple[Layer, ...]) -> list[Tensor]:
    """Slopes, matrices and biases of the layers, padded, each kind end to end; then the last."""
    *inner, last = layers
    slopes = [
        x.bias_K.new_zeros(x.weight_KH.shape[1]) if x.slope_H is None else x.slope_H for x in layers
    ]
    nothing = last.bias_K[:0]
    return [
        torch.cat([_padded(x.unsqueeze(0), columns=LANES).flatten() for x in slopes]),
        torch.cat(
            [nothing, *(_padded(x.weight_KH, rows=LANES, columns=LANES).flatten() for x in inner)]
        ),
        torch.cat(
            [nothing, *(_padded(x.bias_K.unsqueeze(0), columns=LANES).flatten() for x in inner)]
        ),
        _padded(last.weight_KH, columns=LANES).flatten(),
        last.bias_K,
    ]


class _Attend(torch.autograd.Function):
    """Candidate by candidate, forth and back."""

    @staticmethod
    def forward(ctx: Any, plan: tuple[Norm, Rows, Tensor, list[int]], *inputs: Tensor) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(*inputs)
        unit = _unit(plan, inputs)
        interest_NX = torch.zeros_like(inputs[0], memory_format=torch.contiguous_format)
        out, softmax = interest_NX.view(-1).numpy(), plan[0] == "softmax"
        spans = _spans(plan[1], torch.get_num_threads())
        each(
            lambda span: kernels.forward(unit, _room(unit, span, False), softmax, *span, out), spans
        )
        return interest_NX

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs: tuple[Tensor, ...] = ctx.saved_tensors
        unit, softmax = _unit(ctx.plan, inputs), ctx.plan[0] == "softmax"
        of = grad_outputs[0].contiguous().view(-1).numpy()
        grads = [np.zeros(x.numel(), of.dtype) for x in inputs]
        spans = _spans(ctx.plan[1], torch.get_num_threads())

        def work(span: Span) -> list[Array]:
            """Of the weights each thread has gradients of its own, the rest it shares with none."""
            own = [np.zeros_like(x) for x in grads[3:]]
            room, into = _room(unit, span, softmax), kernels.Grads(*grads[:3], *own)
            kernels.backward(unit, room, softmax, *span, of, into)
            return own

        for own in each(work, spans):
            for total, part in zip(grads[3:], own, strict=True):
                total += part
        pairs = zip(grads, inputs, strict=True)
        return None, *(torch.from_numpy(grad).view_as(x) for grad, x in pairs)


def _unit(plan: tuple[Norm, Rows, Tensor, list[int]], inputs: tuple[Tensor, ...]) -> kernels.Unit:
    _, rows, scale_N, widths = plan
    weight = inputs[6].detach()
    parts = weight.split([a * b for a, b in pairwise(widths)])
    turned = [x.view(b, a).T.flatten() for x, (a, b) in zip(parts, pairwise(widths), strict=True)]
    turns = torch.cat([weight[:0], *turned]), inputs[3].T, inputs[4].T
    columns = (*rows, scale_N, torch.tensor(widths), *inputs, *turns)
    return kernels.Unit._make(x.detach().contiguous().view(-1).numpy() for x in columns)


def _room(unit: kernels.Unit, span: Span, whole: bool) -> kernels.Room:
    """Room for the candidates of a span, for all events of any of them at once if need be."""
    longest = int(unit.length_N[slice(*span)].max(initial=1))
    return kernels.room(unit, longest if whole else kernels.BLOCK, longest)


def _spans(rows: Rows, threads: int) -> list[Span]:
    """Candidates of each thread: about equal shares, no event in two of them."""
    start_N, length_N = rows.start_N.numpy(), rows.length_N.numpy()
    pair_N = np.cumsum(length_N)
    total = int(pair_N[-1]) if len(pair_N) else 0
    count = max(1, min(threads, total // SHARE))
    if count == 1:
        return [(0, len(start_N))]
    end_N = np.maximum.accumulate(start_N + length_N)
    least_N = np.minimum.accumulate(start_N[::-1])[::-1]
    free = 1 + np.flatnonzero(least_N[1:] >= end_N[:-1])
    wanted = np.searchsorted(pair_N, np.arange(1, count) * total // count) + 1
    cuts = np.unique(np.append(free, len(start_N))[np.searchsorted(free, wanted)])
    return list(pairwise([0, *(int(c) for c in cuts if c < len(start_N)), len(start_N)]))
