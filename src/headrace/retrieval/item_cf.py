"""Items that go together: co-occurrence with inverse user frequency, cosine-normalised."""

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
class ItemCF(NeighbourChannel):
    """``w_ij = Σ_{u∈U_i∩U_j} δ_uij / log(1+|I_u|) / √(|U_i||U_j|)``; scores ``Σ_h w_hj · decay_h``.

    Sources: Sarwar et al., "Item-based collaborative filtering", WWW 2001 (cosine); Breese et al.,
    UAI 1998 (inverse user frequency). Departures: δ_uij, which halves with the days between the
    user's last events on i and j, since what is taken in one week belongs together more than what
    is taken in one life; pairs with less than ``least`` users in common are chance and left out;
    only the ``max_items`` newest items of a user count.
    """

    class Config(NeighbourConfig):
        """Settings of ItemCF."""

        kind: Literal["item_cf"] = "item_cf"
        together_days: float | None = Field(default=14.0, gt=0, le=10_000)
        """A pair counts half for every so many days between its two items. None: always 1."""
        least: int = Field(default=2, ge=1, le=1_000_000)
        """Units that a pair must share."""

        def build(self, space: FeatureSpace) -> ItemCF:
            """Make the channel. Raises ConfigError if the sequence does not exist."""
            self.check(space)
            return ItemCF(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def count(self, samples: Samples, until_ms: int) -> Mapping[str, Tensor]:
        """Count what occurs together before a time."""
        settings = self.config
        units = Units.of(samples, settings, until_ms)
        weight_U = (1 / np.log1p(units.sizes)).astype(np.float32)
        day_D = np.arange(units.day.max(initial=0) + 1)
        fade_D = 0.5 ** (day_D / (settings.together_days or np.inf))

        def rows(first: int, last: int) -> Graph:
            return co_occurrence.cosine(
                first,
                last,
                units.offsets,
                units.item,
                units.day,
                units.item_offsets,
                units.place,
                units.unit,
                weight_U,
                fade_D.astype(np.float32),
                settings.least,
                settings.neighbours,
            )

        mask = torch.tensor(type_mask(samples, settings.events))
        return {**build(rows, samples.log.manifest.num_items), "type_mask": mask}
