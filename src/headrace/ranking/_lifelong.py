"""What rankers over a lifetime of events share: recent events by DIN, and an interest they add."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from pydantic import Field
from torch import Tensor

from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..nn.age import buckets
from ..nn.embedder import Embedder
from ..nn.gates import Stack
from ..nn.interest_mlp import SIDES, InterestMLP
from ..nn.search import gather, nearest
from ..ops import ragged
from ..ops.distinct import distinct
from ._base import Ranker, RankerConfig


class LifelongConfig(RankerConfig, InterestMLP.Config):
    """Settings of Lifelong; every such ranker's ``Config`` extends it."""

    long: str = "lifetime"
    """The long sequence."""


class SearchConfig(LifelongConfig):
    """Settings of rankers that search the long sequence."""

    hits: int = Field(default=100, ge=1, le=10_000)
    """Events that a search keeps for a candidate."""
    apart: bool = True
    """Leave out of the search what the recent sequence has already."""


class Sized(Protocol):
    """A module that says how wide its interest is."""

    width: int


@dataclass(frozen=True, slots=True)
class LongEvents:
    """The long sequences of some requests, E events."""

    item: Ragged  # (E,) int64, oldest first
    age_E: Tensor  # (E,) int64, ms before the request
    end_B: Tensor  # (B,) int64, where events that the recent sequence has begin


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What a search found in the long sequence: K events a candidate."""

    item_NK: Tensor  # int64
    age_NK: Tensor  # int64, of age.buckets
    near_NK: Tensor  # inner products with the candidate, bias included
    real_NK: Tensor  # bool


class Lifelong(Ranker):
    """Abstract. A final ranker sets up its unit and says what interest it finds."""

    _known_IS: Tensor | None = None

    def __init__(self, config: LifelongConfig, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        """Tables and what is attended to; ``add_body`` is left to the model."""
        super().__init__()
        self.tasks = tasks
        self._settings = config
        self.reads_sequences = (config.history, config.long)
        self.embed = Embedder(space, SIDES, leave_out=config.unread(space.schema))
        self.attend = config.attend or tuple(space.schema.names("item"))
        self.dim = self.embed.width(self.attend)
        self._attended = self.columns_of(self.attend)
        known = space.schema.sequences
        if config.long not in known:
            raise ConfigError(f"long: no sequence {config.long!r}; {suggest(config.long, known)}")

    def add_body(self, unit: Sized) -> None:
        """Make the body for a unit of some width."""
        self.body = InterestMLP(
            self._settings, self.embed, self.dim, len(self.tasks), extra=unit.width
        )

    @abstractmethod
    def interest(
        self, requests: Requests, candidates: Candidates, target_ND: Tensor
    ) -> Tensor:  # (N, width of the unit)
        """What the lifetime says of each candidate."""
        raise NotImplementedError

    def stack(self) -> Stack:
        return self.body.stack("body")

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        return self.logits(
            requests, candidates, lambda target_ND: self.interest(requests, candidates, target_ND)
        )

    def logits(
        self, requests: Requests, candidates: Candidates, interest: Callable[[Tensor], Tensor]
    ) -> Tensor:  # (N, T)
        """Logits, given what finds the interest of the candidates' attended vectors."""
        history = requests.ragged(f"{self._settings.history}.item")
        item_NI, event_EI = self.item_vectors(candidates.item_id.values, history.values)
        target_ND, event_ED = item_NI[:, self._attended], event_EI[:, self._attended]
        long_NX = interest(target_ND)
        return self.body(self.embed, requests, candidates, item_NI, target_ND, event_ED, long_NX)

    def events(self, item: Tensor) -> Tensor:  # (..., D)
        """Vectors of events, any shape, of the item features that are attended to."""
        return self.item_vectors(item.flatten())[0][:, self._attended].unflatten(0, item.shape)

    def long_events(self, requests: Requests, *, apart: bool) -> LongEvents:
        """The long sequences; ``apart`` from the recent ones they end where those begin."""
        item = requests.ragged(f"{self._settings.long}.item")
        time_ms = requests.ragged(f"{self._settings.long}.time_ms")
        age_E = time_ms.spread(requests.time_ms) - time_ms.values
        end_B = item.offsets[1:]
        if apart:  # oldest first: what the recent sequence has is at the end
            recent_E = age_E <= item.spread(self.oldest(requests))
            end_B = end_B - ragged.segment_sum(recent_E.long(), item.offsets)
        return LongEvents(item, age_E, end_B)

    @torch.no_grad()
    def search(
        self,
        candidates: Candidates,
        long: LongEvents,
        most: int,
        query_NS: Tensor,
        keys: Callable[[Tensor], Tensor],
        bias_E: Tensor | None = None,
    ) -> Found:
        """The ``most`` events of largest inner product.

        ``keys`` are made once a distinct item; after ``know``, once a bundle.
        """
        if self._known_IS is None:
            items_U, [row_E] = distinct(long.item.values)
            key_US, row = keys(items_U), long.item.with_values(row_E)
        else:
            key_US, row = self._known_IS, long.item
        at_NK, near_NK, real_NK = nearest(
            query_NS, candidates.item_id, key_US, row, most, long.end_B, bias_E
        )
        age_NK = buckets(gather(long.age_E, at_NK))
        return Found(gather(long.item.values, at_NK), age_NK, near_NK, real_NK)

    @torch.inference_mode()
    def know(self, keys: Callable[[Tensor], Tensor], chunk: int) -> None:
        """Make the keys of every item, which ``search`` reads from now on."""
        every = torch.arange(len(self.embed.item_ids)).split(chunk)
        self._known_IS = torch.cat([keys(some) for some in every])

    def oldest(self, requests: Requests) -> Tensor:  # (B,) int64
        """Age in ms of the first event of the recent sequence; -1 if it is empty."""
        time_ms = requests.ragged(f"{self._settings.history}.time_ms")
        oldest_B = torch.full((len(requests),), -1, dtype=torch.int64)
        some_B = time_ms.lengths > 0
        first = time_ms.values[time_ms.offsets[:-1][some_B]]
        oldest_B[some_B] = requests.time_ms[some_B] - first
        return oldest_B
