"""Thin out a trained pre-ranker or ranker by gates at measured costs, and publish what is left."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import tomli_w
import torch
from torch import Tensor

from .app import Scoring
from .bundle import Bundle, rewrite
from .costing import Request, Speed
from .errors import ConfigError
from .learning import Judge, learn
from .nn.gated import Gated, inherit
from .nn.pointwise import Pointwise
from .pipeline import Step
from .run import Run
from .training import Trainer

Stage = Literal["preranking", "ranking"]


@dataclass(frozen=True, slots=True)
class Slimmed:
    """What slimming did."""

    version: str  # of the bundle it made
    settings: dict[str, object]  # of the stage, those that changed
    dropped: tuple[str, ...]  # groups
    gauc: tuple[float, float]  # before and after, on the validation period
    speed: tuple[Speed, Speed]
    cost_left: float  # share of the measured cost of what gates may close


def slim(
    run: Run, stage: Stage, gating: Gated.Config, epochs: int, trainer: Trainer, step: Step
) -> Slimmed:
    """Slim one model of a run's bundle and publish the bundle with it.

    ``epochs`` of training under gates, then one without. A slimmed ranker is calibrated anew;
    blends stay as they are. Raises ConfigError if the model has nothing to slim.
    """
    with step("load"):
        bundle = Bundle.open(run.bundle_path)
        bundle.check_schema(run.app.schema_)
        app = bundle.app
        samples = run.samples(bundle.space(run.log()))
        settings = app.preranking if stage == "preranking" else app.ranking
        scoring: Scoring = app.prerank_training if stage == "preranking" else app.rank_training
        name = "preranking" if stage == "preranking" else "ranker.ranking"
        whole: Pointwise = settings.build(samples.space, app.samples.tasks)
        if whole.stack() is None:
            raise ConfigError(
                f"[{stage}] kind = {settings.kind!r}: has no layers that gates thin out"
            )
        bundle.restore(whole, name)
    with step("measure"):
        judge, request = Judge(samples), Request.of(samples)
        costs = request.costs(whole)
        frozen: Pointwise = settings.build(samples.space, app.samples.tasks)
        bundle.restore(frozen, name)
        frozen.freeze()
        before = judge(frozen), request.speed(frozen)
    training = scoring.training.model_copy(update={"epochs": epochs, "patience": 0})
    with step("gates"):
        torch.manual_seed(app.seed)
        batches = samples.ranking("train", scoring.requests_per_batch, hits=whole.reads_hits)
        gated = Gated(gating, whole, costs, epochs * len(batches))
        trainer.fit(gated, batches, training, name=f"slim.{stage}")
        left = gated.gates.cost_left(costs) / costs.full
        thin = gated.release()
    stack = whole.stack()
    assert stack is not None
    dropped = tuple(each.name for each in stack.inputs if each.name not in thin.kept)
    slimmer = settings.slimmer(thin.kept, dropped, thin.hidden)
    with step("fine-tune"):
        model: Pointwise = slimmer.build(samples.space, app.samples.tasks)
        inherit(thin, whole, model)
        once = scoring.training.model_copy(update={"epochs": 1})
        learn(model, scoring.model_copy(update={"training": once}), samples, trainer, judge, stage)
    arrays: dict[str, dict[str, Tensor]] = {name: dict(model.state_dict())}
    if stage == "ranking":
        arrays["calibration.ranking"] = dict(judge.calibrate(model).arrays())
    model.freeze()
    after = judge(model), request.speed(model)
    changed = _changed(settings.model_dump(mode="json"), slimmer.model_dump(mode="json"))
    raw = tomllib.loads((bundle.path / "config.toml").read_text())
    raw[stage] |= changed
    text = f"# as trained, but for [{stage}], which `headrace slim` made\n{tomli_w.dumps(raw)}"
    made = rewrite(run.bundle_path, bundle, arrays, text=text, metrics={stage: after[0]})
    return Slimmed(
        made.version, changed, dropped, (before[0], after[0]), (before[1], after[1]), left
    )


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in new.items() if value != old[key]}
