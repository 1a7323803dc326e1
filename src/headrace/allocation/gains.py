"""Estimators of Q_ij, what action j is worth to request i, from what is known beforehand.

What is learnt is how much less each action brings than the best for all, ``Q_ij - Q_ib``: the level
of Q, which differs most between requests, decides nothing where everyone gets some action, and what
brings nearly as much as b is told from it most sharply. These differences are shrunk towards their
mean by what cross-fitting says of them, so that what cannot be foreseen is taken to be alike for
all, and the policy is then that of the best fixed plan.

Q rises with the cost and bends down, estimates need not: a dear plan may suit nobody. Whoever
chooses at a price goes by the rising concave hull of a request's estimates, whatever costs are then
(``solver``, ``ops/knapsack.py``), so that they are left as they are.

DCAF, section 4.2, uses a linear model of Q itself. ``Linear`` is a ridge regression an action,
``Trees`` are boosted trees an action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, final

import numpy as np
from numpy.typing import NDArray

from ..ops import trees

Array = NDArray[Any]
Estimator = Literal["gbdt", "linear"]
RIDGE = 1e-3
FOLDS = 5
TREES = 40
LEAVES = 6
LEAST_SHARE = 0.02  # of the requests, in a leaf
LEAST_ROWS = 20
SHAPE = ("mean", "shrink", "best", "scale")


class Differences(Protocol):
    """One regression an action, each with features of its own."""

    @classmethod
    def fit(cls, feature_JNF: Sequence[Array], over_NJ: Array) -> Self: ...

    def predict(self, feature_BF: Array) -> Array:  # (B, J)
        """All differences from the same features."""
        ...

    def arrays(self) -> Mapping[str, Array]:
        """Everything needed to restore it."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self: ...


@final
class Linear:
    """Ridge regressions over standardised features and their logarithms."""

    def __init__(self, mean_JX: Array, scale_JX: Array, weight_JX: Array, bias_J: Array) -> None:
        self._mean_JX, self._scale_JX = mean_JX, scale_JX
        self._weight_JX, self._bias_J = weight_JX, bias_J

    @classmethod
    def fit(cls, feature_JNF: Sequence[Array], over_NJ: Array) -> Linear:
        """Least squares with a little ridge."""
        parts: list[tuple[Array, Array, Array]] = []
        for feature_NF, over_N in zip(feature_JNF, over_NJ.T, strict=True):
            wide_NX = _widened(feature_NF)
            mean_X, scale_X = wide_NX.mean(axis=0), wide_NX.std(axis=0)
            scale_X = np.where(scale_X > 1e-9, scale_X, np.inf)
            z_NX = (wide_NX - mean_X) / scale_X
            square_XX = z_NX.T @ z_NX + RIDGE * len(z_NX) * np.eye(z_NX.shape[1])
            parts.append((mean_X, scale_X, np.linalg.solve(square_XX, z_NX.T @ over_N)))
        mean_JX, scale_JX, weight_JX = (np.stack(column) for column in zip(*parts, strict=True))
        return cls(mean_JX, scale_JX, weight_JX, over_NJ.mean(axis=0))

    def predict(self, feature_BF: Array) -> Array:
        wide_B1X = _widened(feature_BF)[:, None]
        z_BJX = (wide_B1X - self._mean_JX) / self._scale_JX
        return (z_BJX * self._weight_JX).sum(axis=2) + self._bias_J

    def arrays(self) -> Mapping[str, Array]:
        return {
            "mean": self._mean_JX,
            "scale": self._scale_JX,
            "weight": self._weight_JX,
            "bias": self._bias_J,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Linear:
        return cls(*(arrays[name] for name in ("mean", "scale", "weight", "bias")))


@final
class Trees:
    """Boosted trees; fitted by LightGBM, read by our own kernel."""

    def __init__(self, flat: Mapping[str, Array]) -> None:
        self._flat = flat

    @classmethod
    def fit(cls, feature_JNF: Sequence[Array], over_NJ: Array) -> Trees:
        """Squared error, few small trees: differences are mostly noise."""
        settings = {
            "objective": "regression",
            "learning_rate": 0.1,
            "num_leaves": LEAVES,
            "min_data_in_leaf": max(LEAST_ROWS, int(LEAST_SHARE * len(over_NJ))),
        }
        told: list[Any] = []
        scales: list[float] = []
        for feature_NF, over_N in zip(feature_JNF, over_NJ.T, strict=True):
            scales.append(float(over_N.std()) or 1.0)
            told.append(trees.grow(feature_NF, over_N / scales[-1], TREES, settings))
        return cls(trees.flatten(told, scales))

    def predict(self, feature_BF: Array) -> Array:
        return trees.sums(self._flat, feature_BF)

    def arrays(self) -> Mapping[str, Array]:
        return self._flat

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Trees:
        return cls(arrays)


KINDS: Mapping[Estimator, type[Linear] | type[Trees]] = {"linear": Linear, "gbdt": Trees}


@final
class Gains:
    """Estimates for every action, and what was learnt of single steps since.

    Actions are in chains: all in one, or one a family. A step is from each action of a chain to the
    next dearer one; the first begins at nothing.
    """

    def __init__(self, over: Differences, shape: Mapping[str, Array]) -> None:
        self._over, self._shape = over, shape
        self._chains = [np.flatnonzero(shape["best"] == b) for b in np.unique(shape["best"])]
        size = len(shape["best"])  # from differences to estimates all is linear: done at once
        self._bias_J = self._summed(np.zeros((1, size)))[0]
        self._weight_JJ = self._summed(np.eye(size)) - self._bias_J

    @classmethod
    def fit(
        cls,
        kind: Estimator,
        feature_JNF: Sequence[Array],
        gain_NJ: Array,
        group_N: Array,
        chain_J: Array | None = None,
    ) -> tuple[Gains, Array]:
        """Learn; also the estimates ``(N, J)`` of models that had not seen the request's group.

        Prices are to be solved on those: on estimates of the requests that they were fitted on the
        best look better than they are. Each action has features of its own, ``(N, F)``.
        """
        size = gain_NJ.shape[1]
        chain_J = np.zeros(size, np.int64) if chain_J is None else chain_J
        over_NJ, best_J = against_best(gain_NJ, chain_J)
        apart_NJ = np.empty_like(over_NJ)
        lot_C = np.random.default_rng(0).permutation(int(group_N.max(initial=0)) + 1)
        fold_N = lot_C[group_N] % FOLDS
        for fold in range(FOLDS):
            held_N = fold_N == fold
            if held_N.any() and not held_N.all():
                model = KINDS[kind].fit([x[~held_N] for x in feature_JNF], over_NJ[~held_N])
                for j, x_NF in enumerate(feature_JNF):
                    apart_NJ[held_N, j] = model.predict(x_NF[held_N])[:, j]
            else:  # one group alone
                apart_NJ[held_N] = over_NJ.mean(axis=0)
        shape = {
            "mean": over_NJ.mean(axis=0),
            "shrink": _shrinkage(apart_NJ, over_NJ),
            "best": best_J,
            "scale": np.ones(size),
        }
        made = cls(KINDS[kind].fit(feature_JNF, over_NJ), shape)
        return made, made._summed(apart_NJ)

    def predict(self, feature_BF: Array) -> Array:  # (B, J)
        """Estimates; between chains they cannot be compared where features are of one chain."""
        return self._over.predict(feature_BF) @ self._weight_JJ + self._bias_J

    def steps(self, feature_BF: Array) -> Array:  # (B, J)
        """Steps as a replay taught them, whatever was learnt since."""
        return self._steps(self._shrunken(self._over.predict(feature_BF)))

    @property
    def means(self) -> Array:  # (J,)
        """Mean steps of the replay."""
        return self._steps(self._shape["mean"][None])[0]

    def scaled(self, scale_J: Array) -> Gains:
        """Steps so many times as large as a replay taught them."""
        return Gains(self._over, {**self._shape, "scale": scale_J})

    def rescaled(self, gain_BJ: Array) -> Array:  # (B, J)
        """Unscaled estimates in the light of the scales; of one chain only."""
        step_BJ = np.diff(gain_BJ, axis=1, prepend=0.0)
        return np.cumsum(self._shape["scale"] * step_BJ, axis=1)

    def _summed(self, over_BJ: Array) -> Array:  # (B, J)
        out_BJ = self._shape["scale"] * self._steps(self._shrunken(over_BJ))
        for chain in self._chains:
            out_BJ[:, chain] = np.cumsum(out_BJ[:, chain], axis=1)
        return out_BJ

    def _shrunken(self, over_BJ: Array) -> Array:
        mean_J, shrink_J = self._shape["mean"], self._shape["shrink"]
        return mean_J + shrink_J * (over_BJ - mean_J)

    def _steps(self, over_BJ: Array) -> Array:
        best_J, step_BJ = self._shape["best"], np.empty_like(over_BJ)
        level_J = np.arange(len(best_J)) == best_J
        gain_BJ = over_BJ + np.where(level_J, 0.0, over_BJ[:, best_J])
        for chain in self._chains:
            step_BJ[:, chain] = np.diff(gain_BJ[:, chain], axis=1, prepend=0.0)
        return step_BJ

    def arrays(self) -> Mapping[str, Array]:
        """Everything needed to restore it."""
        return {**{f"over.{k}": v for k, v in self._over.arrays().items()}, **self._shape}

    @classmethod
    def from_arrays(cls, kind: Estimator, arrays: Mapping[str, Array]) -> Gains:
        """Take up estimates."""
        over = {k.removeprefix("over."): v for k, v in arrays.items() if k.startswith("over.")}
        shape = {name: arrays[name] for name in SHAPE}
        return cls(KINDS[kind].from_arrays(over), shape)


def against_best(gain_NJ: Array, chain_J: Array) -> tuple[Array, Array]:
    """How much more each action brings than the best for all of its chain; which that is ``(J,)``.

    Of the best themselves it is the level.
    """
    best_J, mean_J = np.empty_like(chain_J), gain_NJ.mean(axis=0)
    for chain in np.unique(chain_J):
        own = np.flatnonzero(chain_J == chain)
        best_J[own] = own[mean_J[own].argmax()]
    level_J = np.arange(len(best_J)) == best_J
    return gain_NJ - np.where(level_J, 0.0, gain_NJ[:, best_J]), best_J


def _shrinkage(told_NJ: Array, true_NJ: Array) -> Array:  # (J,)
    """The slope of what was against what was foretold, between 0 and 1."""
    told_NJ, true_NJ = told_NJ - told_NJ.mean(axis=0), true_NJ - true_NJ.mean(axis=0)
    spread_J = (told_NJ**2).sum(axis=0)
    slope_J = (told_NJ * true_NJ).sum(axis=0) / np.where(spread_J > 0, spread_J, 1.0)
    return np.clip(slope_J, 0.0, 1.0)


def _widened(feature_NF: Array) -> Array:
    return np.concatenate([feature_NF, np.log1p(np.maximum(feature_NF, 0.0))], axis=1)
