"""Pre-rankers that learn from a teacher: who teaches, of which candidates, and the training itself.

The loss is that of ``training/distill.py``; here the teacher of each scheme is made or fetched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..app import App, Scoring
from ..bundle import Bundle
from ..bundle.manifest import difference
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise
from ..run import Run
from ..samples import Samples
from ..samples.taught import Lists, TaughtBatches, read_scores, write_scores
from ..stages import sequences_read
from ..training import Trainer
from ..training.distill import Distilled
from .learning import CHUNK, Judge, learn, some

Array = NDArray[Any]
Find = Callable[[Requests], Candidates]  # what retrieval finds
EACH = 32  # unlabelled candidates a request, where nothing is said
WHERE = "preranking.distill"


@dataclass(frozen=True)
class Teaching:
    """A teacher and what it is to speak of, for any number of students."""

    app: App
    config: Distilled.Config
    samples: Samples
    trainer: Trainer
    judge: Judge
    teacher: Pointwise | None  # none where its scores are logged, or it learns along
    lists: Lists | None
    each: int  # candidates of the lists a request

    @classmethod
    def prepared(
        cls,
        app: App,
        samples: Samples,
        trainer: Trainer,
        judge: Judge,
        ranker: Callable[[], Pointwise],
        find: Find,
    ) -> Teaching:
        """Train or fetch the teacher of [preranking.distill]; find what it is to speak of.

        ``ranker`` is the teacher of the scheme md. Raises ConfigError for a teacher that cannot be,
        or of another schema, DataError for scores that cannot be read.
        """
        config: Distilled.Config = app.preranking.distill
        names = privileged(config, samples.space)
        rows = np.sort(samples.requests("train", days=samples.config.ranking_days))
        each, lists = _each(config, names, samples.space), None
        if config.scores:
            lists = read_scores(Path(config.scores), samples.log, rows, app.samples.tasks)
        elif each:
            lists = collect(samples, some(rows, config.lists, samples.seed), find)
        teacher: Pointwise | None = None
        if config.run:
            teacher = ranker_of(Path(config.run), app, samples)
        elif not config.joint and not config.scores:
            if config.scheme == "md":
                teacher = ranker()
            else:
                teacher, scoring = build(app, config, names, samples.space)
                learn(teacher, scoring, samples, trainer, judge, "preranking.teacher")
                teacher.freeze()
        return cls(app, config, samples, trainer, judge, teacher, lists, each)

    def learn(self, student: Pointwise, name: str) -> float:
        """Train a student in place, judged on the validation period; return its teacher's weight.

        Where there are ``weights`` to choose among, each has a training from the same start, as
        ``name.weight_0.5``; the first of the best stays, and what it was goes by ``name`` too.
        """
        weights = self.config.weights
        if not weights:
            self._learn(student, name, self.config.weight)
            return self.config.weight
        start, best = _state(student), _Tried(-math.inf, 0.0, {})
        for weight in weights:
            student.load_state_dict(start)
            self._learn(student, _trial(name, weight), weight)
            history = self.trainer.histories[_trial(name, weight)]
            if history.best is not None and history.best[1] > best.quality:
                best = _Tried(history.best[1], weight, _state(student))
        student.load_state_dict(best.state)
        self.trainer.histories[name] = self.trainer.histories[_trial(name, best.weight)]
        return best.weight

    def _learn(self, student: Pointwise, name: str, weight: float) -> None:
        """Train a student in place by one weight of the teacher, without a teacher by 0."""
        if not weight:
            learn(student, self.app.prerank_training, self.samples, self.trainer, self.judge, name)
            return
        teacher = self.teacher
        scoring, samples = self.app.prerank_training, self.samples
        if self.config.joint:
            names = privileged(self.config, samples.space)
            teacher, _ = build(self.app, self.config, names, samples.space)
        together = [student] if teacher is None else [student, teacher]
        hits = any(model.reads_hits for model in together)
        sequences, size = sequences_read(together), scoring.requests_per_batch
        rows = samples.requests("train", days=samples.config.ranking_days)
        batches = TaughtBatches(
            samples, rows, size, self.lists, self.each, hits=hits, sequences=sequences
        )
        labelled = samples.ranking("train", size, hits=hits, sequences=sequences)
        for model in together if self.config.joint else [student]:
            model.prepare(labelled)
        steps = scoring.training.epochs * len(batches)
        config = self.config.model_copy(update={"weight": weight})
        distilled = Distilled(config, student, teacher, steps)

        def validate(model: nn.Module) -> float:
            del model
            return self.judge(student)

        self.trainer.fit(distilled, batches, scoring.training, name=name, validate=validate)


class _Tried(NamedTuple):
    """A student as one weight of the teacher left it."""

    quality: float
    weight: float
    state: Mapping[str, Tensor]


def _state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a model has learnt."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def _trial(name: str, weight: float) -> str:
    """What the training by one of several weights is called."""
    return f"{name}.weight_{weight:g}"


def privileged(config: Distilled.Config, space: FeatureSpace) -> tuple[str, ...]:
    """The privileged features that the teacher reads.

    Raises ConfigError if there should be some and are none, or for a name that is not of one.
    """
    if config.scheme == "md":
        return ()
    known = space.schema.names("privileged")
    names = tuple(known) if config.privileged is None else config.privileged
    if not names:
        raise ConfigError(
            f'{WHERE}.scheme: "{config.scheme}" needs a feature with of = "privileged" in the '
            'schema; "md" needs none'
        )
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{WHERE}.privileged: no privileged feature {name!r}; {suggest(name, known)}"
            )
    return names


def build(
    app: App, config: Distilled.Config, names: Sequence[str], space: FeatureSpace
) -> tuple[Pointwise, Scoring]:
    """A scheme's untrained teacher, and how it is trained where it is trained before."""
    torch.manual_seed(app.seed)
    seen = space.revealed(names)
    if config.scheme in ("md", "pfd_md"):
        return app.ranking.build(seen, app.samples.tasks), app.rank_training
    net = app.preranking.informed(names if config.scheme == "lupi" else ())
    return net.build(seen, app.samples.tasks), app.prerank_training


def ranker_of(path: Path, app: App, samples: Samples) -> Pointwise:
    """The ranker of a trained run. Raises ConfigError if it sees the world through other features.

    Privileged features may differ, as no ranker that serves reads any.
    """
    bundle = Bundle.open(path / "bundle")
    other = difference(app.schema_.revealed(()), bundle.app.schema_.revealed(()))
    space = bundle.space(samples.log) if other is None else samples.space
    for name in space.schema.revealed(()).features if other is None else ():
        here, there = (s.encoders[name].state() for s in (samples.space, space))
        if json.dumps(here) != json.dumps(there):
            other = f"{name} was encoded on another training period"
    if other is not None:
        raise ConfigError(
            f"{WHERE}.run: {path}: a teacher of another schema: {other}; train it again on this one"
        )
    return bundle.ranker("ranking", space)


def collect(samples: Samples, rows: Array, find: Find) -> Lists:
    """What retrieval finds for some of the log's requests, ascending."""
    parts = [
        find(samples.features(rows[at : at + CHUNK])).item_id for at in range(0, len(rows), CHUNK)
    ]
    lengths = torch.cat([part.lengths for part in parts])
    return Lists(rows, Ragged.sized(torch.cat([part.values for part in parts]), lengths))


def scored(lists: Lists, teacher: Pointwise, samples: Samples) -> Lists:
    """The lists with a teacher's probabilities, as ``samples.taught.write_scores`` keeps them."""
    parts: list[Tensor] = []
    for rows in torch.arange(len(lists.request)).split(CHUNK):
        requests = samples.features(lists.request[rows.numpy()], teacher.reads_sequences)
        made = samples.builder.candidates(
            requests,
            Candidates(lists.item.take_rows(rows)),
            samples.store,
            hits=teacher.reads_hits,
            names=teacher.reads_cross,
        )
        parts.append(teacher.score(requests, made))
    return replace(lists, score_NT=torch.cat(parts))


def log_scores(run: Run, path: Path, most: int) -> int:
    """Keep what a trained run's ranker says of what its channels find; return the requests told of.

    Up to ``most`` training requests are asked, at random.
    """
    bundle = Bundle.open(run.bundle_path)
    bundle.check_schema(run.app.schema_)
    cascade = bundle.assemble(run.log())
    samples = run.samples(cascade.builder.space)
    rows = np.sort(samples.requests("train", days=samples.config.ranking_days))
    find = partial(cascade.retrieved, run.app.allocation.quota)
    lists = collect(samples, some(rows, most, samples.seed), find)
    teacher = bundle.ranker("ranking", cascade.builder.space)
    write_scores(path, samples.log, scored(lists, teacher, samples), run.app.samples.tasks)
    return len(lists.request)


def _each(config: Distilled.Config, names: Sequence[str], space: FeatureSpace) -> int:
    late = [name for name in names if space.told_by_events(name)]
    if late and config.retrieved:
        raise ConfigError(
            f"{WHERE}.retrieved: the teacher reads {late[0]!r}, which nobody knows of what was not "
            "shown; set it to 0"
        )
    if config.retrieved is None:
        return 0 if late else EACH
    return config.retrieved
