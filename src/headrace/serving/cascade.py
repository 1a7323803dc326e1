"""The cascade as a pure function of requests, plan and behaviour; it never asks why a quota is so.

The same ``run`` serves offline evaluation and HTTP. What changes while serving (prices, withdrawn
items) is in the catalogue, and a change makes a new cascade; what users do is in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..behavior import BehaviorStore
from ..calibration import Calibration
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import Catalogue, FeatureBuilder
from ..ops import ragged
from ..stages import (
    EFFORT,
    PRERANKER,
    RANKING,
    RERANKER,
    TIER,
    Adjustable,
    Narrowing,
    Plainly,
    Plan,
    Retriever,
    Revise,
    Selector,
    Statistics,
    Trace,
    sequences_read,
)
from ..value import Value
from .blend import Blend
from .merge import Merge, retrieve
from .pieces import CascadeScorer, Made, Tier, Watch


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
    tiers: Mapping[str, Tier] = field(default_factory=dict[str, Tier])  # besides the ranker

    @cached_property
    def reads_sequences(self) -> frozenset[str] | None:
        """The sequences that requests must carry; None is all of the schema."""
        tiers = (tier.ranker for tier in self.tiers.values())
        parts = (*self.channels.values(), self.preranker, self.ranker, *tiers, self.reranker)
        return sequences_read(parts)

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The optional keys of plans that make a difference here."""
        efforts = (f"{EFFORT}{name}" for name in self._adjustable)
        tiers = (f"{TIER}{name}" for name in self.tiers)
        skip = (RERANKER,) if self._plainly else ()
        known = (PRERANKER,) if self.merge.is_fitted else ()
        return (*known, RANKING, *skip, *tiers, *efforts)

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
        watch = Watch()
        found = {
            name: watch(name, lambda n=name: self._retrieve(n, requests, plan))
            for name in self.channels
        }
        merged = watch("retrieval", lambda: self.merged(found, plan.quota["retrieval"]))
        judged_B = plan.quota.get(PRERANKER, torch.ones(len(requests)))  # by the pre-ranker
        early = self._early if bool(judged_B.any()) else Made((), hits=False)
        if self._narrowing is not None:
            merged = watch("coarse", lambda: self.narrowed(requests, merged, judged_B))
        if early:
            merged = watch("features", lambda: early.make(self.builder, requests, merged, store))
        by_B = self._ranked_by(plan)
        late = early.rest(self._rankers(by_B))
        if late:
            store = self.builder.ahead(requests, merged, store, hits=late.hits, names=late.names)
        merged = watch("preranking", lambda: self.prerank(requests, merged, judged_B))
        if revise is not None:
            told = self.statistics(merged)
            plan = watch("revision", lambda: revise(plan, told))
            by_B = self._ranked_by(plan)
        short = self.cut(merged, plan.quota["preranking"])
        ranked = self._ranked(requests, short, by_B, early, store, watch)
        chosen = watch("reranking", lambda: self._select(requests, ranked, plan))
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
        early = self._early
        rankers = (self.ranker, *(tier.ranker for tier in self.tiers.values()))
        for part in (early, early.rest(rankers)):
            candidates = part.make(self.builder, requests, candidates, store)
        return candidates

    # what parts can do is asked once: to ask it of a protocol takes longer than some of their work

    @cached_property
    def _adjustable(self) -> Mapping[str, Adjustable]:
        return {name: c for name, c in self.channels.items() if isinstance(c, Adjustable)}

    @cached_property
    def _narrowing(self) -> Narrowing | None:
        return self.preranker if isinstance(self.preranker, Narrowing) else None

    @cached_property
    def _plainly(self) -> Plainly | None:
        return self.reranker if isinstance(self.reranker, Plainly) else None

    @cached_property
    def _early(self) -> Made:
        """Features made of what retrieval found; all others can wait for the cut.

        The pre-ranker's come first, and with them all that comes out of the same look-up.
        """
        first, rest = list(self.preranker.reads_cross), list(self.ranker.reads_cross)
        hits = self.preranker.reads_hits
        if hits or self.builder.counters(first):
            first += self.builder.counters(rest)
            hits = hits or self.ranker.reads_hits
        return Made(list(dict.fromkeys(first)), hits)

    def _retrieve(self, name: str, requests: Requests, plan: Plan) -> Candidates:
        quota_B = plan.quota[name]
        effort_B = plan.quota.get(f"{EFFORT}{name}")
        if not bool(quota_B.any()):  # where it is switched off it is not even asked
            none = Ragged(quota_B[:0], quota_B.new_zeros(len(requests) + 1))
            return Candidates(none, scores={"score": torch.zeros(0, 1)})
        if bool(quota_B.all()):
            found = self.search(name, requests, quota_B, effort_B)
        else:
            rows = torch.nonzero(quota_B)[:, 0]
            part_B = None if effort_B is None else effort_B[rows]
            some = self.search(name, requests.take(rows), quota_B[rows], part_B)
            length_B = torch.zeros_like(quota_B).index_copy(0, rows, some.item_id.lengths)
            found = replace(some, item_id=Ragged.sized(some.item_id.values, length_B))
        if self.catalogue.whole:
            return found
        on_sale_N = self.catalogue.available[found.item_id.values]
        return found if bool(on_sale_N.all()) else found.take(torch.nonzero(on_sale_N)[:, 0])

    def search(
        self, name: str, requests: Requests, quota_B: Tensor, effort_B: Tensor | None = None
    ) -> Candidates:
        """What one channel finds; ``effort_B`` is in per cent, all of it where none is told."""
        if effort_B is None or name not in self._adjustable:
            return self.channels[name].retrieve(requests, quota_B)
        effort_B = effort_B.double().clamp(1, 100) / 100
        return self._adjustable[name].retrieve_at(requests, quota_B, effort_B)

    def _ranked_by(self, plan: Plan) -> Tensor:  # (B,) int64
        """Who ranks each request: 0 the ranker, n the n-th tier, -1 nobody.

        Raises ConfigError on a tier that the cascade does not have.
        """
        by_B, names = torch.zeros_like(plan.quota["preranking"]), list(self.tiers)
        for key, chosen_B in plan.quota.items():
            if not key.startswith(TIER):
                continue
            name = key.removeprefix(TIER)
            if name not in self.tiers:
                raise ConfigError(f"plan: no tier {name!r} in the bundle; {suggest(name, names)}")
            by_B = by_B.masked_fill(chosen_B > 0, 1 + names.index(name))
        return by_B.masked_fill(plan.quota[RANKING] == 0, -1) if RANKING in plan.quota else by_B

    def _rankers(self, by_B: Tensor) -> list[CascadeScorer]:
        """Those who rank at least one request."""
        every = [self.ranker, *(tier.ranker for tier in self.tiers.values())]
        return [every[at] for at in sorted(set(by_B.tolist())) if at >= 0]

    def _ranked(
        self,
        requests: Requests,
        short: Candidates,
        by_B: Tensor,
        made: Made,
        store: BehaviorStore,
        watch: Watch,
    ) -> Candidates:
        """The word of whoever ranks a request, the pre-ranker's where nobody does."""

        def rank(at: int, asking: Requests, part: Candidates) -> Candidates:
            tier = None if at == 0 else list(self.tiers)[at - 1]
            late = made.rest(self._rankers(torch.tensor([at])))
            if late:
                part = watch("features", lambda: late.make(self.builder, asking, part, store))
            stage = RANKING if tier is None else f"{TIER}{tier}"
            return watch(stage, lambda: self.rank(asking, part, tier))

        used = sorted(set(by_B.tolist()))
        if len(used) == 1 and used[0] >= 0:
            return rank(used[0], requests, short)
        out = self.unranked(short)
        for at in used:
            if at >= 0:
                rows = torch.nonzero(by_B == at)[:, 0]
                part = rank(at, requests.take(rows), short.take_rows(rows))
                at_K = torch.nonzero(short.item_id.spread(by_B == at))[:, 0]
                scores = {n: x.index_copy(0, at_K, part.scores[n]) for n, x in out.scores.items()}
                out = replace(out, scores=scores)
        return out

    def _select(self, requests: Requests, ranked: Candidates, plan: Plan) -> Tensor:  # (K,)
        """Positions of the slates; of those that skip re-ranking the top of the ranker's order."""
        quota_B, wanted_B = plan.quota["reranking"], plan.quota.get(RERANKER)
        if wanted_B is None or bool(wanted_B.all()) or self._plainly is None:
            return self.reranker.select(requests, ranked, quota_B)
        parts: list[Tensor] = []
        for selector, some_B in (
            (self.reranker, wanted_B > 0),
            (self._plainly.plain(), wanted_B == 0),
        ):
            rows = torch.nonzero(some_B)[:, 0]
            if len(rows):
                at_N = torch.nonzero(ranked.item_id.spread(some_B))[:, 0]
                part = ranked.take_rows(rows)
                parts.append(at_N[selector.select(requests.take(rows), part, quota_B[rows])])
        chosen_K = torch.cat(parts)
        return chosen_K[ranked.item_id.row[chosen_K].argsort(stable=True)]

    @property
    def _tasks(self) -> int:
        return len(self.preranking_blend.line)

    def retrieved(self, quota: Mapping[str, int], requests: Requests) -> Candidates:
        """What retrieval as a whole finds, at the same quotas for all requests."""
        found = retrieve(self.channels, requests, quota)
        return self.merged(found, torch.full((len(requests),), quota["retrieval"]))

    def merged(self, found: Mapping[str, Candidates], quota_B: Tensor) -> Candidates:
        """Of all that channels found those worth most, as likely to be taken as the merge says.

        Where the formula knows probabilities only, those are the likeliest.
        """

        def worth(every: Candidates) -> Tensor:
            return self.worth(every.scores["retrieval"].expand(-1, self._tasks), every)

        return self.merge.merge(found, quota_B, worth if self.value.columns else None)

    def narrowed(
        self, requests: Requests, merged: Candidates, judged_B: Tensor | None = None
    ) -> Candidates:
        """What the pre-ranker's coarse step leaves, by worth; all where it has no such step.

        Where ``judged_B`` is 0 the pre-ranker has no say.
        """
        model = self._narrowing
        if model is None or (judged_B is not None and not bool(judged_B.any())):
            return merged
        keep_B = torch.full((len(requests),), model.keep)
        if judged_B is not None:
            keep_B = torch.where(judged_B > 0, keep_B, merged.item_id.lengths)
        return self.cut_coarsely(model, requests, merged, keep_B)

    def cut_coarsely(
        self, model: Narrowing, requests: Requests, merged: Candidates, keep_B: Tensor
    ) -> Candidates:
        """The best by a coarse step, in the order of retrieval as without it."""
        rough_N = self.worth(model.coarse_score(requests, merged), merged)
        return merged.take(ragged.top_in_place(rough_N, merged.item_id.offsets, keep_B))

    def prerank(
        self, requests: Requests, merged: Candidates, judged_B: Tensor | None = None
    ) -> Candidates:
        """Add what the pre-ranker says, in the light of retrieval.

        Where ``judged_B`` is 0 it says what the merge says, that is nothing of its own.
        """
        if judged_B is None or bool(judged_B.all()):
            own_NT = self.preranker.score(requests, merged)
            rough_NT = self.preranking_blend.apply(own_NT, merged.scores["retrieval"])
            return merged.scored("preranking", rough_NT)
        rough_NT = merged.scores["retrieval"].repeat(1, self._tasks)
        rows = torch.nonzero(judged_B)[:, 0]
        if len(rows):
            part = self.prerank(requests.take(rows), merged.take_rows(rows))
            at_N = torch.nonzero(merged.item_id.spread(judged_B > 0))[:, 0]
            rough_NT = rough_NT.index_copy(0, at_N, part.scores["preranking"])
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

    def rank(self, requests: Requests, short: Candidates, tier: str | None = None) -> Candidates:
        """Add calibrated probabilities and their value; ordered later, by the re-ranker.

        ``tier`` names who ranks in the ranker's place.
        """
        fine_NT = self.blended(self.judged(requests, short, tier), short, tier)
        value_N = self.worth(fine_NT, short)
        return short.scored("ranking", fine_NT).scored("value", value_N.unsqueeze(-1))

    def judged(self, requests: Requests, short: Candidates, tier: str | None = None) -> Tensor:
        """Calibrated probabilities ``(N, T)`` of the ranker or a tier, before blending."""
        who = self._tier(tier)
        return who.calibration.apply(who.ranker.score(requests, short))

    def blended(self, own_NT: Tensor, short: Candidates, tier: str | None = None) -> Tensor:
        """The same in the light of what the pre-ranker says."""
        return self._tier(tier).blend.apply(own_NT, short.scores["preranking"])

    def _tier(self, name: str | None) -> Tier:
        if name is None:
            return Tier(self.ranker, self.calibration, self.ranking_blend)
        return self.tiers[name]

    def unranked(self, short: Candidates) -> Candidates:
        """What the pre-ranker says, in the place of the ranker's word."""
        rough_NT = short.scores["preranking"]
        value_N = self.worth(rough_NT, short)
        return short.scored("ranking", rough_NT).scored("value", value_N.unsqueeze(-1))

    def worth(self, probability_NT: Tensor, candidates: Candidates) -> Tensor:  # (N,)
        """What candidates of these probabilities are worth at today's prices."""
        read = self.catalogue.rows(candidates.item_id.values, self.value.columns)
        return self.value(probability_NT, read)
