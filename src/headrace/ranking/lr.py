"""Logistic regression over one-hot features: the baseline under every other ranker."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder
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
        self.embed = Embedder(space, ("user", "context", "item", "cross"), dim=len(tasks))
        self.bias = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        [item_NF] = self.item_vectors(candidates.item_id.values)
        request_NF = candidates.item_id.spread(self.embed.request(requests))
        weight_NF = torch.cat([request_NF, item_NF, self.embed.cross(candidates)], dim=-1)
        return weight_NF.unflatten(-1, (-1, len(self.tasks))).sum(1) + self.bias
