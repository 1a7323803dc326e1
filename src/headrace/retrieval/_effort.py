"""How hard a search of a graph works, as a setting."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .. import config
from ..ops.graph_search import Effort


class EffortConfig(config.Config):
    """What a search may cost, on the finest level of the graph first."""

    width: tuple[int, ...] = (400, 200, 100)
    """Items kept in view (ef); a graph with more levels goes on with the last number."""
    hops: tuple[int, ...] = (3, 1, 1)
    """Times that those in view are expanded (T)."""
    rule: Literal["paper", "served"] = "paper"
    """paper: keep the best of a level, expand the new among them. served: the best of the new."""
    stop: float = Field(default=0.0, ge=0, le=1)
    """Leave a level after a hop that renewed less than this share of what is in view."""

    @model_validator(mode="after")
    def _positive(self) -> EffortConfig:
        for name, numbers in (("width", self.width), ("hops", self.hops)):
            if not numbers or min(numbers) < 1:
                raise ValueError(f"{name}: want positive numbers, one a level, got {numbers}")
        return self

    def effort(self) -> Effort:
        """As the search takes it."""
        return Effort(self.width, self.hops, self.rule, self.stop)
