"""The price of computation from a sliding window of requests, and the budget it answers to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import budgets, solver

Array = NDArray[Any]
Clock = Callable[[], float]
SPREAD = 0.84  # standard deviation of one request's share of a window's spend, methods §12
HALF_LIFE_S = 3.0  # of the rate of requests
DAY_S, HOUR_S = 86_400, 3_600
FEWEST = 100  # requests in the window that a price is solved on


class Rate:
    """Requests a second, exponentially smoothed; a clock that goes backwards starts anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._last_s = clock, clock()
        self._count, self._seconds = 0.0, 0.0

    def add(self, requests: int) -> None:
        """Count requests that came now."""
        now_s = self._clock()
        took_s, self._last_s = now_s - self._last_s, now_s
        if took_s < 0:
            self._count = self._seconds = took_s = 0.0
        kept = 0.5 ** (took_s / HALF_LIFE_S)
        self._count = self._count * kept + requests
        # seconds fade as they pass: a pause taken whole would hide the rush that follows it
        self._seconds = self._seconds * kept + (1 - kept) * HALF_LIFE_S / math.log(2)

    @property
    def per_s(self) -> float:
        """Zero before anything is known."""
        return self._count / self._seconds if self._seconds > 0 else 0.0


class Window:
    """The last requests' gains, and the price at which they keep to a budget."""

    def __init__(self, pool_NJ: Array, cost_J: Array, size: int) -> None:
        """Start from logged requests, that a first price needs no traffic."""
        self._cost_J, self._at, self._count = cost_J, 0, 0
        self._gain_NJ = np.zeros((size, len(cost_J)))
        self.add(pool_NJ[-size:])

    def __len__(self) -> int:
        return self._count

    def add(self, gain_BJ: Array) -> None:
        """Take up requests; the oldest go."""
        size = len(self._gain_NJ)
        gain_BJ = gain_BJ[-size:]
        at = (self._at + np.arange(len(gain_BJ))) % size
        self._gain_NJ[at] = gain_BJ
        self._at = (self._at + len(gain_BJ)) % size
        self._count = min(size, self._count + len(gain_BJ))

    def price(self, budget: float, allowed_J: Array) -> float:
        """What a unit of cost must bring for requests to cost ``budget`` on average.

        Actions that are not allowed are left out, the cheapest is everyone's. Less is aimed at by
        twice the standard deviation that a window of this size has (methods §12), since the next
        requests are not those of the window.
        """
        if self._count < FEWEST or not math.isfinite(budget):
            return 0.0
        gain_NJ = np.where(allowed_J, self._gain_NJ[: self._count], np.nan)
        aim = float(self._aim(np.array([budget]))[0])
        return solver.solve(gain_NJ, self._cost_J, aim, floor=True).price

    def prices(self, cost_RJ: Array, budget_R: Array, allowed_J: Array, start_R: Array) -> Array:
        """The same for several resources at once; ``start_R`` are the prices before."""
        if self._count < FEWEST:
            return np.zeros(len(budget_R))
        gain_NJ = self._gain_NJ[: self._count, allowed_J]
        return budgets.prices(gain_NJ, cost_RJ[:, allowed_J], self._aim(budget_R), start_R)

    def _aim(self, budget_R: Array) -> Array:
        """What all requests of the window together may take."""
        held = max(0.0, 1 - 2 * SPREAD / math.sqrt(max(1, self._count)))
        return np.maximum(0.0, budget_R) * (self._count * held)


def budget_share(profile: Sequence[float], time_ms: int) -> float:
    """The part of the budget at a time of the day, UTC; the profile is cut evenly over it."""
    if not profile:
        return 1.0
    second = time_ms / 1000 % DAY_S
    return profile[min(len(profile) - 1, int(second * len(profile) / DAY_S))]
