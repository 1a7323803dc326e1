"""Search-based Interest Model, Pi et al., CIKM 2020, arXiv:2006.05639.

A general search unit keeps what matters to the candidate out of a lifelong history; an exact search
unit attends to it. ``hard``: events of the candidate's category, one look-up a unique (user,
category) of the request (the user behaviour tree of section 4.2), or those that share another key
with it, out of the long sequence. ``soft``: events with the largest inner products under embeddings
of the search's own, trained beside by a CTR loss on a sample of the long sequence (eq. 2 to 4).
Departures: exact top-k in place of ALSH; cosines, and softmax weights with the log of their sum in
place of eq. 3's plain sum, in which thousands of strangers drown a few events that matter; those
the search found enter that sum whole and the sample stands for the rest; the search also learns
which event comes next; its cosines are told to the exact search unit; recent events go through DIN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Batch, Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..nn.age import buckets
from ..nn.embedder import Embedder
from ..nn.losses import task_losses
from ..nn.mlp import mlp
from ..nn.search import (
    INITIAL_SHARPNESS,
    ExactSearchUnit,
    attend,
    direction,
    gather,
)
from ..ops import ragged
from ..ops.distinct import distinct
from ..ops.embedding_rows import take_columns
from ..ops.target_attention import Rows
from ._lifelong import Found, Lifelong, LongEvents, SearchConfig

PAIRS, GROUP = 4096, 512  # neighbouring events a step, from which the search learns too


@final
class SIM(Lifelong):
    """Recent events by DIN, a lifetime by search."""

    class Config(SearchConfig):
        """Settings of SIM.

        Hard search keeps the newest hits. By category these are at most the schema's key_events,
        and the long sequence is not read.
        """

        kind: Literal["sim"] = "sim"
        search: Literal["hard", "soft"] = "hard"
        """hard: what shares a key with the candidate. soft: the nearest by learned embeddings."""
        key: str | None = None
        """hard: the item feature to share, found in the long sequence at a cost that grows with it.
        Default: the category of the log, looked up in the store at one that does not."""
        heads: int = Field(default=2, ge=1, le=64)
        """Of the exact search unit."""
        head_dim: int = Field(default=16, ge=1, le=1024)
        """Width of queries and keys of a head."""
        interval_dim: int = Field(default=8, ge=0, le=1024)
        """Width of the embedding of a found event's age; 0 leaves it out."""
        search_dim: int = Field(default=16, ge=1, le=1024)
        """soft: width of the search's embedding of each item feature."""
        search_sample: int = Field(default=200, ge=1, le=100_000)
        """soft: events of a request on which the search is trained."""
        search_share: float = Field(default=1.0, ge=0, le=100)
        """soft: weight of the search's loss (α; the ranker's β is 1)."""
        search_next: float = Field(default=1.0, ge=0, le=100)
        """soft: weight of telling which event of a history comes next; 0, as in the paper: none."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> SIM:
            return SIM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.reads_hits = config.search == "hard" and config.key is None
        if self.reads_hits:
            self.reads_sequences = (config.history,)
        names = self.embed.names["item"]
        if config.key is not None and config.key not in names:
            raise ConfigError(f"key: no item feature {config.key!r}; {suggest(config.key, names)}")
        self.exact = ExactSearchUnit(
            self.dim,
            config.interval_dim,
            config.heads,
            config.head_dim,
            found=config.search == "soft",
        )
        self.add_body(self.exact)
        if config.search == "soft":
            self.soft = SoftSearch(config, space, self.attend, len(tasks))

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """What the exact search unit makes of what was found."""
        if self.config.search == "hard":
            return self._hard(requests, candidates, target_ND)
        long = self.long_events(requests, apart=self.config.apart)
        return self._soft(self._search(candidates, long), target_ND)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The ranker's loss, and the search's where it learns."""
        if self.config.search == "hard":
            return super().loss(batch)
        requests, candidates = batch.requests, batch.candidates
        long = self.long_events(requests, apart=self.config.apart)
        found = self._search(candidates, long)
        logit_NT = self.logits(requests, candidates, lambda e: self._soft(found, e))
        losses = task_losses(batch.sampled(logit_NT), batch, dict.fromkeys(self.tasks, 1.0))
        search_NT = batch.sampled(self.soft(candidates, long, found))
        share = dict.fromkeys(self.tasks, self.config.search_share)
        search = task_losses(search_NT, batch, share)
        losses |= {f"search_{task}": loss for task, loss in search.items()}
        if self.config.search_next:
            losses["search_next"] = self.config.search_next * self.soft.next_loss(requests)
        return losses

    def freeze(self, chunk: int = 65_536) -> None:
        super().freeze(chunk)
        if self.config.search == "soft":
            self.soft.freeze(chunk)
            self.know(self.soft.keys, chunk)

    def _hard(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        by_category = self.config.key is None
        item_E, age_E, rows = (self._hits if by_category else self._sharing)(requests, candidates)
        newest_N = rows.length_N.clamp(max=self.config.hits)
        rows = Rows(rows.start_N + rows.length_N - newest_N, newest_N)
        return self.exact.packed(target_ND, self.events(item_E), buckets(age_E), rows)

    def _hits(self, requests: Requests, candidates: Candidates) -> tuple[Tensor, Tensor, Rows]:
        """Items and ages of what the store found, oldest first, and each candidate's share."""
        hits = candidates.hits
        if hits is None:
            raise ValueError("sim reads hits; make candidates with hits=True")
        offsets, age_E = hits.item.offsets, hits.age_ms.values
        end_P = offsets[1:]
        if self.config.apart:  # oldest first: what the recent sequence has is at the end
            request_P = torch.zeros(len(hits.item), dtype=torch.int64)
            request_P[hits.key] = candidates.item_id.row
            recent_E = age_E <= hits.item.spread(self.oldest(requests)[request_P])
            end_P = end_P - ragged.segment_sum(recent_E.long(), offsets)
        start_N = offsets[:-1][hits.key]
        return hits.item.values, age_E, Rows(start_N, end_P[hits.key] - start_N)

    def _sharing(self, requests: Requests, candidates: Candidates) -> tuple[Tensor, Tensor, Rows]:
        """The same out of the long sequence, by ``key``; unknown values are like no other."""
        assert self.config.key is not None
        key_I = self.embed.item_ids[:, self.embed.names["item"].index(self.config.key)]
        long = self.long_events(requests, apart=self.config.apart)
        item, size = long.item, 1 + int(key_I.max())
        key_E, key_N = key_I[item.values], key_I[candidates.item_id.values]
        earlier_E = torch.arange(len(key_E)) < item.spread(long.end_B)
        kept_E = torch.nonzero((key_E > 0) & earlier_E)[:, 0]
        pair_E, order_E = (item.row * size + key_E)[kept_E].sort(stable=True)
        pair_N = candidates.item_id.row * size + key_N
        start_N = torch.searchsorted(pair_E, pair_N)
        length_N = torch.searchsorted(pair_E, pair_N, right=True) - start_N
        sorted_E = kept_E[order_E]
        return item.values[sorted_E], long.age_E[sorted_E], Rows(start_N, length_N)

    def _search(self, candidates: Candidates, long: LongEvents) -> Found:
        with torch.no_grad():
            query_NS = self.soft.queries(candidates.item_id.values)
        return self.search(candidates, long, self.config.hits, query_NS, self.soft.keys)

    def _soft(self, found: Found, target_ND: Tensor) -> Tensor:
        event_NKD = self.events(found.item_NK)
        return self.exact(target_ND, event_NKD, found.age_NK, found.real_NK, near_NK=found.near_NK)


@final
class SoftSearch(nn.Module):
    """The general search unit with embeddings of its own: they serve the search and nothing else.

    ``r_i = cos(W_b e_i, W_a e_a)``; trained by a CTR loss of an MLP over
    ``[Σ_i s_i e_i ; log Σ_i exp(λ (r_i - 1)) ; e_a]`` with s the softmax of λ r. The sums run over
    all events: those found as they are, the rest by a sample of S that stands for all of them.
    """

    def __init__(
        self, config: SIM.Config, space: FeatureSpace, attend: tuple[str, ...], num_tasks: int
    ) -> None:
        super().__init__()
        self.long, self.sample, self.attend = config.long, config.search_sample, attend
        self.embed = Embedder(space, ("item",), dim=config.search_dim)
        width = self.embed.width(attend)
        self.target = nn.Linear(width, width, bias=False)
        self.event = nn.Linear(width, width, bias=False)
        for side in (self.target, self.event):
            nn.init.eye_(side.weight)  # like finds like from the start; noise would find noise
        self.sharpness = nn.Parameter(torch.full((1,), INITIAL_SHARPNESS))
        self.head = mlp(2 * width + 1, 64, num_tasks, activation="prelu")
        self._queries_IS: Tensor | None = None  # of every item, once frozen

    def queries(self, item_N: Tensor) -> Tensor:  # (N, S)
        """What candidates are searched by."""
        if self._queries_IS is not None:
            return self._queries_IS[item_N]
        return direction(self.target(self.embed.items(item_N, self.attend)))

    def keys(self, item_E: Tensor) -> Tensor:  # (E, S)
        """What events are found by."""
        return direction(self.event(self.embed.items(item_E, self.attend)))

    @torch.inference_mode()
    def freeze(self, chunk: int) -> None:
        """Make the query of every item."""
        every = torch.arange(len(self.embed.item_ids)).split(chunk)
        self._queries_IS = None
        self._queries_IS = torch.cat([self.queries(some) for some in every])

    def forward(
        self, candidates: Candidates, long: LongEvents, found: Found
    ) -> Tensor:  # (N, T) logits
        """Predict from the long sequence alone."""
        item = long.item
        size_B = long.end_B - item.offsets[:-1]
        sampled_BS = gather(item.values, self._draw(item, size_B, self.sample))
        target_NX, hit_NKX, event_BSX = self._vectors(
            candidates.item_id.values, found.item_NK, sampled_BS
        )
        query_NX = direction(self.target(target_NX)).unsqueeze(-1)
        near_NK = (direction(self.event(hit_NKX)) @ query_NX).squeeze(-1)
        key_NSX = candidates.item_id.spread(direction(self.event(event_BSX)))
        near_NS = (key_NSX @ query_NX).squeeze(-1)
        # of the sample, what the search did not find: each stands for several of its kind
        least_N1 = found.near_NK.masked_fill(~found.real_NK, torch.inf).amin(1, keepdim=True)
        rest_NS = near_NS.detach() < least_N1
        left_N = candidates.item_id.spread(size_B) - found.real_NK.sum(1)
        stand_for_N1 = (left_N.clamp(min=1) / self.sample).log().unsqueeze(1)
        logit_NE = torch.cat([near_NK, near_NS], dim=1) - 1
        logit_NE = self.sharpness * logit_NE
        logit_NE = logit_NE + torch.cat(
            [torch.zeros_like(near_NK), stand_for_N1.expand_as(near_NS)], dim=1
        )
        event_NEX = torch.cat([hit_NKX, candidates.item_id.spread(event_BSX)], dim=1)
        real_NE = torch.cat([found.real_NK, rest_NS], dim=1)
        sum_NX = attend(logit_NE.unsqueeze(1), event_NEX.unsqueeze(1), real_NE)
        sum_NX = sum_NX * real_NE.any(1, keepdim=True)
        return self.head(torch.cat([sum_NX, target_NX], dim=-1))

    def next_loss(self, requests: Requests) -> Tensor:
        """Softmax cross-entropy of the next event against those of other draws, by groups."""
        item = requests.ragged(f"{self.long}.item")
        at_BS = self._draw(item, item.lengths - 1, PAIRS // max(len(requests), 1) + 1)
        at_P = at_BS[item.lengths > 1].flatten()
        if not len(at_P):
            return self.sharpness.sum() * 0
        at_P = at_P[torch.randperm(len(at_P))[:PAIRS]]
        total = self.sharpness.new_zeros(())
        for at_G in at_P.split(GROUP):
            next_G = item.values[at_G + 1]
            query_GX, key_GX = self.queries(item.values[at_G]), self.keys(next_G)
            same_GG = (next_G == next_G.unsqueeze(1)).fill_diagonal_(False)
            logit_GG = (INITIAL_SHARPNESS * query_GX @ key_GX.T).masked_fill(same_GG, -torch.inf)
            total = total + F.cross_entropy(logit_GG, torch.arange(len(at_G)), reduction="sum")
        return total / len(at_P)

    def _draw(self, item: Ragged, size_B: Tensor, most: int) -> Tensor:  # (B, most)
        """Places of events, drawn evenly from the first ``size_B`` of each row."""
        within_BS = torch.rand(len(item), most) * size_B.clamp(min=0).unsqueeze(1)
        at_BS = item.offsets[:-1].unsqueeze(1) + within_BS.long()
        return at_BS.clamp(max=max(len(item.values) - 1, 0))

    def _vectors(self, *item: Tensor) -> list[Tensor]:
        """Vectors of several columns of items, any shape; looked up once a distinct item."""
        items_U, places = distinct(*(i.flatten() for i in item))
        found = take_columns(self.embed.items(items_U, self.attend), places)
        return [vector.unflatten(0, i.shape) for vector, i in zip(found, item, strict=True)]
