"""Lists that the ranker has put in order, for pre-rankers that learn the order from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..app import App
from ..data import Batch, Candidates, Ragged
from ..errors import DataError
from ..nn.pointwise import Pointwise
from ..ops import ragged
from ..ops.grades import grades
from ..preranking._ranked import BID, FOUND, GRADE, RANKED, SMALLEST, WORTH, RankedConfig
from ..preranking.lambda_cascade import LambdaCascade
from ..samples import Samples
from ..serving.cascade import Cascade
from ..stages import Plan
from ..training import Trainer
from ..training.loop import Batches, Validate
from .learning import labelled

Array = NDArray[Any]
CHUNK = 64  # requests put in order at a time


@dataclass(frozen=True, slots=True)
class Ranked:
    """What retrieval found for some requests, the ranker's best first."""

    request: Array  # (R,) int64, rows of the log's requests
    item: Ragged  # (N,) int64, R rows
    scores: Mapping[str, Tensor]  # (N, 1 or T), see preranking/_ranked.py

    @classmethod
    def by(
        cls, cascade: Cascade, samples: Samples, rows: Array, quota: Mapping[str, int]
    ) -> Ranked:
        """Let the ranker of a cascade order all that it retrieves for logged requests.

        Raises DataError if it retrieves nothing for any of them.
        """
        items: list[Ragged] = []
        scores: list[Mapping[str, Tensor]] = []
        everything = {**quota, "preranking": quota["retrieval"]}
        for at in range(0, len(rows), CHUNK):
            requests = samples.features(rows[at : at + CHUNK])
            plan = Plan.constant(everything, len(requests))
            ranked = cascade.run(requests, plan, samples.store).after["ranking"]
            worth_N = ranked.scores["value"][:, 0]
            last_N = ranked.scores["ranking"][:, -1].clamp(min=SMALLEST)
            order_N = ragged.top(worth_N, ranked.item_id.offsets, ranked.item_id.lengths)
            grade_N = grades(worth_N, ranked.item_id.offsets).float()
            columns = {WORTH: worth_N, BID: worth_N / last_N, GRADE: grade_N}
            told = {name: column_N.unsqueeze(1) for name, column_N in columns.items()}
            told |= {name: ranked.scores[name] for name in (RANKED, FOUND)}
            items.append(ranked.item_id.with_values(ranked.item_id.values[order_N]))
            scores.append({name: score[order_N] for name, score in told.items()})
        item = Ragged.join(items) if items else Ragged.of([])
        if not len(item.values):
            raise DataError(
                "preranking: the ranker has nothing to put in order: retrieval found no item for "
                "any training request"
            )
        names = scores[0]
        return cls(rows, item, {n: torch.cat([part[n] for part in scores]) for n in names})


@dataclass(frozen=True)
class ListBatches:
    """Batches of so many ranked lists, drawn with candidates of every part of each."""

    samples: Samples
    ranked: Ranked
    config: RankedConfig
    model: Pointwise
    size: int

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch; the same on every call."""
        rng = np.random.default_rng([self.samples.seed, epoch, step])
        count = len(self.ranked.request)
        return self.of(np.sort(rng.choice(count, min(self.size, count), replace=False)), rng)

    def every(self) -> Iterator[Batch]:
        """Every list once, in order; the same on every call."""
        rng = np.random.default_rng(self.samples.seed)
        for at in range(0, len(self.ranked.request), self.size):
            yield self.of(np.arange(at, min(at + self.size, len(self.ranked.request))), rng)

    def of(self, rows: Array, rng: np.random.Generator) -> Batch:
        """Candidates drawn from lists at these rows."""
        at = self.ranked.item.with_values(torch.arange(len(self.ranked.item.values)))
        whole = at.take_rows(torch.from_numpy(rows))
        drawn_K = draw(self.config, whole, rng)
        kept = whole.values[drawn_K]
        lengths_B = torch.bincount(whole.row[drawn_K], minlength=len(rows))
        item = Ragged.sized(self.ranked.item.values[kept], lengths_B)
        model, samples = self.model, self.samples
        requests = samples.features(self.ranked.request[rows], model.reads_sequences)
        found = samples.builder.candidates(
            requests,
            Candidates(item),
            samples.store,
            hits=model.reads_hits,
            names=model.reads_cross,
        )
        for name, score in self.ranked.scores.items():
            found = found.scored(name, score[kept])
        return Batch(requests, found, {}, torch.ones(len(found)), item.values[:0])


def draw(config: RankedConfig, lists: Ragged, rng: np.random.Generator) -> Tensor:
    """Positions of at most ``drawn`` candidates of each bucket of each list, ascending."""
    row_N, length_N = lists.row, lists.spread(lists.lengths)
    place_N = torch.arange(len(row_N)) - lists.offsets[row_N]
    bucket_N = config.bucket(place_N, length_N).numpy()
    key_N = row_N.numpy() * (1 + bucket_N.max(initial=0)) + bucket_N
    order_N = np.lexsort((rng.random(len(key_N)), key_N))
    sorted_N = key_N[order_N]
    start_N = np.searchsorted(sorted_N, sorted_N)
    kept = order_N[np.arange(len(order_N)) - start_N < config.drawn]
    return torch.from_numpy(np.sort(kept))


@dataclass(frozen=True)
class Alternating:
    """After each batch of labelled candidates one of ranked lists."""

    labelled: Batches
    lists: ListBatches

    def __len__(self) -> int:
        return 2 * len(self.labelled)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on."""
        step = start
        if step % 2:
            yield self.lists.batch(epoch, step)
            step += 1
        for batch in self.labelled.epoch(epoch, step // 2):
            yield batch
            yield self.lists.batch(epoch, step + 1)
            step += 2


def learn_order(
    model: Pointwise,
    cascade: Cascade,
    app: App,
    samples: Samples,
    trainer: Trainer,
    validate: Validate,
) -> None:
    """Train a pre-ranker on the order of a cascade's ranker, in place, and by gradients on labels.

    The cascade's own pre-ranker takes no part. Raises DataError if nothing is retrieved.
    """
    config: RankedConfig = app.preranking
    scoring = app.prerank_training
    rows = samples.requests("train", days=samples.config.ranking_days)
    rng = np.random.default_rng(samples.seed)
    rows = np.sort(rng.choice(rows, min(config.lists, len(rows)), replace=False))
    ranked = Ranked.by(cascade, samples, rows, app.allocation.quota)
    lists = ListBatches(samples, ranked, config, model, scoring.requests_per_batch)
    if isinstance(model, LambdaCascade):
        model.grow(lists.every())
        return
    batches = Alternating(labelled(model, scoring, samples), lists)
    trainer.fit(model, batches, scoring.training, name="preranking", validate=validate)
