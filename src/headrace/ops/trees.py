"""Boosted trees as flat arrays: grown by LightGBM, read by a kernel of our own.

X nodes of all trees, G trees, F features, J outputs. A library's own prediction call costs more
than the trees themselves when one request comes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
REPEATABLE: Mapping[str, Any] = {
    "num_threads": 1,
    "deterministic": True,
    "seed": 0,
    "verbosity": -1,
}


def grow(
    feature_NF: Array,
    label_N: Array,
    trees: int,
    settings: Mapping[str, Any],
    *,
    lengths: Array | None = None,
    start_N: Array | None = None,
) -> list[Any]:
    """Trees as LightGBM dumps them, nested; the same on every call.

    ``lengths`` are those of lists, for objectives that order; ``start_N`` is what the trees add to.
    """
    import lightgbm  # slow to import, and serving has no need of it

    data = lightgbm.Dataset(feature_NF, label_N, group=lengths, init_score=start_N)
    return lightgbm.train({**REPEATABLE, **settings}, data, trees).dump_model()["tree_info"]


def flatten(told: Sequence[Any], scales: Sequence[float]) -> Mapping[str, Array]:
    """Nested trees of each output as columns, leaves times the output's scale.

    ``root`` and ``output`` a tree; ``feature``, ``threshold``, ``left``, ``right`` and ``value`` a
    node. A leaf has feature -1.
    """
    columns: dict[str, list[float]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "value")
    }

    def add(node: Mapping[str, Any], scale: float) -> int:
        at = len(columns["feature"])
        leaf = "leaf_value" in node
        values = (
            -1 if leaf else node["split_feature"],
            0.0 if leaf else node["threshold"],
            -1,
            -1,
            node["leaf_value"] * scale if leaf else 0.0,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        if not leaf:
            columns["left"][at] = add(node["left_child"], scale)
            columns["right"][at] = add(node["right_child"], scale)
        return at

    roots: list[int] = []
    outputs: list[int] = []
    for at, (each, scale) in enumerate(zip(told, scales, strict=True)):
        roots += [add(tree["tree_structure"], scale) for tree in each]
        outputs += [at] * len(each)
    whole = ("feature", "left", "right")
    flat = {n: np.array(c, np.int64 if n in whole else np.float64) for n, c in columns.items()}
    return {"root": np.array(roots, np.int64), "output": np.array(outputs, np.int64), **flat}


def sums(flat: Mapping[str, Array], row_BF: Array) -> Array:  # (B, J)
    """What flat trees say of rows."""
    return predict(
        flat["root"],
        flat["output"],
        flat["feature"],
        flat["threshold"],
        flat["left"],
        flat["right"],
        flat["value"],
        np.ascontiguousarray(row_BF, np.float64),
        int(flat["output"][-1]) + 1,
    )


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
