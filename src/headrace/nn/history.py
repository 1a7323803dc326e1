"""A user's history as one vector, without regard to any candidate."""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..data import Requests
from ..ops import ragged
from .age import NUM_AGES, age_ids
from .embedder import INITIAL_SD

MAX_TYPES = 64  # a log's set of event types is a mask of 64 bits
Pooling = Literal["attention", "mean"]


@final
class HistoryEncoder(nn.Module):
    """Pools the newest events of a sequence.

    An event is its item's features, projected, plus a vector of its type and age. ``attention``
    has several heads, each a weighted mean of the events: the logit of an event is linear in its
    item's features, plus a number for its type and age (multi-head pooling with learned queries, as
    ComiRec-SA, arXiv:2005.09347, section 3.2, without its hidden layer). ``mean`` weighs all alike.
    Items are encoded once a distinct item, however often a batch repeats them.

    A request without events has a learned vector of its own.
    """

    class Config(config.Config):
        """Settings of HistoryEncoder."""

        events: int = Field(default=100, ge=1, le=100_000)
        """Newest events to read; the sequence's own length is the other limit."""
        dim: int = Field(default=64, ge=1, le=4096)
        """Width of an event."""
        pooling: Pooling = "attention"
        heads: int = Field(default=4, ge=1, le=64)
        """Weighted means under attention; their vectors are laid side by side."""

    def __init__(self, config: Config, sequence: str, item_dim: int, direct: int = 0) -> None:
        """``sequence`` is the schema's name; ``item_dim`` the width of an item's features."""
        super().__init__()
        self.config, self.sequence, self.direct = config, sequence, direct
        self._heads = (config.heads if config.pooling == "attention" else 1)
        self.width = self._heads * config.dim
        self.value = nn.Linear(item_dim, config.dim)
        H = self._heads + direct
        self.key = nn.Linear(item_dim, H)
        # by type and age, summed where they are used: few rows, so their gradients are dense
        self.kind = nn.Parameter(torch.randn(MAX_TYPES, 1, config.dim + H) * INITIAL_SD)
        self.age = nn.Parameter(torch.randn(1, NUM_AGES, config.dim + H) * INITIAL_SD)
        self.nothing = nn.Parameter(torch.zeros(self.width))

    def forward(self, item_UD: Tensor, place_E: Tensor, requests: Requests, vector_UX=None):
        """Encode each request's history, ``(B, width)``.

        ``item_UD`` are features of the distinct items U; event e is of item ``place_E[e]``.
        """
        place_BL, side_BL, mask_BL = self._newest(place_E, requests)
        if not len(place_E):
            return self.nothing.expand(len(requests), -1), torch.zeros(len(requests), self.direct, vector_UX.shape[1])
        side_XD, side_XH = (self.kind + self.age).flatten(0, 1).split([self.config.dim, self._heads+self.direct], dim=1)
        event_BLD = F.embedding(place_BL, self.value(item_UD)) + F.embedding(side_BL, side_XD)
        logit_BLH = F.embedding(place_BL, self.key(item_UD)) + F.embedding(side_BL, side_XH)
        if self.config.pooling == "mean":
            logit_BLH = logit_BLH * 0
        lowest = torch.finfo(logit_BLH.dtype).min  # -inf would make an empty row NaN
        weight_BLH = logit_BLH.masked_fill(~mask_BL.unsqueeze(-1), lowest).softmax(dim=1)
        w=weight_BLH.transpose(1, 2)
        pooled_BW = (w[:, :self._heads] @ event_BLD).flatten(1)
        some = mask_BL.any(1, keepdim=True)
        direct = (w[:, self._heads:] @ F.embedding(place_BL, vector_UX)) * some.unsqueeze(2) if self.direct else None
        return torch.where(some, pooled_BW, self.nothing), direct

    def _newest(self, place_E: Tensor, requests: Requests) -> tuple[Tensor, Tensor, Tensor]:
        """Place among the items, type and age as one id, and whether there is an event."""
        time_ms = requests.ragged(f"{self.sequence}.time_ms")
        kind_E = requests.ragged(f"{self.sequence}.type").values
        side_E = kind_E * NUM_AGES + age_ids(time_ms, requests.time_ms)
        lengths_B = time_ms.lengths
        longest = min(int(lengths_B.max()) if len(lengths_B) else 0, self.config.events)
        both_BLX, mask_BL = ragged.pad(
            torch.stack([place_E, side_E], dim=1), time_ms.offsets, longest
        )
        return both_BLX[..., 0], both_BLX[..., 1], mask_BL
