"""Determinantal point process: the slate as a whole, whose items span the largest volume."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
from pydantic import Field
from torch import Tensor

from ..data import Candidates, Requests
from ..ops import slate
from ..ops.slate import Array
from ._base import Catalogue, limit, rank, unit_vectors
from ._windowed import Windowed, WindowedReranker


@final
class Dpp(WindowedReranker):
    """Greedy MAP with kernel L = diag(r) S diag(r), r = exp(alpha * relevance).

    Source: Chen, Zhang and Zhou, "Fast greedy MAP inference for determinantal point process to
    improve recommendation diversity", NeurIPS 2018: algorithm 1, its sliding window, and
    their S = (1 + cosine) / 2, without which opposite items would pass for copies. Without
    item vectors S is 1 within a category and 0 across: one item of each, then the rest by value.
    Departures: relevance is the value, scaled to [0, 1] within each request; the paper stops when
    nothing new is left, here the places that remain are filled by value, lest a slate come out
    short.
    """

    class Config(Windowed):
        """Settings of Dpp."""

        kind: Literal["dpp"] = "dpp"
        alpha: float = Field(5.0, ge=0, le=100)
        """Weight of relevance against novelty: 0 ignores it, a large one is ``top``."""

        def build(self, catalogue: Catalogue) -> Dpp:
            """Make the re-ranker."""
            return Dpp(self, catalogue)

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self._alpha = config.alpha

    def select(self, requests: Requests, candidates: Candidates, quota_B: Tensor) -> Tensor:
        """Positions ``(K,)`` of the items chosen, in the order of choice."""
        del requests
        ranked = rank(candidates, self._catalogue, quota_B)
        place_K = slate.dpp(
            self._alpha * ranked.relevance,
            _nonnegative(unit_vectors(self._catalogue.vectors, ranked.item)),
            ranked.category,
            ranked.offsets,
            ranked.quota,
            limit(self.config.window),
            limit(self.config.max_per_category),
        )
        return ranked.chosen(place_K)


def _nonnegative(vector_ND: Array) -> Array:
    """Vectors whose dot product is (1 + cosine) / 2; without vectors there is nothing to do."""
    if vector_ND.shape[1] == 0:
        return vector_ND
    one_N1 = np.ones((vector_ND.shape[0], 1))
    return np.hstack([vector_ND, one_N1]) / np.sqrt(2)
