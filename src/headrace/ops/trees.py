"""Boosted trees as flat arrays: sums of leaves, for a few rows at a time.

X nodes of all trees, G trees, F features, J outputs. A library's own prediction call costs more
than the trees themselves when one request comes alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def predict(
    root_G: Array,
    output_G: Array,
    feature_X: Array,
    threshold_X: Array,
    left_X: Array,
    right_X: Array,
    value_X: Array,
    row_BF: Array,
    outputs: int,
) -> Array:  # (B, J)
    """Sum of the leaves that each row falls into, over the trees of each output.

    A leaf has feature -1; a row goes left where its feature is at most the threshold.
    """
    out_BJ = np.zeros((len(row_BF), outputs))
    for b in range(len(row_BF)):
        for g in range(len(root_G)):
            x = root_G[g]
            while feature_X[x] >= 0:
                x = left_X[x] if row_BF[b, feature_X[x]] <= threshold_X[x] else right_X[x]
            out_BJ[b, output_G[g]] += value_X[x]
    return out_BJ
