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
LARGE = 1 << 16  # increments of which 16 bits of their slopes are looked at at once, else 8


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
    that is overspent, and the answer is the cheapest for all. "exact" finds the price by radix,
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
    search = _by_slopes if method == "exact" else _by_bisection
    price = search(cost_P, slope_P, budget)
    taken_N, spend = knapsack.paid(offsets, cost_P, slope_P, price)
    room = budget - spend
    while len(row_K := knapsack.fitting(offsets, cost_P, taken_N, room)):
        steepness_K = slope_P[offsets[row_K] + taken_N[row_K]]
        order_K = np.argsort(-steepness_K, kind="stable")
        room = knapsack.take(offsets, cost_P, row_K[order_K], taken_N, room)
    has_N = taken_N > 0
    choice_N = np.full(len(gain_NJ), -1)
    choice_N[has_N] = action_P[(offsets[:-1] + taken_N - 1)[has_N]]
    gain, spend = knapsack.totals(choice_N, gain_NJ, cost_NJ)
    if spend > budget:  # by rounding: increments do not add up to the last bit
        return _solve(gain_NJ, cost_NJ, max(budget - 2 * (spend - budget), 0.0), method)
    cost = price * budget if price else 0.0  # the budget may be infinite
    return Solution(choice_N, price, gain, spend, cost + knapsack.surplus(cost_P, gain_P, price))


def _by_slopes(cost_P: Array, slope_P: Array, budget: float) -> float:
    """The slope at which increments, steepest first, come to cost more than the budget; 0: none.

    Nothing is sorted: costs are tallied by the leading bits of their slopes, then within the band
    in which the budget ends by the next ones, until one slope is left.
    """
    bits_P, least, room = slope_P.view(np.int64), 0, budget
    wide = 16 if len(bits_P) > LARGE else 8
    first = 64 - wide
    for shift in range(first, -1, -wide):
        down_X = np.cumsum(knapsack.tally(cost_P, bits_P, least, shift, wide)[::-1])
        band = int(np.searchsorted(down_X, room, side="right"))
        if band == len(down_X) and shift == first:
            return 0.0
        band = min(band, len(down_X) - 1)  # by rounding it may seem that a whole band is paid for
        room -= float(down_X[band - 1]) if band else 0.0
        least += (len(down_X) - 1 - band) << shift
    return float(np.int64(least).view(np.float64))


def _by_bisection(cost_P: Array, slope_P: Array, budget: float) -> float:
    """The same by halving the interval of prices; what is left lies strictly above."""
    low, high = 0.0, float(slope_P[np.isfinite(slope_P)].max(initial=0.0))
    if knapsack.spend_at(cost_P, slope_P, low) <= budget:
        return low
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if knapsack.spend_at(cost_P, slope_P, math.nextafter(middle, math.inf)) > budget:
            low = middle
        else:
            high = middle
    return high


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
