"""Items that go together: co-occurrence with inverse unit frequency, cosine-normalised.

``w_ij = Σ_{u∈U_i∩U_j} 1/log(1+|I_u|) / (√(|U_i||U_j|) + shrink)``: item-based collaborative
filtering (Sarwar et al., WWW 2001) with the inverse frequency of Breese et al., UAI 1998. Units u
are baskets or users. A request's score of j is ``Σ_h w_hj · decay(age of h)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
from pydantic import Field
from torch import Tensor

from ..features import FeatureSpace
from ..ops import co_occurrence
from ..samples import Samples
from ..training import Trainer
from ._base import Channel
from ._neighbours import GraphConfig, Neighbours
from ._units import units


@final
class ItemCF(Channel):
    """Neighbours of the items in the user's history."""

    class Config(GraphConfig):
        """Settings of ItemCF."""

        kind: Literal["item_cf"] = "item_cf"
        shrink: float = Field(default=10.0, ge=0)
        """Added to the denominator: pairs seen once are chance."""

        def build(self, space: FeatureSpace) -> ItemCF:
            """Make the channel."""
            del space
            return ItemCF(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Neighbours:
        """Count co-occurrences in the training period."""
        del name, trainer
        own = units(samples, self.config.unit)
        weight_U = 1 / np.log1p(np.diff(own.offsets))
        graph = co_occurrence.cosine(
            own.offsets,
            own.item,
            own.item_offsets,
            own.unit,
            weight_U,
            self.config.neighbours,
            self.config.shrink,
        )
        return Neighbours.counted(graph, self.config)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Neighbours:
        """Take up the counted graph."""
        del space
        return Neighbours.restored(arrays, self.config)
