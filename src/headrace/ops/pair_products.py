"""Inner products of each request's vectors with those of its candidates.

  B  requests    N  candidates    I  items    T  vectors a request    X  their width

Where no gradient is wanted, on CPU, one pass in Numba reads each row where it lies; elsewhere, and
as the reference in the tests, PyTorch gathers both sides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from . import ragged
from .rows import dot

Array = NDArray[Any]


def pair_products(
    user_BTX: Tensor, item_IX: Tensor, row_N: Tensor, offsets: Tensor
) -> Tensor:  # (N, T)
    """``user_BTX[b] @ item_IX[i]`` for each request b and the rows i between its ``offsets``."""
    graded = torch.is_grad_enabled() and (user_BTX.requires_grad or item_IX.requires_grad)
    if graded or item_IX.device.type != "cpu" or item_IX.dtype != torch.float32:
        return pair_products_reference(user_BTX, item_IX, row_N, offsets)
    out_NT = np.empty((len(row_N), user_BTX.shape[1]), np.float32)
    user, item = (x.detach().contiguous().numpy() for x in (user_BTX, item_IX))
    _pair_products(user, item, row_N.numpy(), offsets.numpy(), out_NT)
    return torch.from_numpy(out_NT)


def pair_products_reference(
    user_BTX: Tensor, item_IX: Tensor, row_N: Tensor, offsets: Tensor
) -> Tensor:  # (N, T)
    """The same in plain PyTorch."""
    user_NTX = user_BTX.index_select(0, ragged.rows_of(offsets, len(row_N)))
    item_NX = item_IX.index_select(0, row_N)
    return torch.einsum("ntx,nx->nt", user_NTX, item_NX)


@njit(cache=True, nogil=True)
def _pair_products(
    user_BTX: Array, item_IX: Array, row_N: Array, offsets: Array, out_NT: Array
) -> None:
    _, size, width = user_BTX.shape
    for b in range(len(offsets) - 1):
        for n in range(offsets[b], offsets[b + 1]):
            for t in range(size):
                user_at, item_at = (b * size + t) * width, row_N[n] * width
                out_NT[n, t] = dot(user_BTX, user_at, item_IX, item_at, width)
