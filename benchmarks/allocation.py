"""Compute allocation in replay: what each policy gets out of a budget.

    python -m benchmarks.allocation [--run runs/complete_journey] [--requests 5000] [--seeds 3]
                                    [--formula "p_buy * price"] [--profile 15]
                                    [--world runs/world_cascade]

Profiles the plans on this machine, replays the test period's requests under all of them, fits the
estimators on the first half of the days and judges on the second. A seed is another sample of
requests. Headlines are against equal allocation at ``reference_ms``, halfway between the cheapest
and the widest plan; ``by_budget`` has other budgets, ``configured`` the plan of the configuration.
``real`` is the value of what was really taken. The synthetic pool is that of methods/dcaf.md at
noise .3; ``world_cascade`` is the same as all else of a run trained on the simulated world
(`headrace demo examples/world_cascade.toml`). Progress is told line by line; the last line is JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common
from headrace.allocation.actions import Actions, grid, pareto, whole
from headrace.allocation.compare import Curve, Pool, headline
from headrace.allocation.gains import KINDS, Gains
from headrace.allocation.logged import Logged
from headrace.errors import HeadraceError
from headrace.evaluation import replay
from headrace.evaluation.allocate import TIMED, Opened, described
from headrace.pipeline.learning import some
from headrace.run import Run

Array = NDArray[Any]
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the way from the cheapest plan to the widest
JUDGED = 400  # requests of the validation period that say which plans are dominated


@dataclass(frozen=True)
class Given:
    """What is asked of a run."""

    requests: int
    seeds: int
    profile: int
    formula: str


@contextmanager
def told(what: str):
    """Say what is done and how long it took."""
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)


def profiled(opened: Opened, requests: int) -> tuple[Actions, dict[str, Any]]:
    """Plans that are worth having, and what the configured one costs and brings."""
    samples, cascade = opened.samples, opened.cascade
    quota = dict(opened.run.app.allocation.quota)
    rows = samples.requests("valid")
    with told("profile"):
        ms = replay.channel_ms(cascade, samples, some(rows, TIMED, 1), quota)
        plans = grid(quota, ms, opened.options)
        every = replay.profile(cascade, samples, some(rows, requests, 2), plans)
    with told("which plans are dominated"):
        describe = opened.describer("")
        logged = replay.replay(cascade, samples, some(rows, JUDGED, 3), every, describe)
    gain_J = logged.gain_NJ.mean(axis=0)
    at = every.index(whole(quota, opened.options))
    configured = {"cpu_ms": float(every.cpu_ms[at]), "gain": float(gain_J[at])}
    return every.take(pareto(every.cpu_ms, gain_J)), configured


def judged(actions: Actions, logged: Logged, reference: float) -> dict[str, Any]:
    """All policies on one sample of requests."""
    pool = Pool.of(actions, logged)
    curves = pool.curves()
    figures = headline(pool, curves, reference)
    span = actions.cpu_ms[-1] - actions.cpu_ms[0]
    figures["by_budget"] = {
        f"{share}": headline(pool, curves, float(actions.cpu_ms[0] + share * span))
        for share in SHARES
    }
    _, over = pool.stream(reference)
    figures["overspend_p99"] = float(np.quantile(over, 0.99)) if len(over) else None
    line = Pool.of(actions, logged, estimator="linear")
    figures["linear_gain_at_equal_cost"] = headline(
        line, {"dcaf": line.curves()["dcaf"], **_known(curves)}, reference
    )["value_gain_at_equal_cost"]["dcaf"]
    figures["real"] = _real(pool, curves, reference)
    return figures


def _known(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    return {name: curves[name] for name in ("oracle", "random")}


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
    for name in KINDS:
        x_JNF, group_N = [logged.feature_NF] * len(actions), np.arange(len(logged))
        model, _ = Gains.fit(name, x_JNF, logged.gain_NJ, actions.cpu_ms, group_N)
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
        actions, configured = profiled(opened, given.profile)
        reference = float(actions.cpu_ms[0] + actions.cpu_ms[-1]) / 2
        describe = opened.describer(opened.history())
        rows = opened.samples.requests("test")
        with told(f"replay of {min(len(rows), given.requests * given.seeds)} requests"):
            wanted = some(rows, given.requests * given.seeds, 0)
            logged = replay.replay(opened.cascade, opened.samples, wanted, actions, describe)
    for seed in range(given.seeds):
        part = some(np.arange(len(logged)), given.requests, seed)
        with told(f"seed {seed}"):
            found.append(judged(actions, logged.take(part), reference))
    return {
        **mean(found),
        "reference_ms": round(reference, 3),
        "plans": [described(quota) for quota in actions.quotas],
        "plans_ms": [round(float(ms), 3) for ms in actions.cpu_ms],
        "equal_gain": [round(float(g), 4) for g in logged.gain_NJ.mean(axis=0)],
        "configured": {name: round(value, 4) for name, value in configured.items()},
        "estimator_us": {n: round(us, 1) for n, us in estimator_us(actions, logged).items()},
        "requests": len(logged),
    }


def main() -> None:
    """Profile, replay, compare."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument("--world", type=Path, help="a run trained on the synthetic world")
    options.add_argument("--requests", type=int, default=5_000, help="of the test period, a seed")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--profile", type=int, default=15, help="requests timed under every plan")
    options.add_argument("--formula", default="p_buy * price", help="value of an item")
    asked = options.parse_args()
    given = Given(asked.requests, asked.seeds, asked.profile, asked.formula)
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
