"""The cascade as a pure function of requests, plan and behaviour; it never asks why a quota is so.

The same ``run`` serves offline evaluation and HTTP. What changes while serving (prices, withdrawn
items) is in the catalogue, and a change makes a new cascade; what users do is in the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..behavior import BehaviorStore
from ..calibration import Calibration
from ..data import Candidates, Ragged, Requests
from ..features import Catalogue, FeatureBuilder
from ..ops import ragged
from ..stages import (
    Narrowing,
    Plan,
    Retriever,
    Revise,
    Scorer,
    Selector,
    Statistics,
    Trace,
    sequences_read,
)
from ..value import Value
from .blend import Blend
from .merge import Merge

T = TypeVar("T")


class CascadeScorer(Scorer, Protocol):
    """A scorer that says which features it reads, so that the cascade makes none in vain."""

    @property
    def reads_cross(self) -> Sequence[str]: ...
    @property
    def reads_hits(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Retrieve, merge, pre-rank, rank, calibrate, blend, value, re-rank."""

    builder: FeatureBuilder
    catalogue: Catalogue
    channels: Mapping[str, Retriever]
    merge: Merge
    preranker: CascadeScorer
    preranking_blend: Blend
    ranker: CascadeScorer
    calibration: Calibration
    ranking_blend: Blend
    value: Value
    reranker: Selector

    @cached_property
    def reads_sequences(self) -> frozenset[str] | None:
        """The sequences that requests must carry; None is all of the schema."""
        parts = (*self.channels.values(), self.preranker, self.ranker, self.reranker)
        return sequences_read(parts)

    def run(
        self,
        requests: Requests,
        plan: Plan,
        store: BehaviorStore,
        revise: Revise | None = None,
    ) -> Trace:
        """Narrow the catalogue to a slate for each request.

        ``revise`` may change the quotas of pre-ranking once its scores are there.
        """
        watch = _Watch()
        found = {
            name: watch(name, lambda c=channel, n=name: self._retrieve(c, requests, plan.quota[n]))
            for name, channel in self.channels.items()
        }
        merged = watch("retrieval", lambda: self.merge.merge(found, plan.quota["retrieval"]))
        if isinstance(self.preranker, Narrowing):
            merged = watch("coarse", lambda: self.narrowed(requests, merged))
        early, late = self._making
        if early:
            merged = watch("features", lambda: early.make(self.builder, requests, merged, store))
        if late and bool(_to_rank(plan).any()):
            store = self.builder.ahead(requests, merged, store, hits=late.hits, names=late.names)
        merged = watch("preranking", lambda: self.prerank(requests, merged))
        if revise is not None:
            told = self.statistics(merged)
            plan = watch("revision", lambda: revise(plan, told))
        short = self.cut(merged, plan.quota["preranking"])
        ranked = self._ranked(requests, short, _to_rank(plan), store, watch)
        chosen = watch(
            "reranking",
            lambda: self.reranker.select(requests, ranked, plan.quota["reranking"]),
        )
        after = {
            "retrieval": merged,
            "preranking": short,
            "ranking": ranked,
            "reranking": ranked.take(chosen),
        }
        return Trace(plan, watch.spent_us, found, after)

    def with_catalogue(self, catalogue: Catalogue) -> Cascade:
        """The same cascade over changed prices or availability."""
        return replace(self, catalogue=catalogue)

    def features(
        self, requests: Requests, candidates: Candidates, store: BehaviorStore
    ) -> Candidates:
        """Add what pre-ranker and ranker read of candidates."""
        early, late = self._making
        for part in (early, late):
            candidates = part.make(self.builder, requests, candidates, store)
        return candidates

    @cached_property
    def _making(self) -> tuple[_Made, _Made]:
        """Features made of what retrieval found, and those that can wait for the cut.

        The pre-ranker's come first, and with them all that comes out of the same look-up.
        """
        first, rest = list(self.preranker.reads_cross), list(self.ranker.reads_cross)
        hits = self.preranker.reads_hits
        if hits or self.builder.counters(first):
            first += self.builder.counters(rest)
            hits = hits or self.ranker.reads_hits
        late = [name for name in rest if name not in first]
        return _Made(list(dict.fromkeys(first)), hits), _Made(
            late, self.ranker.reads_hits and not hits
        )

    def _retrieve(self, channel: Retriever, requests: Requests, quota_B: Tensor) -> Candidates:
        rows = torch.nonzero(quota_B)[:, 0]  # where it is switched off it is not even asked
        if not len(rows):
            nothing = torch.zeros(0, dtype=torch.int64)
            none = Ragged(nothing, torch.zeros(len(requests) + 1, dtype=torch.int64))
            return Candidates(none, scores={"score": torch.zeros(0, 1)})
        if len(rows) == len(requests):
            found = channel.retrieve(requests, quota_B)
        else:
            some = channel.retrieve(requests.take(rows), quota_B[rows])
            length_B = torch.zeros_like(quota_B).index_copy(0, rows, some.item_id.lengths)
            found = replace(some, item_id=Ragged.sized(some.item_id.values, length_B))
        if self.catalogue.whole:
            return found
        on_sale_N = self.catalogue.available[found.item_id.values]
        return found if bool(on_sale_N.all()) else found.take(torch.nonzero(on_sale_N)[:, 0])

    def _ranked(
        self,
        requests: Requests,
        short: Candidates,
        wanted_B: Tensor,
        store: BehaviorStore,
        watch: _Watch,
    ) -> Candidates:
        """The ranker's word where it is wanted, the pre-ranker's elsewhere."""
        rows = torch.nonzero(wanted_B)[:, 0]
        if not len(rows):
            return self.unranked(short)
        mixed, asking, part = len(rows) < len(requests), requests, short
        if mixed:
            asking, part = requests.take(rows), short.take_rows(rows)
        late = self._making[1]
        if late:
            part = watch("features", lambda: late.make(self.builder, asking, part, store))
        part = watch("ranking", lambda: self.rank(asking, part))
        if not mixed:
            return part
        rough, at_K = self.unranked(short), torch.nonzero(short.item_id.spread(wanted_B))[:, 0]
        scores = {n: x.index_copy(0, at_K, part.scores[n]) for n, x in rough.scores.items()}
        return replace(rough, scores=scores)

    def narrowed(self, requests: Requests, merged: Candidates) -> Candidates:
        """What the pre-ranker's coarse step leaves, by worth; all where it has no such step."""
        model = self.preranker
        if not isinstance(model, Narrowing):
            return merged
        return self.cut_coarsely(model, requests, merged, model.keep)

    def cut_coarsely(
        self, model: Narrowing, requests: Requests, merged: Candidates, keep: int
    ) -> Candidates:
        """The best by a coarse step, in the order of retrieval as without it."""
        rough_N = self.worth(model.coarse_score(requests, merged), merged)
        quota_B = torch.full((len(requests),), keep)
        return merged.take(ragged.top_in_place(rough_N, merged.item_id.offsets, quota_B))

    def prerank(self, requests: Requests, merged: Candidates) -> Candidates:
        """Add what the pre-ranker says, in the light of retrieval."""
        own_NT = self.preranker.score(requests, merged)
        rough_NT = self.preranking_blend.apply(own_NT, merged.scores["retrieval"])
        return merged.scored("preranking", rough_NT)

    def cut(self, merged: Candidates, quota_B: Tensor) -> Candidates:
        """Those worth most by the pre-ranker's word."""
        rough_N = self.worth(merged.scores["preranking"], merged)
        return merged.take(ragged.top(rough_N, merged.item_id.offsets, quota_B))

    def statistics(self, merged: Candidates) -> Statistics:
        """What pre-ranking told, without its candidates."""
        rough_N = self.worth(merged.scores["preranking"], merged)
        every_B = merged.item_id.lengths
        order_N = ragged.top(rough_N, merged.item_id.offsets, every_B)
        return Statistics(merged.item_id.with_values(rough_N[order_N]))

    def rank(self, requests: Requests, short: Candidates) -> Candidates:
        """Add calibrated probabilities and their value; ordered later, by the re-ranker."""
        own_NT = self.calibration.apply(self.ranker.score(requests, short))
        fine_NT = self.ranking_blend.apply(own_NT, short.scores["preranking"])
        value_N = self.worth(fine_NT, short)
        return short.scored("ranking", fine_NT).scored("value", value_N.unsqueeze(-1))

    def unranked(self, short: Candidates) -> Candidates:
        """What the pre-ranker says, in the place of the ranker's word."""
        rough_NT = short.scores["preranking"]
        value_N = self.worth(rough_NT, short)
        return short.scored("ranking", rough_NT).scored("value", value_N.unsqueeze(-1))

    def worth(self, probability_NT: Tensor, candidates: Candidates) -> Tensor:  # (N,)
        """What candidates of these probabilities are worth at today's prices."""
        read = self.catalogue.rows(candidates.item_id.values, self.value.columns)
        return self.value(probability_NT, read)


@dataclass(frozen=True, slots=True)
class _Made:
    """Some of the features of candidates; false if there are none."""

    names: Sequence[str]
    hits: bool

    def __bool__(self) -> bool:
        return bool(self.names) or self.hits

    def make(
        self,
        builder: FeatureBuilder,
        requests: Requests,
        candidates: Candidates,
        store: BehaviorStore,
    ) -> Candidates:
        return builder.candidates(requests, candidates, store, hits=self.hits, names=self.names)


def _to_rank(plan: Plan) -> Tensor:  # (B,) bool
    """Whose candidates the ranker is to score; a plan that does not say means everyone's."""
    return plan.quota.get("ranking", torch.ones_like(plan.quota["preranking"])) > 0


@dataclass
class _Watch:
    """Times named pieces of work; a name used twice adds up."""

    spent_us: dict[str, int] = field(default_factory=dict[str, int])

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter_ns()
        result = work()
        spent = (time.perf_counter_ns() - start) // 1000
        self.spent_us[name] = self.spent_us.get(name, 0) + spent
        return result
