"""TWo-stage Interest Network, Chang et al., KDD 2023, arXiv:2302.02352.

Both stages measure relevance alike: the search that keeps K of a lifetime of events uses the very
parameters of the attention that then weighs them, so that it finds what attention would have
looked at. In the paper ``α_h = (K W_h)(W_q q)ᵀ / √d + β_h``, with the events' inherent features
projected once an event and their cross features one number a head (section 4.2); what differs from
event to event here is its age. Stage 1 ranks by the sum of α over heads. Departures: a cosine of
learned sharpness and W_h = W_q at first in place of the scaled inner product, of vectors less the
targets' mean (``nn.search``), as a search that starts by chance finds nothing to learn from; with
each head comes the log of its sum.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.age import NUM_AGES, buckets
from ..nn.search import INITIAL_SHARPNESS, Centre, attend, direction
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

    def freeze(self, chunk: int = 65_536) -> None:
        super().freeze(chunk)
        self.know(self._keys, chunk)

    def interest(self, requests: Requests, candidates: Candidates, target_ND: Tensor) -> Tensor:
        """Attention over the events of largest α."""
        long = self.long_events(requests, apart=self.config.apart)
        query_NX = self.unit.query(target_ND)
        age_bias_E = self.unit.age.detach().sum(1)[buckets(long.age_E)]
        found = self.search(
            candidates, long, self.config.hits, query_NX.detach(), self._keys, age_bias_E
        )
        return self.unit(query_NX, self.events(found.item_NK), found.age_NK, found.real_NK)

    def _keys(self, item_U: Tensor) -> Tensor:  # (U, X)
        return self.unit.keys(self.events(item_U))


@final
class TargetBehaviourAttention(nn.Module):
    """Multi-head attention whose logits, summed over heads, are one inner product and a bias.

    ``α_h = λ_h (cos(W_h e, W_q q) - 1) + β_h(age)``: the query carries λ.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.centre = Centre(dim)
        split = heads * head_dim
        self.width = split + heads
        self.target = nn.Linear(dim, split, bias=False)
        self.event = nn.Linear(dim, split, bias=False)
        with torch.no_grad():
            self.event.weight.copy_(self.target.weight)  # like finds like from the start
        self.value = nn.Linear(dim, split, bias=False)
        self.out = nn.Linear(self.width, self.width, bias=False)
        self.sharpness = nn.Parameter(torch.full((heads, 1), INITIAL_SHARPNESS))
        self.age = nn.Parameter(torch.zeros(NUM_AGES, heads))  # 0: not to search by chance
        self.nothing = nn.Parameter(torch.zeros(self.width))

    def query(self, target_ND: Tensor) -> Tensor:  # (N, X)
        """What events are searched and weighed by."""
        self.centre.follow(target_ND)
        return (self.sharpness * self._heads(self.target, target_ND)).flatten(1)

    def keys(self, event_ED: Tensor) -> Tensor:  # (E, X)
        """What events are found by."""
        return self._heads(self.event, event_ED).flatten(1)

    def _heads(self, side: nn.Linear, vector_ND: Tensor) -> Tensor:  # (..., H, X / H)
        return direction(side(self.centre(vector_ND)).unflatten(-1, (self.heads, -1)))

    def forward(
        self, query_NX: Tensor, event_NKD: Tensor, age_NK: Tensor, real_NK: Tensor
    ) -> Tensor:  # (N, width)
        """Attend to found events; a candidate without any has a learned vector of its own."""
        key_NHKX = self._heads(self.event, event_NKD).transpose(1, 2)
        query_NHX = query_NX.unflatten(1, (self.heads, -1))
        alike_NHK = (key_NHKX @ query_NHX.unsqueeze(-1)).squeeze(-1)
        logit_NHK = alike_NHK - self.sharpness + self.age[age_NK].transpose(1, 2)
        value_NHKV = self.value(event_NKD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        found_NHV = attend(logit_NHK, value_NHKV, real_NK)
        return torch.where(real_NK.any(1, keepdim=True), self.out(found_NHV), self.nothing)
