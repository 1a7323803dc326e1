"""Pre-ranking in two steps: a vector product cuts thousands to ``keep``, COLD orders those.

The layout of large platforms: towers next to retrieval, where a candidate costs one inner product,
then a model with crosses on what they leave. A request costs ``N · c_coarse + keep · c_fine``
instead of ``N · c_fine``, features included: they are made of what is left alone. Both steps learn
from the same batches, each by its own loss. ``headrace prerank steps`` finds the smallest ``keep``
that loses little.

As a scorer it is its fine step; the cut is made by the cascade (``stages.Narrowing``), for a scorer
cannot drop an item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..data import Batch, Candidates, Requests
from ..features import FeatureSpace
from ..nn.pointwise import Countable
from ..stages import sequences_read
from ._base import PreRanker, PreRankerConfig
from .cold import Cold
from .vector import Vector


@final
class TwoStep(PreRanker):
    """A coarse step, which the cascade cuts by, and a fine one, which scores."""

    class Config(PreRankerConfig):
        """Settings of TwoStep."""

        kind: Literal["two_step"] = "two_step"
        keep: int = Field(default=500, ge=1)
        """Candidates a request that the coarse step leaves to the fine one."""
        coarse: Vector.Config = Vector.Config()
        """Sees all."""
        fine: Cold.Config = Cold.Config()
        """Sees what is left."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> TwoStep:
            return TwoStep(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.coarse = config.coarse.build(space, tasks)
        self.fine = config.fine.build(space, tasks)
        self.reads_sequences = sequences_read((self.coarse, self.fine))

    @property
    def keep(self) -> int:
        """Candidates a request that the coarse step leaves."""
        return self.config.keep

    @property
    def reads_cross(self) -> Sequence[str]:
        """Cross features of the fine step; the coarse one reads none."""
        return self.fine.reads_cross

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        return self.fine(requests, candidates)

    @torch.inference_mode()
    def coarse_score(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T)
        """What the coarse step says, without any feature of candidates."""
        return self.coarse.score(requests, candidates)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Of the fine step by its own names, of the coarse one as ``coarse.TASK``."""
        coarse = self.coarse.loss(batch)
        return {**self.fine.loss(batch), **{f"coarse.{name}": x for name, x in coarse.items()}}

    def prepare(self, batches: Countable) -> None:
        """Both steps."""
        self.coarse.prepare(batches)
        self.fine.prepare(batches)

    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good, both steps."""
        self.eval()
        self.coarse.freeze(chunk)
        self.fine.freeze(chunk)
