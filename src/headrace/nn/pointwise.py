"""What every pointwise model shares: tasks, loss, scoring, and the item vectors behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..data import Batch, Candidates, Requests
from ..ops.distinct import distinct
from ..ops.embedding_rows import take_columns
from .embedder import Embedder
from .gates import Stack
from .losses import task_losses


class Countable(Protocol):
    """Training data that can be read before it is learnt from."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


class Pointwise(nn.Module, ABC):
    """Abstract. Predicts the probability of each task for each candidate, one by one.

    Subclasses set ``embed`` and define ``forward``. Items are encoded by ``item_vectors``: once a
    distinct item of the batch while training, once a bundle after ``freeze``.
    """

    tasks: tuple[str, ...]
    embed: Embedder
    reads_hits: bool = False  # true when the model reads the user's events in the item's category
    reads_sequences: Collection[str] | None = None  # those that the model reads; None is all
    _frozen: Tensor | None = None

    @abstractmethod
    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        raise NotImplementedError

    @property
    def reads_cross(self) -> Sequence[str]:
        """Cross features that candidates must carry."""
        return self.embed.names.get("cross", [])

    def stack(self) -> Stack | None:
        """The layers that gates may thin out; None where the model has no such layers."""
        return None

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Weighted mean cross-entropy of each task, corrected for how negatives were drawn."""
        logit_NT = batch.sampled(self(batch.requests, batch.candidates))
        return task_losses(logit_NT, batch, dict.fromkeys(self.tasks, 1.0))

    def prepare(self, batches: Countable) -> None:
        """Look at the training data once before training; most models need not."""
        del batches

    @torch.inference_mode()
    def score(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) in [0, 1]
        """Probability of each task for each candidate."""
        return self(requests, candidates).sigmoid()

    @torch.inference_mode()
    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good: encode every item once."""
        self.eval()
        size = len(self.embed.item_ids)
        steps = [torch.arange(a, min(a + chunk, size)) for a in range(0, size, chunk)]
        self._frozen = torch.cat([self.encode_items(items) for items in steps])

    def encode_items(self, item_N: Tensor) -> Tensor:  # (N, D_item)
        """What the model makes of an item alone; by default its features, side by side."""
        return self.embed.items(item_N)

    def item_vectors(self, *item: Tensor) -> list[Tensor]:
        """What ``encode_items`` makes of several columns of items, ``(n, D_item)`` each."""
        if self._frozen is not None:
            return [self._frozen.index_select(0, i) for i in item]
        items_U, places = distinct(*item)
        return take_columns(self.encode_items(items_U), places)

    def columns_of(self, names: Sequence[str]) -> slice | Tensor:
        """Where the vectors of some item features stand in ``item_vectors``."""
        every = self.embed.names["item"]
        starts = [self.embed.width(every[: every.index(n)]) for n in names]
        parts = [
            torch.arange(start, start + self.embed.width([n]))
            for start, n in zip(starts, names, strict=True)
        ]
        return slice(None) if list(names) == every else torch.cat(parts)
