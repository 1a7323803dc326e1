"""A ranker as the scorer of a search: the production model itself may find the candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, final

import torch
from torch import Tensor

from .. import config
from ..config import Kinds
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError
from ..features import FeatureSpace
from ..nn.pointwise import Pointwise
from ..schema import Schema
from ._split import SplitModule

TASK = "taken"  # the only one of a ranker that is trained here


@dataclass(frozen=True, slots=True)
class Asking:
    """Requests as they are: a ranker's user part is not taken apart."""

    requests: Requests

    def one(self, b: int) -> Self:
        return replace(self, requests=self.requests.take(torch.tensor([b])))


@final
class RankerScorer(SplitModule[Asking]):
    """Scores by a ranker's logit of one task; items lie at what the ranker makes of them alone.

    The ranker reads nothing that only a candidate of a request has: no cross features, no events in
    its category. It builds its candidates hop by hop and computes the user part each time anew:
    right for a trial, slow beside ``_attention.AttentionScorer``.
    """

    class Config(config.Config):
        """Settings of RankerScorer."""

        kind: Literal["ranker"] = "ranker"
        ranker: Annotated[Any, Kinds("headrace.ranking")]
        """The model, as under [ranking]; it is trained here, without cross features."""

        def check(self, schema: Schema) -> None:
            """A ranker checks its settings when it is built."""

        def build(self, space: FeatureSpace) -> RankerScorer:
            """Make an untrained one. Raises ConfigError for a ranker that cannot be searched."""
            return RankerScorer(self.ranker.build(without_cross(space), (TASK,)), TASK)

    def __init__(self, ranker: Pointwise, task: str) -> None:
        """Take any ranker, trained or not; the score is the logit of ``task``.

        Raises ConfigError if it reads what only a candidate of a request has.
        """
        super().__init__()
        cross = ranker.embed.names.get("cross", [])
        if cross or ranker.reads_hits:
            what = f"the cross feature {cross[0]!r}" if cross else "hits of each candidate"
            raise ConfigError(
                f"scorer.ranker: it reads {what}, which a search over all items does not have; "
                "train one without"
            )
        self.ranker, self._at = ranker, ranker.tasks.index(task)
        self.reads_sequences = ranker.reads_sequences

    def vectors(self, item_M: Tensor) -> Tensor:
        return self.ranker.item_vectors(item_M)[0]

    def rows(self, vector_MV: Tensor) -> Tensor:
        return vector_MV[..., :0]

    def users(self, requests: Requests, vector_IV: Tensor, dtype: torch.dtype) -> Asking:
        del vector_IV, dtype
        return Asking(requests)

    def cross(self, users: Asking, item: Tensor, row: Tensor) -> Tensor:
        del row
        size = len(users.requests)
        offsets = item.shape[-1] * torch.arange(size + 1)
        candidates = Candidates(Ragged(item.flatten(), offsets))
        return self.ranker(users.requests, candidates)[:, self._at].reshape(item.shape)

    def batch(self, requests: Requests, item_BN: Tensor) -> tuple[Asking, Tensor, Tensor]:
        return Asking(requests), torch.zeros(1, 0), torch.zeros_like(item_BN)

    def freeze(self) -> None:
        self.ranker.freeze()


def without_cross(space: FeatureSpace) -> FeatureSpace:
    """The same space without the features that only a candidate of a request has."""
    schema = space.schema
    kept = {n: f for n, f in schema.features.items() if f.of not in ("cross", "privileged")}
    return replace(space, schema=schema.model_copy(update={"features": kept}))
