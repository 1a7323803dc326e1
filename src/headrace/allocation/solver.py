"""Which action each request gets, so that all together gain most within a budget.

    max Σ x_ij Q_ij   s.t.   Σ x_ij q_j ≤ C,   Σ_j x_ij ≤ 1,   x in {0, 1}

DCAF, Jiang et al. 2020 (arXiv 2006.09684), section 3. Relaxed, its dual has one price λ per unit of
cost, and each request takes ``argmax_j Q_ij - λ q_j`` on its own, or nothing if that is negative.

Departures. Algorithm 1 as printed moves the wrong bound and caps λ at the least Q/q; run literally
it ends near λ = 0 and spends several budgets. Here the upper end is the greatest Q/q, the lower end
rises while too much is spent, and the upper, feasible end is returned; what is left of the budget
then goes to the steepest increments that fit. No action list needs to be monotone or concave: what
lies under a request's concave hull is never the best at any price.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ops import knapsack

Array = NDArray[Any]
Method = Literal["exact", "bisection"]
STEPS = 100  # of bisection: more than doubles have bits
NEXT = 65_536  # increments below the price that are tried on what is left of the budget


@dataclass(frozen=True, slots=True)
class Solution:
    """An action for each request and the price that goes with it."""

    choice: Array  # (N,) int64; -1 is nothing
    price: float  # λ, gain per unit of cost
    gain: float
    spend: float
    bound: float  # no choice within the budget gains more: the relaxed optimum


def solve(
    gain_NJ: ArrayLike,
    cost: ArrayLike,
    budget: float,
    *,
    floor: bool = False,
    method: Method = "exact",
) -> Solution:
    """Choose under one budget.

    ``gain_NJ`` is what action j brings to request i; NaN where the request cannot have it, and
    negative is worse than nothing. ``cost`` is ``(J,)``, or ``(N, J)`` where requests differ. With
    ``floor`` every request gets an action, if need be its cheapest; a budget that does not pay for
    that is overspent, and the answer is the cheapest for all. "exact" sorts increments by slope,
    "bisection" halves an interval of prices; both end at the same price.

    Never spends more than the budget (but for the floor), and less only by what the next increment
    of any request would cost. Raises ValueError on shapes that do not fit, on costs that are
    negative or not finite, on infinite gains and on a budget that is negative or NaN.
    """
    gain_NJ, cost_NJ = _checked(gain_NJ, cost)
    if not budget >= 0:
        raise ValueError(f"budget: must be at least 0, got {budget}")
    if not floor:
        return _solve(gain_NJ, cost_NJ, budget, method)
    had = np.where(np.isnan(gain_NJ), np.inf, np.broadcast_to(cost_NJ, gain_NJ.shape))
    first_N1 = np.argmin(had, axis=1, keepdims=True)
    base_N1 = np.take_along_axis(gain_NJ, first_N1, axis=1)
    if np.isnan(base_N1).any():
        raise ValueError("gain: a request with no action at all, and every request must have one")
    paid_N1 = np.take_along_axis(np.broadcast_to(cost_NJ, gain_NJ.shape), first_N1, axis=1)
    more = _solve(
        gain_NJ - base_N1,
        np.maximum(cost_NJ - paid_N1, 0.0),
        max(budget - float(paid_N1.sum()), 0.0),
        method,
    )
    choice_N = np.where(more.choice < 0, first_N1[:, 0], more.choice)
    gain, spend = knapsack.totals(choice_N, gain_NJ, cost_NJ)
    return Solution(choice_N, more.price, gain, spend, more.bound + float(base_N1.sum()))


def choose(gain_NJ: ArrayLike, cost: ArrayLike, price: float) -> Array:  # (N,) int64
    """Each request's best action at a price, -1 for none; at a tie the cheaper."""
    return knapsack.choose(*_checked(gain_NJ, cost), price)


def _solve(gain_NJ: Array, cost_NJ: Array, budget: float, method: Method) -> Solution:
    offsets, action_P, cost_P, gain_P, slope_P = knapsack.hulls(gain_NJ, cost_NJ)
    row_P = np.repeat(np.arange(len(gain_NJ)), np.diff(offsets))
    taken_N = np.zeros(len(gain_NJ), np.int64)
    search = _by_slopes if method == "exact" else _by_bisection
    price, first_P, then_P = search(cost_P, slope_P, budget)
    # an increment's slope is above those after it, so these are first ones of their requests
    taken_N += np.bincount(row_P[first_P], minlength=len(taken_N))
    room = budget - float(cost_P[first_P].sum())
    knapsack.take(offsets, cost_P, then_P, row_P, taken_N, room)
    has_N = taken_N > 0
    choice_N = np.full(len(gain_NJ), -1)
    choice_N[has_N] = action_P[(offsets[:-1] + taken_N - 1)[has_N]]
    gain, spend = knapsack.totals(choice_N, gain_NJ, cost_NJ)
    if spend > budget:  # by rounding: increments do not add up to the last bit
        return _solve(gain_NJ, cost_NJ, max(budget - 2 * (spend - budget), 0.0), method)
    left_P = gain_P - price * cost_P
    paid = price * budget if price else 0.0  # the budget may be infinite
    return Solution(choice_N, price, gain, spend, paid + float(left_P[left_P > 0].sum()))


def _by_slopes(cost_P: Array, slope_P: Array, budget: float) -> tuple[float, Array, Array]:
    """The price, the increments that are paid for, and those to try next, in order."""
    order_P = np.argsort(-slope_P, kind="stable")
    paid_P = np.cumsum(cost_P[order_P])
    count = int(np.searchsorted(paid_P, budget, side="right"))
    price = float(slope_P[order_P[count]]) if count < len(order_P) else 0.0
    return price, order_P[:count], order_P[count:]


def _by_bisection(cost_P: Array, slope_P: Array, budget: float) -> tuple[float, Array, Array]:
    """The same by halving the interval of prices."""
    low, high = 0.0, float(slope_P[np.isfinite(slope_P)].max(initial=0.0))
    if knapsack.spend_at(cost_P, slope_P, low) <= budget:
        high = low
    elif knapsack.spend_at(cost_P, slope_P, high) > budget:  # not even all of the steepest
        low, high = high, math.nextafter(high, math.inf)
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if knapsack.spend_at(cost_P, slope_P, middle) > budget:
            low = middle
        else:
            high = middle
    first_P = np.flatnonzero(slope_P >= high)
    rest_P = np.flatnonzero(slope_P < high)
    if len(rest_P) > NEXT:
        rest_P = rest_P[np.argpartition(-slope_P[rest_P], NEXT)[:NEXT]]
    rest_P = np.sort(rest_P)  # equal slopes in the order of requests
    return high, first_P, rest_P[np.argsort(-slope_P[rest_P], kind="stable")]


def _checked(gain: ArrayLike, cost: ArrayLike) -> tuple[Array, Array]:
    gain_NJ = np.ascontiguousarray(gain, np.float64)
    if gain_NJ.ndim != 2 or gain_NJ.shape[1] == 0:
        raise ValueError(f"gain: requests x actions wanted, got shape {gain_NJ.shape}")
    cost_NJ = np.ascontiguousarray(np.atleast_2d(np.asarray(cost, np.float64)))
    if cost_NJ.shape not in ((1, gain_NJ.shape[1]), gain_NJ.shape):
        raise ValueError(f"cost: shape {cost_NJ.shape} does not go with gains {gain_NJ.shape}")
    if not (np.isfinite(cost_NJ) & (cost_NJ >= 0)).all():
        raise ValueError("cost: must be finite and at least 0")
    if np.isinf(gain_NJ).any():
        raise ValueError("gain: infinite; NaN says that an action cannot be had")
    return gain_NJ, cost_NJ
