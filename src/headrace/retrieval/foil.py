"""The whole catalogue searched under a scorer of any form, along a graph made after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from .. import config
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..ops.graph_search import Effort, Found
from ..samples import Samples
from ..training import Trainer, Training
from ._attention import AttentionScorer
from ._base import Channel
from ._effort import EffortConfig
from ._found import interleaved, joined
from ._graph import ItemGraph
from ._judge import Judge
from ._kept import kept, taken_up
from ._objective import Adversary, Negatives, Objective
from ._positives import Popularity, log_popularity, positive_counts, union
from ._ranker import RankerScorer
from ._searched import Precision, Searchable
from ._split import SplitModule


@final
class Foil(Channel):
    """Full-corpus search under an arbitrary scorer (NANN, or two-way foil).

    Chen et al. 2022, "Approximate Nearest Neighbor Search under Neural Similarity Metric for
    Large-Scale Recommendation", arXiv:2202.10226. The scorer is trained first, by sampled softmax
    and an adversarial term that evens its scores out between neighbours; then items are linked by
    how near their vectors are, and requests walk the graph by score. Scorers come apart into item,
    user and cross parts (``_split``); index, item parts and weights are one version.

    Attention has a peak at each event, and walks that start elsewhere miss whole peaks: items of
    the newest events are entered, too (``seeds``), which is not the paper's.

    Departures: of the scorer, see ``_attention``; of training, ``_objective``; of the search,
    ``ops.graph_search``.
    """

    class Config(config.Config):
        """Settings of Foil."""

        kind: Literal["foil"] = "foil"
        scorer: Annotated[
            AttentionScorer.Config | RankerScorer.Config, Field(discriminator="kind")
        ] = AttentionScorer.Config()
        """What items are scored by: "attention", made for search, or a "ranker"."""
        negatives: Negatives = Negatives()
        log_q_weight: float = Field(default=1.0, ge=0, le=1)
        """Share of the sampling correction, as in the two-tower channel."""
        type_weights: Mapping[str, float] = {}
        """Weight of a positive by the type of its event, of the samples' targets; 1 if not named.
        """
        adversary: Adversary | None = None
        """The adversarial term. Default: none; a ranker is trained without."""
        popularity: Popularity | None = None
        """Add what is popular at the end of training. Default: nothing."""
        skip: str | None = None
        """A sequence whose items are not returned. Default: none."""
        graph: ItemGraph.Config = ItemGraph.Config()
        effort: EffortConfig = EffortConfig()
        """Of a search, unless a tuner wrote another to the bundle."""
        seeds: int = Field(default=50, ge=0, le=10_000)
        """Items of so many newest events, of those that the scorer attends to, are where a search
        enters, beside what the coarse levels lead to; 0: none."""
        effort_quota: int | None = Field(default=None, ge=1, le=10_000)
        """The quota that the effort is for: where a plan has less, widths are in proportion, so
        that plans with less also search less hard. Default: the same effort for all."""
        precision: Precision = "fp32"
        """Of item rows and of the cross: fp32, or bf16 in half the memory."""
        days: float | None = Field(default=None, gt=0)
        """Train on so many of the newest days of the samples; default: all."""
        requests_per_batch: int = Field(default=128, ge=1, le=100_000)
        """Requests of a training batch; each brings its positives."""
        judge_at: int = Field(default=100, ge=1, le=10_000)
        """Validations measure recall in so many items."""
        judge_requests: int = Field(default=500, ge=1, le=1_000_000)
        """Users that a validation asks for, each by a search."""
        training: Training = Training(table_learning_rate=0.05)

        @model_validator(mode="after")
        def _trainable(self) -> Foil.Config:
            if self.adversary is not None and self.scorer.kind == "ranker":
                raise ValueError("adversary: a ranker is trained without; leave it out")
            if any(weight < 0 for weight in self.type_weights.values()):
                raise ValueError("type_weights: want numbers of at least 0")
            return self

        def build(self, space: FeatureSpace) -> Foil:
            """Make the channel. Raises ConfigError if a name does not exist."""
            self.scorer.check(space.schema)
            known = space.schema.sequences
            if self.skip is not None and self.skip not in known:
                raise ConfigError(f"skip: no sequence {self.skip!r}; {suggest(self.skip, known)}")
            return Foil(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> FoilRetriever:
        """Train the scorer and link all items; stop early on what a search finds."""
        torch.manual_seed(samples.seed)
        config, space = self.config, samples.space
        for kind in config.type_weights:
            if kind not in samples.config.targets:
                raise ConfigError(
                    f"{name}.type_weights: {kind!r} is no target; "
                    f"{suggest(kind, samples.config.targets)}"
                )
        scorer = config.scorer.build(space)
        now_I = log_popularity(samples, config.popularity, samples.split.valid_ms)
        judge = Judge(
            samples,
            config.judge_at,
            new=samples.config.new_to_user,
            requests=config.judge_requests,
        )

        def made() -> FoilRetriever:
            catalogue = Searchable.of(
                scorer,
                space.catalogue.available,
                now_I,
                graph=config.graph,
                precision=config.precision,
            )
            return FoilRetriever(config, scorer, catalogue, config.effort.effort())

        def validate(_: nn.Module) -> float:
            return judge(made())

        trainer.fit(
            Objective(
                scorer,
                config.negatives,
                config.adversary,
                config.type_weights,
                config.log_q_weight,
                positive_counts(samples),
            ),
            samples.retrieval(
                "train",
                config.requests_per_batch,
                pool=config.negatives.uniform,
                days=config.days,
                sequences=scorer.reads_sequences,
            ),
            config.training,
            name=name,
            validate=validate if judge.able else None,
        )
        scorer.freeze()
        return made()

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> FoilRetriever:
        """Take up a trained channel; items that came into the log since are linked in.

        Raises BundleError where weights, item parts and graph are not of one version.
        """
        config = self.config
        scorer = config.scorer.build(space)
        catalogue, effort = taken_up(arrays, scorer, config.graph, config.precision, space)
        return FoilRetriever(config, scorer, catalogue, effort)


@final
class FoilRetriever:
    """A catalogue, the scorer that it is searched under, and how hard to search."""

    def __init__(
        self, config: Foil.Config, scorer: SplitModule[Any], catalogue: Searchable, effort: Effort
    ) -> None:
        self.catalogue, self.effort = catalogue, effort
        self._config, self._scorer = config, scorer
        reads = scorer.reads_sequences
        self.reads_sequences = reads
        if reads is not None and config.skip is not None:
            self.reads_sequences = (*reads, config.skip)

    @property
    def effort_quota(self) -> int | None:
        """The quota that the effort is for."""
        return self._config.effort_quota

    @property
    def item_vectors(self) -> Tensor:  # (I, V)
        """Where items lie."""
        return self.catalogue.vector_IV

    def with_effort(self, effort: Effort) -> FoilRetriever:
        """The same, searched harder or less hard; the bundle keeps it."""
        return FoilRetriever(self._config, self._scorer, self.catalogue, effort)

    @property
    def links(self) -> int:
        """Of an item on the coarser levels of the graph, half of those on the finest."""
        return self.catalogue.graph.graph.levels[0].neighbours.shape[1] // 2

    def relinked(self, links: int) -> FoilRetriever:
        """The same along a graph of so many links; the bundle keeps it."""
        if links == self.links:
            return self
        graph = self._config.graph.model_copy(update={"links": links})
        catalogue = self.catalogue.relinked(graph)
        return FoilRetriever(self._config, self._scorer, catalogue, self.effort)

    def recount(self, samples: Samples) -> FoilRetriever:
        """The same scorer with what is popular at the end of the validation period."""
        if self._config.popularity is None:
            return self
        now_I = log_popularity(samples, self._config.popularity, samples.split.test_ms)
        catalogue = replace(self.catalogue, bonus_I=now_I)
        return FoilRetriever(self._config, self._scorer, catalogue, self.effort)

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """Find the ``quota_B`` best items of each request.

        Those of equal quotas share a search: one for more looks further.
        """
        return self.retrieve_at(requests, quota_B, torch.ones(len(quota_B), dtype=torch.float64))

    def retrieve_at(self, requests: Requests, quota_B: Tensor, effort_B: Tensor) -> Candidates:
        """The same by searches whose widths are multiplied by ``effort_B``, (0, 1]."""
        parts: list[tuple[NDArray[Any], Found]] = []
        for most in quota_B.unique().tolist():
            rows = torch.nonzero(quota_B == most)[:, 0]
            some = requests.take(rows) if len(rows) < len(requests) else requests
            full = self.effort_quota
            scale_B = effort_B[rows].numpy() * (1.0 if full is None else min(1.0, most / full))
            parts.append((rows.numpy(), self.search(some, most, scale_B)))
        return candidates(interleaved(parts) if parts else joined([]))

    def search(self, requests: Requests, most: int, scale_B: NDArray[Any] | None = None) -> Found:
        """The ``most`` best that the graph leads to, and how many items were scored."""
        exclude, seeds = self._exclude(requests), self.seeds(requests)
        return self.catalogue.search(requests, most, self.effort, exclude, scale_B, seeds)

    def seeds(self, requests: Requests) -> Ragged | None:
        """Items at which each request enters the graph."""
        sequence, most = self._scorer.attends_to, self._config.seeds
        if sequence is None or not most:
            return None
        return requests.ragged(f"{sequence}.item").tail(most)

    def exhaustive(self, requests: Requests, most: int) -> Found:
        """The ``most`` best of all items."""
        return self.catalogue.exhaustive(requests, most, self._exclude(requests))

    def arrays(self) -> Mapping[str, Tensor]:
        """Weights, item parts, graph and effort: one version."""
        return kept(self._scorer, self.catalogue, self.effort)

    def _exclude(self, requests: Requests) -> Ragged:
        skip = self._config.skip
        if skip is None:
            return requests.exclude
        return union(requests.exclude, requests.ragged(f"{skip}.item"))


def candidates(found: Found) -> Candidates:
    """What a search found, as the cascade takes it."""
    item = Ragged(torch.from_numpy(found.item.astype(np.int64)), torch.from_numpy(found.offsets))
    return Candidates(item, scores={"score": torch.from_numpy(found.score).unsqueeze(1)})
