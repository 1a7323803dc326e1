"""Compute allocation in replay: what each policy gets out of a budget.

    python -m benchmarks.allocation [--run runs/complete_journey ...] [--requests 10000]
                                    [--formula "p_buy * price"] [--profile 15] [--widen 2]
                                    [--new-to-user 0] [--together 1] [--slate 10]

Profiles the plans on this machine, replays the requests of the validation and test periods under
all that are worth having, fits the estimators on all but the second half of the test period and
judges on that. With several runs, trainings of the same configuration with other seeds, all is done
for each, and figures are means; ``runs`` has each one's own. Equal allocation is one plan for all,
or the mixture of two, that is the best in hindsight, out of those of the policies
(``policies_have``) and those that are best for all requests alike. Headlines are against it at
``reference_ms``, a quarter of the way from the cheapest plan to the configured one; ``by_budget``
has other budgets, by their part of the way, with ``equal_share``, how much of the value of the best
plan for all equal allocation keeps there, and ``by_kind``, how much more than it two plans bring,
one for requests that leave something out and one for the others. ``whole_grid`` is the oracle's
gain, by budget, where it and equal allocation may choose among all plans of the grid (on
some of the requests). ``foreseen`` is the correlation of what the best plan was expected to bring
more than the cheapest with what it brought, ``blind`` what ``dcaf`` gains at the reference without
knowing users' pasts, ``fewer`` with the last quarter of the earlier requests alone, ``real`` the
value of what was really taken. With ``--new-to-user`` a share of the requests wants nothing that
its user ever took; ``--together`` has costs of passes of so many requests, as under load; slates
have ``--slate`` items in place of those configured. ``world`` is the synthetic pool of
methods/dcaf.md at noise .3, three of them. Progress is told line by line; the last line is JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common
from headrace.allocation import solver
from headrace.allocation.actions import Actions, grid, whole
from headrace.allocation.compare import Curve, Pool, headline
from headrace.allocation.features import EXCLUDED
from headrace.allocation.gains import KINDS, Gains
from headrace.allocation.logged import Logged
from headrace.allocation.past import askers, so_far
from headrace.allocation.pruning import pareto, worth_having
from headrace.errors import HeadraceError
from headrace.evaluation import replay
from headrace.evaluation.allocate import TIMED, Opened, described
from headrace.ops.concave import concave
from headrace.pipeline.learning import some
from headrace.run import Run

Array = NDArray[Any]
# of the way from the cheapest plan to the configured one
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 0.75, 1.0)
REFERENCE = 0.25
# requests of the validation period that say which plans are dominated, and of the week that judges
# those that say what the whole grid has
JUDGED = 400
SEEDS = 3  # of the synthetic pool


@dataclass(frozen=True)
class Given:
    """What is asked of a run."""

    requests: int
    profile: int
    formula: str
    new_share: float
    together: int
    widen: float
    slate: int | None


@contextmanager
def told(what: str):
    """Say what is done and how long it took."""
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)


@dataclass(frozen=True)
class Plans:
    """What there is to choose from."""

    grid: Actions
    judged: Actions  # those that anybody has
    own: Array  # of these, those that policies have
    configured: dict[str, float]  # what the configured one costs and brings

    @property
    def budgets(self) -> dict[float, float]:
        """By their part of the way from the cheapest plan to the configured one."""
        cheapest = float(self.judged.cpu_ms[0])
        return {s: cheapest + s * (self.configured["cpu_ms"] - cheapest) for s in SHARES}


def profiled(opened: Opened, given: Given) -> Plans:
    """Measure the plans of a grid and choose those worth having."""
    samples, cascade = opened.samples, opened.cascade
    quota = dict(opened.run.app.allocation.quota)
    if given.slate is not None:
        quota["reranking"] = given.slate
    rows = samples.requests("valid")
    with told("profile"):
        ms = replay.channel_ms(cascade, samples, some(rows, TIMED, 1), quota)
        plans = grid(quota, ms, opened.options, given.widen)
        timed = some(rows, given.profile, 2)
        every = replay.profile(cascade, samples, timed, plans, new_share=given.new_share)
        every = every if given.together == 1 else every.under(given.together)
    with told("which plans are dominated"):
        logged = replayed_under(every, opened, some(rows, JUDGED, 3), given)
    gain_J = logged.gain_NJ.mean(axis=0)
    at = every.index(whole(quota, opened.options))
    configured = {"cpu_ms": float(every.cpu_ms[at]), "gain": float(gain_J[at])}
    own = worth_having(every.cpu_ms, logged.gain_NJ)
    kept = np.union1d(own, pareto(every.cpu_ms, gain_J))  # in order, and so of cost
    return Plans(every, every.take(kept), np.flatnonzero(np.isin(kept, own)), configured)


def replayed_under(actions: Actions, opened: Opened, rows: Array, given: Given) -> Logged:
    """Requests under plans."""
    describe = opened.describer(opened.history())
    return replay.replay(
        opened.cascade, opened.samples, rows, actions, describe, new_share=given.new_share
    )


def judged(plans: Plans, whole: Logged, from_ms: float) -> dict[str, Any]:
    """All policies on the same requests; those from a time on judge.

    Equal allocation has plans of its own besides.
    """
    every = plans.judged
    actions, logged = _only(plans.own, every, whole)
    share = float((logged.time_ms_N < from_ms).mean())
    pool = Pool.of(actions, logged, share)
    curves = pool.curves()
    late = whole.take(np.arange(len(whole) - len(pool), len(whole)))
    equal = every.cpu_ms, concave(late.gain_NJ.mean(axis=0)[None], every.cpu_ms)[0]
    budgets = plans.budgets
    reference = budgets[REFERENCE]
    figures = headline(pool, curves, reference, equal)
    best = float(late.gain_NJ.mean(axis=0).max())
    figures["by_budget"] = {
        f"{share}": {
            "ms": budget,
            "equal_share": float(np.interp(budget, *equal)) / best,
            "by_kind": _by_kind(every, late, budget) / float(np.interp(budget, *equal)) - 1,
            **headline(pool, curves, budget, equal),
        }
        for share, budget in budgets.items()
    }
    _, over = pool.stream(reference)
    figures["overspend_p99"] = float(np.quantile(over, 0.99)) if len(over) else None
    line = Pool.of(actions, logged, share, "linear")
    figures["linear_gain_at_equal_cost"] = headline(
        line, {"dcaf": line.curves()["dcaf"], **_known(curves)}, reference, equal
    )["value_gain_at_equal_cost"]["dcaf"]
    figures["real"] = _real(pool, curves, reference)
    figures["foreseen"] = _foreseen(pool)
    strangers = replace(logged, user_N=np.arange(len(logged)))
    fewer = logged.take(np.arange(int(0.75 * share * len(logged)), len(logged)))
    for name, part in (("blind", strangers), ("fewer", fewer)):
        told = Pool.of(actions, part, float((part.time_ms_N < from_ms).mean()))
        only = {"dcaf": [told.dcaf(budget) for budget in told.budgets()], **_known(curves)}
        figures[name] = headline(told, only, reference, equal)["value_gain_at_equal_cost"]["dcaf"]
    return figures


def _known(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name: curves[name] for name in ("oracle", "random")}


def _only(own: Array, every: Actions, logged: Logged) -> tuple[Actions, Logged]:
    """Some of the actions, and what of a replay is theirs."""
    family_G = np.array(list(dict.fromkeys(every.family[own].tolist())))
    return every.take(own), logged.only(own, family_G)


def _by_kind(actions: Actions, logged: Logged, budget: float) -> float:
    """What the best mixture of plans for either kind of request brings: new to the user, or not."""
    new_N = logged.feature_NF[:, EXCLUDED] > 0
    cost = gain = 0.0
    steps: list[tuple[float, float, float]] = []  # slope, cost, gain
    for kind_N in (new_N, ~new_N):
        if not kind_N.any():
            continue
        part = float(kind_N.mean())
        cost_J = part * actions.cpu_ms
        mean_1J = logged.gain_NJ[kind_N].mean(axis=0)[None]
        gain_J = part * concave(mean_1J, actions.cpu_ms)[0]
        cost, gain = cost + float(cost_J[0]), gain + float(gain_J[0])
        more_J, bring_J = np.diff(cost_J), np.diff(gain_J)
        slope_J = np.divide(bring_J, more_J, out=np.full_like(more_J, np.inf), where=more_J > 0)
        steps += zip((-slope_J).tolist(), more_J.tolist(), bring_J.tolist(), strict=True)
    _, more, bring = zip(*sorted(steps), strict=True)
    return float(np.interp(budget, np.cumsum([cost, *more]), np.cumsum([gain, *bring])))


def _foreseen(pool: Pool) -> float:
    """How well estimates order requests by what computation brings them."""
    best = int(pool.gain_NJ.mean(axis=0).argmax())
    truth_N, told_N = (x[:, best] - x[:, 0] for x in (pool.gain_NJ, pool.expected_NJ))
    return float(np.corrcoef(truth_N, told_N)[0, 1])


def _real(pool: Pool, curves: Mapping[str, Curve], cost: float) -> dict[str, float]:
    """Value of what was really taken, a request, at the reference."""
    out = {"equal": float(np.interp(cost, pool.cost_J, pool.real_NJ.mean(axis=0)))}
    for name, curve in curves.items():
        order = np.argsort([o.cost for o in curve])
        points = [curve[int(at)] for at in order]
        out[name] = float(np.interp(cost, [o.cost for o in points], [o.real for o in points]))
    return out


def synthetic(seed: int, noise: float = 0.3, size: int = 10_000) -> Pool:
    """Log-normal worth and pace; what is expected is the worth up to noise."""
    rng = np.random.default_rng(seed)
    cost_J = 20.0 * np.arange(1, 11)

    def requests() -> tuple[Array, Array]:
        worth_N = rng.lognormal(0, 1, (size, 1))
        pace_N = rng.lognormal(np.log(0.015), 0.7, (size, 1))
        gain_NJ = worth_N * (1 - np.exp(-pace_N * cost_J))
        return gain_NJ, gain_NJ * rng.lognormal(0, noise, (size, 1))

    (gain_NJ, expected_NJ), (_, earlier_MJ) = requests(), requests()
    return Pool(cost_J, gain_NJ, gain_NJ, expected_NJ, earlier_MJ)


def estimator_us(actions: Actions, logged: Logged) -> dict[str, float]:
    """What one request's estimate takes, with the plans' own costs beside it in the result."""
    out: dict[str, float] = {}
    asker_N = askers(logged.user_N, logged.feature_NF)
    logged = logged.knowing(so_far(asker_N, logged.gain_NJ))
    for name in KINDS:
        x_JNF, group_N = [logged.feature_NF] * len(actions), np.arange(len(logged))
        model, _ = Gains.fit(name, x_JNF, logged.gain_NJ, group_N)
        one_1F = logged.feature_NF[:1]
        times = _common.times_ms(lambda m=model, x=one_1F: m.predict(x), 200)
        out[name] = 1000 * float(np.median(times))
    return out


def rounded(figures: Any) -> Any:
    """Numbers, wherever they stand, to four places."""
    if isinstance(figures, Mapping):
        return {key: rounded(each) for key, each in figures.items()}
    if isinstance(figures, list):
        return [rounded(each) for each in figures]
    return round(figures, 4) if isinstance(figures, float) else figures


def mean(figures: Sequence[Any]) -> Any:
    """Means over those runs or seeds that have one, of numbers at the same place."""
    first = figures[0]
    if isinstance(first, Mapping):
        return {key: mean([each[key] for each in figures]) for key in first}
    known = [each for each in figures if each is not None]
    return round(float(np.mean(known)), 4) if known else None


def whole_grid(plans: Plans, logged: Logged) -> dict[str, float]:
    """What who knows all gains where all plans of the grid may be chosen, for all alike as well."""
    gain_NJ, cost_J = logged.gain_NJ, plans.grid.cpu_ms
    line_J = concave(gain_NJ.mean(axis=0)[None], cost_J)[0]
    out: dict[str, float] = {}
    for share, budget in plans.budgets.items():
        solved = solver.solve(gain_NJ, cost_J, budget * len(logged), floor=True)
        gain = float(gain_NJ[np.arange(len(logged)), solved.choice].mean())
        out[f"{share}"] = gain / float(np.interp(budget, cost_J, line_J)) - 1
    return out


def replayed(run: Path, given: Given) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of one trained run, and what they are of."""
    opened = Opened.of(Run.open(run), given.formula)
    parts = [opened.samples.requests(part) for part in ("valid", "test")]
    time_ms = np.asarray(opened.run.log().request("time_ms"))
    from_ms = float(np.median(time_ms[parts[1]]))
    rows = some(np.concatenate(parts), given.requests, 0)
    with torch.inference_mode():
        plans = profiled(opened, given)
        with told("the whole grid"):
            late = some(parts[1][time_ms[parts[1]] >= from_ms], JUDGED, 4)
            ideal = whole_grid(plans, replayed_under(plans.grid, opened, late, given))
        with told(f"replay of {len(rows)} requests"):
            logged = replayed_under(plans.judged, opened, rows, given)
    with told("policies"):
        figures: dict[str, Any] = {**judged(plans, logged, from_ms), "whole_grid": ideal}
    estimator = estimator_us(*_only(plans.own, plans.judged, logged))
    figures |= {"reference_ms": plans.budgets[REFERENCE], "estimator_us": estimator}
    kept = ("value_gain_at_equal_cost", "cost_cut_at_equal_value")
    budgets = {share: {k: each[k] for k in kept} for share, each in figures["by_budget"].items()}
    of = {
        "run": opened.run.folder.name,
        "requests": len(logged),
        "slate": int(plans.grid.quotas[0]["reranking"]),
        "grid": len(plans.grid),
        "plans": [described(quota) for quota in plans.judged.quotas],
        "policies_have": plans.own.tolist(),
        "plans_ms": plans.judged.cpu_ms.tolist(),
        "shared": plans.judged.shared.tolist(),
        "equal_gain": logged.gain_NJ.mean(axis=0).tolist(),
        "configured": plans.configured,
        "by_budget": budgets,
    }
    return figures, of


def main() -> None:
    """Profile, replay, compare."""
    options = _common.parser(__doc__)
    run = Path("runs/complete_journey")
    options.add_argument("--run", type=Path, nargs="+", default=[run], help="one or more")
    options.add_argument("--requests", type=int, default=10_000, help="of both periods")
    options.add_argument("--profile", type=int, default=15, help="requests timed under every plan")
    options.add_argument("--formula", default="p_buy * price", help="value of an item")
    options.add_argument("--new-to-user", type=float, default=0.0, help="share of requests")
    options.add_argument("--together", type=int, default=1, help="requests of a pass")
    options.add_argument("--widen", type=float, default=2.0, help="times the configured quota")
    options.add_argument("--slate", type=int, help="items; as configured if not given")
    asked = options.parse_args()
    if asked.slate is not None and asked.slate < 1:
        options.error("--slate: a slate has at least one item")
    given = Given(
        asked.requests,
        asked.profile,
        asked.formula,
        asked.new_to_user,
        asked.together,
        asked.widen,
        asked.slate,
    )
    try:
        each = [replayed(run, given) for run in asked.run]
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    planted = [synthetic(seed) for seed in range(SEEDS)]
    world = mean([headline(pool, pool.curves(), 100.0) for pool in planted])
    figures = {
        **mean([figures for figures, _ in each]),
        "world": world,
        "runs": rounded([of for _, of in each]),
        "formula": given.formula,
    }
    _common.finish("allocation", figures, save=asked.save)


if __name__ == "__main__":
    main()
