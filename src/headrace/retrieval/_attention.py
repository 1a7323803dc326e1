"""A scorer with target attention that comes apart into item part, user part and cross.

B  requests                      L  recent events, and one more that stands for nothing
n  items of a list               A  attention heads          Q  width of query and key
V  width of an item's vector     H  width of the score net's first layer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Self, final

import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..nn.history import Events
from ..nn.mlp import PReLU, activate
from ..nn.towers import Items, Towers, check, embedder
from ..ops.distinct import distinct
from ..ops.embedding_rows import take_rows
from ..schema import Schema
from ._fused import FusedAttention
from ._lifetime import Groups, Lifelong, LifelongConfig
from ._recent import Keys, Recent
from ._split import SplitModule

Array = NDArray[Any]
SIGHT = 4.0  # how much what the net sees of items counts in their distance


@dataclass(frozen=True, slots=True)
class Layer:
    """Slope below 0 of the activation before it (PReLU; none: ReLU), and a linear layer."""

    slope: Tensor | None
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        x = x.relu() if self.slope is None else F.prelu(x.flatten(0, -2), self.slope).view_as(x)
        return F.linear(x, self.weight, self.bias)

    def arrays(self) -> tuple[Array | None, Array, Array]:
        """Slope, weight and bias."""
        weight, bias = self.weight.detach().numpy(), self.bias.detach().numpy()
        return None if self.slope is None else self.slope.detach().numpy(), weight, bias


@dataclass(frozen=True, slots=True)
class Attending:
    """The user part: everything that item rows meet, of requests ``[B]``."""

    request: Tensor  # ([B], 1) int64
    product: Tensor  # ([B], V, 1), the user vector that meets the item's
    half: Tensor  # ([B], 1, H) of the first layer
    recent: Keys | None
    long: Groups | None
    layers: tuple[Layer, ...]  # behind the first

    def one(self, b: int) -> Self:
        return replace(
            self,
            request=self.request[b],
            product=self.product[b],
            half=self.half[b],
            recent=self.recent and self.recent.one(b),
        )


@final
class AttentionScorer(SplitModule[Attending]):
    """``⟨u, v⟩ / τ + net([v ; u' ; attention of v over recent events ; over a lifetime])``.

    Towers give item and user vectors of length 1, as in the two-tower channel; the first term is
    its score. The net sees what no inner product can: the item in the light of each event. After
    the model of NANN (Chen et al. 2022, arXiv:2202.10226, section 4.1) with these departures: the
    first term; the user net is ``nn.towers``'; attention by cosines of learned sharpness and a bias
    by type and age, so that like attends to like before anything is learnt; next to each head the
    log of its sum of exponentials, since a softmax hides how much was found; and a key that stands
    for nothing. No layer has batch statistics.

    Folded for the search: an item's row is its half of the first layer, its query and its vector;
    values are multiplied into the first layer once a request, so that attention is two products of
    matrices, ``softmax(q K + b) V'``.
    """

    class Config(Towers.Config):
        """Settings of AttentionScorer."""

        kind: Literal["attention"] = "attention"
        temperature: float = Field(default=0.07, gt=0, le=1)
        """τ; the inner product's part of a score lies in [-1/τ, 1/τ]."""
        recent: str | None = None
        """The sequence of recent events that is attended to. Default: ``history``."""
        events: int = Field(default=50, ge=1, le=10_000)
        """Newest of them to attend to."""
        heads: int = Field(default=1, ge=0, le=64)
        """Of the attention; 0 leaves it out."""
        head_dim: int = Field(default=32, ge=1, le=1024)
        """Width of query and key of a head."""
        hidden: tuple[int, ...] = (128, 64)
        """Widths of the net's layers; none, with 0 heads, leaves the inner product alone."""
        lifelong: LifelongConfig | None = None
        """Attend to a lifetime's events in the item's category, too. Default: no."""

        @model_validator(mode="after")
        def _searchable(self) -> AttentionScorer.Config:
            if self.activation == "dice":
                raise ValueError(
                    'activation: "dice" has batch statistics; use "relu" or "prelu" for a foil'
                )
            if not self.hidden and (self.heads or self.lifelong):
                raise ValueError("hidden: attention needs a net to enter; give it a layer")
            return self

        def check(self, schema: Schema) -> None:
            """Raise ConfigError if a name does not exist."""
            check(self, schema)
            long = self.lifelong.sequence if self.lifelong else None
            known = schema.sequences
            for key, name in (("recent", self.recent), ("lifelong.sequence", long)):
                if name is not None and name not in known:
                    raise ConfigError(f"scorer.{key}: no sequence {name!r}; {suggest(name, known)}")

        def build(self, space: FeatureSpace) -> AttentionScorer:
            """Make an untrained one."""
            return AttentionScorer(self, space)

    def __init__(self, config: Config, space: FeatureSpace) -> None:
        super().__init__()
        self.config = config
        self._recent = config.recent or config.history
        dim, first = config.dim, config.hidden[0] if config.hidden else 0
        self.embed = embedder(config, space)
        self.towers = Towers(config, self.embed, vectors=2)
        self.recent: Recent | None = None
        self.lifelong: Lifelong | None = None
        self.rest = nn.ModuleList()
        reads, queries = [config.history], [0, 0]
        if config.hidden:
            self.item, self.user = nn.Linear(dim, first), nn.Linear(dim, first, bias=False)
        if config.heads:
            self.recent = Recent(dim, config.heads, config.head_dim, first)
            reads, queries[0] = [*reads, self._recent], config.heads * config.head_dim
            self.attends_to = self._recent
        if config.lifelong is not None:
            self.lifelong = Lifelong(config.lifelong, dim, first, space.catalogue.category)
            reads, queries[1] = [*reads, config.lifelong.sequence], config.lifelong.head_dim
        for a, b in pairwise((*config.hidden, 1) if config.hidden else ()):
            self.rest.extend((activate(config.activation, a), nn.Linear(a, b)))
        self.sequences = tuple(dict.fromkeys(reads))
        self.reads_sequences = self.sequences
        self._parts = (first, *queries, dim)

    def vectors(self, item_M: Tensor) -> Tensor:
        return self.towers.encode(self.embed, item_M).vector

    def places(self, vector_MV: Tensor) -> Tensor:
        """So that distances are those of vectors and, ``SIGHT`` times, halves of the first layer.

        What the net can tell apart lies apart; the squared lengths of all halves' weights count as
        one, as a vector's do.
        """
        if not self.config.hidden:
            return vector_MV
        weight = self.item.weight.detach()
        weight = weight * (SIGHT * self.config.dim**0.5 / weight.norm().clamp(min=1e-12))
        return vector_MV @ torch.linalg.cholesky(torch.eye(self.config.dim) + weight.T @ weight)

    def rows(self, vector_MV: Tensor) -> Tensor:
        """Half of the first layer, queries of both attentions, and the vector itself."""
        even, parts = self._even(vector_MV), list[Tensor]()
        if self.config.hidden:
            parts.append(self.item(even))
        if self.recent is not None:
            parts.append(self.recent.queries(even))
        if self.lifelong is not None:
            parts.append(self.lifelong.queries(even))
        return torch.cat([*parts, vector_MV], dim=-1)

    def users(self, requests: Requests, vector_IV: Tensor, dtype: torch.dtype) -> Attending:
        history = requests.ragged(f"{self.config.history}.item").values
        items_U, (place_E, _) = distinct(history, torch.zeros(1, dtype=torch.int64))
        items = self.towers.encode(self.embed, items_U)
        return self._users(
            requests, items, place_E, lambda item: self._even(vector_IV[item]), dtype
        )

    def batch(self, requests: Requests, item_BN: Tensor) -> tuple[Attending, Tensor, Tensor]:
        sequences = [requests.ragged(f"{name}.item").values for name in self.sequences]
        items_U, (place_N, place_E, *_) = distinct(item_BN.flatten(), *sequences)
        items = self.towers.encode(self.embed, items_U)
        place_I = torch.empty(len(self.embed.item_ids), dtype=torch.int64)
        place_I[items_U] = torch.arange(len(items_U))

        def look_up(item: Tensor) -> Tensor:
            vector = take_rows(items.vector, place_I[item.flatten()])
            return self._even(vector).unflatten(0, item.shape)

        users = self._users(requests, items, place_E, look_up, items.vector.dtype)
        return users, items.vector, place_N.unflatten(0, item_BN.shape)

    def cross(self, users: Attending, item: Tensor, row: Tensor) -> Tensor:
        half, query, long_query, vector = row.split(self._parts, dim=-1)
        score = (vector @ users.product).squeeze(-1).float()
        if not users.layers:
            return score
        x = half + users.half
        if self.recent is not None and users.recent is not None:
            x = self.recent(users.recent, query, x)
        if self.lifelong is not None and users.long is not None:
            x = x + self.lifelong(users.long, users.request, item, long_query).to(x.dtype)
        for layer in users.layers:
            x = layer(x)
        return score + x.squeeze(-1).float()

    def fused(self, vector_IV: Tensor, row_IX: Tensor, bonus_I: Tensor) -> FusedAttention:
        """The user part by kernels, the cross by ``ops.attention_score``.

        Sums are float32 with bf16 rows, too.
        """
        return FusedAttention(self, vector_IV, row_IX, bonus_I)

    def _users(
        self,
        requests: Requests,
        items: Items,
        place_E: Tensor,
        look_up: Callable[[Tensor], Tensor],
        dtype: torch.dtype,
    ) -> Attending:
        """``place_E`` is the history's among the items; ``look_up`` gives vectors of any items."""
        name = f"{self.config.history}.item"
        local = requests.ragged(name).with_values(place_E)
        asked = replace(requests, features={**requests.features, name: local})
        product_BV, user_BV = self.towers.users(self.embed, asked, items).unbind(1)
        half_BH = self.user(self._even(user_BV)) if self.config.hidden else user_BV[:, :0]
        recent = None
        if self.recent is not None:
            item_E = requests.ragged(f"{self._recent}.item").values
            events = Events.newest(requests, self._recent, item_E, self.config.events)
            recent = self.recent.users(requests, events, look_up).to(dtype)
        return Attending(
            torch.arange(len(requests)).unsqueeze(1),
            (product_BV / self.config.temperature).unsqueeze(-1).to(dtype),
            half_BH.unsqueeze(1).to(dtype),
            recent,
            self.lifelong.users(requests, look_up) if self.lifelong is not None else None,
            self.layers(dtype),
        )

    def layers(self, dtype: torch.dtype) -> tuple[Layer, ...]:
        """Those behind the first."""
        layers: list[Layer] = []
        modules = list(self.rest)
        for rule, linear in zip(modules[::2], modules[1::2], strict=True):
            assert isinstance(linear, nn.Linear)
            slope = rule.weight.to(dtype) if isinstance(rule, PReLU) else None
            layers.append(Layer(slope, linear.weight.to(dtype), linear.bias.to(dtype)))
        return tuple(layers)

    def _even(self, vector: Tensor) -> Tensor:
        """Vectors of length 1, their entries about 1."""
        return vector * self.config.dim**0.5
