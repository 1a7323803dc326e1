"""The vector-product pre-ranker: item vectors made once a bundle, one inner product a candidate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Candidates, Ragged, Requests
from ..errors import BundleError
from ..features import FeatureSpace
from ..nn.losses import level
from ..nn.pointwise import Countable
from ..nn.towers import Items, Towers, embedder
from ..ops.distinct import distinct
from ..ops.pair_products import pair_products
from ._base import PreRanker, PreRankerConfig
from .cold import Cold

PREPARED = 16  # batches that tell base rates


@dataclass(frozen=True, slots=True)
class Part:
    """The user half or the item half of the scores, stamped with the weights it came from."""

    vectors: Tensor  # (B, T, X) of requests or (I, X) of items
    version: str


@final
class Vector(PreRanker):
    """``p_t = σ(s_t ⟨u_t, v⟩ + b_t + c_t)``: a user vector a task, one item vector, of length 1.

    Source: the vector-product model that COLD (arXiv:2007.16122) sets out from, with the normalised
    towers and scaled product of PFD (arXiv:1907.05171). Departures: the scale ``s_t`` is learned;
    the item tower may say a number ``c_t`` of its own for each task, which popularity needs and a
    unit vector hardly holds; shortcuts past the layers (``nn.towers``), without which a history's
    items are hard to tell apart. No cross features, by construction.

    Scale and biases are folded into the vectors: a score is one inner product of width
    ``X = D + T + 1``. Parts of different versions are refused: a user vector says nothing about
    item vectors of other weights.
    """

    class Config(PreRankerConfig, Towers.Config):
        """Settings of Vector."""

        kind: Literal["vector"] = "vector"
        dim: int = Field(default=128, ge=1, le=4096)
        """Width of the vectors that meet: a hundred items of a history share the user's."""
        scale: float = Field(default=10.0, gt=0, le=100)
        """What a learned scale starts from."""
        item_bias: bool = True
        """Let the item tower add a number of the item's own to every task's logit."""

        def informed(self, only: Sequence[str]) -> Cold.Config:
            """COLD with layers as wide as the towers: no tower can take a feature of a pair."""
            hidden = (*self.user_hidden, self.dim)
            return Cold.Config(history=self.history, hidden=hidden, groups=tuple(only))

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> Vector:
            return Vector(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = (config.history,)
        size = len(tasks)
        self.embed = embedder(config, space)
        extra = size if config.item_bias else 0
        self.towers = Towers(config, self.embed, vectors=size, extra=extra)
        self.log_scale = nn.Parameter(torch.full((size, 1), config.scale).log())
        self.bias = nn.Parameter(torch.zeros(size, 1))
        self._encoded: Items | None = None
        self._items: Part | None = None
        self._folds: tuple[Tensor, Tensor] | None = None  # of a frozen model

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        if self._items is not None:
            return inner_products(self.users(requests), self._items, candidates.item_id)
        item_M, (place_N,) = distinct(candidates.item_id.values)
        user_BTD, item_MD, own_MT = self.towers(self.embed, requests, item_M)
        users = Part(self._fold(user_BTD), "")
        items = Part(self._extend(item_MD, own_MT), "")
        return inner_products(users, items, candidates.item_id.with_values(place_N))

    def prepare(self, batches: Countable) -> None:
        """Start the biases at the base rates, from which unit vectors could not bring them far."""
        some = list(islice(batches.epoch(0), PREPARED))
        rate_N = torch.cat([batch.sampled(torch.zeros(len(batch.weight), 1)) for batch in some])
        for t, task in enumerate(self.tasks):
            label_N = torch.cat([batch.labels[task] for batch in some])
            wanted = (label_N.sum() + 1) / (len(label_N) + 2)  # finite logits for any labels
            self.bias.data[t] = level(rate_N, float(wanted))

    @torch.no_grad()
    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good: make the item part, ``chunk`` items at a time."""
        self.eval()
        every = torch.arange(len(self.embed.item_ids))
        self._encoded = self.towers.encode_all(self.embed, every, chunk)
        vector_IX = self._extend(self._encoded.vector, self._encoded.extra)
        self._items = Part(vector_IX, self.version())
        self._folds = self._folded()

    def users(self, requests: Requests) -> Part:
        """The user part: once a request, whatever the number of candidates."""
        if self._items is None or self._encoded is None:
            raise RuntimeError("freeze first: weights in training have no version")
        user_BTD = self.towers.users(self.embed, requests, self._encoded)
        return Part(self._fold(user_BTD), self._items.version)

    @property
    def items(self) -> Part:
        """The item part, a row an item of the catalogue."""
        if self._items is None:
            raise RuntimeError("freeze first: weights in training have no item part")
        return self._items

    def version(self) -> str:
        """Hash of the weights."""
        digest = hashlib.blake2b(digest_size=8)
        for name, weight in self.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _fold(self, user_BTD: Tensor) -> Tensor:  # (B, T, X)
        scale_T1, own_TX = self._folded() if self._folds is None else self._folds
        return torch.cat([user_BTD * scale_T1, own_TX.expand(len(user_BTD), -1, -1)], dim=2)

    def _folded(self) -> tuple[Tensor, Tensor]:
        """What goes into every user vector: scales (T, 1), then which task's own, and biases."""
        return self.log_scale.exp(), torch.cat([torch.eye(len(self.tasks)), self.bias], dim=1)

    def _extend(self, item_MD: Tensor, own_MT: Tensor) -> Tensor:  # (M, X)
        missing = len(self.tasks) - own_MT.shape[1]
        return F.pad(torch.cat([item_MD, F.pad(own_MT, (0, missing))], dim=1), (0, 1), value=1.0)


def inner_products(users: Part, items: Part, item_id: Ragged) -> Tensor:  # (N, T)
    """Logits of candidates ``item_id``, rows of the item part, a row of candidates a request.

    Raises BundleError if the parts are of different versions.
    """
    if users.version != items.version:
        raise BundleError(
            f"preranking: user vectors of version {users.version}, item vectors of version "
            f"{items.version}; take both from one bundle"
        )
    return pair_products(users.vectors, items.vectors, item_id.values, item_id.offsets)
