"""Several budgets at once: processor time, memory bandwidth, calls to others.

    argmax_j Q_ij - Σ_r λ_r q_rj,      λ_r <- [λ_r + η (spend_r - C_r)]₊

``solve`` chooses for a pool: projected sub-gradient of the dual (methods in DCAF's terms: one price
a resource); the step follows Polyak 1969, from the gap between the bound and the best choice known
that keeps all budgets. ``prices`` is what a live policy has the time for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ops import knapsack
from . import solver

Array = NDArray[Any]
STEPS = 400
CLOSE = 1e-5  # relative gap at which to stop
HALVINGS = 30  # when scaling prices up until all budgets hold
PATIENCE = 20  # steps without a better bound before they are halved
ROUNDS = 3  # of solving for one price at a time, where several budgets bind
MOST = 2.0**20  # times that prices are raised
SLACK = 1e-9  # relative, of prices and budgets: for rounding


@dataclass(frozen=True, slots=True)
class Shares:
    """An action for each request, and a price for each resource."""

    choice: Array  # (N,) int64; -1 is nothing
    price: Array  # (R,)
    gain: float
    spend: Array  # (R,)
    bound: float


def solve(
    gain_NJ: ArrayLike, cost_RJ: ArrayLike, budget_R: ArrayLike, steps: int = STEPS
) -> Shares:
    """Choose under R budgets, none of which is ever exceeded.

    Raises ValueError on shapes that do not fit, costs that are negative or not finite, infinite
    gains, and budgets that are not above 0.
    """
    gain_NJ = np.ascontiguousarray(gain_NJ, np.float64)
    cost_RJ, budget_R = np.asarray(cost_RJ, np.float64), np.asarray(budget_R, np.float64)
    if gain_NJ.ndim != 2 or cost_RJ.shape != (len(budget_R), gain_NJ.shape[1]):
        raise ValueError(f"cost: {cost_RJ.shape} does not go with {gain_NJ.shape} gains")
    if not (np.isfinite(cost_RJ) & (cost_RJ >= 0)).all() or np.isinf(gain_NJ).any():
        raise ValueError("cost: must be finite and at least 0; gain: must not be infinite")
    if not (np.isfinite(budget_R) & (budget_R > 0)).all():
        raise ValueError("budget: every one must be finite and above 0")
    pool = _Pool(gain_NJ, cost_RJ / budget_R[:, None])  # in parts of each budget
    price_R, bound = _descend(pool, steps)
    choice_N = pool.fill(pool.feasible(price_R), price_R)
    gain, share_R = pool.totals(choice_N)
    return Shares(choice_N, price_R / budget_R, gain, share_R * budget_R, bound)


def prices(
    gain_NJ: Array, cost_RJ: Array, budget_R: Array, start_R: Array | None = None
) -> Array:  # (R,)
    """What a unit of each resource must bring so that requests, each with an action, keep to all.

    Where one budget holds the others, the price is its own, exactly, and others are free. Where
    several bind, prices are solved for in turn, the others as they are, from ``start_R`` on, and at
    last raised together until all hold. A budget that is infinite has no price; one that the least
    of its resource for everyone overspends gets the price at which everyone takes that.
    """
    gain_NJ = np.ascontiguousarray(gain_NJ)  # kernels are compiled for one order in memory
    price_R = np.zeros(len(budget_R))
    bound_R = np.flatnonzero(np.isfinite(budget_R))
    least_R = len(gain_NJ) * cost_RJ.min(axis=1)
    limit_R = np.maximum(budget_R, least_R) * (1 + SLACK) + SLACK

    def spends(price_R: Array) -> Array:
        return cost_RJ @ knapsack.counts(gain_NJ, price_R @ cost_RJ)

    def alone(r: int, price_R: Array) -> float:
        others_J = price_R @ cost_RJ - price_R[r] * cost_RJ[r]
        left_NJ, first = gain_NJ - others_J, int(cost_RJ[r].argmin())
        more_J, rest = cost_RJ[r] - cost_RJ[r, first], budget_R[r] - least_R[r]
        solved = solver.solve(left_NJ - left_NJ[:, first, None], more_J, max(0.0, rest))
        return solved.price * (1 + SLACK)  # above: what is at the price itself is not paid for

    for r in bound_R.tolist():
        one_R = np.zeros_like(price_R)
        one_R[r] = alone(r, one_R)
        if (spends(one_R) <= limit_R).all():
            return one_R
    if start_R is not None:
        price_R[bound_R] = start_R[bound_R]
    warm = bool(price_R.any())  # prices move little from one second to the next
    for _ in range(1 if warm else ROUNDS):
        was_R = price_R.copy()
        for r in bound_R.tolist():
            price_R[r] = alone(r, price_R)
        if np.allclose(was_R, price_R, rtol=CLOSE, atol=0):
            break
    return _raised(price_R, lambda p_R: bool((spends(p_R) <= limit_R).all()))


def _raised(price_R: Array, holds: Callable[[Array], bool]) -> Array:
    """The least multiple of prices at which all budgets hold; as they are where none does."""
    low, high = 1.0, 1.0
    while not holds(high * price_R):
        low, high = high, 2 * high
        if high > MOST:
            return price_R
    for _ in range(HALVINGS if high > 1 else 0):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(middle * price_R) else (middle, high)
    return high * price_R


def _descend(pool: _Pool, steps: int) -> tuple[Array, float]:
    """The best prices found and their bound."""
    price_R = np.zeros(len(pool.cost_RJ))
    best_R, bound = price_R, np.inf
    known = pool.totals(pool.feasible(price_R))[0]
    pace, since = 1.0, 0
    for _ in range(steps):
        choice_N = pool.choose(price_R)
        gain, share_R = pool.totals(choice_N)
        dual = gain - float(price_R @ share_R) + float(price_R.sum())
        since += 1
        if dual < bound:
            best_R, bound, since = price_R, dual, 0
            known = max(known, pool.totals(pool.feasible(price_R))[0])
        if since > PATIENCE:
            price_R, pace, since = best_R, pace / 2, 0
            continue
        slope_R = 1 - share_R  # of the dual
        if bound - known <= CLOSE * abs(bound) or not slope_R.any():
            break
        step = pace * (dual - known) / float(slope_R @ slope_R)
        price_R = np.maximum(price_R - step * slope_R, 0.0)
    return best_R, bound


class _Pool:
    """Gains and costs, costs in parts of their budgets."""

    def __init__(self, gain_NJ: Array, cost_RJ: Array) -> None:
        self.gain_NJ, self.cost_RJ = gain_NJ, cost_RJ

    def choose(self, price_R: Array) -> Array:
        """Each request's best at these prices."""
        return knapsack.choose(self.gain_NJ, (price_R @ self.cost_RJ)[None], 1.0)

    def totals(self, choice_N: Array) -> tuple[float, Array]:
        """Gain, and part of each budget that is spent."""
        has_N = choice_N >= 0
        count_J = np.bincount(choice_N[has_N], minlength=self.gain_NJ.shape[1])
        gain = float(self.gain_NJ[np.flatnonzero(has_N), choice_N[has_N]].sum())
        return gain, self.cost_RJ @ count_J

    def feasible(self, price_R: Array) -> Array:
        """A choice that keeps all budgets: prices are raised together until one does."""
        choice_N = self.choose(price_R)
        if (self.totals(choice_N)[1] <= 1).all():
            return choice_N
        direction_R = np.maximum(price_R, 1e-3 * max(float(price_R.max()), self._scale()))
        low, high = 0.0, 1.0
        while (self.totals(self.choose(price_R + high * direction_R))[1] > 1).any():
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if (self.totals(self.choose(price_R + middle * direction_R))[1] > 1).any():
                low = middle
            else:
                high = middle
        return self.choose(price_R + high * direction_R)

    def fill(self, choice_N: Array, price_R: Array) -> Array:
        """Raise single requests, those that gain most for their cost first, while all fits."""
        toll_J = price_R @ self.cost_RJ
        held_N = choice_N.copy()
        room_R = 1 - self.totals(held_N)[1]
        had_N = np.where(held_N < 0, 0.0, self.gain_NJ[np.arange(len(held_N)), held_N])
        paid_N = np.where(held_N < 0, 0.0, toll_J[held_N])
        more_NJ = np.nan_to_num(self.gain_NJ - had_N[:, None], nan=-np.inf)
        over_NJ = np.maximum(toll_J[None] - paid_N[:, None], 1e-300)
        ratio_NJ = np.where(more_NJ > 0, more_NJ / over_NJ, -np.inf)
        best_N = ratio_NJ.argmax(axis=1)
        for i in np.argsort(-ratio_NJ.max(axis=1, initial=-np.inf), kind="stable"):
            j = int(best_N[i])
            if ratio_NJ[i, j] <= 0:
                break
            before_R = self.cost_RJ[:, held_N[i]] if held_N[i] >= 0 else 0.0
            if (self.cost_RJ[:, j] - before_R <= room_R).all():
                room_R = room_R - (self.cost_RJ[:, j] - before_R)
                held_N[i] = j
        return held_N

    def _scale(self) -> float:
        """A price at which gains and costs are of a size."""
        gain = float(np.nanmax(self.gain_NJ, initial=0.0))
        return gain / max(float(self.cost_RJ.max(initial=0.0)), 1e-300) or 1.0
