"""What a student learns from a teacher that knows more than it ever will.

    python -m benchmarks.distillation [--seeds 3] [--planted-only] [--days 30] [--run RUN]

The same student each time (base) and taught: by a larger net (md), by a net of its own kind that
reads privileged features too (pfd), by both (pfd_md), by privileged features alone (lupi), each
trained before it or along with it (``_joint``). ``oracle`` is the same student with labels as no
log has them. ``closed_share`` is how much of (oracle - base) the better of pfd and pfd_md closes.

``planted``: whether a view engages decides the purchase and shows in its dwell time, which also
grows with the patience of the user and the length of the item; ``oracle`` learns from true
probabilities; AUC against these. ``complete_journey``: the vector product, to which features of a
pair are privileged; ``oracle`` learns from four times as many days; GAUC on exposures of the test
period.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import _common
from benchmarks import preranking_planted as planted
from headrace.app import App
from headrace.data import Candidates, Ragged, Requests
from headrace.evaluation import metrics
from headrace.evaluation.evaluate import RANK_REQUESTS
from headrace.nn.pointwise import Pointwise
from headrace.pipeline.distillation import Teaching
from headrace.pipeline.learning import Judge, exposures, learn, predict, some
from headrace.preranking.cold import Cold
from headrace.run import Run
from headrace.samples import Samples
from headrace.samples.taught import TEACHER
from headrace.training import Trainer
from headrace.training.distill import Distilled

EXAMPLE = Path("examples/complete_journey.toml")
FEATURES, VALUES, BUCKETS = 5, 16, 16  # of users and of items, of each, of dwell
SEPARATION, CONFOUNDED = 4.0, 1.2  # of log dwell: engaged or not, by user and by item; noise: 1
ENGAGED, IDLE = 0.25, 0.02  # chance of a purchase
RATE = 4e-3  # of learning: the planted trainings are short
HIDDEN, LARGER = (32,), (128, 64)
SCHEMES = ("lupi", "md", "pfd", "pfd_md")
JOINT = ("md", "pfd", "pfd_md")
TRUE = 4.0  # how many times as many days the oracle of a real log has


@dataclasses.dataclass(frozen=True)
class DwellWorld:
    """A planted world and how likely each purchase was."""

    made: planted.Planted
    train_N: Tensor
    test_N: Tensor


def dwell_world(seed: int, requests: int) -> DwellWorld:
    """Views engage by tastes; engaged ones last longer and end in purchases."""
    made = torch.Generator().manual_seed(seed)
    rows = requests * planted.EACH

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made)

    def ids(size: int, of: str) -> dict[str, Tensor]:
        return {
            f"{of}{i}": torch.randint(1, VALUES + 1, (size,), generator=made)
            for i in range(FEATURES)
        }

    item_N = torch.randint(1, planted.ITEMS, (rows,), generator=made)
    draws = planted.Draws(ids(requests, "u"), ids(planted.ITEMS, "i"), {}, item_N)
    taste_N = torch.zeros(rows)
    for i in range(FEATURES):
        user_N, own_N = draws.spread(f"u{i}"), draws.spread(f"i{i}")
        taste_N += 0.5 * normal(VALUES + 1)[user_N] + 0.5 * normal(VALUES + 1)[own_N]
        taste_N += 0.4 * normal(VALUES + 1, VALUES + 1)[user_N, own_N]
    engages_N = taste_N.sigmoid()
    engaged_N = torch.rand(rows, generator=made) < engages_N
    log_dwell_N = SEPARATION * engaged_N + normal(rows)
    log_dwell_N += CONFOUNDED * normal(VALUES + 1)[draws.spread("u0")]
    log_dwell_N += CONFOUNDED * normal(VALUES + 1)[draws.spread("i0")]
    buys_N = torch.where(engaged_N, ENGAGED, IDLE)
    label_N = torch.rand(rows, generator=made) < buys_N
    edges = log_dwell_N.quantile(torch.linspace(0, 1, BUCKETS + 1)[1:-1])
    dwell_N = 1 + torch.bucketize(log_dwell_N, edges)
    world = planted.laid_out(
        draws._replace(privileged={"dwell": dwell_N}), label_N, max(VALUES, BUCKETS), 8
    )
    truth_N = ENGAGED * engages_N + IDLE * (1 - engages_N)
    cut = len(world.train.candidates)
    return DwellWorld(world, truth_N[:cut], truth_N[cut:])


def expected_auc(truth_N: Tensor, score_N: Tensor) -> float:
    """AUC over all outcomes that these probabilities may have."""
    label_N = torch.cat([torch.ones_like(truth_N), torch.zeros_like(truth_N)])
    return metrics.auc(label_N, score_N.repeat(2), torch.cat([truth_N, 1 - truth_N]))


def taught(
    world: DwellWorld, scheme: str, seed: int, epochs: int, *, joint: bool = False
) -> Pointwise:
    """A student of the planted world: ``base``, ``oracle``, or by a scheme of distillation."""
    space, data, tasks = world.made.space, world.made.train, ("click",)
    steps = epochs * len(planted.Pieces(data))

    def build(config: Cold.Config, *names: str) -> Pointwise:
        torch.manual_seed(seed)
        return config.build(space.revealed(names), tasks)

    student = build(Cold.Config(hidden=HIDDEN))
    if scheme == "base":
        planted.train(student, data, epochs, learning_rate=RATE)
        return student
    if scheme == "oracle":
        said = dataclasses.replace(data.candidates, scores={TEACHER: world.train_N.unsqueeze(1)})
        config = Distilled.Config(weight=1, warm_up=0, ramp=1e-6)
        known = dataclasses.replace(data, candidates=said)
        planted.train(Distilled(config, student, None, steps), known, epochs, learning_rate=RATE)
        return student
    names = () if scheme == "md" else ("dwell",)
    hidden = LARGER if "md" in scheme else HIDDEN
    teacher = build(Cold.Config(hidden=hidden, groups=names if scheme == "lupi" else ()), *names)
    if not joint:
        planted.train(teacher, data, epochs, learning_rate=RATE)
        teacher.freeze()
    config = Distilled.Config.model_validate({"scheme": scheme, "joint": joint})
    planted.train(Distilled(config, student, teacher, steps), data, epochs, learning_rate=RATE)
    return student


def planted_one(seed: int, requests: int, epochs: int) -> dict[str, float]:
    """AUC of the student by every way of teaching it."""
    world = dwell_world(seed, requests)
    test = world.made.test
    out: dict[str, float] = {}
    for name, scheme, joint in ways():
        model = taught(world, scheme, seed, epochs, joint=joint).eval()
        score_N = model.score(test.requests, test.candidates)[:, 0]
        out[name] = expected_auc(world.test_N, score_N)
    return out


def ways() -> Iterable[tuple[str, str, bool]]:
    """Name, scheme, and whether the teacher learns along."""
    yield from ((name, name, False) for name in ("base", *SCHEMES, "oracle"))
    yield from ((f"{name}_joint", name, True) for name in JOINT)


def closed_share(rows: list[dict[str, float]]) -> float | None:
    """Of (oracle - base), over all seeds; None where not all of that was tried."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    taught = [mean[name] for name in ("pfd", "pfd_md") if name in mean]
    if not taught or not {"base", "oracle"} <= mean.keys():
        return None
    return round((max(taught) - mean["base"]) / max(mean["oracle"] - mean["base"], 1e-9), 3)


def as_privileged(app: App, days: float, student: Mapping[str, Any]) -> App:
    """The application with all features of pairs privileged, and so many days to train on."""
    features = {
        name: feature.model_copy(update={"of": "privileged"}) if feature.of == "cross" else feature
        for name, feature in app.schema_.features.items()
    }
    return app.model_copy(
        update={
            "schema_": app.schema_.model_copy(update={"features": features}),
            "samples": app.samples.model_copy(update={"ranking_days": days}),
            "preranking": app.preranking.model_copy(update=student),
        }
    )


def journey_one(
    run: Run, ranker: str, days: float, seed: int, retrieved: int, only: Collection[str]
) -> dict[str, float]:
    """Test GAUC of the vector product by every way of teaching it."""
    app = as_privileged(run.app, days, {}).model_copy(update={"seed": seed})
    net = app.ranking if ranker == "ranking" else app.compare[ranker]
    training = app.prerank_training.training.model_copy(update={"seed": seed})
    scoring = app.prerank_training.model_copy(update={"training": training})
    app = app.model_copy(update={"ranking": net, "prerank_training": scoring})
    run = dataclasses.replace(run, app=app)
    samples = run.samples()
    more = dataclasses.replace(run, app=as_privileged(app, TRUE * days, {})).samples(samples.space)
    judge, trainer = Judge(samples), Trainer()
    requests = some(samples.requests("test"), RANK_REQUESTS, 0)
    drawn = exposures(samples, requests)

    def ranker_alone() -> Pointwise:
        torch.manual_seed(seed)
        model = net.build(samples.space, app.samples.tasks)
        learn(model, app.rank_training, samples, trainer, judge, "teacher")
        model.freeze()
        return model

    def student(scheme: str, joint: bool) -> Pointwise:
        torch.manual_seed(seed)
        model = app.preranking.build(samples.space, app.samples.tasks)
        if scheme in ("base", "oracle"):
            learn(model, scoring, more if scheme == "oracle" else samples, trainer, judge, scheme)
            return model
        settings = {"scheme": scheme, "joint": joint, "retrieved": retrieved}
        config = Distilled.Config.model_validate(settings)
        own = app.model_copy(
            update={"preranking": app.preranking.model_copy(update={"distill": config})}
        )
        find = Random(samples, seed)
        made = Teaching.prepared(own, samples, trainer, judge, ranker_alone, find)
        made.learn(model, scheme)
        return model

    out: dict[str, float] = {}
    for name, scheme, joint in ways():
        if only and name not in only:
            continue
        said = predict(student(scheme, joint), samples, drawn)
        p_N, label_N = said.probability_NT[:, -1], said.label_NT[:, -1]
        out[name] = metrics.gauc(said.user_N, label_N, p_N, said.weight_N).gauc
        print(f"seed {seed}: {name} {out[name]:.4f}", flush=True)
    return out


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


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and range of each way, and the share that is closed."""
    return {
        name: {
            "mean": round(float(np.mean([row[name] for row in rows])), 4),
            "range": [round(f(row[name] for row in rows), 4) for f in (min, max)],
        }
        for name in rows[0]
    } | {"closed_share": closed_share(rows)}


def figures(
    seeds: int,
    *,
    requests: int = 6_000,
    epochs: int = 3,
    run: Run | None = None,
    ranker: str = "mlp",
    days: float = 30,
    retrieved: int = 48,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Everything, on the planted world and, with a run whose log is there, on that."""
    rows: list[dict[str, float]] = []
    for seed in range(1, seeds + 1):
        rows.append(planted_one(seed, requests, epochs))
        line = ", ".join(f"{key} {value:.4f}" for key, value in rows[-1].items())
        print(f"seed {seed}: {line}", flush=True)
    out: dict[str, Any] = {"planted": summary(rows)}
    if run is not None:
        told = [
            journey_one(run, ranker, days, seed, retrieved, only) for seed in range(1, seeds + 1)
        ]
        out[run.app.name] = {
            "ranker": ranker,
            "days": days,
            "retrieved": retrieved,
            **summary(told),
        }
    return out


def main() -> None:
    """Print a line a seed and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--requests", type=int, default=6_000, help="of the planted world")
    options.add_argument("--epochs", type=int, default=3, help="in the planted world")
    options.add_argument("--planted-only", action="store_true")
    options.add_argument("--run", type=Path, help="where its log lies; default: ingest")
    options.add_argument("--ranker", default="mlp", help="of [compare], or ranking")
    options.add_argument("--days", type=float, default=30, help="of training, on a real log")
    options.add_argument("--retrieved", type=int, default=48, help="unlabelled items a request")
    names = [name for name, *_ in ways()]
    options.add_argument("--only", nargs="*", choices=names, default=(), help="on a real log")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    run = None
    if not given.planted_only:
        run = Run.of(EXAMPLE)
        if given.run is None:
            run.ingest()
        else:
            run = dataclasses.replace(run, folder=given.run)
        app = run.app.model_copy(update={"threads": given.threads})
        run = dataclasses.replace(run, app=app)
    settings = {key: getattr(given, key) for key in ("seeds", "requests", "epochs")}
    found = figures(
        **settings,
        run=run,
        ranker=given.ranker,
        days=given.days,
        retrieved=given.retrieved,
        only=given.only,
    )
    _common.finish("distillation", {**settings, **found}, save=given.save)


if __name__ == "__main__":
    main()
