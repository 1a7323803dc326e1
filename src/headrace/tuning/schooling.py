"""How several models of one stage are trained alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from ..app import Scoring
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise
from ..pipeline.distillation import Teaching
from ..pipeline.learning import Judge, learn
from ..samples import Samples
from ..training import Trainer

M = TypeVar("M", bound=Pointwise, covariant=True)


class Builds(Protocol[M]):
    """Settings of a pre-ranker or ranker."""

    def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> M: ...


@dataclass(frozen=True, slots=True)
class Schooling:
    """What models learn from, for how long, and who judges them while they do."""

    samples: Samples
    scoring: Scoring
    trainer: Trainer
    judge: Judge
    seed: int
    teaching: Teaching | None = None  # a teacher beside the labels

    def train(self, settings: Builds[M], name: str) -> M:
        """Build a model and train it; it is not yet frozen."""
        torch.manual_seed(self.seed)
        model = settings.build(self.samples.space, self.samples.config.tasks)
        self.teach(model, name)
        return model

    def teach(self, model: Pointwise, name: str, *, epochs: int | None = None) -> None:
        """Train a model in place; for so many ``epochs`` by labels alone."""
        scoring = self.scoring
        if self.teaching is not None and epochs is None:
            self.teaching.learn(model, name)
            return
        if epochs is not None:
            training = scoring.training.model_copy(update={"epochs": epochs})
            scoring = scoring.model_copy(update={"training": training})
        learn(model, scoring, self.samples, self.trainer, self.judge, name)
