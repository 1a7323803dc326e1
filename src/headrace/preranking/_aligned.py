"""What pre-rankers share that learn the ranker's order by gradients: a model inside.

Labelled batches train the model inside by its own loss. Between them come batches of ranked lists.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..data import Batch, Candidates, Ragged, Requests
from ..features import FeatureSpace
from ..nn.pointwise import Countable
from ..ops import ragged
from ._base import PreRanker
from ._ranked import BID, GRADE, SMALLEST, WORTH, RankedConfig
from .cold import Cold
from .vector import Vector

Inner = Annotated[Vector.Config | Cold.Config, Field(discriminator="kind")]


class AlignedConfig(RankedConfig):
    """Settings of Aligned; every such pre-ranker's ``Config`` extends it."""

    model: Inner = Cold.Config()
    """What is trained and served."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Of the order's loss beside that of labels."""


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
