"""Samples for a student: those with labels, and candidates of which a teacher alone speaks.

Impressions are a narrow choice, made by the ranker itself; a student that learns from them alone
says anything of the rest. So each request brings some of what retrieval found for it, without
labels, and what a teacher says of them: out of a log of its scores, or asked while training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Batch, Ragged
from ..errors import DataError, suggest
from ..ops import ragged
from .batches import RankingBatches

if TYPE_CHECKING:
    from ..log import Log
    from .samples import Drawn, Samples

Array = NDArray[Any]
TEACHER = "teacher"  # scores (N, T): what the teacher's log says; not a number where it is silent
UNLABELLED = "sample.unlabelled"  # feature (N,) bool: for the teacher alone to speak of


@dataclass(frozen=True)
class Lists:
    """What retrieval found for some requests, and what a teacher said of it where that was kept."""

    request: Array  # (R,) int64, rows of the log's requests, ascending
    item: Ragged  # R rows of distinct items
    score_NT: Tensor | None = None  # probabilities

    def of(self, request_B: Array) -> tuple[Ragged, Tensor | None]:
        """The lists of some requests, empty where there is none."""
        place_B = np.searchsorted(self.request, request_B)
        inside_B = np.minimum(place_B, len(self.request) - 1)
        known_B = torch.from_numpy(self.request[inside_B] == request_B)
        lengths_B = self.item.lengths[torch.from_numpy(inside_B)] * known_B
        at = self.item.with_values(torch.arange(len(self.item.values)))
        at_N = at.take_rows(torch.from_numpy(inside_B[known_B.numpy()])).values
        item = Ragged.sized(self.item.values[at_N], lengths_B)
        return item, None if self.score_NT is None else self.score_NT[at_N]


class TaughtBatches(RankingBatches):
    """The batches of a ranker with up to ``each`` unlabelled candidates a request behind them.

    Labels weigh as much as they would alone; unlabelled candidates weigh as much each.
    """

    def __init__(
        self,
        samples: Samples,
        request: Array,
        size: int,
        lists: Lists | None,
        each: int,
        *,
        hits: bool,
        sequences: Collection[str] | None,
    ) -> None:
        super().__init__(samples, request, size, hits, sequences)
        self._lists, self._each = lists, each

    def _batch(self, drawn: Drawn, seed: int) -> Batch:
        if self._lists is None:
            return super()._batch(drawn, seed)
        item, score_NT = self._lists.of(drawn.request)
        rng = np.random.default_rng([seed, int(drawn.request[0])])
        luck_N = torch.from_numpy(rng.random(len(item.values)))
        some = ragged.top(luck_N, item.offsets, torch.full((len(item),), self._each))
        row_K = item.row[some]
        more = Ragged.sized(item.values[some], torch.bincount(row_K, minlength=len(item)))
        whole, added_N = self._samples.add(drawn, more)
        batch = super()._batch(whole, seed)
        found, size = batch.candidates, len(batch.candidates)
        scores = {} if score_NT is None else {TEACHER: _looked_up(whole.item, item, score_NT)}
        return replace(
            batch,
            candidates=replace(
                found, features={**found.features, UNLABELLED: added_N}, scores=scores
            ),
            weight=torch.full((size,), size / max(int((~added_N).sum()), 1)),
        )


def _looked_up(wanted: Ragged, known: Ragged, score_NT: Tensor) -> Tensor:
    """Scores of candidates out of lists that may hold them, not a number where they do not."""
    size = 1 + max((int(x.values.max()) for x in (wanted, known) if len(x.values)), default=0)
    key_K, order_K = (known.row * size + known.values).sort()
    key_N = wanted.row * size + wanted.values
    out_NT = torch.full((len(key_N), score_NT.shape[1]), torch.nan)
    if len(key_K):
        place_N = torch.searchsorted(key_K, key_N).clamp(max=len(key_K) - 1)
        found_N = key_K[place_N] == key_N
        out_NT[found_N] = score_NT[order_K[place_N[found_N]]]
    return out_NT


def read_scores(path: Path, log: Log, request: Array, tasks: Sequence[str]) -> Lists:
    """A teacher's log: Parquet with ``user``, ``time_ms``, ``item`` and ``p_TASK`` for each task.

    Users and items by their raw ids. Only what belongs to ``request``, rows of the log's requests,
    is kept, the first row of each candidate. Raises DataError if the file cannot be read, lacks a
    column, holds what is no probability, or tells of none of the requests.
    """
    columns = ["user", "time_ms", "item", *(f"p_{task}" for task in tasks)]
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: no teacher scores there ({reason})") from None
    for name in columns:
        if name not in table.columns:
            raise DataError(f"{path}: no column {name!r}; {suggest(name, table.columns)}")
    asked = pl.DataFrame(
        {
            "user": log.users["user"].cast(pl.String).to_numpy()[log.request("user")[request]],
            "time_ms": np.asarray(log.request("time_ms"))[request],
            "request": request,
        },
        schema_overrides={"user": pl.String},
    )
    items = pl.DataFrame(
        {
            "item": log.items["item"].cast(pl.String),
            "number": np.arange(log.manifest.num_items),
        }
    )
    found = (
        table.select(columns)
        .with_columns(pl.col("user", "item").cast(pl.String), pl.col("time_ms").cast(pl.Int64))
        .join(asked, on=["user", "time_ms"])
        .join(items.filter(pl.col("number") > 0), on="item")
        .unique(["request", "number"], keep="first", maintain_order=True)
        .sort("request", maintain_order=True)
    )
    if found.is_empty():
        raise DataError(
            f"{path}: no teacher scores for any of {len(request)} training requests; users, "
            "items and times (unix ms) must be those of the log"
        )
    score_NT = torch.from_numpy(found.select(columns[3:]).cast(pl.Float32).to_numpy().copy())
    if not bool(((score_NT >= 0) & (score_NT <= 1)).all()):
        raise DataError(f"{path}: {', '.join(columns[3:])} must hold probabilities, 0 to 1")
    rows, lengths = np.unique(found["request"].to_numpy(), return_counts=True)
    item_N = torch.from_numpy(found["number"].to_numpy().copy())
    return Lists(rows, Ragged.sized(item_N, torch.from_numpy(lengths)), score_NT)


def write_scores(path: Path, log: Log, lists: Lists, tasks: Sequence[str]) -> None:
    """The file that ``read_scores`` reads. Raises DataError for lists without scores."""
    if lists.score_NT is None:
        raise DataError(f"{path}: no teacher scores to write; have a teacher score the lists")
    of_N = lists.request[lists.item.row.numpy()]
    users, items = log.users["user"].to_numpy(), log.items["item"].to_numpy()
    scores = {f"p_{task}": lists.score_NT[:, t].numpy() for t, task in enumerate(tasks)}
    pl.DataFrame(
        {
            "user": users[log.request("user")[of_N]],
            "time_ms": np.asarray(log.request("time_ms"))[of_N],
            "item": items[lists.item.values.numpy()],
            **scores,
        }
    ).write_parquet(path)
