"""Compute allocation in replay: what each policy gets out of a budget.

    python -m benchmarks.allocation [--run runs/complete_journey] [--requests 8000] [--seeds 3]
                                    [--formula "p_buy * price"] [--profile 15] [--widen 2]
                                    [--new-to-user 0] [--together 1] [--world runs/world_cascade]

Profiles the plans on this machine, replays the requests of the validation and test periods under
all that are worth having, fits the estimators on all but the second half of the test period and
judges on that. A seed is another sample of requests. Equal allocation is one plan for all, or the
mixture of two, that is the best in hindsight, out of those of the policies (``policies_have``) and
those that are best for all requests alike. Headlines are against it at ``reference_ms``, a quarter
of the way from the cheapest plan to the configured one; ``by_budget`` has other budgets, by their
part of the way, with ``equal_share``, how much of the value of the best plan for all equal
allocation keeps there, and ``by_kind``, how much more than it two plans bring, one for requests
that leave something out and one for the others. ``foreseen`` is the correlation of what the best
plan was expected to bring more than the cheapest with what it brought, ``blind`` what ``dcaf``
gains at the reference without knowing users' pasts, ``fewer`` with the last quarter of the earlier
requests alone, ``real`` the value of what was really taken. With ``--new-to-user`` a share of the
requests wants nothing that its user ever took; ``--together`` has costs of passes of so many
requests, as under load. The synthetic pool is that of methods/dcaf.md at noise .3.
``world_cascade`` is the same as all else of a run trained on the simulated world
(`headrace demo examples/world_cascade.toml`). Progress is told line by line; the last line is JSON.
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
JUDGED = 400  # requests of the validation period that say which plans are dominated


@dataclass(frozen=True)
class Given:
    """What is asked of a run."""

    requests: int
    seeds: int
    profile: int
    formula: str
    new_share: float
    together: int
    widen: float


@contextmanager
def told(what: str):
    """Say what is done and how long it took."""
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)


def profiled(opened: Opened, given: Given) -> tuple[Actions, Array, dict[str, float]]:
    """Plans worth having, which policies have, and what the configured one costs and brings."""
    samples, cascade = opened.samples, opened.cascade
    quota = dict(opened.run.app.allocation.quota)
    rows = samples.requests("valid")
    with told("profile"):
        ms = replay.channel_ms(cascade, samples, some(rows, TIMED, 1), quota)
        plans = grid(quota, ms, opened.options, given.widen)
        timed = some(rows, given.profile, 2)
        every = replay.profile(cascade, samples, timed, plans, new_share=given.new_share)
        every = every if given.together == 1 else every.under(given.together)
    with told("which plans are dominated"):
        describe = opened.describer("")
        tried = some(rows, JUDGED, 3)
        logged = replay.replay(cascade, samples, tried, every, describe, new_share=given.new_share)
    gain_J = logged.gain_NJ.mean(axis=0)
    at = every.index(whole(quota, opened.options))
    configured = {"cpu_ms": float(every.cpu_ms[at]), "gain": float(gain_J[at])}
    own = worth_having(every.cpu_ms, logged.gain_NJ)
    kept = np.union1d(own, pareto(every.cpu_ms, gain_J))  # in order, and so of cost
    return every.take(kept), np.flatnonzero(np.isin(kept, own)), configured


def judged(
    every: Actions, own: Array, whole: Logged, budgets: Mapping[float, float], from_ms: float
) -> dict[str, Any]:
    """All policies on one sample of requests; those from a time on judge.

    Equal allocation has plans of its own besides.
    """
    actions, logged = _only(own, every, whole)
    share = float((logged.time_ms_N < from_ms).mean())
    pool = Pool.of(actions, logged, share)
    curves = pool.curves()
    late = whole.take(np.arange(len(whole) - len(pool), len(whole)))
    equal = every.cpu_ms, concave(late.gain_NJ.mean(axis=0)[None], every.cpu_ms)[0]
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


def mean(figures: Sequence[Any]) -> Any:
    """Means over the seeds that have one, of numbers at the same place."""
    first = figures[0]
    if isinstance(first, Mapping):
        return {key: mean([each[key] for each in figures]) for key in first}
    known = [each for each in figures if each is not None]
    return round(float(np.mean(known)), 4) if known else None


def replayed(run: Path, given: Given) -> dict[str, Any]:
    """Everything about one trained run."""
    opened = Opened.of(Run.open(run), given.formula)
    found: list[dict[str, Any]] = []
    with torch.inference_mode():
        actions, own, configured = profiled(opened, given)
        cheapest = float(actions.cpu_ms[0])
        budgets = {s: cheapest + s * (configured["cpu_ms"] - cheapest) for s in SHARES}
        describe = opened.describer(opened.history())
        every = [opened.samples.requests(part) for part in ("valid", "test")]
        rows = np.concatenate(every)
        with told(f"replay of {min(len(rows), given.requests * given.seeds)} requests"):
            wanted = some(rows, given.requests * given.seeds, 0)
            logged = replay.replay(
                opened.cascade,
                opened.samples,
                wanted,
                actions,
                describe,
                new_share=given.new_share,
            )
    from_ms = float(np.median(np.asarray(opened.run.log().request("time_ms"))[every[1]]))
    for seed in range(given.seeds):
        part = some(np.arange(len(logged)), given.requests, seed)
        with told(f"seed {seed}"):
            found.append(judged(actions, own, logged.take(part), budgets, from_ms))
    return {
        **mean(found),
        "reference_ms": round(budgets[REFERENCE], 3),
        "plans": [described(quota) for quota in actions.quotas],
        "policies_have": own.tolist(),
        "plans_ms": [round(float(ms), 3) for ms in actions.cpu_ms],
        "shared": [round(float(part), 3) for part in actions.shared],
        "equal_gain": [round(float(g), 4) for g in logged.gain_NJ.mean(axis=0)],
        "configured": {name: round(value, 4) for name, value in configured.items()},
        "estimator_us": {
            n: round(us, 1) for n, us in estimator_us(*_only(own, actions, logged)).items()
        },
        "requests": len(logged),
    }


def main() -> None:
    """Profile, replay, compare."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument("--world", type=Path, help="a run trained on the synthetic world")
    options.add_argument("--requests", type=int, default=8_000, help="of both periods, a seed")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--profile", type=int, default=15, help="requests timed under every plan")
    options.add_argument("--formula", default="p_buy * price", help="value of an item")
    options.add_argument("--new-to-user", type=float, default=0.0, help="share of requests")
    options.add_argument("--together", type=int, default=1, help="requests of a pass")
    options.add_argument("--widen", type=float, default=2.0, help="times the configured quota")
    asked = options.parse_args()
    given = Given(
        asked.requests,
        asked.seeds,
        asked.profile,
        asked.formula,
        asked.new_to_user,
        asked.together,
        asked.widen,
    )
    try:
        figures = replayed(asked.run, given)
        cascade = {} if asked.world is None else {"world_cascade": replayed(asked.world, given)}
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    planted = [synthetic(seed) for seed in range(given.seeds)]
    world = mean([headline(pool, pool.curves(), 100.0) for pool in planted])
    figures = {**figures, "world": world, **cascade, "formula": given.formula}
    _common.finish("allocation", figures, save=asked.save)


if __name__ == "__main__":
    main()
