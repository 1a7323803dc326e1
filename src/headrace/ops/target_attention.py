"""DIN's target attention over ragged rows: every pair of a candidate and an event of its request.

  N  candidates   E  events    P  pairs of both within a request, the candidate's events in a row
  D  width of candidate and event    S  of what is known of the event alone    H  hidden widths

The unit scores a pair by an MLP whose first layer is taken apart, ``q A + [k, s] B + (q ∘ k) C``;
a candidate's interest is the sum of its events, weighted by these scores.

On CPU the work goes by blocks of pairs that stay in the cache, forth and back: matrix products by
PyTorch, all in between by a few Numba kernels. Nothing of the size of P outlives a block: backward
computes the block anew, so that memory does not grow with candidates times events. Elsewhere, and
as the reference in the tests, it is plain PyTorch over all pairs at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from . import ragged
from . import target_attention_kernels as kernels

Norm = Literal["none", "sqrt", "softmax"]
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
BLOCK = 4096  # pairs; of width 64 that is 1 MB, about the second-level cache


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
    flat = [x for layer in layers for x in layer]
    inputs = target_ND, query_NH, event_ED, side_ES, event_HX, product_DH
    if any(x.device.type != "cpu" for x in inputs):
        return attend_reference(*inputs, layers, rows, norm)
    return _Attend.apply(norm, rows, *inputs, *flat)


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


def times(x_PK: Tensor, weight_HK: Tensor, bias_H: Tensor | None = None) -> Tensor:  # (P, H)
    """``x W.T + b`` of many rows.

    By oneDNN, which has 512-bit kernels for every maker's processors: on some, twice as fast as the
    BLAS behind ``mm``. PyTorch's own compiler emits this operation; narrow products it does slowly.
    """
    wide = min(*weight_HK.shape, len(x_PK) // 16) >= 16
    if ONEDNN and wide and x_PK.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x_PK, weight_HK, bias_H, "none", [], "")
    return x_PK @ weight_HK.T if bias_H is None else torch.addmm(bias_H, x_PK, weight_HK.T)


def scales(norm: Norm, rows: Rows, target_ND: Tensor) -> Tensor:  # (N,)
    """What a candidate's scores are multiplied by."""
    if norm == "sqrt":
        return rows.length_N.clamp(min=1).to(target_ND.dtype).rsqrt()
    return target_ND.new_full(
        (len(target_ND),), target_ND.shape[1] ** -0.5 if norm == "softmax" else 1.0
    )


@dataclass(frozen=True, slots=True)
class _Unit:
    """Detached inputs of one call."""

    softmax: bool
    scale_N: Tensor
    start_N: Tensor
    pair_N: Tensor  # (N + 1,) int64, where a candidate's pairs begin
    target_ND: Tensor
    query_NH: Tensor
    event_ED: Tensor
    side_ES: Tensor
    event_HD: Tensor
    side_HS: Tensor
    product_DH: Tensor
    layers: list[Layer]

    def blocks(self) -> list[tuple[int, int]]:
        """Candidates of each block; one with more pairs than a block has one of its own."""
        pair_N, cuts = self.pair_N, [0]
        last, total = len(pair_N) - 1, int(pair_N[-1])
        while cuts[-1] < last:
            first = int(pair_N[cuts[-1]])
            if first == total:  # nothing but candidates without events
                break
            end = int(torch.searchsorted(pair_N, first + BLOCK, right=True)) - 1
            cuts.append(min(max(end, cuts[-1] + 1), last))
        return list(pairwise(cuts))

    def block(self, first: int, last: int) -> _Block:
        """The pairs of candidates ``first`` to ``last``, as far as their scores."""
        start_N, pair_N = self.start_N[first:last], self.pair_N[first : last + 1]
        length_N = pair_N.diff()
        low = int(start_N[length_N > 0].min()) if bool((length_N > 0).any()) else 0
        high = max(int((start_N + length_N).max()), low)
        event_FD, side_FS = self.event_ED[low:high], self.side_ES[low:high]
        key_FH = times(event_FD, self.event_HD)
        if side_FS.shape[1]:
            key_FH.addmm_(side_FS, self.side_HS.T)
        size = int(pair_N[-1] - pair_N[0])
        product_PD = event_FD.new_empty(size, event_FD.shape[1])
        place = (start_N - low).numpy(), (pair_N - pair_N[0]).numpy()
        target_ND, query_NH = self.target_ND[first:last], self.query_NH[first:last]
        kernels.multiply(target_ND.numpy(), event_FD.numpy(), *place, product_PD.numpy())
        x_PH = times(product_PD, self.product_DH.T)
        kernels.add(query_NH.numpy(), key_FH.numpy(), *place, x_PH.numpy())
        before, after = [x_PH], list[Tensor]()
        for slope_H, weight_KH, bias_K in self.layers:
            after.append(
                before[-1].clamp(min=0) if slope_H is None else torch.prelu(before[-1], slope_H)
            )
            before.append(times(after[-1], weight_KH, bias_K))
        return _Block(first, last, low, high, place, product_PD, before, after)


@dataclass(frozen=True, slots=True)
class _Block:
    """Candidates ``first`` to ``last`` and events ``low`` to ``high``, with their pairs."""

    first: int
    last: int
    low: int
    high: int
    place: tuple[Any, Any]  # of each candidate: its first event and its first pair
    product_PD: Tensor
    before: list[Tensor]  # each activation; the last one are the scores
    after: list[Tensor]

    def weigh(self, unit: _Unit) -> Tensor:  # (P,)
        """Weights of the pairs out of their scores."""
        weight_P = self.before[-1][:, 0].contiguous()
        scale_N = unit.scale_N[self.first : self.last].numpy()
        kernels.weigh(weight_P.numpy(), self.place[1], scale_N, unit.softmax)
        return weight_P


class _Attend(torch.autograd.Function):
    """Block by block, forth and back."""

    @staticmethod
    def forward(ctx: Any, norm: Norm, rows: Rows, *inputs: Tensor | None) -> Tensor:
        ctx.norm, ctx.rows = norm, rows
        ctx.save_for_backward(*inputs)
        unit = _unit(norm, rows, inputs)
        interest_ND = torch.zeros_like(unit.target_ND)
        for first, last in unit.blocks():
            block = unit.block(first, last)
            kernels.pool(
                block.weigh(unit).numpy(),
                unit.event_ED[block.low : block.high].numpy(),
                *block.place,
                interest_ND[first:last].numpy(),
            )
        return interest_ND

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs: tuple[Tensor | None, ...] = ctx.saved_tensors
        unit = _unit(ctx.norm, ctx.rows, inputs)
        grads = [None if x is None else torch.zeros(x.shape, dtype=x.dtype) for x in inputs]
        grad_ND = grad_outputs[0].contiguous()
        for first, last in unit.blocks():
            _backward(unit, unit.block(first, last), grad_ND, grads)
        return None, None, *grads


def _unit(norm: Norm, rows: Rows, inputs: tuple[Tensor | None, ...]) -> _Unit:
    plain = [None if x is None else x.detach().contiguous() for x in inputs]
    target, query, event, side, weight, product = (x for x in plain[:6] if x is not None)
    layers = list[Layer]()
    for at in range(6, len(plain), 3):
        slope, matrix, bias = plain[at : at + 3]
        assert matrix is not None
        assert bias is not None
        layers.append(Layer(slope, matrix, bias))
    pair_N = torch.cat([rows.length_N.new_zeros(1), rows.length_N.cumsum(0)])
    # as two matrices: oneDNN takes 20 times as long for the columns of a larger one
    event_HD, side_HS = (x.contiguous() for x in weight.tensor_split([event.shape[1]], dim=1))
    given = target, query, event, side, event_HD, side_HS, product
    scale_N = scales(norm, rows, target)
    return _Unit(norm == "softmax", scale_N, rows.start_N, pair_N, *given, layers)


def _backward(unit: _Unit, block: _Block, grad_ND: Tensor, grads: list[Tensor | None]) -> None:
    """Add a block's part to the gradients, in the order of the inputs."""
    target, query, event, side, weight, product = (x for x in grads[:6] if x is not None)
    first, last, low, high = block.first, block.last, block.low, block.high
    event_FD, of_event_FD = unit.event_ED[low:high], event[low:high]
    weight_P = block.weigh(unit)
    of_score_P1 = torch.empty_like(weight_P).unsqueeze(1)
    kernels.pool_backward(
        grad_ND[first:last].numpy(),
        weight_P.numpy(),
        event_FD.numpy(),
        *block.place,
        unit.scale_N[first:last].numpy(),
        unit.softmax,
        of_score_P1[:, 0].numpy(),
        of_event_FD.numpy(),
    )
    of_PK = of_score_P1
    for at in reversed(range(len(unit.layers))):
        slope_H, weight_KH, _ = unit.layers[at]
        of_slope, of_weight, of_bias = grads[6 + 3 * at : 9 + 3 * at]
        assert of_weight is not None
        assert of_bias is not None
        of_weight.addmm_(of_PK.T, block.after[at])
        of_bias += of_PK.sum(0)
        of_PK = times(of_PK, weight_KH.T)
        x_PH = block.before[at]
        if slope_H is None or of_slope is None:
            of_PK = torch.ops.aten.threshold_backward(of_PK, x_PH, 0)
        else:
            kernels.prelu_backward(of_PK.numpy(), x_PH.numpy(), slope_H.numpy(), of_slope.numpy())
    product.addmm_(block.product_PD.T, of_PK)
    of_product_PD = times(of_PK, unit.product_DH)
    of_key_FH = torch.zeros(high - low, of_PK.shape[1], dtype=of_PK.dtype)
    kernels.collapse(
        of_PK.numpy(),
        of_product_PD.numpy(),
        unit.target_ND[first:last].numpy(),
        event_FD.numpy(),
        *block.place,
        target[first:last].numpy(),
        query[first:last].numpy(),
        of_event_FD.numpy(),
        of_key_FH.numpy(),
    )
    width = event_FD.shape[1]
    of_event_FD += times(of_key_FH, unit.event_HD.T)
    weight[:, :width].addmm_(of_key_FH.T, event_FD)
    if side.shape[1]:
        side[low:high].addmm_(of_key_FH, unit.side_HS)
        weight[:, width:].addmm_(of_key_FH.T, unit.side_ES[low:high])
