"""What pre-ranking costs and gives away on Complete Journey: a trade-off like COLD's table.

Trains the example's cascade (or takes a trained one, ``--run``), then COLD with several numbers K
of its groups and a slimmed COLD, and judges them beside the vector product and the ranker on the
last 14 days: GAUC on exposures, hit (the ranker's first 10 among a model's own first 50 of what
retrieval found), candidates a second and ms of a request of 2,000.

``cascade`` lets the ranker score all that retrieval found, or what COLD leaves of it: how much
recall@10 and worth of what was taken is lost, for how many times fewer candidates ranked.

``two_step``: how few candidates a cheap word may leave to COLD for a share of COLD's hit: the
merge's own, and (``two_step_vector``) the vector product's.

``lambda_cascade``, ``copr`` and ``listwise`` (``--orders``) learn the ranker's order from lists of
its own. With ``--seeds`` GAUC and hit are means over so many trainings, with their ranges.

    python -m benchmarks.preranking [--run runs/complete_journey] [--keep 24 12 5] [--plot FILE]

About eight minutes on 2 cores, three less with ``--run``. Figures of ``benchmarks.distillation``
are taken over if they were saved.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import _common
from benchmarks._preranking_table import ORDERS, Classroom, Point, settings_of
from headrace.bundle import Bundle
from headrace.cli.steps import Steps
from headrace.data import Ragged
from headrace.errors import HeadraceError
from headrace.evaluation import lists, metrics
from headrace.evaluation.charts_prerank import trade_off
from headrace.nn.gated import Gated
from headrace.nn.gates import Costs
from headrace.nn.pointwise import Pointwise
from headrace.pipeline import learning
from headrace.pipeline import train as pipeline
from headrace.preranking.cold import Cold, every_group
from headrace.preranking.two_step import TwoStep
from headrace.preranking.vector import Vector
from headrace.run import Run
from headrace.samples import Drawn, Samples
from headrace.serving.cascade import Cascade
from headrace.stages import Plan
from headrace.training import Trainer
from headrace.tuning import stepping
from headrace.tuning.schooling import Schooling
from headrace.tuning.selection import Trial, checked, compare
from headrace.tuning.slimming import thinned
from headrace.tuning.yardstick import Yardstick

EXAMPLE = Path("examples/complete_journey.toml")
CHUNK = 64  # requests a pass of the cascade
SLATE = 10


def trained(steps: Steps, folder: Path) -> Run:
    """The example's cascade, of further rankers only the tiers, trained in a folder of its own."""
    run = Run.of(EXAMPLE)
    with steps("ingest"):
        run.ingest()
    (folder / "log").symlink_to(run.log_path.resolve())
    further = {name: run.app.compare[name] for name in run.app.tiers}
    app = run.app.model_copy(update={"compare": further})
    apart = dataclasses.replace(run, folder=folder, app=app)
    trainer = Trainer()
    parts = pipeline.train(apart, trainer, steps)
    pipeline.save(apart, trainer, parts, steps.seconds)
    return apart


def slimmed(
    cold: Cold, settings: Cold.Config, yardstick: Yardstick, school: Schooling, given: Any
) -> tuple[Cold, dict[str, float]]:
    """A slim copy of a trained COLD, and what it lost and won."""
    samples = school.samples
    whole = settings.build(samples.space, cold.tasks)
    whole.load_state_dict(cold.state_dict())
    stack = whole.stack()
    assert stack is not None
    before = Costs.multiplications(stack.inputs, settings.hidden, len(cold.tasks)).full
    costs = yardstick.request.costs(copy.deepcopy(cold))
    gating = Gated.Config(budget=given.budget)
    steps = Steps(Console(quiet=True))
    thin = thinned(
        whole, settings, costs, gating, given.slim_epochs, school, steps, given.fine_epochs
    )
    model = thin.model
    stack = model.stack()
    assert isinstance(model, Cold)
    assert stack is not None
    after = Costs.multiplications(stack.inputs, model.config.hidden, len(cold.tasks)).full
    model.freeze()
    rows = learning.some(samples.requests("test"), learning.VALID_REQUESTS, samples.seed)
    drawn = learning.exposures(samples, rows)
    auc = [auc_of(each, samples, drawn) for each in (cold, model)]
    ms = [yardstick.speed(each).ms for each in (cold, model)]
    return model, {
        "flops_removed": round(1 - after / before, 4),
        "auc_loss": round(auc[0] - auc[1], 5),
        "speedup": round(ms[0] / ms[1], 3),
        "cost_left": round(thin.cost_left, 4),
        "groups": len(model.groups),
        "hidden": list(model.config.hidden),
    }


def auc_of(model: Pointwise, samples: Samples, drawn: list[Drawn]) -> float:
    """Over exposures, each weighted by how many it stands for."""
    p_NT, label_NT, _, weight_N = learning.predict(model, samples, drawn)
    return metrics.auc(label_NT[:, -1], p_NT[:, -1], weight_N)


@dataclass
class Slates:
    """Slates of one way to run the cascade."""

    items: list[Ragged] = dataclasses.field(default_factory=list[Ragged])
    ranked: int = 0
    ranking_us: int = 0


def cascades(
    cascade: Cascade, run: Run, samples: Samples, retrieval: int, cuts: Sequence[int]
) -> dict[str, Any]:
    """The cascade with the ranker on all that is retrieved, and on so many of it."""
    quota = {**run.app.allocation.quota, "retrieval": retrieval, "reranking": SLATE}
    rows, truth = samples.first_requests("test")
    slates = {cut: Slates() for cut in (retrieval, *cuts)}
    for at in range(0, len(rows), CHUNK):
        requests = samples.features(rows[at : at + CHUNK])
        for cut, out in slates.items():
            plan = Plan.constant({**quota, "preranking": cut}, len(requests))
            trace = cascade.run(requests, plan, samples.store)
            out.items.append(trace.slate.item_id)
            out.ranked += len(trace.after["ranking"])
            out.ranking_us += trace.spent_us["ranking"]
    price = samples.space.catalogue.columns["price"]
    whole = slates[retrieval]
    all_of = lists.slate_quality(Ragged.join(whole.items), truth, price)
    out: dict[str, Any] = {}
    for cut in cuts:
        part = slates[cut]
        joined = Ragged.join(part.items)
        quality = lists.slate_quality(joined, truth, price)
        sure = lists.delta_errors(joined, Ragged.join(whole.items), truth, price)
        out[str(cut)] = {
            "recall_loss": _loss(quality["recall@10"], all_of["recall@10"]),
            "recall_loss_se": round((sure["recall@10"] or 0.0) / (all_of["recall@10"] or 1.0), 5),
            "value_loss": _loss(quality["value"], all_of["value"]),
            "work_ratio": round(whole.ranked / part.ranked, 3),
            "ranking_time_ratio": round(whole.ranking_us / part.ranking_us, 2),
        }
    return {"retrieved": retrieval, "recall@10": round(all_of["recall@10"] or 0.0, 5), "cut": out}


def _loss(part: float | None, whole: float | None) -> float:
    """What share of the whole is lost."""
    return round(1 - (part or 0.0) / (whole or 1.0), 5)


def with_preranker(
    cascade: Cascade,
    model: Pointwise,
    passes: list[pipeline.Pass],
    samples: Samples,
    run: Run,
) -> Cascade:
    """The cascade with another pre-ranker and the blends that suit it."""
    changed = dataclasses.replace(cascade, preranker=model)
    return pipeline.fit_blends(changed, passes, samples, run.app)


def saved_distillation() -> dict[str, Any]:
    """Means of what ``benchmarks.distillation`` left, if it was saved; the real data's on top."""
    path = _common.RESULTS / "distillation.json"
    if not path.exists():
        return {}
    left: dict[str, Any] = json.loads(path.read_text())
    real, planted = (
        {k: v["mean"] if isinstance(v, Mapping) else v for k, v in left[world].items()}
        for world in ("complete_journey", "planted")
    )
    return {"distillation": {**real, "planted": planted}}


def measure(run: Run, given: Any, steps: Steps) -> dict[str, Any]:
    """Every figure."""
    app = run.app
    with steps("load"):
        cascade = Bundle.open(run.bundle_path).assemble(run.log())
        samples = run.samples(cascade.builder.space)
        yardstick = Yardstick.of(cascade, app.allocation.quota, samples, "test")
        vector, ranker = cascade.preranker, cascade.ranker
        if not isinstance(vector, Pointwise) or not isinstance(ranker, Pointwise):
            raise TypeError("only pointwise models are compared")
        judge = learning.Judge(samples)
    school = Schooling(samples, app.prerank_training, Trainer(), judge, app.seed)
    config = Cold.Config()
    sizes = checked(given.keep or [], len(every_group(app.schema_, config.history)))
    _, made = compare(config, sizes, school, yardstick, steps)
    name = app.preranking.kind
    points = [Point.of(name, vector, yardstick)]
    points += [Point(f"cold {t.keep}", t.gauc, t.hit, t.rows_per_s, t.ms) for t, _ in made]
    classroom = Classroom(run, cascade, yardstick)
    for order in given.orders:
        with steps(order):
            model = classroom.trained(order, ORDERS[order], app.seed)
        points.append(Point.of(order, model, yardstick))
    first = made[0][1]
    with steps("slim"):
        settings = first.config.model_copy(update={"precision": "float32"})
        thin, slim = slimmed(first, settings, yardstick, school, given)
    points += [Point.of("cold slim", thin, yardstick), Point.of("ranker", ranker, yardstick)]
    with steps("seeds"):
        configs = settings_of(name, app.preranking, [model for _, model in made], given.orders)
        points = classroom.repeated(points, configs, given.seeds)
    for p in points:
        print(
            f"{p.name}: GAUC {p.gauc:.4f}, hit {p.hit:.3f}, {p.rows_per_s:,.0f} rows/s", flush=True
        )
    if given.plot:
        trade_off(points, chosen(points, made[0][0])).savefig(given.plot)
    with steps("two steps"):
        wide = dict.fromkeys(cascade.channels, given.wide) | {"retrieval": given.wide}
        wide = {**app.allocation.quota, **wide}
        asked = Yardstick.of(cascade, wide, samples, "test").asked
        stepped, by_vector = (
            stepping.fit(both(coarse, first, samples), asked, samples, given.target)
            for coarse in (None, vector)
        )
    with steps("blends"):
        passes = pipeline.explore(cascade.channels, samples, app.allocation.quota)
        ours = with_preranker(cascade, first, passes, samples, run)
    with steps("cascade"):
        whole = cascades(ours, run, samples, given.retrieval, given.cuts)
    best = max(
        whole["cut"].values(), key=lambda each: (each["work_ratio"] >= 5, -each["work_ratio"])
    )
    return {
        "models": {p.name: p.plain() for p in points},
        "slim": slim,
        "two_step": figures_of(stepped, given.target),
        "two_step_vector": figures_of(by_vector, given.target),
        "cascade": {**best, **whole},
    }


def figures_of(stepped: stepping.Fitted, target: float) -> dict[str, float]:
    """Two steps in plain numbers."""
    return {
        "target": target,
        "candidates": stepped.candidates,
        "keep": stepped.best.keep,
        "hit": round(stepped.best.hit, 4),
        "of_one_step": round(stepped.best.of_whole, 4),
        "ms": round(stepped.ms, 3),
        "one_step_ms": round(stepped.whole_ms, 3),
        "cost": round(stepped.cost, 3),
    }


def both(vector: Pointwise | None, cold: Cold, samples: Samples) -> TwoStep:
    """Trained pre-rankers as the steps of one; without a vector product the merge's word cuts."""
    assert vector is None or isinstance(vector, Vector)
    config = TwoStep.Config(coarse=vector and vector.config, fine=cold.config)
    model = config.build(samples.space, cold.tasks)
    if model.coarse is not None and vector is not None:
        model.coarse.load_state_dict(vector.state_dict())
    model.fine.load_state_dict(cold.state_dict())
    model.freeze()
    return model


def chosen(points: list[Point], trial: Trial) -> Point:
    """The point of a trial."""
    return next(p for p in points if p.name == f"cold {trial.keep}")


def main() -> None:
    """Print a table and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, help="a trained run of the example")
    options.add_argument("--keep", type=int, nargs="*", help="numbers of groups to try")
    options.add_argument("--retrieval", type=int, default=400, help="items that retrieval finds")
    options.add_argument(
        "--wide", type=int, default=2_000, help="... each channel, and all, for two steps"
    )
    options.add_argument("--target", type=float, default=0.98, help="hit of two steps over one's")
    options.add_argument("--cuts", type=int, nargs="+", default=[40, 64, 80])
    options.add_argument("--budget", type=float, default=0.3, help="of the slim COLD's cost")
    options.add_argument("--slim-epochs", type=int, default=1, help="under gates")
    options.add_argument("--fine-epochs", type=int, default=1, help="after them, without")
    options.add_argument(
        "--orders", nargs="*", default=list(ORDERS), choices=ORDERS, help="that learn the ranker's"
    )
    options.add_argument("--seeds", type=int, default=1, help="of each model that is trained here")
    options.add_argument("--plot", type=Path, help="write the trade-off as a picture")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    steps = Steps(Console())
    torch.set_num_threads(given.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Run.open(given.run) if given.run else trained(steps, Path(folder))
            figures = measure(run, given, steps)
    except HeadraceError as error:
        raise SystemExit(f"error: {error}") from None
    settings = {
        key: getattr(given, key) for key in ("retrieval", "cuts", "budget", "slim_epochs", "seeds")
    }
    seconds = round(float(np.sum(list(steps.seconds.values()))), 1)
    figures = {**settings, **figures, **saved_distillation(), "seconds": seconds}
    _common.finish("preranking", figures, save=given.save)


if __name__ == "__main__":
    main()
