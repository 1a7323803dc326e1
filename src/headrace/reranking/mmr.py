"""Maximal marginal relevance: each next item as good, and as unlike the last ones, as can be."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field
from torch import Tensor

from ..data import Candidates, Requests
from ..ops import slate
from ._base import Catalogue, limit, rank, unit_vectors
from ._windowed import Windowed, WindowedReranker


@final
class Mmr(WindowedReranker):
    """Greedy argmax of theta * relevance - (1 - theta) * max similarity to the items chosen last.

    Source: Carbonell and Goldstein, "The use of MMR", SIGIR 1998. Relevance is the value, scaled
    to [0, 1] within each request. Similarity is the cosine of item vectors, or without vectors 1
    within a category and 0 across. Departures: the maximum is over a sliding window; candidates
    whose value is no finite number only fill places that nothing else can take.
    """

    class Config(Windowed):
        """Settings of Mmr."""

        kind: Literal["mmr"] = "mmr"
        theta: float = Field(0.7, ge=0, le=1)
        """Share of relevance against novelty; 1 is ``top``."""

        def build(self, catalogue: Catalogue) -> Mmr:
            """Make the re-ranker."""
            return Mmr(self, catalogue)

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self._theta = config.theta

    def select(self, requests: Requests, candidates: Candidates, quota_B: Tensor) -> Tensor:
        """Positions ``(K,)`` of the items chosen, in the order of choice."""
        del requests
        ranked = rank(candidates, self._catalogue, quota_B)
        place_K = slate.mmr(
            ranked.relevance,
            unit_vectors(self._catalogue.vectors, ranked.item),
            ranked.category,
            ranked.offsets,
            ranked.quota,
            self._theta,
            limit(self.config.window),
            limit(self.config.max_per_category),
        )
        return ranked.chosen(place_K)
