"""What pre-rankers share that learn the ranker's order: a model inside, and lists to learn from.

Labelled batches train the model inside by its own loss. Between them come batches of ranked lists,
which carry as ``scores`` what ``headrace.alignment`` puts there: what the ranker says a candidate
is worth, that worth over its probability, and its grade by place in the whole list.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..data import Batch, Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..nn.pointwise import Countable
from ..ops import ragged
from ._base import PreRanker, PreRankerConfig
from .cold import Cold
from .vector import Vector

WORTH, BID, GRADE = "align.worth", "align.bid", "align.grade"  # scores (N, 1) of ranked lists
SMALLEST = 1e-12  # of a probability or bid whose logarithm is taken

Inner = Annotated[Vector.Config | Cold.Config, Field(discriminator="kind")]


class AlignedConfig(PreRankerConfig):
    """Settings of Aligned; every such pre-ranker's ``Config`` extends it."""

    model: Inner = Cold.Config()
    """What is trained and served."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Of the order's loss beside that of labels."""
    lists: int = Field(default=4_000, ge=1)
    """Training requests whose retrieved items the ranker puts in order."""

    @model_validator(mode="after")
    def _one_teacher(self) -> AlignedConfig:
        if self.distill is not None:
            raise ValueError("distill: the ranker's order is learnt from it already; leave it out")
        return self

    @abstractmethod
    def bucket(self, place_N: Tensor, length_N: Tensor) -> Tensor:
        """The part of its list that a place is in, ``(N,) int64``; a step draws from each."""
        raise NotImplementedError

    @property
    @abstractmethod
    def drawn(self) -> int:
        """How many candidates of each bucket a step draws at most."""
        raise NotImplementedError


class Aligned(PreRanker):
    """Abstract. A final one says what a wrong order costs."""

    def __init__(self, config: AlignedConfig, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        """The model inside, and nothing else that is trained."""
        super().__init__()
        self.settings, self.tasks = config, tasks
        self.inner = config.model.build(space, tasks)
        self.reads_hits = self.inner.reads_hits
        self.reads_sequences = self.inner.reads_sequences

    @property
    def reads_cross(self) -> Sequence[str]:
        """Cross features that candidates must carry."""
        return self.inner.reads_cross

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        return self.inner(requests, candidates)

    def prepare(self, batches: Countable) -> None:
        """As the model inside does."""
        self.inner.prepare(batches)

    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good."""
        self.eval()
        self.inner.freeze(chunk)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """The model's own for labelled candidates; for ranked lists what their order costs.

        The order is that of ``log p + log bid`` with p of the last task: of worth, where worth is
        the product of the two.
        """
        if WORTH not in batch.candidates.scores:
            return self.inner.loss(batch)
        found = batch.candidates
        logit_N = self.inner(batch.requests, found)[:, -1]
        bid_N = found.scores[BID][:, 0].clamp(min=SMALLEST)
        score_N = torch.nn.functional.logsigmoid(logit_N) + bid_N.log()
        lists = Lists.of(found, score_N, batch.weight)
        total = self.settings.weight * self.order(lists) / max(len(found), 1)
        return {"order": total}

    @abstractmethod
    def order(self, lists: Lists) -> Tensor:
        """What the order of lists costs, summed over them."""
        raise NotImplementedError


class Lists:
    """Ranked lists side by side, padded: B lists, M places."""

    def __init__(self, columns_NC: Tensor, offsets: Tensor) -> None:
        padded_BMC, self.real_BM = ragged.pad(columns_NC, offsets)
        self.score_BM, self.weight_BM, self.worth_BM, self.grade_BM = padded_BMC.unbind(2)

    @classmethod
    def of(cls, found: Candidates, score_N: Tensor, weight_N: Tensor) -> Lists:
        """The candidates of each request are a list; ``score_N`` is the model's."""
        rows: Ragged = found.item_id
        columns = (score_N, weight_N, found.scores[WORTH][:, 0], found.scores[GRADE][:, 0])
        return cls(torch.stack(columns, dim=1), rows.offsets)
