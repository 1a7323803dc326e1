"""Items that go together: co-occurrence with inverse unit frequency, cosine-normalised.

``w_ij = Σ_{u∈U_i∩U_j} 1/log(1+|I_u|) / √(|U_i||U_j|)`` (Sarwar et al., WWW 2001, with the inverse
frequency of Breese et al., UAI 1998); a request's score of j is ``Σ_h w_hj · decay(age of h)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..ops import co_occurrence
from ..samples import Samples
from ..training import Trainer
from ._base import Channel
from ._units import Units, units

DAY_MS = 86_400_000


@final
class ItemCF(Channel):
    """Neighbours of the items in the user's history."""

    class Config(config.Config):
        """Settings of ItemCF."""

        kind: Literal["item_cf"] = "item_cf"
        unit: Literal["request", "user"] = "request"
        """What items must share: a basket (or page), or a user's whole life."""
        history: str = "history"
        """The sequence whose items are the seeds."""
        neighbours: int = Field(default=200, ge=1, le=10_000)
        """Kept for each item."""
        shrink: float = Field(default=10.0, ge=0)
        """Added to the denominator: pairs seen once are chance."""
        half_life_days: float = Field(default=30.0, gt=0, le=10_000)
        """A seed counts half after so long."""

        def build(self, space: FeatureSpace) -> ItemCF:
            """Make the channel."""
            del space
            return ItemCF(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Neighbours:
        """Count co-occurrences in the training period."""
        del name, trainer
        own: Units = units(samples, self.config.unit)
        weight_U = 1 / np.log1p(np.maximum(np.diff(own.offsets), 1))
        graph = co_occurrence.cosine(
            own.offsets,
            own.item,
            own.item_offsets,
            own.unit,
            weight_U,
            self.config.neighbours,
            self.config.shrink,
        )
        offsets, neighbour, weight = map(torch.from_numpy, graph)
        return Neighbours(
            offsets, neighbour, weight, self.config.history, self.config.half_life_days
        )

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Neighbours:
        """Take up the counted graph."""
        del space
        graph = (arrays["offsets"], arrays["neighbour"], arrays["weight"])
        return Neighbours(*graph, self.config.history, self.config.half_life_days)


class Neighbours:
    """A graph of items, walked one step from every item of the history."""

    def __init__(
        self,
        offsets: Tensor,
        neighbour: Tensor,
        weight: Tensor,
        history: str,
        half_life_days: float,
    ) -> None:
        self._graph = (offsets, neighbour, weight)
        self._history, self._half_life_ms = history, half_life_days * DAY_MS

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The neighbours with the highest sums, best first."""
        seeds = requests.ragged(f"{self._history}.item")
        times = requests.ragged(f"{self._history}.time_ms")
        age_E = (times.spread(requests.time_ms) - times.values).double()
        found = co_occurrence.gather(
            *(part.numpy() for part in self._graph),
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
        return dict(zip(("offsets", "neighbour", "weight"), self._graph, strict=True))
