"""Columns of items as places in one list without repeats.

I  numbers up to the highest item    N  items of all columns, repeats included
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
SPARSE = 4  # numbers for each item, from which on sorting costs less than a slot for every number


def distinct(*item: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The distinct items of several columns, in no order, and each column as places among them.

    A batch repeats items across histories and candidates; each is then encoded once.
    """
    every_N = torch.cat(item)
    size = 1 + int(every_N.max()) if len(every_N) else 0
    if every_N.device.type != "cpu" or size > SPARSE * len(every_N):
        items_U, place_N = torch.unique(every_N, return_inverse=True)
    else:
        items, place = _distinct(every_N.numpy(), size)
        items_U, place_N = torch.from_numpy(items), torch.from_numpy(place)
    return items_U, list(place_N.split([len(i) for i in item]))


@njit(cache=True, nogil=True)
def _distinct(item_N: Array, size: int) -> tuple[Array, Array]:
    """One pass, by a slot for each number."""
    slot_I = np.zeros(size, np.int32)
    item_U, place_N, count = np.empty_like(item_N), np.empty_like(item_N), 0
    for n in range(item_N.shape[0]):
        i = item_N[n]
        if slot_I[i] == 0:
            item_U[count] = i
            count += 1
            slot_I[i] = count
        place_N[n] = slot_I[i] - 1
    return item_U[:count].copy(), place_N
