"""Thin out a trained pre-ranker or ranker by gates at measured costs, and publish what is left."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tomli_w
import torch
from torch import Tensor

from ..app import Scoring
from ..bundle import Bundle, rewrite
from ..errors import ConfigError
from ..nn.gated import Gated, inherit
from ..nn.gates import Costs
from ..nn.pointwise import Pointwise
from ..pipeline.learning import Judge
from ..pipeline.train import Step
from ..run import Run
from ..training import Trainer
from .costing import Request, Speed
from .schooling import Schooling

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
    school = Schooling(samples, scoring, trainer, judge, app.seed)
    thin = thinned(whole, settings, costs, gating, epochs, school, step)
    model = thin.model
    arrays: dict[str, dict[str, Tensor]] = {name: dict(model.state_dict())}
    if stage == "ranking":
        arrays["calibration.ranking"] = dict(judge.calibrate(model).arrays())
    model.freeze()
    after = judge(model), request.speed(model)
    changed = _changed(settings.model_dump(mode="json"), thin.settings.model_dump(mode="json"))
    raw = tomllib.loads((bundle.path / "config.toml").read_text())
    raw[stage] |= changed
    text = f"# as trained, but for [{stage}], which `headrace slim` made\n{tomli_w.dumps(raw)}"
    made = rewrite(run.bundle_path, bundle, arrays, text=text, metrics={stage: after[0]})
    gauc, speed = (before[0], after[0]), (before[1], after[1])
    return Slimmed(made.version, changed, thin.dropped, gauc, speed, thin.cost_left)


class Thinned(NamedTuple):
    """A slim model, not yet frozen."""

    model: Pointwise
    settings: Any  # its stage's Config
    dropped: tuple[str, ...]  # groups
    cost_left: float  # share


def thinned(
    whole: Pointwise,
    settings: Any,
    costs: Costs,
    gating: Gated.Config,
    epochs: int,
    school: Schooling,
    step: Step,
    fine_epochs: int = 1,
) -> Thinned:
    """Train a model under gates, then what they leave without any; ``whole`` is used up."""
    samples, scoring = school.samples, school.scoring
    training = scoring.training.model_copy(update={"epochs": epochs, "patience": 0})
    with step("gates"):
        torch.manual_seed(school.seed)
        batches = samples.ranking("train", scoring.requests_per_batch, hits=whole.reads_hits)
        gated = Gated(gating, whole, costs, epochs * len(batches))
        school.trainer.fit(gated, batches, training, name="slim.gates")
        left = gated.gates.cost_left(costs) / costs.full
        thin = gated.release()
    stack = whole.stack()
    assert stack is not None
    dropped = tuple(each.name for each in stack.inputs if each.name not in thin.kept)
    slimmer = settings.slimmer(thin.kept, dropped, thin.hidden)
    with step("fine-tune"):
        model: Pointwise = slimmer.build(samples.space, whole.tasks)
        inherit(thin, whole, model)
        school.teach(model, "slim.fine-tune", epochs=fine_epochs)
    return Thinned(model, slimmer, dropped, left)


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in new.items() if value != old[key]}
