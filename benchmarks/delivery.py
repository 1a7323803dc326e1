"""What delivery rates are worth to a pre-ranker on Complete Journey.

    python -m benchmarks.delivery --run runs/complete_journey [--seeds 3] [--days 30]

Replays logged requests through a trained run of the example to count what its cascade passed on
and showed, then trains COLD with all delivery rates of the schema and without any, on the newest
days. GAUC on exposures of the test period; hit: the ranker's first 10 among COLD's first 50 of what
retrieval found. The run is left as it is.

The cascade that is replayed was trained on the days that COLD learns from, see
docs/methods/delivery.md: its rates there are better than a server's would have been.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common
from headrace.app import App
from headrace.bundle import Bundle
from headrace.pipeline.delivery import replay
from headrace.preranking.cold import Cold, every_group
from headrace.run import Run
from headrace.schema import RATES, Feature
from headrace.training import Trainer
from headrace.tuning.schooling import Schooling
from headrace.tuning.yardstick import Quality, Yardstick


def apart(run: Run, folder: Path) -> Run:
    """The same run in a folder of its own, with a log that has no counts yet."""
    (folder / "log").mkdir()
    (folder / "bundle").symlink_to(run.bundle_path.resolve())
    for path in run.log().path.iterdir():  # the version at hand: counts lie beside versions
        (folder / "log" / path.name).symlink_to(path)
    return dataclasses.replace(run, folder=folder)


def counted(app: App, days: float) -> App:
    """The application with every delivery rate, trained on so many days."""
    rates = {name: Feature(of="cross") for name in RATES}
    schema = app.schema_.model_copy(update={"features": {**app.schema_.features, **rates}})
    samples = app.samples.model_copy(update={"ranking_days": days})
    return app.model_copy(update={"schema_": schema, "samples": samples})


def figures(run: Run, seeds: Iterable[int], days: float, requests: int) -> dict[str, Any]:
    """Count, train, judge."""
    kept = run.app.samples
    lookback = max(window for _, window in RATES.values())
    told = replay(run, requests, round(days + lookback + kept.valid_days + kept.test_days))
    print(f"{told.days} days of {told.requests} requests, {told.trained} trained on", flush=True)
    app = counted(run.app, days)
    samples = dataclasses.replace(run, app=app).samples()
    cascade = Bundle.open(run.bundle_path).assemble(run.log())
    cascade = dataclasses.replace(cascade, builder=samples.builder)
    yardstick = Yardstick.of(cascade, app.allocation.quota, samples, "test")
    judge = Yardstick.of(cascade, app.allocation.quota, samples).judge
    every = every_group(app.schema_, Cold.Config().history)
    reads = {"without": tuple(name for name in every if name not in RATES), "rates": tuple(every)}
    rows: list[dict[str, Quality]] = []
    for seed in seeds:
        training = app.prerank_training.training.model_copy(update={"seed": seed})
        scoring = app.prerank_training.model_copy(update={"training": training})
        row: dict[str, Quality] = {}
        for name, groups in reads.items():
            school = Schooling(samples, scoring, Trainer(), judge, seed)
            model = school.train(Cold.Config(groups=groups), name)
            model.freeze()
            row[name] = yardstick.quality(model)
            print(
                f"seed {seed}: {name} GAUC {row[name].gauc:.4f}, hit {row[name].hit:.4f}",
                flush=True,
            )
        rows.append(row)
    models = {name: summary([row[name] for row in rows]) for name in reads}
    gain = summary([_minus(row["rates"], row["without"]) for row in rows])
    return {"replayed": dataclasses.asdict(told), "models": models, "gain": gain}


def _minus(one: Quality, other: Quality) -> Quality:
    return Quality(one.gauc - other.gauc, one.hit - other.hit)


def summary(found: list[Quality]) -> dict[str, Any]:
    """Means and ranges."""
    out: dict[str, Any] = {}
    for name, column in zip(Quality._fields, zip(*found, strict=True), strict=True):
        out[name] = round(float(np.mean(column)), 4)
        out[f"{name}_range"] = [round(f(column), 4) for f in (min, max)]
    return out


def main() -> None:
    """Print a line a model and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, required=True, help="a trained run of the example")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--days", type=float, default=30, help="of training")
    options.add_argument("--requests", type=int, default=20_000, help="to replay")
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(given.run)
        run = dataclasses.replace(run, app=run.app.model_copy(update={"threads": given.threads}))
        run = apart(run, Path(folder))
        torch.set_num_threads(given.threads)
        found = figures(run, range(1, given.seeds + 1), given.days, given.requests)
    settings = {key: getattr(given, key) for key in ("seeds", "days", "requests")}
    _common.finish("delivery", {**settings, **found}, save=given.save)


if __name__ == "__main__":
    main()
