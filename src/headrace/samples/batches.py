"""Batches of samples for the training loop, as functions of (seed, epoch, step)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Batch
from ..errors import DataError

if TYPE_CHECKING:
    from .samples import Drawn, Samples

Array = NDArray[Any]


class _Batches:
    """Requests of a part, shuffled anew each epoch; deterministic in (seed, epoch, step)."""

    def __init__(self, samples: Samples, request: Array, size: int) -> None:
        if not len(request):
            raise DataError("samples: the training period has no request with a target event")
        self._samples, self._request, self._size = samples, request, size

    def __len__(self) -> int:
        return -(-len(self._request) // self._size)

    def _chunks(self, epoch: int, start: int) -> Iterator[tuple[Array, int]]:
        seed = self._samples.seed * 1_000_003 + epoch
        order = np.random.default_rng(seed).permutation(len(self._request))
        for step in range(start, len(self)):
            rows = order[step * self._size : (step + 1) * self._size]
            yield np.sort(self._request[rows]), seed


class RankingBatches(_Batches):
    """Positives with sampled exposures and other negatives."""

    def __init__(
        self,
        samples: Samples,
        request: Array,
        size: int,
        hits: bool,
        sequences: Collection[str] | None,
    ) -> None:
        super().__init__(samples, request, size)
        self._hits, self._sequences = hits, sequences

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on."""
        for request_B, seed in self._chunks(epoch, start):
            yield self._batch(self._samples.draw(request_B, seed=seed), seed)

    def _batch(self, drawn: Drawn, seed: int) -> Batch:
        del seed
        return self._samples.batch(drawn, hits=self._hits, sequences=self._sequences)


class RetrievalBatches(_Batches):
    """Positives and a shared pool of negatives."""

    def __init__(
        self,
        samples: Samples,
        request: Array,
        size: int,
        pool: int,
        sequences: Collection[str] | None,
    ) -> None:
        super().__init__(samples, request, size)
        self._pool, self._sequences = pool, sequences

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from step ``start`` on."""
        for request_B, seed in self._chunks(epoch, start):
            yield self._samples.positives_batch(
                request_B, seed=seed, pool=self._pool, sequences=self._sequences
            )
