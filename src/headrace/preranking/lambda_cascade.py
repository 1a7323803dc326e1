"""LambdaMART as a pre-ranker: boosted trees on lists that the ranker has graded.

Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82, section 7: trees are fitted to
the gradients ``λ_ij = -|ΔNDCG_ij| / (1 + exp(s_i - s_j))``. Grades go by place in the ranker's list
as in ``listwise``; the trees see at most so many candidates of each. LightGBM grows them, a kernel
of our own reads them: nothing of it is in a bundle but arrays.

What trees can read are numbers, and the model reads those that cost next to nothing: ids of
features that stand in an order (buckets, counters) or are few, and how probable retrieval held the
candidate. Ids of many values it leaves out; counters and popularity tell of those.

Departures: trees start from ``log bid``, so that the order of ``log p + log bid`` is learnt (see
``copr``); every task's logit is the trees' sum moved so that its mean probability over the lists is
the ranker's. One order for all tasks is exact where worth is a product with the last task's p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ..data import Batch, Candidates, Requests
from ..features import FeatureSpace
from ..features.encoders import Bucket
from ..nn.losses import level
from ..ops import trees
from ._base import PreRanker
from ._ranked import BID, FOUND, GRADE, RANKED, SMALLEST, GradedConfig

Array = NDArray[Any]
LEAST_ROWS = 20  # in a leaf
COLUMNS = ("feature", "threshold", "left", "right", "value")  # of a node


@final
class LambdaCascade(PreRanker):
    """Trees over ordered features; grown, not trained by gradients."""

    class Config(GradedConfig):
        """Settings of LambdaCascade."""

        kind: Literal["lambda_cascade"] = "lambda_cascade"
        trees: int = Field(default=100, ge=1, le=10_000)
        """How many; a candidate walks down each."""
        leaves: int = Field(default=31, ge=2, le=1_024)
        """Of a tree, at most."""
        learning_rate: float = Field(default=0.1, gt=0, le=1)
        """Share of each tree's word that counts."""
        few: int = Field(default=64, ge=0, le=10_000)
        """A feature whose ids are in no order is read where it has at most so many values."""

        def build(self, space: FeatureSpace, tasks: tuple[str, ...]) -> LambdaCascade:
            return LambdaCascade(self, space, tasks)

    item_IF: Tensor  # (I, F) float64, ids that are read of items

    def __init__(self, config: Config, space: FeatureSpace, tasks: tuple[str, ...]) -> None:
        """A wood of bare leaves, with room for every node that may grow.

        Room is fixed, so that the arrays of any two models of the same settings are alike.
        """
        super().__init__()
        self.config, self.tasks = config, tasks
        self.reads_sequences = ()
        schema = space.schema

        def read(names: Iterable[str]) -> list[str]:
            return [name for name in names if _ordered(space, name, config.few)]

        self._request = read([*schema.names("user"), *schema.names("context")])
        self._cross = read(schema.names("cross"))
        items = [space.catalogue.features[name] for name in read(schema.names("item"))]
        none = torch.zeros(len(space.catalogue), 0, dtype=torch.int64)
        item_IF = torch.stack(items, dim=1) if items else none
        self.register_buffer("item_IF", item_IF.double(), persistent=False)
        nodes = config.trees * (2 * config.leaves - 1)
        self.register_buffer("root", torch.zeros(config.trees, dtype=torch.int64))
        for name in ("left", "right"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("feature", torch.full((nodes,), -1))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.float64))
        self.register_buffer("found", torch.zeros(1, dtype=torch.float64))  # where none is told
        self.bias = nn.Parameter(torch.zeros(len(tasks)))

    @property
    def reads_cross(self) -> Sequence[str]:
        """Cross features that stand in an order, or are few."""
        return self._cross

    def forward(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T) logits
        return self.sums(requests, candidates).unsqueeze(1) + self.bias

    def sums(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N,) float32
        """What the trees say, of all tasks alike."""
        flat = {name: self.get_buffer(name).numpy() for name in ("root", *COLUMNS)}
        output_G = np.zeros(len(flat["root"]), np.int64)
        told_N1 = trees.sums({**flat, "output": output_G}, self.inputs(requests, candidates))
        return torch.from_numpy(told_N1[:, 0]).float()

    def inputs(self, requests: Requests, candidates: Candidates) -> Array:  # (N, F) float64
        """Numbers that the trees split: of the request, the item, the pair, and of retrieval.

        The last is the logit of retrieval's probability. Candidates that come without one, as
        exposures do, all have the middle one of the lists.
        """
        spread, item_N = candidates.item_id.spread, candidates.item_id.values
        found_N = self.get_buffer("found").expand(len(candidates))
        if FOUND in candidates.scores:
            found_N = _logit(candidates.scores[FOUND])
        columns = [
            *(spread(requests.tensor(name)).double() for name in self._request),
            *self.item_IF[item_N].unbind(1),
            *(candidates.features[name].double() for name in self._cross),
            found_N,
        ]
        return torch.stack(columns, dim=1).numpy()

    def grow(self, lists: Iterable[Batch]) -> None:
        """Learn from ranked lists all there is to learn, in place; the same on every call."""
        batches = list(lists)
        found = [batch.candidates for batch in batches]
        score = {name: torch.cat([x.scores[name] for x in found]) for name in (BID, GRADE, RANKED)}
        told = [_logit(x.scores[FOUND]) for x in found if FOUND in x.scores]
        if told:
            self.get_buffer("found").fill_(float(torch.cat(told).median()))
        lengths_B = torch.cat([x.item_id.lengths for x in found])
        grown = trees.grow(
            np.concatenate([self.inputs(batch.requests, batch.candidates) for batch in batches]),
            score[GRADE][:, 0].numpy(),
            self.config.trees,
            self._settings(int(lengths_B.max())),
            lengths=lengths_B[lengths_B > 0].numpy(),
            start_N=score[BID][:, 0].double().clamp(min=SMALLEST).log().numpy(),
        )
        self._plant(trees.flatten([grown], [1.0]))
        sum_N = torch.cat([self.sums(batch.requests, batch.candidates) for batch in batches])
        for t, p_N in enumerate(score[RANKED].unbind(1)):
            self.bias.data[t] = level(sum_N, float(p_N.mean()))

    def _settings(self, longest: int) -> Mapping[str, Any]:
        return {
            "objective": "lambdarank",
            "learning_rate": self.config.learning_rate,
            "num_leaves": self.config.leaves,
            "min_data_in_leaf": LEAST_ROWS,
            "lambdarank_truncation_level": longest,  # every pair counts, as in listwise
        }

    def _plant(self, flat: Mapping[str, Array]) -> None:
        """Put trees in the room there is; LightGBM may grow fewer, or of fewer leaves."""
        room = len(self.get_buffer("value"))
        count = len(flat["value"])
        for name in COLUMNS:
            column = self.get_buffer(name)
            column.fill_(-1 if name == "feature" else 0)
            column[:count] = torch.from_numpy(flat[name])
        root = self.get_buffer("root")
        root.fill_(room - 1)  # a bare leaf, if there are fewer trees than room
        root[: len(flat["root"])] = torch.from_numpy(flat["root"])

    def freeze(self, chunk: int = 65_536) -> None:
        """Leave training for good; nothing can be made ahead."""
        del chunk
        self.eval()


def _ordered(space: FeatureSpace, name: str, few: int) -> bool:
    """Whether a tree can make something of a feature's ids."""
    encoder = space.encoders[name]
    return isinstance(encoder, Bucket) or encoder.rows <= few + 1


def _logit(found_N1: Tensor) -> Tensor:  # (N,)
    return found_N1[:, 0].double().logit(SMALLEST)
