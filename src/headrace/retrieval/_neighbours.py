"""A graph of items, walked one step from every item of the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged, Requests
from ..ops import co_occurrence

Array = NDArray[Any]
DAY_MS = 86_400_000


class GraphConfig(config.Config):
    """Settings that item-to-item channels share."""

    unit: Literal["request", "user"] = "request"
    """What items must share: a basket (or page), or a user's whole life."""
    history: str = "history"
    """The sequence whose items are the seeds."""
    neighbours: int = Field(default=200, ge=1, le=10_000)
    """Kept for each item."""
    half_life_days: float = Field(default=30.0, gt=0, le=10_000)
    """A seed counts half after so long."""


class Neighbours:
    """A graph of items, walked one step from every item of the history."""

    def __init__(self, graph: tuple[Tensor, Tensor, Tensor], config: GraphConfig) -> None:
        self._offsets, self._neighbour, self._weight = graph  # a row an item, best first
        self._history, self._half_life_ms = config.history, config.half_life_days * DAY_MS

    @classmethod
    def counted(cls, graph: tuple[Array, Array, Array], config: GraphConfig) -> Neighbours:
        """Take a graph from ops/co_occurrence.py."""
        offsets, neighbour, weight = map(torch.from_numpy, graph)
        return cls((offsets, neighbour, weight), config)

    @classmethod
    def restored(cls, arrays: Mapping[str, Tensor], config: GraphConfig) -> Neighbours:
        """Take up the arrays of a counted graph."""
        return cls((arrays["offsets"], arrays["neighbour"], arrays["weight"]), config)

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The neighbours with the highest sums, best first."""
        seeds = requests.ragged(f"{self._history}.item")
        times = requests.ragged(f"{self._history}.time_ms")
        age_E = (times.spread(requests.time_ms) - times.values).double()
        found = co_occurrence.gather(
            self._offsets.numpy(),
            self._neighbour.numpy(),
            self._weight.numpy(),
            seeds.offsets.numpy(),
            seeds.values.numpy(),
            torch.exp2(-age_E / self._half_life_ms).float().numpy(),
            requests.exclude.offsets.numpy(),
            requests.exclude.values.numpy(),
            quota_B.numpy(),
        )
        offsets, item, score = map(torch.from_numpy, found)
        return Candidates(Ragged(item, offsets)).scored("score", score.unsqueeze(-1))

    def arrays(self) -> Mapping[str, Tensor]:
        """The graph."""
        return {
            "offsets": self._offsets,
            "neighbour": self._neighbour,
            "weight": self._weight,
        }
