"""Logistic regression over one-hot features: the baseline under every other ranker."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder, sum_features
from ._base import Ranker, RankerConfig


@final
class LR(Ranker):
    """A weight a feature value and task, summed: tables as wide as there are tasks."""

    class Config(RankerConfig):
        """Settings of LR: none."""

        kind: Literal["lr"] = "lr"

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> LR:
            return LR(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = ()
        self.embed = Embedder(space, ("user", "context", "item", "cross"), dim=len(tasks))
        self.bias = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        [item_NT] = self.item_vectors(candidates.item_id.values)
        request_BT = sum_features(self.embed.request(requests), len(self.tasks))
        cross_NT = sum_features(self.embed.cross(candidates), len(self.tasks))
        return candidates.item_id.spread(request_BT) + item_NT + cross_NT + self.bias

    def encode_items(self, item_N: Tensor) -> Tensor:  # (N, T)
        """The sum of an item's weights."""
        return sum_features(self.embed.items(item_N), len(self.tasks))
