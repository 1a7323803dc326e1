"""Items that go together by the word of pairs of users who agree on little else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..features import FeatureSpace
from ..ops import co_occurrence
from ..samples import Samples
from ._counting import type_mask
from ._neighbours import Graph, NeighbourChannel, NeighbourConfig, Units, build


@final
class Swing(NeighbourChannel):
    r"""``s(i, j) = Σ_{u<v∈U_i∩U_j} w_u w_v / (α + |I_u∩I_v \\ {i}|)``, ``w_u = 1/√|I_u|``.

    Source: Yang et al., "Large scale product graph construction for recommendation in e-commerce",
    arXiv:2010.05525, §3.1. As in the paper's worked example, and unlike its formula, the seed item
    i does not count among what two users share, and pairs of users are unordered. A pair of items
    that one user has, and no second, scores 0: chance never makes neighbours.

    Departures: at most ``max_users`` users of an item, drawn at random by the samples' seed, and
    the ``max_items`` newest items of a user; with ``normalise`` the weights of a seed are divided
    by its best one, or popular seeds would drown all others.
    """

    class Config(NeighbourConfig):
        """Settings of Swing."""

        kind: Literal["swing"] = "swing"
        alpha: float = Field(default=1.0, ge=0, le=1_000_000)
        """Smooths the share of small overlaps."""
        max_users: int = Field(default=100, ge=2, le=10_000)
        """Users of an item that are paired; time grows with the square of it."""
        normalise: bool = True
        """Give the best neighbour of every item the weight 1."""

        def build(self, space: FeatureSpace) -> Swing:
            """Make the channel. Raises ConfigError if the sequence does not exist."""
            self.check(space)
            return Swing(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def count(self, samples: Samples, until_ms: int) -> Mapping[str, Tensor]:
        """Count pairs of users before a time."""
        settings = self.config
        units = Units.of(samples, settings, until_ms)
        weight_U = (1 / np.sqrt(np.maximum(units.sizes, 1))).astype(np.float32)

        def rows(first: int, last: int) -> Graph:
            return co_occurrence.swing(
                first,
                last,
                units.offsets,
                units.item,
                units.item_offsets,
                units.unit,
                weight_U,
                settings.alpha,
                settings.max_users,
                samples.seed,
                settings.neighbours,
            )

        graph = dict(build(rows, samples.log.manifest.num_items))
        if settings.normalise:
            graph["weight"] = _by_best(graph["offsets"], graph["weight"])
        return {**graph, "type_mask": torch.tensor(type_mask(samples, settings.events))}


def _by_best(offsets: Tensor, weight: Tensor) -> Tensor:
    """Divide each row by its first weight, the best."""
    lengths = offsets.diff()
    best = weight[offsets[:-1][lengths > 0]]
    return weight / best.repeat_interleave(lengths[lengths > 0])
