"""Work on the touched rows of a large embedding table; cost follows the batch, never the table.

  R  rows of the table    N  look-ups in a batch, repeats included
  D  embedding width      K  distinct rows among them

On CPU the operations are one pass each in Numba; elsewhere, and as the reference in the tests,
they are a few PyTorch calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .rows import add_scaled, dot

Array = NDArray[Any]


def slots(num_rows: int) -> Tensor:
    """Scratch space of one table for ``sum_rows``: ``(R,) int32``, all -1 between calls."""
    return torch.full((num_rows,), -1, dtype=torch.int32)


def sum_rows(row_N: Tensor, value_ND: Tensor, slot_R: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the values of equal rows: distinct rows ``(K,) int64`` and their sums ``(K, D)``.

    The order of the rows is not specified: unlike ``Tensor.coalesce`` it need not sort. The values
    may be some columns of a wider matrix.
    """
    if value_ND.device.type != "cpu":
        return sum_rows_reference(row_N, value_ND)
    if value_ND.stride(1) != 1:
        value_ND = value_ND.contiguous()
    most = min(len(row_N), len(slot_R))
    row_K = np.empty(most, np.int64)
    sum_KD = value_ND.new_empty(most, value_ND.shape[1])
    rows, slot = row_N.contiguous().numpy(), slot_R.numpy()
    k = _sum_rows(rows, value_ND.numpy(), slot, row_K, sum_KD.numpy())
    return torch.from_numpy(row_K[:k]), sum_KD[:k]


def sum_rows_reference(row_N: Tensor, value_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The same in plain PyTorch, rows ascending."""
    row_K, inverse_N = torch.unique(row_N, return_inverse=True)
    sum_KD = value_ND.new_zeros(len(row_K), value_ND.shape[1])
    return row_K, sum_KD.index_add_(0, inverse_N, value_ND)


def row_gradient(param: Tensor, row_N: Tensor, grad_ND: Tensor, *, distinct: bool) -> Tensor:
    """A sparse gradient out of its rows.

    Distinct rows are marked as coalesced though they are not sorted: all that is done to them here
    is row by row, and sorting would cost more than the update.
    """
    return torch.sparse_coo_tensor(
        row_N.unsqueeze(0), grad_ND, param.shape, is_coalesced=distinct, check_invariants=False
    )


def take_rows(value_UD: Tensor, row_N: Tensor) -> Tensor:  # (N, D)
    """``value_UD[row_N]``, with a gradient that costs one pass over its N rows.

    Indexing sorts the rows first, and ``F.embedding`` counts them all for every thread.
    """
    [taken_ND] = take_columns(value_UD, [row_N])
    return taken_ND


def take_columns(value_UD: Tensor, row: Sequence[Tensor]) -> list[Tensor]:  # (N, D) each
    """The same of several columns of rows, with one gradient of all."""
    if value_UD.device.type != "cpu":
        return [value_UD.index_select(0, row_N) for row_N in row]
    return list(_TakeRows.apply(value_UD, *row))


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value_UD: Tensor, *row: Tensor) -> tuple[Tensor, ...]:
        ctx.shape = value_UD.shape
        ctx.save_for_backward(*row)
        return tuple(value_UD.index_select(0, row_N) for row_N in row)

    @staticmethod
    def backward(ctx: Any, *of: Tensor) -> tuple[Tensor | None, ...]:
        of_UD, seen_U = of[0].new_empty(ctx.shape), np.zeros(ctx.shape[0], np.bool_)
        for row_N, of_ND in zip(ctx.saved_tensors, of, strict=True):
            rows, values = row_N.contiguous().numpy(), of_ND.contiguous().numpy()
            _add_rows(rows, values, seen_U, of_UD.numpy())
        if not seen_U.all():
            of_UD[torch.from_numpy(~seen_U)] = 0
        return of_UD, *(None for _ in of)


def rowwise_adagrad(
    weight_RD: Tensor, total_R: Tensor, row_K: Tensor, grad_KD: Tensor, rate: float, eps: float
) -> None:
    """Update distinct rows in place: ``G_r += mean_d(g_rd²); w_r -= rate · g_r / (√G_r + eps)``."""
    if weight_RD.device.type != "cpu":
        return rowwise_adagrad_reference(weight_RD, total_R, row_K, grad_KD, rate, eps)
    _rowwise_adagrad(
        weight_RD.numpy(), total_R.numpy(), row_K.numpy(), grad_KD.contiguous().numpy(), rate, eps
    )


def rowwise_adagrad_reference(
    weight_RD: Tensor, total_R: Tensor, row_K: Tensor, grad_KD: Tensor, rate: float, eps: float
) -> None:
    """The same in plain PyTorch."""
    total_R.index_add_(0, row_K, grad_KD.square().mean(1))
    scale_K = total_R[row_K].sqrt().add_(eps)
    weight_RD.index_add_(0, row_K, grad_KD / scale_K.unsqueeze(1), alpha=-rate)


def shrink_rows(weight_RD: Tensor, row_K: Tensor, rate_K: Tensor, l1: float, l21: float) -> None:
    """Proximal step of ``l1 · Σ_d |w_rd| + l21 · ‖w_r‖₂`` on distinct rows, in place.

    Row r is soft-thresholded by ``rate · l1``, then multiplied by
    ``max(0, 1 - rate · l21 / ‖w_r‖)``, ``rate_K`` being the step size of each row.
    """
    if weight_RD.device.type != "cpu":
        return shrink_rows_reference(weight_RD, row_K, rate_K, l1, l21)
    _shrink_rows(weight_RD.numpy(), row_K.numpy(), rate_K.numpy(), l1, l21)


def shrink_rows_reference(
    weight_RD: Tensor, row_K: Tensor, rate_K: Tensor, l1: float, l21: float
) -> None:
    """The same in plain PyTorch."""
    rate_K1, weight_KD = rate_K.unsqueeze(1), weight_RD[row_K]
    weight_KD = weight_KD.sign() * (weight_KD.abs() - rate_K1 * l1).clamp(min=0)
    norm_K1 = weight_KD.norm(dim=1, keepdim=True)
    scale_K1 = torch.where(norm_K1 > 0, 1 - rate_K1 * l21 / norm_K1, 0.0).clamp(min=0)
    weight_RD[row_K] = weight_KD * scale_K1


@njit(cache=True, nogil=True)
def _sum_rows(row_N: Array, value_ND: Array, slot_R: Array, row_K: Array, sum_KD: Array) -> int:
    width, one, k = value_ND.shape[1], value_ND.dtype.type(1), 0
    stride = value_ND.strides[0] // value_ND.itemsize
    for n in range(row_N.shape[0]):
        row = row_N[n]
        at = slot_R[row]
        if at < 0:
            at = k
            slot_R[row] = k
            row_K[k] = row
            k += 1
            for d in range(width):
                sum_KD[at, d] = value_ND[n, d]
        else:
            add_scaled(one, value_ND, n * stride, sum_KD, at * width, width)
    for i in range(k):
        slot_R[row_K[i]] = -1
    return k


@njit(cache=True, nogil=True)
def _add_rows(row_N: Array, value_ND: Array, seen_U: Array, sum_UD: Array) -> None:
    """Add values to rows; to write those of which none was seen spares filling the sums before."""
    width, one = value_ND.shape[1], value_ND.dtype.type(1)
    for n in range(row_N.shape[0]):
        row = row_N[n]
        if seen_U[row]:
            add_scaled(one, value_ND, n * width, sum_UD, row * width, width)
        else:
            seen_U[row] = True
            for d in range(width):
                sum_UD[row, d] = value_ND[n, d]


@njit(cache=True, nogil=True)
def _rowwise_adagrad(
    weight_RD: Array, total_R: Array, row_K: Array, grad_KD: Array, rate: float, eps: float
) -> None:
    width, kind = grad_KD.shape[1], grad_KD.dtype.type
    for k in range(row_K.shape[0]):
        row = row_K[k]
        total_R[row] += dot(grad_KD, k * width, grad_KD, k * width, width) / width
        scale = kind(-rate / (np.sqrt(total_R[row]) + eps))
        add_scaled(scale, grad_KD, k * width, weight_RD, row * width, width)


@njit(cache=True, nogil=True)
def _shrink_rows(weight_RD: Array, row_K: Array, rate_K: Array, l1: float, l21: float) -> None:
    width = weight_RD.shape[1]
    for k in range(row_K.shape[0]):
        row, less, square = row_K[k], rate_K[k] * l1, 0.0
        for d in range(width):
            size = abs(weight_RD[row, d]) - less
            weight_RD[row, d] = np.copysign(size, weight_RD[row, d]) if size > 0 else 0.0
            square += weight_RD[row, d] * weight_RD[row, d]
        norm, less = np.sqrt(square), rate_K[k] * l21
        scale = 1 - less / norm if norm > less else 0.0
        for d in range(width):
            weight_RD[row, d] *= scale
