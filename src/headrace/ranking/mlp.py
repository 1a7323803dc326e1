"""Embedding & MLP, the base model of the DIN paper (arXiv:1706.06978, section 4.2).

Behaviours are pooled without regard to the candidate. Differences: mean pooling instead of sum, so
that the scale does not grow with the history; one logit a task instead of a two-class softmax.
"""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.gates import Stack
from ._pooled import Pooled, PooledConfig


@final
class MLP(Pooled):
    """Embeddings of every feature and the mean of the history, then an MLP."""

    class Config(PooledConfig):
        """Settings of MLP."""

        kind: Literal["mlp"] = "mlp"

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> MLP:
            return MLP(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)
        self.head = config.layers(self.width, len(tasks))

    def stack(self) -> Stack:
        return Stack("head", self.groups)

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        return self.head(self.inputs(requests, candidates))
