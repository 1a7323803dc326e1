"""Every request gets the plan that is worth its cost at the price of computation.

DCAF, Jiang et al. 2020 (arXiv 2006.09684): ``argmax_j Q_ij - λ q_j`` among the actions that
MaxPower allows. Q_ij is estimated from what is known before the work; λ keeps a sliding window of
requests within the budget; MaxPower follows from how the system stands. Added to the paper: a floor
plan for everyone, a share of requests at the widest plan with logged propensity, a budget that
follows load and time of day, several cascade parameters an action, costs corrected by what requests
really took, and a second look after pre-ranking.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ...data import Requests
from ...ops import knapsack
from ...stages import Plan, Statistics, Status, Trace
from .. import resources, solver
from ..actions import OPTIONAL, Actions, after_preranking
from ..controller import Clock, Controller
from ..decisions import DecisionLog, rows, slate_value
from ..held import held_prices
from ..model import FOLDER, Model
from ..quotas import Quotas
from ..spending import SMOOTH, Spending, weight
from ..window import Rate, Window, budget_share

Array = NDArray[Any]


@final
class Dcaf:
    """Prices computation. Until ``restore`` has been called it plans the fixed quota."""

    class Config(Quotas):
        """Settings of Dcaf."""

        kind: Literal["dcaf"] = "dcaf"
        budget_ms: float = Field(default=650.0, gt=0)
        """Milliseconds of work that all requests of a second together may cost. One process works
        on one core: 1000 is all there is."""
        budgets: Mapping[resources.Further, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
        """Budgets beside it, a second, for all requests together, each with a price of its own:
        "wall_ms", milliseconds from a request's making to its slate; "ranked", items that the
        ranker scores; "calls", channels that are asked and rankers that run. What binds decides."""
        budget_by_day: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = ()
        """Parts of all budgets through the day in UTC, any number of equal slices; none is 1."""
        pass_ms: float = Field(default=16.0, gt=0)
        """Milliseconds that requests answered in one pass may take together: they wait for each
        other, and who comes meanwhile for all of them. Two fifths of the p99 that is wanted."""
        explore: float = Field(default=0.01, ge=0, le=0.5)
        """Share of requests that get the widest plan whatever they are worth."""
        window: int = Field(default=2_000, ge=100, le=1_000_000)
        """Requests that the price is solved on."""
        refresh_s: float = Field(default=1.0, gt=0)
        """How long a price holds."""
        revise: bool = True
        """Look again after pre-ranking."""
        log_decisions: bool = True
        """Write decisions.jsonl into the run's allocation folder."""
        controller: Controller.Config = Controller.Config()
        """Targets and gains of the controller."""
        seed: int = Field(default=1, ge=0)

        def build(self) -> Dcaf:
            """Make the allocator."""
            return Dcaf(self)

    def __init__(self, config: Config, clock: Clock = time.monotonic) -> None:
        self.config, self._clock = config, clock
        self.controller = Controller(config.controller, clock)
        self._names = (resources.CPU, *config.budgets)  # what is budgeted, R of them
        self._random = random.Random(config.seed)
        self._model: Model | None = None
        self._folder: Path | None = None
        self._decisions: DecisionLog | None = None
        self.forget()

    @property
    def price(self) -> float:
        """λ of processor time."""
        return float(self.price_R[0])

    @price.setter
    def price(self, price: float) -> None:
        self.price_R = np.append(price, self.price_R[1:])

    @property
    def reads_sequences(self) -> tuple[str, ...]:
        """The history, where the model has one."""
        model = self._model
        return (model.describe.history,) if model and model.describe.history else ()

    def restore(
        self, folder: Path, channels: Collection[str], options: Collection[str] = OPTIONAL
    ) -> None:
        """Take up the model of a run directory. Raises DataError where there is none."""
        self.take_up(Model.read(folder / FOLDER, channels, options))
        self._folder = folder / FOLDER
        if self.config.log_decisions:
            self._decisions = DecisionLog(self._folder)

    def take_up(self, model: Model) -> None:
        """Decide by this model from now on."""
        self._model = model
        self._full = len(model.actions) - 1
        family = model.actions.family
        self._kin_JJ = family[:, None] == family[None, :]
        self.forget()

    def forget(self) -> None:
        """Count requests from now on, and solve the next one's price anew."""
        self.price_R, self.held = np.zeros(len(self._names)), False
        self._budget_R, self._solved_s = np.full(len(self._names), np.inf), -np.inf
        self._rate = Rate(self._clock)
        self._value, self._revised, self._held_back = 0.0, 0, 1.0
        model = self._model
        actions = model.actions if model else Actions.of([self.config.quota], [0.0], [0.0])
        self._spending = Spending(actions, self._names)
        self._count_J = np.zeros(len(actions) if model else 0)
        if model:
            self._window = Window(model.pool(), actions.cpu_ms, self.config.window)

    def plan(self, requests: Requests) -> Plan:
        """The best plan of each request at today's price; some get the widest, at random."""
        model = self._model
        if model is None:
            return Plan.constant(self.config.quota, len(requests))
        self._rate.add(len(requests))
        self._spending.arrived(len(requests))
        x_BF, gain_BJ = model.expect(requests)
        self._window.add(gain_BJ)
        self._refresh(int(requests.time_ms[-1]) if len(requests) else 0)
        worth_B = self._in_power(gain_BJ)
        share = self.config.explore if self.controller.power >= 1 else 0.0
        explored_B = np.array([self._random.random() < share for _ in worth_B], bool)
        choice_B = np.where(explored_B, self._full, worth_B)
        share_B = np.full(len(choice_B), share)
        np.add.at(self._count_J, choice_B, 1)
        note = {
            "action": torch.from_numpy(choice_B),
            "worth": torch.from_numpy(worth_B),  # the action if it is not explored
            "first": torch.from_numpy(worth_B),  # the same, whatever a second look makes of it
            "share": torch.from_numpy(share_B),  # the chance that it is
            "propensity": torch.from_numpy(self._propensity(choice_B, worth_B, share_B)),
            "explored": torch.from_numpy(explored_B),
            "features": torch.from_numpy(x_BF),
            "user": requests.user,
            "time_ms": requests.time_ms,
        }
        return Plan(model.actions.plan(choice_B).quota, note)

    def revise(self, plan: Plan, statistics: Statistics) -> Plan:
        """Cut or raise what the ranker scores, by what pre-ranking told.

        Only plans that are the same up to here can still be had; each costs what it costs more or
        less than the one chosen, at the same price. Explored requests stay as they are.
        """
        model = self._model
        if model is None or not self.config.revise or not plan.note:
            return plan
        was_B, x_BF = plan.note["action"].numpy(), plan.note["features"].numpy()
        allowed_BJ = self._kin_JJ[was_B] & self._spending.within(self.controller.power)
        allowed_BJ[np.arange(len(was_B)), was_B] = True
        if allowed_BJ.sum() == len(was_B):  # nobody has a choice
            return plan
        gain_BJ = model.expect_after(x_BF, plan.note["user"].numpy(), statistics.worth)
        gain_BJ = np.where(allowed_BJ, gain_BJ, np.nan)
        best_B = self._in_time(gain_BJ, self._best(gain_BJ))
        explored_B, worth_B = plan.note["explored"].numpy(), plan.note["worth"].numpy()
        now_B = np.where(explored_B, was_B, best_B)
        # of an explored request pre-ranking told what it would have told, or it ran otherwise
        worth_B = np.where(self._kin_JJ[was_B, worth_B], best_B, worth_B)
        propensity_B = self._propensity(now_B, worth_B, plan.note["share"].numpy())
        self._revised += int((now_B != was_B).sum())
        np.add.at(self._count_J, was_B, -1)
        np.add.at(self._count_J, now_B, 1)
        wanted = model.actions.plan(now_B).quota
        stages = {n: q_B for n, q_B in wanted.items() if after_preranking(n) and n != "reranking"}
        note = {
            **plan.note,
            "action": torch.from_numpy(now_B),
            "worth": torch.from_numpy(worth_B),
            "propensity": torch.from_numpy(propensity_B),
        }
        return Plan({**plan.quota, **stages}, note)

    def observe(self, trace: Trace) -> None:
        """Correct costs by what was spent, and log the decision.

        A trace has wall time, so it is compared with the wall time that was profiled.
        """
        note, model = trace.plan.note, self._model
        if model is None or "action" not in note:
            return
        action_B = note["action"].numpy()
        spent_ms = sum(trace.spent_us.values()) / 1000
        self._spending.observe(spent_ms, action_B)
        for value in slate_value(trace):
            self._value += SMOOTH * (value - self._value)
        if self._decisions is not None:
            shared = {
                "price": self.price,
                "prices": dict(zip(self._names, self.price_R.tolist(), strict=True)),
                "max_power": self.controller.power,
                "spent_ms": spent_ms / max(1, len(action_B)),
            }
            self._decisions.add(rows(trace, model.actions, model.version, shared))

    def steer(self, status: Status) -> None:
        """Let the controller move the power; nobody is held back where nobody asks."""
        self.controller.step(status, 1.0 if status.p99_ms is None else self._held_back)

    def state(self) -> Mapping[str, float | Mapping[str, float]]:
        """What operators want to see."""
        mix = self._count_J / max(1.0, float(self._count_J.sum()))
        spending = self._spending
        costs = spending.cost_RJ[0].tolist() if self._model else []
        budget_R = np.where(np.isfinite(self._budget_R), self._budget_R, 0.0).tolist()
        return {
            "price": self.price,
            "price_held": float(self.held),
            "max_power": self.controller.power,
            "control_error": self.controller.error,
            "held_back": self._held_back,
            "requests_per_s": self._rate.per_s,
            "budget_ms": budget_R[0],
            "spent_ms": spending.spent_ms,
            "cost_correction": spending.correction,
            "slate_value": self._value,
            "revised": float(self._revised),
            "prices": dict(zip(self._names, self.price_R.tolist(), strict=True)),
            "budgets": dict(zip(self._names, budget_R, strict=True)),
            "spent": dict(zip(self._names, spending.took_R.tolist(), strict=True)),
            "mix": {f"{j}": float(share) for j, share in enumerate(mix)},
            "cost_ms": {f"{j}": cost for j, cost in enumerate(costs)},
        }

    def close(self) -> None:
        """Write what is left of the decision log."""
        if self._decisions is not None:
            self._decisions.flush()

    def _propensity(self, action_B: Array, worth_B: Array, share_B: Array) -> Array:  # (B,)
        """How likely each action was: the widest by lot, else what the request is worth."""
        return share_B * (action_B == self._full) + (1 - share_B) * (action_B == worth_B)

    def _in_power(self, gain_BJ: Array) -> Array:  # (B,)
        """The best that power and the time of a pass allow."""
        wanted_B, allowed_J = self._best(gain_BJ), self._spending.within(self.controller.power)
        held_B = ~allowed_J[wanted_B]
        if len(held_B):
            self._held_back += weight(len(held_B)) * (float(held_B.mean()) - self._held_back)
        gain_BJ = np.where(allowed_J, gain_BJ, np.nan)
        return self._in_time(gain_BJ, self._best(gain_BJ) if held_B.any() else wanted_B)

    def _in_time(self, gain_BJ: Array, choice_B: Array) -> Array:
        """The same, or what a pass can have in its time that brings the most together.

        Prices and power move by the second, and a rush of fifty milliseconds is over by then.
        """
        if len(choice_B) < 2:
            return choice_B
        took_J = self._spending.pass_ms(len(choice_B))
        if took_J[choice_B].sum() <= self.config.pass_ms:
            return choice_B
        return solver.solve(gain_BJ, took_J, self.config.pass_ms, floor=True).choice

    def _best(self, gain_BJ: Array) -> Array:
        """At today's price; the cheapest that can be had where nothing is worth more."""
        cost_RJ, had_BJ = self._spending.cost_RJ, np.isfinite(gain_BJ)
        first_B = np.argmin(np.where(had_BJ, cost_RJ[0], np.inf), axis=1)
        base_B1 = np.take_along_axis(gain_BJ, first_B[:, None], axis=1)
        # tolls are relative to the first one's too, but that moves all of a request's alike
        toll_J = self.price_R @ cost_RJ
        over_BJ = toll_J[None] - toll_J[first_B][:, None]
        more_BJ = np.where(had_BJ, gain_BJ - np.nan_to_num(base_B1), np.nan)
        choice_B = knapsack.choose(more_BJ, over_BJ, 1.0)
        return np.where(choice_B < 0, first_B, choice_B)

    def _refresh(self, time_ms: int) -> None:
        now_s = self._clock()
        if 0 <= now_s - self._solved_s < self.config.refresh_s:
            return
        self._solved_s = now_s
        self._spending.refresh()
        held_R = None if self._folder is None else held_prices(self._folder, self._names)
        self.held = held_R is not None
        share = budget_share(self.config.budget_by_day, time_ms)
        rate = self._rate.per_s
        second_R = np.array([self.config.budget_ms, *self.config.budgets.values()])
        self._budget_R = second_R * share / rate if rate > 0 else np.full_like(second_R, np.inf)
        if held_R is not None:
            self.price_R = held_R
            return
        costs = self._spending
        aim_R, allowed_J = self._budget_R / costs.corrections, costs.within(self.controller.power)
        self.price_R = self._window.prices(costs.cost_RJ, aim_R, allowed_J, self.price_R)
