"""How far plans may go, from how the system stands: MaxPower.

DCAF, section 4.3, lets ``u = k_p e + k_i Σe + k_d Δe`` with ``e = rt + θ fail`` limit the actions.
That error has no set point: it is above 0 on an idle machine. Here e is how far the worst signal is
from its target, relative to the target, so that 0 is what is wanted; the law is in velocity form,
which cannot wind up; steps are bounded, down faster than up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

from pydantic import Field

from .. import config
from ..stages import Status

Clock = Callable[[], float]  # seconds, monotonic
LEAST, MOST = -2.0, 4.0  # bounds of the error: one wild reading says no more than "much"


@final
class Controller:
    """Turns statuses into a power between 0, the cheapest plan only, and 1, every plan."""

    class Config(config.Config):
        """Settings of Controller."""

        p99_ms: float = Field(default=40.0, gt=0)
        """Slowest answer in a hundred that is still well. To promise 50 steer by less: what is
        measured is that of seconds, and swings."""
        waiting: float = Field(default=8.0, gt=0)
        """Requests that may compute or wait at once, on average between two looks. A server answers
        those that wait together, so that a few tell nothing."""
        cpu: float = Field(default=0.95, gt=0)
        """Cores that this process may use. Near all of one: as a server fills up more requests
        share a pass, so that it is latency that tells when it is full."""
        errors: float = Field(default=0.01, gt=0, le=1)
        """Share of answers that may be errors of the server."""
        kp: float = Field(default=0.15, ge=0)
        """Answer to a change of the error."""
        ki: float = Field(default=0.15, ge=0)
        """Answer to an error that stays, per second."""
        kd: float = Field(default=0.02, ge=0)
        """Answer to a change of the change, in seconds."""
        down_per_s: float = Field(default=1.0, gt=0)
        """Steepest fall of power."""
        up_per_s: float = Field(default=0.05, gt=0)
        """Steepest rise of power."""
        deadband: float = Field(default=0.1, ge=0)
        """Errors this near to the target change nothing."""
        blind_s: float = Field(default=10.0, gt=0)
        """After so long without a single measurement power moves towards ``blind_power``."""
        blind_power: float = Field(default=0.5, ge=0, le=1)
        """What is safe to do without measurements."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self.power, self.error = 1.0, 0.0
        self._last_s = self._seen_s = clock()
        self._errors = (0.0, 0.0)  # the two before

    def step(self, status: Status, held_back: float = 1.0) -> float:
        """Take notice of a status; the power from now on.

        ``held_back`` is the share of requests that power keeps from a plan. Where it keeps few from
        any, prices or the load do, and rising would only be in the way when that changes: power
        rises in proportion.

        A clock that stands still or goes backwards changes nothing but the time counted from. With
        nothing measured power stays as it is, and after ``blind_s`` moves to ``blind_power``.
        """
        now_s = self._clock()
        took_s, self._last_s = now_s - self._last_s, now_s
        if took_s <= 0:
            self._seen_s = min(self._seen_s, now_s)
            return self.power
        took_s = min(took_s, 1.0)  # after a pause no more than a second's step
        error = self._worst(status)
        if error is None:
            if now_s - self._seen_s >= self._config.blind_s:
                self._move(self._config.blind_power - self.power, took_s)
            return self.power
        self._seen_s = now_s
        c, (before, earlier) = self._config, self._errors
        settled = 0.0 if abs(error) <= c.deadband else error
        change = c.kp * (error - before) + c.ki * settled * took_s
        change += c.kd * (error - 2 * before + earlier) / took_s
        self.error, self._errors = error, (error, before)
        if not settled or (settled < 0 < change):
            change = 0.0  # at its target all is well, and below it noise is no reason to fall
        self._move(-change, took_s, held_back)
        return self.power

    def _move(self, change: float, took_s: float, rise: float = 1.0) -> None:
        c = self._config
        change = max(-c.down_per_s * took_s, min(c.up_per_s * took_s, change))
        change *= rise if change > 0 else 1.0
        self.power = max(0.0, min(1.0, self.power + change))

    def _worst(self, status: Status) -> float | None:
        """How far the signal that is worst off is above its target, in parts of the target."""
        c = self._config
        targets = (
            (status.p99_ms, c.p99_ms),
            (status.waiting, c.waiting),
            (status.cpu, c.cpu),
            (status.errors, c.errors),
        )
        errors = [
            (value - target) / target
            for value, target in targets
            if value is not None and math.isfinite(value)
        ]
        return max(LEAST, min(MOST, max(errors))) if errors else None
