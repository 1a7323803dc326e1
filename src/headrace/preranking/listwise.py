"""A net trained by LambdaRank on lists that the ranker has graded.

Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82, section 4: the gradient between
two candidates is ``λ_ij = -|ΔNDCG_ij| / (1 + exp(s_i - s_j))``, ΔNDCG at the places they have now.
Grades go by place in the ranker's list: its first ten are worth most, then up to 50, up to 100, the
rest nothing. A step draws at most ten of each grade.

Departure: scores are ``log(p · bid)``, so that the order is that of worth (see ``copr``).
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from ..features import FeatureSpace
from ..nn.order import pairwise_logistic, places, swap_weights
from ._aligned import Aligned, AlignedConfig, Lists
from ._ranked import GradedConfig


@final
class Listwise(Aligned):
    """LambdaRank over graded lists."""

    class Config(GradedConfig, AlignedConfig):
        """Settings of Listwise."""

        kind: Literal["listwise"] = "listwise"

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> Listwise:
            return Listwise(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)

    def order(self, lists: Lists) -> Tensor:
        """Pairs of different grades, at the places that the model gives them now."""
        gain_BM = torch.exp2(lists.grade_BM) - 1
        place_BM = places(lists.score_BM.detach(), lists.real_BM)
        weight_BMM = swap_weights(gain_BM, place_BM, lists.real_BM)
        return pairwise_logistic(lists.score_BM, gain_BM, weight_BMM, lists.weight_BM)
