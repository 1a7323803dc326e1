"""From a trace to what a shop can show: raw ids, names, prices, scores and reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import final

import polars as pl

from ..features import Catalogue
from ..log import Log
from ..stages import Trace
from .wire import Found, Item, ItemState

PRICE = "price"


@final
class Slates:
    """Describes items of one log; ``tasks`` are the ranker's, in order."""

    def __init__(self, log: Log, tasks: Sequence[str]) -> None:
        self._tasks = tasks
        self._raw, self._category = log.items["item"], log.items["category"]
        self._name = log.items["name"] if "name" in log.items.columns else None

    def items(
        self, trace: Trace, explain_B: Sequence[bool], catalogue: Catalogue
    ) -> list[list[Item]]:
        """The slates of all requests of a trace, best first; with reasons where wanted."""
        offsets, numbers = trace.slate.item_id.offsets.tolist(), trace.slate.item_id.values.tolist()
        slates = list(pairwise(offsets))
        nothing = [None] * len(numbers)
        prices = catalogue.columns.get(PRICE)
        found: list[Mapping[str, Found]] = [{}] * len(numbers)
        for row, (start, end) in enumerate(slates):
            if explain_B[row]:
                found[start:end] = _found(trace, row, numbers[start:end])
        columns = (
            _texts(self._raw, numbers),
            _texts(self._name, numbers) if self._name is not None else nothing,
            _texts(self._category, numbers),
            prices[trace.slate.item_id.values].tolist() if prices is not None else nothing,
            self._scores(trace),
            found,
        )
        items = [
            Item(raw, name, category, price, scores["value"], scores, channels)
            for raw, name, category, price, scores, channels in zip(*columns, strict=True)
        ]
        return [items[start:end] for start, end in slates]

    def state(self, item: int, catalogue: Catalogue) -> ItemState:
        """How an item stands."""
        numbers = {name: float(column[item]) for name, column in catalogue.columns.items()}
        return ItemState(self._raw[item], bool(catalogue.available[item]), numbers)

    def _scores(self, trace: Trace) -> list[dict[str, float]]:
        """Each item's score by stage; the ranker's is that of its last task, and all by task."""
        columns: dict[str, list[float]] = {}
        for stage, score_NT in trace.slate.scores.items():
            columns[stage] = score_NT[:, -1 if stage == "ranking" else 0].tolist()
        for task, score_N in zip(self._tasks, trace.slate.scores["ranking"].T, strict=True):
            columns[f"p_{task}"] = score_N.tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _texts(column: pl.Series, items: Sequence[int]) -> list[str]:
    return [column[item] for item in items]  # for some hundreds faster than a gather


def _found(trace: Trace, row: int, items: Sequence[int]) -> list[Mapping[str, Found]]:
    """The channels that found each item, with its rank and score there."""
    by_item: list[dict[str, Found]] = [{} for _ in items]
    place = {item: at for at, item in enumerate(items)}
    for channel, found in trace.found.items():
        start, end = found.item_id.offsets[row : row + 2].tolist()
        score_N = found.scores["score"][:, 0]
        for rank, item in enumerate(found.item_id.values[start:end].tolist(), 1):
            if item in place:
                score = float(score_N[start + rank - 1])
                by_item[place[item]][channel] = Found(rank, score)
    return list(by_item)
