"""Estimators of Q_ij, what action j is worth to request i, from what is known beforehand.

DCAF, section 4.2, uses a linear model. ``Linear`` is one: a ridge regression an action. ``Trees``
are boosted trees over features and the action's cost, monotone in the cost. Both answers are made
monotone and then replaced by their concave hull along the cost, as Q is by nature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, final

import numpy as np
from numpy.typing import NDArray

from ..ops import trees
from ..ops.concave import concave

Array = NDArray[Any]
Fit = Callable[[Array, Array, Array], "Gains"]  # feature_NF, gain_NJ, cost_J
RIDGE = 1e-3
FOLDS = 5
TREES = 60
LEAVES = 15
LEAST_ROWS = 100  # in a leaf
ROWS = 400_000  # of requests and actions that trees are fitted on; of more, a sample


class Gains(Protocol):
    """Estimates for every action at once."""

    def predict(self, feature_BF: Array) -> Array:  # (B, J), non-decreasing and concave
        ...

    def arrays(self) -> Mapping[str, Array]:
        """Everything needed to restore it."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self: ...


@final
class Linear:
    """A line an action over standardised features, and over their logarithms."""

    def __init__(self, mean_X: Array, scale_X: Array, weight_XJ: Array, cost_J: Array) -> None:
        self._mean_X, self._scale_X = mean_X, scale_X
        self._weight_XJ, self._cost_J = weight_XJ, cost_J

    @classmethod
    def fit(cls, feature_NF: Array, gain_NJ: Array, cost_J: Array) -> Linear:
        """Least squares with a little ridge."""
        wide_NX = _widened(feature_NF)
        mean_X, scale_X = wide_NX.mean(axis=0), wide_NX.std(axis=0)
        scale_X = np.where(scale_X > 1e-9, scale_X, np.inf)
        z_NX = np.column_stack([np.ones(len(wide_NX)), (wide_NX - mean_X) / scale_X])
        square_XX = z_NX.T @ z_NX + RIDGE * len(z_NX) * np.eye(z_NX.shape[1])
        weight_XJ = np.linalg.solve(square_XX, z_NX.T @ gain_NJ)
        return cls(mean_X, scale_X, weight_XJ, cost_J)

    def predict(self, feature_BF: Array) -> Array:
        z_BX = (_widened(feature_BF) - self._mean_X) / self._scale_X
        return concave(self._weight_XJ[0] + z_BX @ self._weight_XJ[1:], self._cost_J)

    def arrays(self) -> Mapping[str, Array]:
        return {
            "mean": self._mean_X,
            "scale": self._scale_X,
            "weight": self._weight_XJ,
            "cost": self._cost_J,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Linear:
        return cls(*(arrays[name] for name in ("mean", "scale", "weight", "cost")))


@final
class Trees:
    """Boosted trees; fitted by LightGBM, read by our own kernel."""

    def __init__(self, flat: Mapping[str, Array], cost_J: Array) -> None:
        self._flat, self._cost_J = flat, cost_J

    @classmethod
    def fit(cls, feature_NF: Array, gain_NJ: Array, cost_J: Array) -> Trees:
        """Squared error over pairs of request and action, monotone in the action's cost."""
        size, actions = gain_NJ.shape
        kept = np.arange(size * actions)
        if len(kept) > ROWS:
            kept = np.sort(np.random.default_rng(0).choice(len(kept), ROWS, replace=False))
        row, action = kept // actions, kept % actions
        x = np.column_stack([feature_NF[row], cost_J[action]])
        return cls._fitted(x, gain_NJ.ravel()[kept], cost_J)

    @classmethod
    def fit_after(
        cls,
        feature_NF: Array,
        statistics_NGS: Array,
        gain_NJ: Array,
        cost_J: Array,
        family_J: Array,
    ) -> Trees:
        """The same with what pre-ranking told, which depends on the family of the action."""
        size, actions = gain_NJ.shape
        x = np.concatenate(
            [
                np.column_stack(
                    [feature_NF, statistics_NGS[:, family_J[j]], np.full(size, cost_J[j])]
                )
                for j in range(actions)
            ]
        )
        y = gain_NJ.T.ravel()
        if len(y) > ROWS:
            kept = np.random.default_rng(0).choice(len(y), ROWS, replace=False)
            x, y = x[kept], y[kept]
        return cls._fitted(x, y, cost_J)

    @classmethod
    def _fitted(cls, x: Array, y: Array, cost_J: Array) -> Trees:
        import lightgbm

        scale = float(np.abs(y).mean()) or 1.0
        settings = {
            "objective": "regression",
            "learning_rate": 0.1,
            "num_leaves": LEAVES,
            "min_data_in_leaf": LEAST_ROWS,
            "monotone_constraints": [0] * (x.shape[1] - 1) + [1],
            "monotone_constraints_method": "intermediate",
            "num_threads": 1,
            "deterministic": True,
            "seed": 0,
            "verbosity": -1,
        }
        model = lightgbm.train(settings, lightgbm.Dataset(x, y / scale), TREES)
        return cls(_flattened(model.dump_model()["tree_info"], scale), cost_J)

    def predict(self, feature_BF: Array) -> Array:
        flat = self._flat
        told_BJ = trees.predict(
            flat["root"],
            flat["feature"],
            flat["threshold"],
            flat["left"],
            flat["right"],
            flat["value"],
            np.ascontiguousarray(feature_BF, np.float64),
            self._cost_J,
        )
        return concave(told_BJ, self._cost_J)

    def arrays(self) -> Mapping[str, Array]:
        return {**self._flat, "cost": self._cost_J}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Trees:
        return cls({k: v for k, v in arrays.items() if k != "cost"}, arrays["cost"])


KINDS: Mapping[str, type[Linear] | type[Trees]] = {"linear": Linear, "gbdt": Trees}


def cross_fitted(
    fit: Fit, feature_NF: Array, gain_NJ: Array, cost_J: Array, group_N: Array, folds: int = FOLDS
) -> Array:  # (N, J)
    """Estimates for each request by a model that saw nothing of its group.

    A price solved on estimates of the very requests they were fitted on would be too high: the
    best look better there than they are.
    """
    fold_N = np.random.default_rng(0).permutation(int(group_N.max(initial=0)) + 1)[group_N] % folds
    out_NJ = np.empty_like(gain_NJ)
    for fold in range(folds):
        held_N = fold_N == fold
        if held_N.any():
            model = fit(feature_NF[~held_N], gain_NJ[~held_N], cost_J)
            out_NJ[held_N] = model.predict(feature_NF[held_N])
    return out_NJ


def _widened(feature_NF: Array) -> Array:
    return np.concatenate([feature_NF, np.log1p(np.maximum(feature_NF, 0.0))], axis=1)


def _flattened(told: Any, scale: float) -> Mapping[str, Array]:
    """LightGBM's nested trees as columns; a leaf has feature -1."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "value")
    }

    def add(node: Mapping[str, Any]) -> int:
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
            columns["left"][at] = add(node["left_child"])
            columns["right"][at] = add(node["right_child"])
        return at

    roots = [add(each["tree_structure"]) for each in told]
    whole = ("feature", "left", "right")
    flat = {n: np.array(c, np.int64 if n in whole else np.float64) for n, c in columns.items()}
    return {"root": np.array(roots, np.int64), **flat}
