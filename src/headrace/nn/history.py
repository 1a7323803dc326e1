"""A user's history as one vector, without regard to any candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..data import Requests
from ..ops import ragged
from ..ops.event_pools import Told
from .age import NUM_AGES, age_ids
from .embedder import INITIAL_SD

MAX_TYPES = 64  # a log's set of event types is a mask of 64 bits
Pooling = Literal["attention", "mean"]


@dataclass(frozen=True, slots=True)
class Events:
    """The newest events of each request, padded, oldest first."""

    place: Tensor  # (B, L) int64, of the event's item among the distinct items U
    kind: Tensor  # (B, L) int64, type
    age: Tensor  # (B, L) int64, bucket of ``age``
    mask: Tensor  # (B, L) bool, true on events

    @classmethod
    def newest(cls, requests: Requests, sequence: str, place_E: Tensor, most: int) -> Events:
        """The last ``most`` events of a sequence; event e is of the item at ``place_E[e]``."""
        time_ms = requests.ragged(f"{sequence}.time_ms")
        kind_E = requests.ragged(f"{sequence}.type").values
        lengths_B = time_ms.lengths
        longest = min(int(lengths_B.max()) if len(lengths_B) else 0, most)
        every_EX = torch.stack([place_E, kind_E, age_ids(time_ms, requests.time_ms)], dim=1)
        every_BLX, mask_BL = ragged.pad(every_EX, time_ms.offsets, longest)
        place_BL, kind_BL, age_BL = every_BLX.unbind(2)
        return cls(place_BL, kind_BL, age_BL, mask_BL)

    def gather(self, item_UD: Tensor) -> Tensor:  # (B, L, D)
        """Spread what is known of the distinct items to the events."""
        return F.embedding(self.place, item_UD)


def told(requests: Requests, sequence: str) -> Told:
    """The events of a sequence as kernels read them."""
    item_E, kind_E = requests.ragged(f"{sequence}.item"), requests.ragged(f"{sequence}.type")
    time_E = requests.ragged(f"{sequence}.time_ms").values
    parts = item_E.offsets, item_E.values, kind_E.values, time_E, requests.time_ms
    return Told(*(x.numpy() for x in parts))


class SideTable(nn.Module):
    """A vector for each type and age of an event: the sum of one for the type, one for the age.

    The rows are few and all are in use, so that their gradients are dense.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(MAX_TYPES, 1, dim) * INITIAL_SD)
        self.age = nn.Parameter(torch.randn(1, NUM_AGES, dim) * INITIAL_SD)

    def forward(self, events: Events) -> Tensor:  # (B, L, dim)
        if events.kind.numel() < MAX_TYPES * NUM_AGES:  # fewer than there are sums
            return F.embedding(events.kind, self.kind[:, 0]) + F.embedding(events.age, self.age[0])
        both = events.kind * NUM_AGES + events.age
        return F.embedding(both, (self.kind + self.age).flatten(0, 1))


@final
class EventWeights(nn.Module):
    """Several ways to weigh a request's events; each way's weights sum to 1, or to 0 without any.

    Under ``attention`` the logit of an event is linear in its item's features plus a number for its
    type and age; under ``mean`` all weigh alike.
    """

    def __init__(self, pooling: Pooling, item_dim: int, heads: int) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.heads = heads
        if pooling == "attention":
            self.item = nn.Linear(item_dim, heads)
            self.side = SideTable(heads)

    @property
    def sides(self) -> list[SideTable]:
        """What types and ages say of the weights of their events."""
        return [self.side] if self.pooling == "attention" else []

    @property
    def layers(self) -> list[nn.Linear]:
        """What the items' features say of the weights of their events."""
        return [self.item] if self.pooling == "attention" else []

    def forward(self, logit_BLH: Tensor, events: Events) -> Tensor:  # (B, H, L)
        """Weigh the events; ``logit_BLH`` is what ``layers`` say of their items."""
        mask_BL1 = events.mask.unsqueeze(2)
        if self.pooling == "mean":
            total_B11 = mask_BL1.sum(1, keepdim=True).clamp(min=1)
            return (mask_BL1 / total_B11).transpose(1, 2).expand(-1, self.heads, -1)
        logit_BLH = logit_BLH + self.side(events)
        lowest = torch.finfo(logit_BLH.dtype).min  # -inf would make an empty row NaN
        weight_BLH = logit_BLH.masked_fill(~mask_BL1, lowest).softmax(dim=1) * mask_BL1
        return weight_BLH.transpose(1, 2)


@final
class HistoryEncoder(nn.Module):
    """Pools the newest events of a sequence.

    An event is its item's features, projected, plus a vector of its type and age; each head is a
    weighted mean of the events (multi-head pooling by learned queries, as ComiRec-SA,
    arXiv:2005.09347, section 3.2, without its hidden layer), and the heads lie side by side. Items
    are projected once a distinct item, however often a batch repeats them. A request without events
    has a learned vector of its own.
    """

    class Config(config.Config):
        """Settings of HistoryEncoder."""

        events: int = Field(default=100, ge=1, le=100_000)
        """Newest events to read; the sequence's own length is the other limit."""
        dim: int = Field(default=64, ge=1, le=4096)
        """Width of an event."""
        pooling: Pooling = "attention"
        """attention: heads that learn what to look at. mean: one mean of all events."""
        heads: int = Field(default=4, ge=1, le=64)
        """Of attention."""

    def __init__(self, config: Config, item_dim: int) -> None:
        """``item_dim`` is the width of an item's features."""
        super().__init__()
        heads = config.heads if config.pooling == "attention" else 1
        self.width = heads * config.dim
        self.weights = EventWeights(config.pooling, item_dim, heads)
        self.item_width = config.dim + (heads if config.pooling == "attention" else 0)
        self.item = nn.Linear(item_dim, config.dim)
        self.side = SideTable(config.dim)
        self.nothing = nn.Parameter(torch.zeros(self.width))

    @property
    def layers(self) -> list[nn.Linear]:
        """What the items' features put into their events, side by side."""
        return [self.item, *self.weights.layers]

    def forward(self, item_BLX: Tensor, events: Events) -> Tensor:  # (B, width)
        """Encode each request's events; ``item_BLX`` is what ``layers`` say of their items."""
        item_BLD, logit_BLH = item_BLX.tensor_split([self.item.out_features], dim=2)
        event_BLD = item_BLD + self.side(events)
        pooled_BW = (self.weights(logit_BLH, events) @ event_BLD).flatten(1)
        return torch.where(events.mask.any(1, keepdim=True), pooled_BW, self.nothing)
