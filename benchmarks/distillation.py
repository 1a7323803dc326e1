"""What a student learns from a teacher that knows more than it ever will.

    python -m benchmarks.distillation [--seeds 3] [--planted-only] [--days 30] [--run RUN]

The same student each time (base) and taught: by a larger net (md), by a net of its own kind that
reads privileged features too (pfd), by both (pfd_md), by privileged features alone (lupi), each
trained before it or along with it (``_joint``). ``oracle`` is the same student with labels as no
log has them. ``closed_share`` is how much of (oracle - base) the better of pfd and pfd_md closes.

How much a teacher's word counts is chosen among ``--weights`` for each way and seed, on data that
no figure is of; 0, the base student, may win. ``weights`` tells what was chosen.

``planted``: ``_dwell.py``; ``oracle`` learns from true probabilities; AUC against these.
``complete_journey``: the vector product, to which features of a pair are privileged; ``oracle``
learns from four times as many days; GAUC on exposures of the test period, weights by that of the
validation period. The larger net is the example's ranker; ``--ranker`` takes one that knows less.
"""

from __future__ import annotations

import argparse
import dataclasses
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common, _dwell
from benchmarks._dwell import UNTAUGHT, Outcome, Way
from headrace.app import App
from headrace.data import Candidates, Ragged, Requests
from headrace.evaluation import metrics
from headrace.evaluation.evaluate import RANK_REQUESTS
from headrace.nn.pointwise import Pointwise
from headrace.pipeline.distillation import Teaching
from headrace.pipeline.learning import Judge, exposures, learn, predict, some
from headrace.run import Run
from headrace.samples import Samples
from headrace.training import Trainer
from headrace.training.distill import Distilled

EXAMPLE = Path("examples/complete_journey.toml")
WAYS = (
    *(Way(name, name) for name in ("base", "lupi", "md", "pfd", "pfd_md", "oracle")),
    *(Way(f"{name}_joint", name, joint=True) for name in ("md", "pfd", "pfd_md")),
)
WEIGHTS = (0.0, 0.2, 0.5)  # of a teacher, to choose among; 0 is the base student
TRUE = 4.0  # how many times as many days the oracle of a real log has


def as_privileged(app: App, days: float) -> App:
    """The application with all features of pairs privileged, and so many days to train on."""
    features = {
        name: feature.model_copy(update={"of": "privileged"}) if feature.of == "cross" else feature
        for name, feature in app.schema_.features.items()
    }
    return app.model_copy(
        update={
            "schema_": app.schema_.model_copy(update={"features": features}),
            "samples": app.samples.model_copy(update={"ranking_days": days}),
        }
    )


@dataclasses.dataclass(frozen=True)
class Journey:
    """How the vector product is taught on a real log."""

    run: Run
    ranker: str
    days: float
    retrieved: int
    weights: tuple[float, ...]
    ways: tuple[Way, ...]

    def one(self, seed: int) -> dict[str, Outcome]:
        """Test GAUC of the student by every way of teaching it."""
        app = as_privileged(self.run.app, self.days).model_copy(update={"seed": seed})
        net = app.ranking if self.ranker == "ranking" else app.compare[self.ranker]
        training = app.prerank_training.training.model_copy(update={"seed": seed})
        scoring = app.prerank_training.model_copy(update={"training": training})
        app = app.model_copy(update={"ranking": net, "prerank_training": scoring})
        run = dataclasses.replace(self.run, app=app)
        samples = run.samples()
        longer = dataclasses.replace(run, app=as_privileged(app, TRUE * self.days))
        drawn = exposures(samples, some(samples.requests("test"), RANK_REQUESTS, 0))
        judge = Judge(samples)
        out: dict[str, Outcome] = {}
        for way in self.ways:
            torch.manual_seed(seed)
            model = app.preranking.build(samples.space, app.samples.tasks)
            weight = None
            if way.scheme in UNTAUGHT:
                data = samples if way.scheme == "base" else longer.samples(samples.space)
                learn(model, scoring, data, Trainer(), judge, way.name)
            else:
                weight = self.teaching(way, app, samples, judge).learn(model, way.name)
            said = predict(model, samples, drawn)
            p_N, label_N = said.probability_NT[:, -1], said.label_NT[:, -1]
            gauc = metrics.gauc(said.user_N, label_N, p_N, said.weight_N).gauc
            out[way.name] = Outcome(gauc, weight)
            print(f"seed {seed}: {way.name} {gauc:.4f}, weight {weight}", flush=True)
        return out

    def teaching(self, way: Way, app: App, samples: Samples, judge: Judge) -> Teaching:
        """A teacher, trained where it does not learn along."""
        settings = {"scheme": way.scheme, "joint": way.joint, "retrieved": self.retrieved}
        config = Distilled.Config.model_validate({**settings, "weights": self.weights})
        student = app.preranking.model_copy(update={"distill": config})
        app, trainer = app.model_copy(update={"preranking": student}), Trainer()

        def ranker() -> Pointwise:
            torch.manual_seed(app.seed)
            model = app.ranking.build(samples.space, app.samples.tasks)
            learn(model, app.rank_training, samples, trainer, judge, "teacher")
            model.freeze()
            return model

        return Teaching.prepared(app, samples, trainer, judge, ranker, Random(samples, app.seed))


@dataclasses.dataclass(frozen=True)
class Random:
    """In the place of retrieval: items by how often they are taken, at random."""

    samples: Samples
    seed: int
    each: int = 100  # draws; popular items come twice

    def __call__(self, requests: Requests) -> Candidates:
        rng = np.random.default_rng([self.seed, int(requests.time_ms[0])])
        share = self.samples.frequency / self.samples.frequency.sum()
        rows = [
            torch.from_numpy(np.unique(rng.choice(len(share), self.each, p=share)))
            for _ in range(len(requests))
        ]
        return Candidates(Ragged.of(rows))


def summary(rows: list[dict[str, Outcome]]) -> dict[str, Any]:
    """Mean and range of each way, the weights chosen, and the share that is closed."""
    out: dict[str, Any] = {}
    for name in rows[0]:
        found = [row[name].quality for row in rows]
        out[name] = {
            "mean": round(float(np.mean(found)), 4),
            "range": [round(f(found), 4) for f in (min, max)],
        }
        if rows[0][name].weight is not None:
            out[name]["weights"] = [row[name].weight for row in rows]
    return out | {"closed_share": closed_share(rows)}


def closed_share(rows: list[dict[str, Outcome]]) -> float | None:
    """Of (oracle - base), over all seeds; None where not all of that was tried."""
    mean = {name: float(np.mean([row[name].quality for row in rows])) for name in rows[0]}
    taught = [mean[name] for name in ("pfd", "pfd_md") if name in mean]
    if not taught or not {"base", "oracle"} <= mean.keys():
        return None
    return round((max(taught) - mean["base"]) / max(mean["oracle"] - mean["base"], 1e-9), 3)


def on_planted(given: argparse.Namespace) -> dict[str, Any]:
    """Figures of the planted world."""
    rows: list[dict[str, Outcome]] = []
    for seed in range(1, given.seeds + 1):
        rows.append(_dwell.one(seed, given.requests, given.epochs, given.weights, WAYS))
        line = ", ".join(f"{key} {quality:.4f}" for key, (quality, _) in rows[-1].items())
        print(f"seed {seed}: {line}", flush=True)
    return summary(rows)


def on_journey(given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a real log, several seeds at a time."""
    run = Run.of(EXAMPLE)
    if given.run is None:
        run.ingest()
    else:
        run = dataclasses.replace(run, folder=given.run)
    run = dataclasses.replace(run, app=run.app.model_copy(update={"threads": given.threads}))
    settings = {key: getattr(given, key) for key in ("ranker", "days", "retrieved")}
    ways = tuple(way for way in WAYS if not given.only or way.name in given.only)
    journey = Journey(run, **settings, weights=tuple(given.weights), ways=ways)
    with ProcessPoolExecutor(
        given.at_once, get_context("spawn"), torch.set_num_threads, (given.threads,)
    ) as pool:
        rows = list(pool.map(journey.one, range(1, given.seeds + 1)))
    return {**settings, **summary(rows)}


def main() -> None:
    """Print a line a seed and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--weights", type=float, nargs="+", default=WEIGHTS, help="of a teacher")
    options.add_argument("--requests", type=int, default=8_000, help="of the planted world")
    options.add_argument("--epochs", type=int, default=3, help="in the planted world")
    options.add_argument("--planted-only", action="store_true")
    options.add_argument("--run", type=Path, help="where its log lies; default: ingest")
    options.add_argument("--ranker", default="ranking", help="... or one of [compare]")
    options.add_argument("--days", type=float, default=30, help="of training, on a real log")
    options.add_argument("--retrieved", type=int, default=32, help="unlabelled items a request")
    names = [way.name for way in WAYS]
    options.add_argument("--only", nargs="*", choices=names, default=(), help="on a real log")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--at-once", type=int, default=2, help="seeds, on a real log")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    found = {"planted": on_planted(given)}
    if not given.planted_only:
        found["complete_journey"] = on_journey(given)
    settings = {key: getattr(given, key) for key in ("seeds", "weights", "requests", "epochs")}
    _common.finish("distillation", {**settings, **found}, save=given.save)


if __name__ == "__main__":
    main()
