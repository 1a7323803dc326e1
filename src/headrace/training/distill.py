"""Distillation: a small model learns from labels and from what a better informed one says.

Privileged features distillation (PFD), Xu et al., KDD 2020, arXiv:1907.05171, with model
distillation (MD, Hinton et al. 2015, arXiv:1503.02531), both at once, and learning using privileged
information (LUPI, Lopez-Paz et al. 2016, arXiv:1511.03643) to be warned by. PFD, eq. 4:

    min over the student  (1 - λ) · CE(y, s(X)) + λ · CE(σ(t(X, X*)), s(X))

As cross-entropy is linear in its target, that is one loss with the target ``(1 - λ) y + λ σ(t)``:
the student's own ``loss`` is all there is, and a λ of 0 is the training without a teacher, bit for
bit. The teacher's word never carries a gradient to it. Joint training adds the teacher's own loss
(PFD, eq. 5).

Departures: λ rises linearly after its warm-up, where PFD's jumps; candidates without labels, drawn
from what retrieval found, are learnt from the teacher alone, with weight λ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self, TypeVar, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .. import config
from ..data import Batch
from ..errors import ConfigError, DataError
from ..nn.pointwise import Pointwise
from ..samples.taught import TEACHER, UNLABELLED
from .optim import DecaysTables, ShrinksTables

T = TypeVar("T")
Scheme = Literal["md", "pfd", "pfd_md", "lupi"]
SURE = 1e-6  # how near to 0 or 1 a logged probability may be


@final
class Distilled(nn.Module):
    """Trains a student beside its labels on what a teacher says."""

    step: Tensor  # () int64

    class Config(config.Config):
        """Settings of Distilled, and where its teacher comes from."""

        scheme: Literal["md", "pfd", "pfd_md", "lupi"] = "md"
        """md: the ranker teaches. pfd: a net like the student's that reads everything, privileged
        features too. pfd_md: the ranker with privileged features. lupi: these alone, to compare
        with, for they mislead."""
        weight: float = Field(default=0.5, ge=0, le=1)
        """λ: how much the teacher's word counts beside the label's; 1 leaves no label."""
        weights: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
        """λ to choose among: a student learns by each, and the one that is best on the validation
        period stays. 0 is the student without a teacher: what a teacher that knows too little, or
        too little of its own, comes to. By default ``weight`` alone."""
        warm_up: float = Field(default=0.1, ge=0, lt=1)
        """Share of the steps in which λ is 0: a teacher in training first says nothing useful."""
        ramp: float = Field(default=0.1, gt=0, le=1)
        """Share of the steps in which λ then rises to ``weight``."""
        joint: bool = False
        """Train a teacher along with the student, rather than before it."""
        shared: bool = True
        """joint: both read the same embedding tables, but for those of user ids."""
        privileged: tuple[str, ...] | None = None
        """Privileged features that the teacher reads; default: all of the schema."""
        retrieved: int | None = Field(default=None, ge=0, le=1000)
        """Unlabelled candidates a request, out of what retrieval found for it. Default: 32, but 0
        for a teacher that reads what is known only after the event."""
        lists: int = Field(default=4000, ge=1)
        """Training requests for which retrieval is asked."""
        run: str | None = None
        """md: the ranker of this trained run teaches, not that of the run at hand."""
        scores: str | None = None
        """md: a Parquet file of what a ranker said teaches; see ``samples/taught.py``."""

        @model_validator(mode="after")
        def _agrees(self) -> Self:
            if self.weights and "weight" in self.model_fields_set:
                raise ValueError("names a weight and weights; one weight, or some to choose among")
            if len(set(self.weights)) < len(self.weights):
                raise ValueError("weights: one is named twice")
            elsewhere = "scores" if self.scores else "run" if self.run else None
            if self.run and self.scores:
                raise ValueError("names a run and scores; one of them teaches")
            if elsewhere and self.scheme != "md":
                raise ValueError(
                    f'{elsewhere}: comes from a ranker as it serves; needs scheme = "md"'
                )
            if elsewhere and self.joint:
                raise ValueError(
                    f"joint: the teacher of {elsewhere} is of an earlier training and cannot be "
                    f"trained along; drop {elsewhere}, or joint"
                )
            if self.privileged is not None and self.scheme == "md":
                raise ValueError('privileged: scheme = "md" reads none; "pfd_md" does')
            return self

        def at(self, step: int, steps: int) -> float:
            """λ in step ``step``, counted from 0, of ``steps``."""
            begun = step / max(steps, 1) - self.warm_up
            return self.weight * min(max(begun / self.ramp, 0.0), 1.0)

    def __init__(
        self, config: Config, student: Pointwise, teacher: Pointwise | None, steps: int
    ) -> None:
        """``teacher`` None: batches carry what a teacher said. ``steps``: of the whole training.

        A teacher that is not trained along is left as it is. Raises ConfigError if the teacher
        predicts other tasks, reads tables of other sizes (another schema), or cannot be joint.
        """
        super().__init__()
        if config.joint and teacher is None:
            raise ConfigError("distill.joint: logged scores cannot be trained along; drop joint")
        if teacher is not None:
            _check(teacher, student)
        self.config, self.steps, self.student = config, steps, student
        self.joint = teacher if config.joint else None
        if self.joint is not None and config.shared:
            _share(self.joint, student)
        # in a tuple: weights that do not learn are no part of this module
        self._fixed = () if teacher is None or config.joint else (teacher.eval(),)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def weight(self) -> float:
        """λ in the step to come."""
        return self.config.at(int(self.step), self.steps)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The student's losses on mixed targets, and a joint teacher's own as ``teacher.TASK``."""
        losses = dict(self.student.loss(self.taught(batch)))
        if self.joint is not None:
            own = self.joint.loss(_weighted(batch, 0.0))
            losses |= {f"teacher.{name}": value for name, value in own.items()}
        if self.training:
            self.step.add_(1)
        return losses

    def taught(self, batch: Batch) -> Batch:
        """The batch as the student learns it: targets between label and teacher.

        Raises DataError if nobody says what a teacher would.
        """
        share = self.weight
        if not share:
            return _weighted(batch, 0.0)
        target_NT = batch.sampled(self._said(batch)).sigmoid()
        silent_N = target_NT.isnan().any(1)
        share_N = torch.where(silent_N, 0.0, share)
        unlabelled_N = batch.candidates.features.get(UNLABELLED)
        mix_N = share_N if unlabelled_N is None else torch.where(unlabelled_N, 1.0, share_N)
        labels = {
            task: torch.lerp(batch.labels[task], target_N.nan_to_num(0.0), mix_N)
            for task, target_N in zip(self.student.tasks, target_NT.unbind(1), strict=True)
        }
        return _weighted(replace(batch, labels={**batch.labels, **labels}), share_N)

    @torch.no_grad()
    def _said(self, batch: Batch) -> Tensor:  # (N, T) logits
        """What the teacher says, without a way back to it."""
        said_NT = batch.candidates.scores.get(TEACHER)
        if said_NT is not None:
            return said_NT.clamp(SURE, 1 - SURE).logit()
        for teacher in self._fixed:
            return teacher(batch.requests, batch.candidates)
        if self.joint is None:
            raise DataError(
                "distill: no teacher scores: the batches carry none, and there is no teacher"
            )
        self.joint.eval()  # its word is what it would serve; batch statistics are left alone
        logit_NT = self.joint(batch.requests, batch.candidates)
        self.joint.train(self.training)
        return logit_NT

    def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
        """What the models in training ask for (``optim.DecaysTables``)."""
        models = self._learning()
        return self._owned({p: m.table_decay() for p, m in models if isinstance(m, DecaysTables)})

    def table_shrinkage(self) -> Mapping[str, tuple[float, float]]:
        """What the models in training ask for (``optim.ShrinksTables``)."""
        models = self._learning()
        return self._owned(
            {p: m.table_shrinkage() for p, m in models if isinstance(m, ShrinksTables)}
        )

    def _learning(self) -> list[tuple[str, Pointwise]]:
        teacher = [] if self.joint is None else [("joint", self.joint)]
        return [("student", self.student), *teacher]

    def _owned(self, asked: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
        """By full names, of the parameters listed under these: shared ones are the student's."""
        listed = dict(self.named_parameters())
        every = {f"{p}.{name}": what for p, some in asked.items() for name, what in some.items()}
        return {name: what for name, what in every.items() if name in listed}


def _weighted(batch: Batch, unlabelled: Tensor | float) -> Batch:
    """The batch with what has no label weighed by this too."""
    unlabelled_N = batch.candidates.features.get(UNLABELLED)
    if unlabelled_N is None:
        return batch
    factor_N = torch.where(unlabelled_N, unlabelled, torch.ones_like(batch.weight))
    return replace(batch, weight=batch.weight * factor_N)


def _check(teacher: Pointwise, student: Pointwise) -> None:
    if teacher.tasks != student.tasks:
        raise ConfigError(
            f"distill: the teacher predicts {', '.join(teacher.tasks)}, the student "
            f"{', '.join(student.tasks)}; train both on the same tasks"
        )
    for name, table in student.embed.tables.items():
        if name in teacher.embed.tables:
            rows, there = (
                len(t.get_parameter("weight")) for t in (table, teacher.embed.tables[name])
            )
            if rows != there:
                raise ConfigError(
                    f"distill: a teacher of another schema: its {name} has {there} rows, the "
                    f"student's {rows}; train both on one schema and log"
                )


def _share(teacher: Pointwise, student: Pointwise) -> None:
    """Let the teacher read the student's tables, but for those of user ids (PFD, section 4.3)."""
    for name, table in student.embed.tables.items():
        if name not in teacher.embed.tables or name in student.embed.user_tables:
            continue
        wide, there = (
            t.get_parameter("weight").shape[1] for t in (table, teacher.embed.tables[name])
        )
        if wide != there:
            raise ConfigError(
                f"distill.joint: a teacher of kind {type(teacher).__name__.lower()!r} reads {name} "
                f"{there} wide, the student {wide}; set shared = false, or take another teacher"
            )
        teacher.embed.tables[name] = table
