"""Feature spaces and batches made by hand, to plant what a ranker should find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.evaluation import metrics
from headrace.features import Catalogue, FeatureSpace
from headrace.features.encoders import Vocabulary
from headrace.nn.pointwise import Pointwise
from headrace.schema import Schema
from headrace.training import Training, fit

MINUTE_MS = 60_000


def space(users: Mapping[str, int], items: Mapping[str, Tensor], dim: int = 8) -> FeatureSpace:
    """User features by their number of values, item features by each item's id; item 0 is unknown."""
    sizes = {**users, **{name: int(ids.max()) for name, ids in items.items()}}
    schema = Schema.model_validate(
        {
            "default_dim": dim,
            "features": {
                **{name: {"of": "user"} for name in users},
                **{name: {"of": "item"} for name in items},
            },
        }
    )
    encoders = {n: Vocabulary(tuple(str(v) for v in range(size))) for n, size in sizes.items()}
    num_items = len(next(iter(items.values())))
    available = torch.arange(num_items) > 0
    catalogue = Catalogue(dict(items), {}, torch.zeros(num_items).long(), available)
    return FeatureSpace(schema, encoders, catalogue, ("click",))


def requests(users: Mapping[str, Tensor], history: Sequence[Tensor]) -> Requests:
    """Requests with histories of a minute an event."""
    item = Ragged.of(history)
    size = len(history)
    back = item.offsets[1:][item.row] - torch.arange(len(item.values))
    zero = torch.zeros(len(item.values), dtype=torch.int64)
    columns = {
        **users,
        "history.item": item,
        "history.time_ms": item.with_values((10_000 - back) * MINUTE_MS),
        "history.type": item.with_values(zero),
    }
    now_ms = torch.full((size,), 10_000 * MINUTE_MS)
    nobody = torch.full((size,), -1)
    return Requests(nobody + 1, now_ms, columns, nobody, Ragged.of([zero[:0]] * size))


def batch(asked: Requests, item_BM: Tensor, label_BM: Tensor) -> Batch:
    """Equally many candidates for each request, of weight 1."""
    counts = torch.full((len(asked),), item_BM.shape[1])
    return Batch(
        asked,
        Candidates(Ragged.sized(item_BM.flatten(), counts)),
        {"click": label_BM.flatten().float()},
        torch.ones(item_BM.numel()),
        torch.zeros(0, dtype=torch.int64),
    )


@dataclass
class Pieces:
    """Training data in parts of so many requests, in the same order each epoch."""

    whole: Batch
    size: int

    def __len__(self) -> int:
        return -(-len(self.whole.requests) // self.size)

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        for rows in torch.arange(len(self.whole.requests)).split(self.size)[start:]:
            yield rows_of(self.whole, rows)


def rows_of(whole: Batch, rows: Tensor) -> Batch:
    at = whole.candidates.item_id.with_values(torch.arange(len(whole.candidates)))
    at_N = at.take_rows(rows).values
    labels = {task: label_N[at_N] for task, label_N in whole.labels.items()}
    found = whole.candidates.take_rows(rows)
    return Batch(whole.requests.take(rows), found, labels, whole.weight[at_N], whole.pool)


def train(model: Pointwise, data: Batch, size: int, **settings: object) -> Pointwise:
    fit(model, Pieces(data, size), Training.model_validate(settings))
    return model


def auc(model: Pointwise, data: Batch) -> float:
    score_NT = model.score(data.requests, data.candidates)
    return metrics.auc(data.labels["click"], score_NT[:, 0])
