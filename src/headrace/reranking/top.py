"""Best value first: what every other re-ranker has to beat."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor

from ..data import Candidates, Requests
from ..ops import ragged, slate
from ._base import Capped, Catalogue, rank, values


@final
class Top:
    """Sort by value."""

    class Config(Capped):
        """Settings of Top."""

        kind: Literal["top"] = "top"

        def build(self, catalogue: Catalogue) -> Top:
            """Make the re-ranker."""
            return Top(self, catalogue)

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        self.config = config
        self._catalogue = catalogue
        self.reads_sequences = ()

    def select(self, requests: Requests, candidates: Candidates, quota_B: Tensor) -> Tensor:
        """Positions ``(K,)`` of each request's best, best first."""
        del requests
        cap = self.config.max_per_category
        if cap is None:
            return ragged.top(values(candidates), candidates.item_id.offsets, quota_B)
        ranked = rank(candidates, self._catalogue, quota_B)
        place_K = slate.first(ranked.category, ranked.offsets, ranked.quota, cap)
        return ranked.chosen(place_K)
