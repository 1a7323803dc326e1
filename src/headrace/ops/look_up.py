"""Features of items out of embedding tables, side by side; forth and back, one pass a feature.

  I  items of the catalogue   F  their features, the ids of rows
  N  look-ups of items, repeats included
  R  rows of a table   D  its width   W  widths of all features together   K  distinct rows

Gradients are sparse and have one row for each that was looked up: what indexing, ``F.embedding``
and ``torch.cat`` copy on the way back is as much as a small network's work. On CPU the passes are
Numba kernels; elsewhere, and as the reference in the tests, PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .embedding_rows import row_gradient, sum_rows
from .prefetch import ask_for

Array = NDArray[Any]
AHEAD = 16  # rows that are asked for before they are read


class Column(NamedTuple):
    """A feature to look up."""

    feature: int  # its place among the ids
    weight_RD: Tensor
    slot_R: Tensor | None  # scratch space for gradients, see ``embedding_rows.slots``


def look_up(id_IF: Tensor, columns: Sequence[Column], item_N: Tensor) -> Tensor:  # (N, W)
    """These features of items.

    Raises IndexError for an item or an id that is out of range.
    """
    weights = [column.weight_RD for column in columns]
    if any(x.device.type != "cpu" for x in (id_IF, *weights)):
        return look_up_reference(id_IF, columns, item_N)
    return _LookUp.apply(id_IF, columns, item_N, *weights)


def look_up_reference(id_IF: Tensor, columns: Sequence[Column], item_N: Tensor) -> Tensor:
    """The same in plain PyTorch."""
    id_NF = id_IF[item_N]
    parts = [F.embedding(id_NF[:, f], weight, sparse=True) for f, weight, _ in columns]
    return torch.cat(parts, dim=1)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, id_IF: Tensor, columns: Sequence[Column], item_N: Tensor, *weights: Tensor
    ) -> Tensor:
        ctx.columns, ctx.rows = columns, np.empty((len(columns), len(item_N)), np.int64)
        out_NW = weights[0].new_empty(len(item_N), sum(x.shape[1] for x in weights))
        items, at = item_N.contiguous().numpy(), 0
        for (feature, *_), weight_RD, row_N in zip(columns, weights, ctx.rows, strict=True):
            _find(items, id_IF.numpy(), feature, row_N)
            _take(row_N, weight_RD.detach().contiguous().numpy(), out_NW.numpy(), at)
            at += weight_RD.shape[1]
        return out_NW

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        [of_NW], at = grad_outputs, 0
        grads: list[Tensor] = []
        for (_, weight_RD, slot_R), row_N in zip(ctx.columns, ctx.rows, strict=True):
            of_ND = of_NW[:, at : at + weight_RD.shape[1]]
            row_K, of_KD = sum_rows(torch.from_numpy(row_N), of_ND, slot_R)
            grads.append(row_gradient(weight_RD, row_K, of_KD, distinct=False))
            at += weight_RD.shape[1]
        return None, None, None, *grads


@njit(cache=True, nogil=True)
def _find(item_N: Array, id_IF: Array, feature: int, row_N: Array) -> None:
    """The rows of a feature."""
    last = len(item_N) - 1
    for n in range(len(item_N)):
        ask_for(id_IF, item_N[min(n + AHEAD, last)])
        if not 0 <= item_N[n] < len(id_IF):
            raise IndexError("an item beyond the catalogue")
        row_N[n] = id_IF[item_N[n], feature]


@njit(cache=True, nogil=True)
def _take(row_N: Array, table_RD: Array, out_NW: Array, at: int) -> None:
    """Copy rows of a table to the columns from ``at`` on."""
    last = len(row_N) - 1
    for n in range(len(row_N)):
        ask_for(table_RD, row_N[min(n + AHEAD, last)])
        row = row_N[n]
        if not 0 <= row < len(table_RD):
            raise IndexError("an id beyond its table")
        for d in range(table_RD.shape[1]):
            out_NW[n, at + d] = table_RD[row, d]
