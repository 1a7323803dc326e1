"""How good a channel is on later requests: what its training stops early on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..samples import Samples
from ..stages import Retriever

MOST_REQUESTS = 2_000


class Judge:
    """Mean recall of users' first requests of the validation period.

    With ``new``, of items new to the user alone: seen ones are excluded from the lists and from the
    truth.
    """

    def __init__(
        self, samples: Samples, most: int, *, new: bool, requests: int = MOST_REQUESTS
    ) -> None:
        """``most`` is how long a list may be; at most so many ``requests`` are asked."""
        rows, truth = samples.first_requests("valid")
        if len(rows) > requests:
            rng = np.random.default_rng(samples.seed)
            rows = np.sort(rng.choice(rows, requests, replace=False))
            truth = samples.truth(rows)
        self._most = most
        self._requests = samples.features(rows)
        self._truth = truth
        self._wanted_N = torch.ones(len(truth.values), dtype=torch.bool)
        if new:
            self._requests = replace(self._requests, exclude=samples.seen(rows))
            self._wanted_N = samples.is_new(rows, truth)

    @property
    def able(self) -> bool:
        """Whether there is anything to be found."""
        return bool(self._wanted_N.any())

    def __call__(self, retriever: Retriever) -> float:
        """Recall, averaged over the requests that have something to be found."""
        size = len(self._requests)
        found = retriever.retrieve(self._requests, torch.full((size,), self._most))
        hit_N = self._truth.within(found.item_id) & self._wanted_N
        hits_B = torch.bincount(self._truth.row[hit_N], minlength=size)
        wanted_B = torch.bincount(self._truth.row[self._wanted_N], minlength=size)
        some_B = wanted_B > 0
        return float((hits_B[some_B] / wanted_B[some_B]).mean())
