"""Large-scale piece-wise linear model, Gai et al. 2017, arXiv:1704.05194; also called MLR.

``p(y = 1 | x) = Σ_j softmax_j(u_jᵀ x) σ(w_jᵀ x)`` over one-hot features: the gate ``u`` cuts the
space into regions, each with a logistic regression ``w`` of its own. L2,1 deletes features with all
their weights, L1 thins out the rest. The weights of user and context are added up once a request,
in training and in serving: the common-feature trick. Differences: a proximal step on the rows a
batch touched, after a gradient step, instead of the authors' whole-batch LBFGS over directional
derivatives; a row holds the weights of all tasks; a bias for each region, which is not penalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..nn.embedder import Embedder, sum_features
from ._base import Ranker, RankerConfig


@final
class LSPLM(Ranker):
    """For each feature value, task and region a weight of the gate and one of the regression."""

    class Config(RankerConfig):
        """Settings of LS-PLM."""

        kind: Literal["ls_plm"] = "ls_plm"
        regions: int = Field(default=12, ge=1, le=1024)
        """Pieces; 1 is logistic regression."""
        l1: float = Field(default=1e-6, ge=0)
        """Strength of L1 beside the mean loss (the paper's is beside the sum)."""
        l21: float = Field(default=1e-6, ge=0)
        """Strength of L2,1 beside the mean loss."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> LSPLM:
            return LSPLM(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = ()
        self._width = len(tasks) * 2 * config.regions
        # the tables start at random: at zero all regions are alike and remain so
        self.embed = Embedder(space, ("user", "context", "item", "cross"), dim=self._width)
        self.bias = nn.Parameter(torch.zeros(self._width))

    def table_shrinkage(self) -> Mapping[str, tuple[float, float]]:
        """Strength of L1 and of L2,1, by parameter name."""
        if not (self.config.l1 or self.config.l21):
            return {}
        strength = self.config.l1, self.config.l21
        return {f"embed.tables.{name}.weight": strength for name in self.embed.tables}

    def encode_items(self, item_N: Tensor) -> Tensor:  # (N, T * 2 * regions)
        """The sum of an item's weights."""
        return sum_features(self.embed.items(item_N), self._width)

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        [item_NW] = self.item_vectors(candidates.item_id.values)
        common_BW = sum_features(self.embed.request(requests), self._width) + self.bias
        cross_NW = sum_features(self.embed.cross(candidates), self._width)
        sum_NW = candidates.item_id.spread(common_BW) + item_NW + cross_NW
        gate_NTM, value_NTM = sum_NW.unflatten(1, (len(self.tasks), 2, -1)).unbind(2)
        # log p and log (1 - p), but for the gate's normaliser, which both have
        yes_NT = (gate_NTM + F.logsigmoid(value_NTM)).logsumexp(2)
        no_NT = (gate_NTM + F.logsigmoid(-value_NTM)).logsumexp(2)
        return yes_NT - no_NT
