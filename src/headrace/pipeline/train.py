"""Train the whole cascade: channels, merge, pre-ranker, rankers, calibration, bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..app import App
from ..bundle import Bundle, Parts, write_bundle
from ..data import Candidates, Ragged, Requests
from ..nn.pointwise import Pointwise
from ..preranking import PreRankerConfig
from ..preranking._ranked import RankedConfig
from ..reranking.top import Top
from ..run import Run
from ..samples import Samples
from ..samples.split import Split
from ..serving.blend import Blend
from ..serving.cascade import Cascade
from ..serving.merge import Merge, retrieve
from ..serving.pieces import Tier
from ..stages import Recountable, Retriever
from ..training import History, Trainer
from ..value import Value
from .alignment import learn_order
from .distillation import Teaching
from .learning import CHUNK, VALID_REQUESTS, Judge, learn, some

Array = NDArray[Any]
Step = Callable[[str], AbstractContextManager[None]]  # times and shows a named piece of work


def train(run: Run, trainer: Trainer, step: Step, *, resume: bool = False) -> Parts:
    """Train every part of a run's cascade.

    Without ``resume`` models start afresh; with it, each goes on from its checkpoint.
    """
    if trainer.folder is not None and not resume and trainer.group.rank == 0:
        for name in ("checkpoints", "scalars"):
            shutil.rmtree(trainer.folder / name, ignore_errors=True)
    app = run.app
    with step("samples"):
        samples = run.samples()
        value = Value(app.value, app.samples.tasks, tuple(samples.space.catalogue.columns))
    channels = _fit_channels(app, samples, trainer, step)
    with step("merge"):
        passes = explore(channels, samples, app.allocation.quota)
        merge = Merge.fit([(each.found, each.truth) for each in passes], app.seed)
    judge = Judge(samples)
    config: PreRankerConfig = app.preranking
    torch.manual_seed(app.seed)
    preranker: Pointwise = config.build(samples.space, app.samples.tasks)
    # what the ranker teaches learns after it
    taught = isinstance(config, RankedConfig) or config.distill is not None
    if not taught:
        with step("preranking"):
            learn(preranker, app.prerank_training, samples, trainer, judge, "preranking")
    rankers = _learn_rankers(app, samples, trainer, judge, step)
    with step("calibration"):
        calibrations = {name: judge.calibrate(model) for name, model in rankers.items()}
    with step("cascade"):
        for name in ("ranking", *app.tiers):
            rankers[name].freeze()
        alone = Blend.identity(len(app.samples.tasks))
        cascade = Cascade(
            builder=samples.builder,
            catalogue=samples.space.catalogue,
            channels=channels,
            merge=merge,
            preranker=rankers["ranking"] if taught else preranker,
            preranking_blend=alone,
            ranker=rankers["ranking"],
            calibration=calibrations["ranking"],
            ranking_blend=alone,
            value=value,
            reranker=Top.Config().build(samples.space.catalogue),
            tiers={n: Tier(rankers[n], calibrations[n], alone) for n in app.tiers},
        )
    if taught:
        with step("preranking"):
            _teach(preranker, rankers["ranking"], cascade, app, samples, trainer, judge)
    with step("blending"):
        preranker.freeze()
        cascade = fit_blends(replace(cascade, preranker=preranker), passes, samples, app)
    with step("recount"):
        for name, channel in channels.items():
            if isinstance(channel, Recountable):
                channels[name] = channel.recount(samples)
    return Parts(
        space=samples.space,
        channels=channels,
        merge=merge,
        preranker=preranker,
        rankers=rankers,
        calibrations=calibrations,
        blends={
            "preranking": cascade.preranking_blend,
            "ranking": cascade.ranking_blend,
            **{f"ranking.{name}": tier.blend for name, tier in cascade.tiers.items()},
        },
    )


def _fit_channels(app: App, samples: Samples, trainer: Trainer, step: Step) -> dict[str, Retriever]:
    channels: dict[str, Retriever] = {}
    for name, settings in app.retrieval.items():
        with step(name):
            channels[name] = settings.build(samples.space).fit(samples, name, trainer)
    return channels


def _learn_rankers(
    app: App, samples: Samples, trainer: Trainer, judge: Judge, step: Step
) -> dict[str, Pointwise]:
    rankers: dict[str, Pointwise] = {}
    for name, settings in {"ranking": app.ranking, **app.compare}.items():
        with step(name):
            torch.manual_seed(app.seed)
            rankers[name] = settings.build(samples.space, app.samples.tasks)
            learn(rankers[name], app.rank_training, samples, trainer, judge, name)
    return rankers


def _teach(
    preranker: Pointwise,
    ranker: Pointwise,
    cascade: Cascade,
    app: App,
    samples: Samples,
    trainer: Trainer,
    judge: Judge,
) -> None:
    """Train a pre-ranker on the ranker's order or on its scores, whichever it is for."""
    if isinstance(app.preranking, RankedConfig):
        learn_order(preranker, cascade, app, samples, trainer, judge)
        return
    find = partial(cascade.retrieved, app.allocation.quota)
    teaching = Teaching.prepared(app, samples, trainer, judge, lambda: ranker, find)
    teaching.learn(preranker, "preranking")


def save(run: Run, trainer: Trainer, parts: Parts, seconds: Mapping[str, float]) -> Bundle:
    """Write what was trained as the run's bundle, and how training went beside it."""
    log = run.log()
    split = Split.of(run.app.samples, log)
    best = {n: h.best[1] for n, h in trainer.histories.items() if h.best is not None}
    bundle = write_bundle(run.bundle_path, run.app, run.text, parts, log, split, best)
    curves = {
        name: {"seconds": history.seconds, "loss": _curve(history)}
        for name, history in trainer.histories.items()
    }
    text = json.dumps({"training": curves, "seconds": dict(seconds)})
    (run.folder / "training.json").write_text(text)
    return bundle


@dataclass(frozen=True)
class Pass:
    """What channels found for requests of the validation period, and what was taken."""

    row: Array  # (B,) int64, rows of the log's requests
    requests: Requests
    found: Mapping[str, Candidates]
    truth: Ragged


def explore(
    channels: Mapping[str, Retriever], samples: Samples, quota: Mapping[str, int]
) -> list[Pass]:
    """Retrieve for validation requests: as they are, and with the users' old items left out.

    Those are the two ways in which a cascade is asked. Channels must not have counted or learnt
    from the period, or what they found there would tell nothing of later requests.
    """
    row, _ = samples.first_requests("valid")
    row = some(row, VALID_REQUESTS, samples.seed)
    truth, requests = samples.truth(row), samples.features(row)
    asked = (requests, without_seen(requests, samples, row))
    return [Pass(row, each, retrieve(channels, each, quota), truth) for each in asked]


def fit_blends(cascade: Cascade, passes: Sequence[Pass], samples: Samples, app: App) -> Cascade:
    """The cascade with the blends that are wanted, the ranker's fitted on what reaches it."""
    quota = app.allocation.quota
    chunks: list[tuple[Array, Requests, Candidates]] = []
    for each in passes:
        for rows in torch.arange(len(each.row)).split(CHUNK):
            found = {name: lists.take_rows(rows) for name, lists in each.found.items()}
            requests = each.requests.take(rows)
            merged = cascade.merged(found, torch.full((len(rows),), quota["retrieval"]))
            merged = cascade.narrowed(requests, merged)
            merged = cascade.features(requests, merged, samples.store)
            chunks.append((each.row[rows.numpy()], requests, cascade.prerank(requests, merged)))

    def fit(found: Sequence[tuple[Array, Candidates]], stage: str, before: str) -> Blend:
        tasks = app.samples.tasks
        label = [
            torch.stack([c.item_id.within(samples.truth(row, task)) for task in tasks], dim=1)
            for row, c in found
        ]
        own, prior = (torch.cat([c.scores[name] for _, c in found]) for name in (stage, before))
        return Blend.fit(own, prior, torch.cat(label))

    def ranked(tier: str | None) -> Blend:
        found: list[tuple[Array, Candidates]] = []
        for row, requests, merged in chunks:
            short = cascade.cut(
                cascade.prerank(requests, merged), torch.full((len(row),), quota["preranking"])
            )
            found.append((row, cascade.rank(requests, short, tier)))
        return fit(found, "ranking", "preranking")

    if app.blending.preranking:
        found = [(row, merged) for row, _, merged in chunks]
        cascade = replace(cascade, preranking_blend=fit(found, "preranking", "retrieval"))
    if app.blending.ranking:
        tiers = {n: replace(tier, blend=ranked(n)) for n, tier in cascade.tiers.items()}
        cascade = replace(cascade, ranking_blend=ranked(None), tiers=tiers)
    return cascade


def without_seen(
    requests: Requests, samples: Samples, rows: Array, wanted_B: Array | None = None
) -> Requests:
    """The same requests with everything the user ever took left out, of all or of those wanted."""
    seen = samples.seen(rows)
    if wanted_B is None or wanted_B.all():
        return replace(requests, exclude=seen)
    wanted = torch.from_numpy(wanted_B)
    left = Ragged.sized(seen.values[seen.spread(wanted)], seen.lengths * wanted)
    return replace(requests, exclude=left)


CURVE_POINTS = 200  # of a training curve in the report


def _curve(history: History) -> list[dict[str, float | None]]:
    """Mean loss over evenly cut stretches of steps, with the validations where they fell."""
    width = max(1, history.steps // CURVE_POINTS)
    points: list[dict[str, float | None]] = [
        {"step": at + width, "train": float(np.mean(history.loss[at : at + width])), "valid": None}
        for at in range(0, history.steps - width + 1, width)
    ]
    for step, value in history.validation:
        points[min(len(points) - 1, max(0, step // width - 1))]["valid"] = value
    return points
