"""Policies on the same logged requests: what each gets out of a budget.

N requests, J actions. Estimates come from earlier requests than those they are judged on; prices
are solved on estimates too, so that nothing here has seen what it is judged by, but for the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..ops.concave import concave
from . import solver
from .actions import Actions
from .gains import Estimator, Gains
from .logged import Logged
from .model import after_features
from .past import Past, askers, so_far
from .window import Window

Array = NDArray[Any]
BUDGETS = 25  # points of a curve
REFRESH = 50  # requests between two prices when replayed as a stream
STRETCH = 500  # requests whose spend is held against the budget


@dataclass(frozen=True)
class Outcome:
    """What a policy spent and got, a request on average."""

    cost: float
    gain: float
    real: float  # value of what was really taken
    price: float
    choice: Array  # (N,)


Curve = Sequence[Outcome]


@dataclass(frozen=True)
class Pool:
    """Later requests with their true gains, and what earlier ones make one expect."""

    cost_J: Array
    gain_NJ: Array
    real_NJ: Array
    expected_NJ: Array
    earlier_MJ: Array  # cross-fitted estimates of the earlier requests
    after_NGJ: Array | None = None  # expected once pre-ranking has run in a family
    family_J: Array | None = None

    @classmethod
    def of(
        cls, actions: Actions, logged: Logged, share: float = 0.5, estimator: Estimator = "gbdt"
    ) -> Pool:
        """Fit on the first ``share`` of the requests, in order of time; judge on the rest."""
        cut = int(len(logged) * share)
        early, late = logged.take(np.arange(cut)), logged.take(np.arange(cut, len(logged)))
        early_M, late_N = (askers(part.user_N, part.feature_NF) for part in (early, late))
        late = late.knowing(Past.of(early_M, early.gain_NJ)(late_N))
        early = early.knowing(so_far(early_M, early.gain_NJ))
        family_J = actions.family
        _, group_M = np.unique(early.user_N, return_inverse=True)
        x_JMF = [early.feature_NF] * len(actions)
        before, earlier_MJ = Gains.fit(estimator, x_JMF, early.gain_NJ, group_M)
        x_JMF = after_features(actions, early)
        after, _ = Gains.fit(estimator, x_JMF, early.gain_NJ, group_M, family_J)
        told_JNF = after_features(actions, late)
        first_G = [int(np.flatnonzero(family_J == g)[0]) for g in range(int(family_J.max()) + 1)]
        return cls(
            actions.cpu_ms,
            late.gain_NJ,
            late.real_NJ,
            before.predict(late.feature_NF),
            earlier_MJ,
            np.stack([after.predict(told_JNF[j]) for j in first_G], axis=1),
            family_J,
        )

    def __len__(self) -> int:
        return len(self.gain_NJ)

    def budgets(self) -> Array:
        """From the cheapest plan for all to the widest for all, a request; most are small."""
        span = self.cost_J[-1] - self.cost_J[0]
        return self.cost_J[0] + span * np.linspace(0, 1, BUDGETS) ** 2

    def told(self, choice_N: Array, price: float) -> Outcome:
        """What a choice costs and brings."""
        rows = np.arange(len(choice_N))
        return Outcome(
            float(self.cost_J[choice_N].mean()),
            float(self.gain_NJ[rows, choice_N].mean()),
            float(self.real_NJ[rows, choice_N].mean()),
            price,
            choice_N,
        )

    def at_price(self, price: float, expected_NJ: Array) -> Array:  # (N,)
        """Each request's best action; the cheapest is everyone's."""
        more_NJ = expected_NJ - expected_NJ[:, :1]
        return np.maximum(solver.choose(more_NJ, self.cost_J - self.cost_J[0], price), 0)

    def oracle(self, budget: float) -> Outcome:
        """Knows the gains."""
        solved = solver.solve(self.gain_NJ, self.cost_J, budget * len(self), floor=True)
        return self.told(solved.choice, solved.price)

    def dcaf(self, budget: float) -> Outcome:
        """Knows estimates, at a price from the earlier requests."""
        price = self._price(budget)
        return self.told(self.at_price(price, self.expected_NJ), price)

    def revised(self, budget: float) -> Outcome:
        """Looks again after pre-ranking, among plans that are the same up to there."""
        if self.after_NGJ is None or self.family_J is None:
            raise ValueError("this pool has no statistics of pre-ranking")
        price = self._price(budget)
        first_N = self.at_price(price, self.expected_NJ)
        family_N = self.family_J[first_N]
        expected_NJ = self.after_NGJ[np.arange(len(self)), family_N]
        kin_NJ = self.family_J[None] == family_N[:, None]
        left_NJ = np.where(kin_NJ, expected_NJ - price * self.cost_J, -np.inf)
        return self.told(left_NJ.argmax(axis=1), price)

    def equal(self) -> tuple[Array, Array]:
        """Costs and gains of one plan for all, and of the best mixtures of two: a concave line."""
        return self.cost_J, concave(self.gain_NJ.mean(axis=0)[None], self.cost_J)[0]

    def random(self, budget: float) -> Outcome:
        """The widest plan for as many as the budget pays for, by lot; the cheapest for others."""
        share = (budget - self.cost_J[0]) / max(self.cost_J[-1] - self.cost_J[0], 1e-12)
        lot_N = np.random.default_rng(0).permutation(len(self)) < share * len(self)
        return self.told(np.where(lot_N, len(self.cost_J) - 1, 0), np.nan)

    def stream(self, budget: float, window: int = 2_000) -> tuple[Outcome, Array]:
        """As it is live: the price follows a window; also the overspend of every stretch."""
        sliding = Window(self.earlier_MJ, self.cost_J, window)
        allowed_J = np.ones(len(self.cost_J), bool)
        choice_N = np.zeros(len(self), np.int64)
        price = 0.0
        for at in range(0, len(self), REFRESH):
            expected_BJ = self.expected_NJ[at : at + REFRESH]
            price = sliding.price(budget, allowed_J)
            choice_N[at : at + REFRESH] = self.at_price(price, expected_BJ)
            sliding.add(expected_BJ)
        spent_N = self.cost_J[choice_N]
        whole = len(self) // STRETCH * STRETCH
        stretches = spent_N[:whole].reshape(-1, STRETCH).mean(axis=1) if whole else spent_N[:0]
        return self.told(choice_N, price), stretches / budget - 1

    def curves(self) -> Mapping[str, Curve]:
        """All policies over all budgets."""
        policies = {"oracle": self.oracle, "dcaf": self.dcaf, "random": self.random}
        if self.after_NGJ is not None:
            policies["dcaf+revision"] = self.revised
        return {name: [policy(b) for b in self.budgets()] for name, policy in policies.items()}

    def _price(self, budget: float) -> float:
        pool_MJ = self.earlier_MJ
        return solver.solve(pool_MJ, self.cost_J, budget * len(pool_MJ), floor=True).price


def gain_at(curve: Curve, cost: float) -> float:
    """The gain of a policy at a cost, between its points."""
    x, y = _line(curve)
    return float(np.interp(cost, x, y))


def cost_at(curve: Curve, gain: float) -> float:
    """The least cost at which a policy gains this much; infinite where it never does."""
    x, y = _line(curve)
    reached = np.flatnonzero(y >= gain)
    if not len(reached):
        return float("inf")
    at = int(reached[0])
    if at == 0:
        return float(x[0])
    share = (gain - y[at - 1]) / max(y[at] - y[at - 1], 1e-300)
    return float(x[at - 1] + share * (x[at] - x[at - 1]))


def headline(
    pool: Pool,
    curves: Mapping[str, Curve],
    cost: float,
    line: tuple[Array, Array] | None = None,
) -> dict[str, Any]:
    """Figures against equal allocation at a cost, as the papers give them.

    ``line`` are costs and gains of equal allocation if it has other plans than the pool. Raises
    DataError where that is worth nothing.
    """
    equal = float(np.interp(cost, *(line or pool.equal())))
    if not equal > 0:
        raise DataError("replay: no slate is worth anything; look at [value] and at prices")
    judged = [name for name in curves if name != "random"]
    gains = {name: gain_at(curves[name], cost) / equal - 1 for name in judged}
    cuts = {name: 1 - cost_at(curves[name], equal) / cost for name in judged}
    cheaper = {name: gain_at(curves["random"], cost * (1 - cut)) for name, cut in cuts.items()}
    return {
        "value_gain_at_equal_cost": gains,
        "cost_cut_at_equal_value": cuts,
        "random_value_loss": {name: 1 - value / equal for name, value in cheaper.items()},
        "oracle_ratio": gains["dcaf"] / gains["oracle"] if gains["oracle"] > 0 else None,
    }


def _line(curve: Curve) -> tuple[Array, Array]:
    points = np.array([(o.cost, o.gain) for o in curve])
    points = points[np.argsort(points[:, 0], kind="stable")]
    return points[:, 0], np.maximum.accumulate(points[:, 1])
