"""COPR: the pre-ranker learns the order in which the ranker puts what it is worth.

Zhao et al., "COPR: Consistency-Oriented Pre-Ranking for Online Advertising", CIKM 2023,
arXiv:2306.03516: only the order of eCPM decides who wins, so that is what is learnt, not the
ranker's probabilities. The ranker's list is cut into chunks, one candidate of each is drawn, and
every pair of chunks pays ``ΔNDCG · log(1 + exp(s_j - s_i))`` beside the loss of clicks, with
``s = log(p · bid)``.

Departures: the gain of a chunk falls linearly to the last (the paper's weights are not at hand);
"bid" is the ranker's worth over its probability of the last task, so that any formula of value has
one, exact where the formula is a product with that probability.
"""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field
from torch import Tensor

from ..features import FeatureSpace
from ..nn.order import pairwise_logistic, places, swap_weights
from ._aligned import Aligned, AlignedConfig, Lists


@final
class Copr(Aligned):
    """Chunk-wise alignment with the ranker's order."""

    class Config(AlignedConfig):
        """Settings of Copr."""

        kind: Literal["copr"] = "copr"
        chunks: int = Field(default=16, ge=2, le=1_000)
        """Parts that the ranker's list is cut into; each has one candidate a step."""

        @property
        def drawn(self) -> int:
            """One."""
            return 1

        def bucket(self, place_N: Tensor, length_N: Tensor) -> Tensor:
            """Chunks of equal length."""
            return place_N * self.chunks // length_N.clamp(min=1)

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> Copr:
            return Copr(self, space, tasks)

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        super().__init__(config, space, tasks)

    def order(self, lists: Lists) -> Tensor:
        """Pairs of chunks, at the places that the ranker gives them."""
        place_BM = places(lists.worth_BM, lists.real_BM)
        gain_BM = (lists.real_BM.sum(1, keepdim=True) - place_BM).float()
        weight_BMM = swap_weights(gain_BM, place_BM, lists.real_BM)
        return pairwise_logistic(lists.score_BM, gain_BM, weight_BMM, lists.weight_BM)
