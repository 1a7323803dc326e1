"""From a trace to what a shop can show: raw ids, names, prices, scores and reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def items(self, trace: Trace, row: int, catalogue: Catalogue, *, explain: bool) -> list[Item]:
        """The slate of one request of a trace, best first."""
        slate = trace.slate
        start, end = slate.item_id.offsets[row : row + 2].tolist()
        items = slate.item_id.values[start:end].tolist()
        scores = self._scores(trace, start, end)
        found = _found(trace, row, items) if explain else [{} for _ in items]
        prices = catalogue.columns.get(PRICE)
        names = _texts(self._name, items) if self._name is not None else [None] * len(items)
        return [
            Item(
                item=raw,
                name=name,
                category=category,
                price=None if prices is None else float(prices[number]),
                value=score["value"],
                scores=score,
                found_by=channels,
            )
            for number, raw, name, category, score, channels in zip(
                items,
                _texts(self._raw, items),
                names,
                _texts(self._category, items),
                scores,
                found,
                strict=True,
            )
        ]

    def state(self, item: int, catalogue: Catalogue) -> ItemState:
        """How an item stands."""
        numbers = {name: float(column[item]) for name, column in catalogue.columns.items()}
        return ItemState(self._raw[item], bool(catalogue.available[item]), numbers)

    def _scores(self, trace: Trace, start: int, end: int) -> list[dict[str, float]]:
        """Each item's score by stage; the ranker's is that of its last task, and all by task."""
        columns: dict[str, list[float]] = {}
        for stage, score_NT in trace.slate.scores.items():
            column = -1 if stage == "ranking" else 0
            columns[stage] = score_NT[start:end, column].tolist()
        for task, score_N in zip(self._tasks, trace.slate.scores["ranking"].T, strict=True):
            columns[f"p_{task}"] = score_N[start:end].tolist()
        return [{name: column[i] for name, column in columns.items()} for i in range(end - start)]


def _texts(column: pl.Series, items: Sequence[int]) -> list[str]:
    return [column[item] for item in items]


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
