"""What rankers share that read the history as one mean, without regard to the candidate."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder
from ..nn.gates import Input
from ..nn.mlp import Activation, FeatureLayers
from ..ops import ragged
from ._base import Ranker, RankerConfig


class PooledConfig(RankerConfig, FeatureLayers):
    """Settings of Pooled; every such ranker's ``Config`` extends it."""

    history: str = "history"
    """The sequence to pool."""
    activation: Activation = "prelu"


class Pooled(Ranker):
    """Abstract. A final ranker says what it makes of the ``inputs``, ``width`` numbers each."""

    def __init__(self, config: PooledConfig, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks, self._history = tasks, config.history
        self.reads_sequences = (config.history,)
        self.embed = Embedder(
            space, ("user", "context", "item", "cross"), leave_out=config.unread(space.schema)
        )
        self.width = self.embed.dim("user", "context", "item", "item", "cross")

    @property
    def groups(self) -> tuple[Input, ...]:
        """What ``inputs`` lays side by side; items are encoded once a bundle and cost nothing."""
        width, groups = self.embed.dim("item"), self.embed.groups
        fixed = [Input(name, width, optional=False) for name in (self._history, "item")]
        return (*groups("user", "context"), *fixed, *groups("cross"))

    def inputs(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, width)
        """Every feature of request and candidate, and the mean of the history's item vectors."""
        history = requests.ragged(f"{self._history}.item")
        item_ND, event_ED = self.item_vectors(candidates.item_id.values, history.values)
        pooled_BD = ragged.segment_mean(event_ED, history.offsets)
        request_BD = torch.cat([self.embed.request(requests), pooled_BD], dim=-1)
        request_ND = candidates.item_id.spread(request_BD)
        return torch.cat([request_ND, item_ND, self.embed.cross(candidates)], dim=-1)
