"""Lists that the ranker has put in order, as pre-rankers that learn from them are given them.

Candidates of such lists carry as ``scores`` what ``pipeline.alignment`` puts there: what the ranker
says a candidate is worth, that worth over its probability, its grade by place in the whole list,
the ranker's probabilities, and what retrieval said.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..ops.grades import PLACES
from ._base import PreRankerConfig

WORTH, BID, GRADE = "align.worth", "align.bid", "align.grade"  # scores (N, 1) of ranked lists
RANKED, FOUND = "ranking", "retrieval"  # and these as the cascade calls them, (N, T) and (N, 1)
SMALLEST = 1e-12  # of a probability or bid whose logarithm is taken


class RankedConfig(PreRankerConfig):
    """Settings of pre-rankers that learn from the ranker's lists."""

    lists: int = Field(default=4_000, ge=1)
    """Training requests whose retrieved items the ranker puts in order."""

    @model_validator(mode="after")
    def _one_teacher(self) -> RankedConfig:
        if self.distill is not None:
            raise ValueError("distill: the ranker's order is learnt from it already; leave it out")
        return self

    @abstractmethod
    def bucket(self, place_N: Tensor, length_N: Tensor) -> Tensor:
        """The part of its list that a place is in, ``(N,) int64``; candidates are drawn of each."""
        raise NotImplementedError

    @property
    @abstractmethod
    def drawn(self) -> int:
        """How many candidates of each bucket are drawn at most."""
        raise NotImplementedError


class GradedConfig(RankedConfig):
    """Settings of those that learn from grades."""

    each: int = Field(default=10, ge=1, le=1_000)
    """Candidates of each grade drawn from a list, at most."""

    @property
    def drawn(self) -> int:
        """As configured."""
        return self.each

    def bucket(self, place_N: Tensor, length_N: Tensor) -> Tensor:
        """Grades."""
        del length_N
        return (place_N.unsqueeze(1) >= torch.tensor(PLACES)).sum(1)
