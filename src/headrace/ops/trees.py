"""Boosted trees as flat arrays: a sum of leaves, for a few rows at a time.

X nodes of all trees, G trees, F features, J actions. A library's own prediction call costs more
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
    feature_X: Array,
    threshold_X: Array,
    left_X: Array,
    right_X: Array,
    value_X: Array,
    row_BF: Array,
    last_J: Array,
) -> Array:  # (B, J)
    """Sum of the leaves that each row falls into with each value of one further, last feature.

    A leaf has feature -1; a row goes left where its feature is at most the threshold.
    """
    size, width = row_BF.shape
    out_BJ = np.zeros((size, len(last_J)))
    for b in range(size):
        for g in range(len(root_G)):
            for j in range(len(last_J)):
                x = root_G[g]
                while feature_X[x] >= 0:
                    at = feature_X[x]
                    value = last_J[j] if at == width else row_BF[b, at]
                    x = left_X[x] if value <= threshold_X[x] else right_X[x]
                out_BJ[b, j] += value_X[x]
    return out_BJ
