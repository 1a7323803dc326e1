"""Embedding & MLP, the base model of the DIN paper (arXiv:1706.06978, section 4.2).

Behaviours are pooled without regard to the candidate. Differences: mean pooling instead of sum, so
that the scale does not grow with the history; one logit a task instead of a two-class softmax.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder
from ..nn.mlp import Activation, mlp
from ..ops import ragged
from ._base import Ranker, RankerConfig


@final
class MLP(Ranker):
    """Embeddings of every feature and the mean of the history, then an MLP."""

    class Config(RankerConfig):
        """Settings of MLP."""

        kind: Literal["mlp"] = "mlp"
        history: str = "history"
        """The sequence to pool."""
        hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
        """Widths of the hidden layers."""
        activation: Activation = "prelu"
        dropout: float = Field(default=0.0, ge=0, lt=1)

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> MLP:
            return MLP(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.embed = Embedder(space, ("user", "context", "item", "cross"))
        width = self.embed.dim("user", "context", "item", "item", "cross")
        self.head = mlp(
            width,
            *config.hidden,
            len(tasks),
            activation=config.activation,
            dropout=config.dropout,
        )

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        history = requests.ragged(f"{self.config.history}.item")
        item_ND, event_ED = self.item_vectors(candidates.item_id.values, history.values)
        pooled_BD = ragged.segment_mean(event_ED, history.offsets)
        request_BD = torch.cat([self.embed.request(requests), pooled_BD], dim=-1)
        request_ND = candidates.item_id.spread(request_BD)
        return self.head(torch.cat([request_ND, item_ND, self.embed.cross(candidates)], dim=-1))
