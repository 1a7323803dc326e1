"""Features of items out of embedding tables, side by side; forth and back, one pass each.

  I  items of the catalogue   F  their features, the ids of rows
  N  look-ups of a column of items, repeats included
  R  rows of a table   D  its width   W  widths of all features together   K  distinct rows

Gradients are sparse and have one row for each that was looked up, in whichever column: what
indexing, ``F.embedding`` and ``torch.cat`` copy on the way back is as much as a small network's
work. On CPU the passes are Numba kernels; elsewhere, and as the reference in the tests, PyTorch.
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

from .prefetch import ask_for
from .rows import add_scaled

Array = NDArray[Any]
AHEAD = 16  # rows that are asked for before they are read


class Column(NamedTuple):
    """A feature to look up."""

    feature: int  # its place among the ids
    weight_RD: Tensor
    slot_R: Tensor | None  # scratch space for gradients, see ``embedding_rows.slots``


def look_up(id_IF: Tensor, columns: Sequence[Column], *item_N: Tensor) -> list[Tensor]:  # (N, W)
    """The features of some columns of items, ``(N,) int64`` each.

    Raises IndexError for an item or an id that is out of range.
    """
    weights = [column.weight_RD for column in columns]
    if any(x.device.type != "cpu" for x in (id_IF, *weights)):
        return look_up_reference(id_IF, columns, *item_N)
    return list(_LookUp.apply(id_IF, columns, item_N, *weights))


def look_up_reference(id_IF: Tensor, columns: Sequence[Column], *item_N: Tensor) -> list[Tensor]:
    """The same in plain PyTorch."""
    return [
        torch.cat([F.embedding(id_IF[i, f], x, sparse=True) for f, x, _ in columns], dim=1)
        for i in item_N
    ]


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        id_IF: Tensor,
        columns: Sequence[Column],
        item_N: Sequence[Tensor],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.columns = columns
        ctx.rows = [np.empty((len(columns), len(i)), np.int64) for i in item_N]
        tables = [x.detach().contiguous().numpy() for x in weights]
        width = sum(table_RD.shape[1] for table_RD in tables)
        out = tuple(weights[0].new_empty(len(i), width) for i in item_N)
        for i, row_FN, out_NW in zip(item_N, ctx.rows, out, strict=True):
            at = 0
            for (feature, *_), table_RD, row_N in zip(columns, tables, row_FN, strict=True):
                _find(i.contiguous().numpy(), id_IF.numpy(), feature, row_N)
                _take(row_N, table_RD, out_NW.numpy(), at)
                at += table_RD.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, *of: Tensor | None) -> tuple[Tensor | None, ...]:
        grads: list[Tensor] = []
        given = [
            (f, x.contiguous().numpy()) for f, x in zip(ctx.rows, of, strict=True) if x is not None
        ]
        at = 0
        for f, (_, weight_RD, slot_R) in enumerate(ctx.columns):
            parts = [(row_FN[f], of_NW) for row_FN, of_NW in given]
            grads.append(_gradient(parts, at, weight_RD, slot_R.numpy()))
            at += weight_RD.shape[1]
        return None, None, None, *grads


def _gradient(
    parts: Sequence[tuple[Array, Array]], at: int, weight_RD: Tensor, slot_R: Array
) -> Tensor:
    """Of a table whose rows are looked up, by what each part's rows get from column ``at`` on."""
    most = min(len(weight_RD), sum(len(row_N) for row_N, _ in parts))
    row_K = np.empty((1, most), np.int64)
    value_KD = weight_RD.new_empty(most, weight_RD.shape[1])
    count = 0
    for row_N, of_NW in parts:
        count = _add(row_N, of_NW, at, slot_R, count, row_K[0], value_KD.numpy())
    row_K = row_K[:, :count]
    slot_R[row_K[0]] = -1
    return torch.sparse_coo_tensor(
        torch.from_numpy(row_K), value_KD[:count], weight_RD.shape, check_invariants=False
    )


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


@njit(cache=True, nogil=True)
def _add(
    row_N: Array, of_NW: Array, at: int, slot_R: Array, count: int, row_K: Array, sum_KD: Array
) -> int:
    """Add what rows get to the ``count`` sums that there are; returns how many there are then."""
    wide, width, one = of_NW.shape[1], sum_KD.shape[1], sum_KD.dtype.type(1)
    for n in range(len(row_N)):
        row = row_N[n]
        k = slot_R[row]
        if k < 0:
            slot_R[row], row_K[count] = count, row
            for d in range(width):
                sum_KD[count, d] = of_NW[n, at + d]
            count += 1
        else:
            add_scaled(one, of_NW, n * wide + at, sum_KD, k * width, width)
    return count
