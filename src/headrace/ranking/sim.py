"""Search-based Interest Model, Pi et al., CIKM 2020, arXiv:2006.05639.

A general search unit keeps what matters to the candidate out of a lifelong history; an exact search
unit attends to it. ``hard``: events of the candidate's category, one look-up a unique (user,
category) of the request (the user behaviour tree of section 4.2). ``soft``: events with the largest
inner products under embeddings of the search's own, trained beside by a CTR loss on a sample of the
long sequence (eq. 2 to 4). Departures: exact top-k in place of ALSH; the relevance-weighted sum of
eq. 3 is divided by the sample's size; recent events go through DIN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Batch, Candidates, Requests
from ..features import FeatureSpace
from ..nn.age import buckets
from ..nn.embedder import Embedder
from ..nn.losses import task_losses
from ..nn.mlp import mlp
from ..nn.search import ExactSearchUnit, gather, nearest, newest
from ._lifelong import Lifelong, SearchConfig


@final
class SIM(Lifelong):
    """Recent events by DIN, a lifetime by search."""

    class Config(SearchConfig):
        """Settings of SIM.

        Hard search keeps the newest hits, at most the schema's key_events; it does not read the
        long sequence.
        """

        kind: Literal["sim"] = "sim"
        search: Literal["hard", "soft"] = "hard"
        """hard: the candidate's category. soft: the nearest by learned embeddings."""
        heads: int = Field(default=2, ge=1, le=64)
        """Of the exact search unit."""
        head_dim: int = Field(default=16, ge=1, le=1024)
        """Width of queries and keys of a head."""
        interval_dim: int = Field(default=8, ge=0, le=1024)
        """Width of the embedding of a found event's age; 0 leaves it out."""
        search_dim: int = Field(default=8, ge=1, le=1024)
        """soft: width of the search's embedding of each item feature."""
        search_sample: int = Field(default=200, ge=1, le=100_000)
        """soft: events of a request on which the search is trained."""
        search_share: float = Field(default=1.0, ge=0, le=100)
        """soft: weight of the search's loss (α; the ranker's β is 1)."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> SIM:
            return SIM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.reads_hits = config.search == "hard"
        if self.reads_hits:
            self.reads_sequences = (config.history,)
        self.exact = ExactSearchUnit(self.dim, config.interval_dim, config.heads, config.head_dim)
        self.add_body(self.exact)
        if config.search == "soft":
            self.soft = SoftSearch(config, space, self.attend, len(tasks))

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """What the exact search unit makes of what was found."""
        look_up = self._hard if self.config.search == "hard" else self._soft
        return look_up(requests, candidates, target_ND)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The ranker's loss, and the search's where it learns."""
        losses = dict(super().loss(batch))
        if self.config.search == "soft":
            logit_NT = batch.sampled(self.soft(batch.requests, batch.candidates))
            share = dict.fromkeys(self.tasks, self.config.search_share)
            search = task_losses(logit_NT, batch, share)
            losses |= {f"search_{task}": loss for task, loss in search.items()}
        return losses

    def freeze(self, chunk: int = 65_536) -> None:
        super().freeze(chunk)
        if self.config.search == "soft":
            self.soft.freeze(chunk)

    def _hard(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        hits = candidates.hits
        if hits is None:
            raise ValueError("sim reads hits; make candidates with hits=True")
        at_PK, real_PK = newest(hits, self.config.hits)
        age_PK = gather(hits.age_ms.values, at_PK)
        if self.config.apart:
            request_P = torch.zeros(len(hits.item), dtype=torch.int64)
            request_P[hits.key] = candidates.item_id.row
            real_PK = real_PK & (age_PK > self.oldest(requests)[request_P].unsqueeze(1))
        event_PKD = gather(self.events(hits.item.values), at_PK)
        return self.exact(target_ND, event_PKD, buckets(age_PK), real_PK, hits.key)

    def _soft(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        long = self.long_events(requests, apart=self.config.apart)
        query_NS = self.soft.queries(candidates.item_id.values)
        key_ES = self.soft.keys(long.item.values)
        at_NK, real_NK = nearest(
            query_NS, candidates.item_id, key_ES, long.item, self.config.hits, long.end_B
        )
        event_NKD = self.events(gather(long.item.values, at_NK).flatten())
        event_NKD = event_NKD.unflatten(0, at_NK.shape)
        return self.exact(target_ND, event_NKD, buckets(gather(long.age_E, at_NK)), real_NK)


@final
class SoftSearch(nn.Module):
    """The general search unit with embeddings of its own: they serve the search and nothing else.

    ``r_i = (W_b e_i) · (W_a e_a)``; trained by a CTR loss of an MLP over [Σ_i r_i e_i / S ; e_a]
    on S events of the long sequence.
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
        self.head = mlp(2 * width, 64, num_tasks, activation="prelu")
        self._frozen: tuple[Tensor, Tensor] | None = None

    def queries(self, item_N: Tensor) -> Tensor:  # (N, S)
        """What candidates are searched by."""
        if self._frozen is not None:
            return self._frozen[0][item_N]
        return self.target(self.embed.items(item_N, self.attend))

    def keys(self, item_E: Tensor) -> Tensor:  # (E, S)
        """What events are found by."""
        if self._frozen is not None:
            return self._frozen[1][item_E]
        return self.event(self.embed.items(item_E, self.attend))

    @torch.inference_mode()
    def freeze(self, chunk: int) -> None:
        """Make queries and keys of every item."""
        every = torch.arange(len(self.embed.item_ids)).split(chunk)
        self._frozen = None
        self._frozen = (
            torch.cat([self.queries(some) for some in every]),
            torch.cat([self.keys(some) for some in every]),
        )

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        """Predict from a sample of the long sequence alone."""
        item = requests.ragged(f"{self.long}.item")
        draw_BS = torch.rand(len(requests), self.sample) * item.lengths.unsqueeze(1)
        at_BS = (item.offsets[:-1].unsqueeze(1) + draw_BS.long()).clamp(
            max=max(len(item.values) - 1, 0)
        )
        some_B11 = (item.lengths > 0)[:, None, None]
        sampled = gather(item.values, at_BS).flatten()
        event_BSX = self.embed.items(sampled, self.attend).unflatten(0, at_BS.shape)
        event_BSX = event_BSX * some_B11
        target_NX = self.embed.items(candidates.item_id.values, self.attend)
        # Σ_i (W_b e_i · W_a e_a) e_i = (Σ_i e_i (W_b e_i)ᵀ) W_a e_a: one matrix a request
        outer_BXX = event_BSX.transpose(1, 2) @ self.event(event_BSX) / self.sample
        query_NX = self.target(target_NX)
        sum_NX = (candidates.item_id.spread(outer_BXX) @ query_NX.unsqueeze(-1)).squeeze(-1)
        return self.head(torch.cat([sum_NX, target_NX], dim=-1))
