"""Swing: two items are substitutes when users who share little else share both.

Yang et al., arXiv:2010.05525. ``s(i,j) = Σ_{u<v ∈ U_i∩U_j} w_u w_v / (α + |I_u∩I_v|)``,
``w_u = 1/√|I_u|``. The intersection does not count i itself, as in the paper's worked example and
not as in its formula; pairs are unordered. Units u may be baskets instead of users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

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
class Swing(Channel):
    """Neighbours by the quadrangles of two units and two items."""

    class Config(GraphConfig):
        """Settings of Swing."""

        kind: Literal["swing"] = "swing"
        alpha: float = Field(default=1.0, gt=0)
        """Smooths the overlap of two units."""
        most_units: int = Field(default=100, ge=2, le=10_000)
        """Of a popular item, evenly spaced units; the work grows with the square."""

        def build(self, space: FeatureSpace) -> Swing:
            """Make the channel."""
            del space
            return Swing(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Neighbours:
        """Count quadrangles in the training period."""
        del name, trainer
        own = units(samples, self.config.unit)
        graph = co_occurrence.swing(
            own.offsets,
            own.item,
            own.item_offsets,
            own.unit,
            self.config.neighbours,
            self.config.alpha,
            self.config.most_units,
        )
        return Neighbours.counted(graph, self.config)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Neighbours:
        """Take up the counted graph."""
        del space
        return Neighbours.restored(arrays, self.config)
