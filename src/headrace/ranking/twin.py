"""TWo-stage Interest Network, Chang et al., KDD 2023, arXiv:2302.02352.

Both stages measure relevance alike: the search that keeps K of a lifetime of events uses the very
parameters of the attention that then weighs them, so that it finds what attention would have
looked at. ``α_h = (K W_h)(W_q q)ᵀ / √d + β_h`` with the events' inherent features projected once
an event and their cross features one number a head (section 4.2); what differs from event to event
here is its age. Stage 1 ranks by the sum of α over heads. Departure: with each head comes the log
of its sum.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.age import NUM_AGES, buckets
from ..nn.embedder import INITIAL_SD
from ..nn.search import attend, gather, nearest
from ._lifelong import Lifelong, SearchConfig


@final
class TWIN(Lifelong):
    """One metric to search and to attend."""

    class Config(SearchConfig):
        """Settings of TWIN."""

        kind: Literal["twin"] = "twin"
        heads: int = Field(default=4, ge=1, le=64)
        """Of the attention, and of the search."""
        head_dim: int = Field(default=16, ge=1, le=1024)
        """Width of a head."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> TWIN:
            return TWIN(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.unit = TargetBehaviourAttention(self.dim, config.heads, config.head_dim)
        self.add_body(self.unit)

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """Attention over the events of largest α."""
        long = self.long_events(requests, apart=self.config.apart)
        event_ED, age_E = self.events(long.item.values), buckets(long.age_E)
        query_NX, key_EX = self.unit.query(target_ND), self.unit.keys(event_ED, age_E)
        at_NK, real_NK = nearest(
            query_NX, candidates.item_id, key_EX, long.item, self.config.hits, long.end_B
        )
        return self.unit(query_NX, gather(key_EX, at_NK), gather(event_ED, at_NK), real_NK)


@final
class TargetBehaviourAttention(nn.Module):
    """Multi-head attention whose logits, summed over heads, are one inner product.

    A query is ``[q_1 .. q_H, 1 .. 1] `` and a key ``[k_1 .. k_H, β_1 .. β_H]``.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_dim**-0.5
        self.split = heads * head_dim  # of queries and keys: what is inherent, what is cross
        self.width = self.split + heads
        self.target = nn.Linear(dim, self.split, bias=False)
        self.event = nn.Linear(dim, self.split, bias=False)
        with torch.no_grad():
            self.event.weight.copy_(self.target.weight)  # like finds like from the start
        self.value = nn.Linear(dim, self.split, bias=False)
        self.out = nn.Linear(self.width, self.width, bias=False)
        self.age = nn.Parameter(torch.randn(NUM_AGES, heads) * INITIAL_SD)
        self.nothing = nn.Parameter(torch.zeros(self.width))

    def query(self, target_ND: Tensor) -> Tensor:  # (N, X)
        """What events are searched and weighed by."""
        query_NX = self.target(target_ND) * self.scale
        return torch.cat([query_NX, query_NX.new_ones(len(query_NX), self.heads)], dim=1)

    def keys(self, event_ED: Tensor, age_E: Tensor) -> Tensor:  # (E, X)
        """What events are found by."""
        return torch.cat([self.event(event_ED), self.age[age_E]], dim=1)

    def forward(
        self, query_NX: Tensor, key_NKX: Tensor, event_NKD: Tensor, real_NK: Tensor
    ) -> Tensor:  # (N, width)
        """Attend to found events; a candidate without any has a learned vector of its own."""
        product_NKX = query_NX.unsqueeze(1) * key_NKX
        inherent_NKH = product_NKX[..., : self.split].unflatten(-1, (self.heads, -1)).sum(-1)
        logit_NHK = (inherent_NKH + product_NKX[..., self.split :]).transpose(1, 2)
        value_NHKV = self.value(event_NKD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        found_NHV = attend(logit_NHK, value_NHKV, real_NK)
        return torch.where(real_NK.any(1, keepdim=True), self.out(found_NHV), self.nothing)
