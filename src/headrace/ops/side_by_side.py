"""Rows of several tables side by side, for a few requests: the work is small, so calls count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def side_by_side(tables: tuple[Array, ...], id_FB: Array) -> Array:  # (B, K)
    """Row ``id_FB[f, b]`` of table f, float32, for every f; of one table at least."""
    width = 0
    for f in range(len(tables)):
        width += tables[f].shape[1]
    out_BK = np.empty((id_FB.shape[1], width), np.float32)
    at = 0
    for f in range(len(tables)):
        table = tables[f]
        for b in range(id_FB.shape[1]):
            if not 0 <= id_FB[f, b] < table.shape[0]:
                raise IndexError("an id beyond its table")
            for k in range(table.shape[1]):
                out_BK[b, at + k] = table[id_FB[f, b], k]
        at += table.shape[1]
    return out_BK
