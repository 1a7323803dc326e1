"""Pre-ranking in two steps: a cheap word cuts thousands to ``keep``, COLD orders those.

The layout of large platforms: towers within retrieval, where a candidate costs one inner product,
then a model with crosses on what they leave. A request costs ``N · c_coarse + keep · c_fine``
instead of ``N · c_fine``, features included: they are made of what is left alone. The cheap word is
what the merge says anyway of what channels found, the towers' inner products among it, and costs
nothing more; or that of a vector product of its own, which learns from the same batches as the fine
step, by its own loss. ``headrace prerank steps`` finds the smallest ``keep`` that loses little.

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

RETRIEVAL = "retrieval"  # the score (N, 1) that the merge gives candidates: a probability


@final
class TwoStep(PreRanker):
    """A coarse step, which the cascade cuts by, and a fine one, which scores."""

    class Config(PreRankerConfig):
        """Settings of TwoStep."""

        kind: Literal["two_step"] = "two_step"
        keep: int = Field(default=500, ge=1)
        """Candidates a request that the coarse step leaves to the fine one."""
        coarse: Vector.Config | None = None
        """Sees all. Default: none of its own, but the merge's probabilities."""
        fine: Cold.Config = Cold.Config()
        """Sees what is left."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> TwoStep:
            return TwoStep(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.coarse = config.coarse and config.coarse.build(space, tasks)
        self.fine = config.fine.build(space, tasks)
        self.reads_sequences = sequences_read(self._steps)

    @property
    def _steps(self) -> Sequence[PreRanker]:
        """Those that learn."""
        return (self.fine,) if self.coarse is None else (self.coarse, self.fine)

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
        if self.coarse is None:
            return candidates.scores[RETRIEVAL].expand(-1, len(self.tasks))
        return self.coarse.score(requests, candidates)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Of the fine step by its own names, of the coarse one as ``coarse.TASK``."""
        coarse = {} if self.coarse is None else self.coarse.loss(batch)
        return {**self.fine.loss(batch), **{f"coarse.{name}": x for name, x in coarse.items()}}

    def prepare(self, batches: Countable) -> None:
        """Every step that learns."""
        for step in self._steps:
            step.prepare(batches)

    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good, every step."""
        self.eval()
        for step in self._steps:
            step.freeze(chunk)
