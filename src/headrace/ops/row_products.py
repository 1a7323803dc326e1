"""Inner products with rows that lie scattered over a large table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numeric import entry
from .prefetch import ask_for

Array = NDArray[Any]
_AHEAD = 12  # rows asked for before they are needed


@entry
def row_products(table_RD: Array, row_BN: Array, query_BD: Array) -> Array:  # (B, N) float32
    """Those of each query with its own rows, ``row_BN``; -inf where a row is negative."""
    out_BN = np.empty(row_BN.shape, np.float32)
    size, width = row_BN.shape[1], table_RD.shape[1]
    for b in range(len(row_BN)):
        for n in range(min(_AHEAD, size)):
            ask_for(table_RD, max(row_BN[b, n], 0))
        for n in range(size):
            if n + _AHEAD < size:
                ask_for(table_RD, max(row_BN[b, n + _AHEAD], 0))
            row, total = row_BN[b, n], np.float32(0)
            if row < 0:
                out_BN[b, n] = -np.inf
                continue
            for d in range(width):
                total += table_RD[row, d] * query_BD[b, d]
            out_BN[b, n] = total
    return out_BN
