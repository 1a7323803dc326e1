"""Sampling-based Deep Interest Modeling, Cao et al., CIKM 2022, arXiv:2205.10249.

m SimHash bits in groups of τ make m / τ signatures of each item. For a candidate, events that share
its signature are summed in each group, the sums brought to length 1 and averaged: in expectation an
attention of weight ``(1 - arccos(cos θ) / π)^τ`` over the whole history, for the price of a look-up
in m / τ tables of 2^τ bucket sums, which depend on the user alone.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..nn.search import sim_hash
from ..ops import ragged
from ._lifelong import Lifelong, SearchConfig


@final
class SDIM(Lifelong):
    """Attention over a lifetime by hash buckets."""

    class Config(SearchConfig):
        """Settings of SDIM; it keeps no hits, it sums all events."""

        kind: Literal["sdim"] = "sdim"
        groups: int = Field(default=16, ge=1, le=1024)
        """Signatures of an item (m / τ)."""
        group_bits: int = Field(default=3, ge=1, le=12)
        """Bits of a signature (τ): more of them, sharper attention."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> SDIM:
            return SDIM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.config = config
        self.buckets = HashBuckets(self.dim, config.groups, config.group_bits)
        self.add_body(self.buckets)

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """The mean direction of events that collide with the candidate."""
        long = self.long_events(requests, apart=self.config.apart)
        place_E = torch.arange(len(long.item.values))
        kept = torch.nonzero(place_E < long.item.spread(long.end_B))[:, 0]
        lengths = torch.bincount(long.item.row[kept], minlength=len(requests))
        item = Ragged.sized(long.item.values[kept], lengths)
        sums = self.buckets.sums(self.events(item.values), item)
        return self.buckets(target_ND, candidates.item_id, sums)


@final
class HashBuckets(nn.Module):
    """Bucket sums of each request's events, and what a candidate finds in them."""

    planes: Tensor  # (D, G τ)
    bit: Tensor  # (τ,) int64

    def __init__(self, dim: int, groups: int, group_bits: int) -> None:
        super().__init__()
        self.width, self.groups, self.group_bits = dim, groups, group_bits
        self.register_buffer("planes", torch.randn(dim, groups * group_bits))
        self.register_buffer("bit", 1 << torch.arange(group_bits), persistent=False)

    def signatures(self, vector_ND: Tensor) -> Tensor:  # (N, G) int64
        """The bucket of each vector in each group."""
        side_NGT = sim_hash(vector_ND, self.planes).unflatten(1, (self.groups, self.group_bits))
        return ((side_NGT > 0) * self.bit).sum(-1)

    def sums(self, event_ED: Tensor, events: Ragged) -> Tensor:  # (B, G, 2^τ, D)
        """Sum each request's events by bucket: all that serving needs to know of a user."""
        buckets = 1 << self.group_bits
        place_GE = events.row * buckets + self.signatures(event_ED).T
        empty = event_ED.new_zeros(len(events) * buckets, self.width)
        # group by group: an event repeated for all of them at once would not fit the cache
        out = [empty.index_add(0, place_E, event_ED) for place_E in place_GE.contiguous()]
        return torch.stack([x.view(-1, buckets, self.width) for x in out], dim=1)

    def forward(self, target_ND: Tensor, items: Ragged, sums_BGSD: Tensor) -> Tensor:  # (N, D)
        """Look candidates up; where nothing collides the sum is zero and stays so."""
        row_N = ragged.rows_of(items.offsets, len(target_ND))
        group_G = torch.arange(self.groups)
        found_NGD = sums_BGSD[row_N.unsqueeze(1), group_G, self.signatures(target_ND)]
        return F.normalize(found_NGD, dim=-1).mean(1)
