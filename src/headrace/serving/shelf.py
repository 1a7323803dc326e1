"""The cascade over what is on sale now: items withdrawn, prices changed, filters applied."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from ..behavior.ids import RawIds
from ..behavior.journal import Journal
from ..errors import RequestError, suggest
from ..log import Log
from .cascade import Cascade
from .slate import PRICE
from .wire import Change, Filters

KIND = "catalogue"  # of the journal
CACHED = 64  # filters whose masks are kept
EVERYTHING = (None, (), None)  # filters that hide nothing
logger = logging.getLogger(__name__)


class UnknownItemError(RequestError):
    """An item that the log does not have."""


@final
class Shelf:
    """Holds the cascade that serves now. To be used from one thread.

    A change makes a new cascade that shares all but the changed column. It is in the journal before
    it takes effect, and taken up again when the server restarts. Prices set here enter the value
    formula; models go on seeing the price they were trained with, until the next bundle.
    """

    def __init__(
        self, cascade: Cascade, log: Log, items: RawIds, journal: Journal | None = None
    ) -> None:
        self.cascade = cascade
        self._items, self._journal = items, journal
        self._categories = {name: code for code, name in enumerate(log.vocab["category"])}
        self._filtered: dict[tuple[object, ...], Cascade] = {}
        for record in journal.records if journal is not None else []:
            self._replay(record)

    def find(self, raw: str) -> int:
        """The number of an item; UnknownItemError if the log does not have it."""
        item = self._items.row(raw)
        if item == 0:
            raise UnknownItemError(f"items/{raw}: no such item in the log")
        return item

    def change(self, raw: str, change: Change) -> int:
        """Withdraw, restore or re-price an item; return its number.

        Raises UnknownItemError, RequestError on a column that items do not have, and StoreError.
        """
        item = self.find(raw)
        columns = self.cascade.catalogue.columns
        for name, number in change.numbers.items():
            if name not in columns:
                raise RequestError(f"numbers.{name}: no such column; {suggest(name, columns)}")
            if not math.isfinite(torch.tensor(number, dtype=torch.float32).item()):
                raise RequestError(f"numbers.{name}: {number} is too large")
        if self._journal is not None:
            record = {"item": raw, "time_ms": time.time_ns() // 1_000_000, **change.model_dump()}
            self._journal.append(record)
        self._apply(item, change)
        return item

    def under(self, filters: Filters, place: str = "") -> Cascade:
        """The cascade that shows only what the filters' categories and price allow."""
        key = shown(filters)
        if key == EVERYTHING:
            return self.cascade
        if key not in self._filtered:
            if len(self._filtered) >= CACHED:
                self._filtered.clear()
            hidden = torch.nonzero(~self._allowed(filters, f"{place}filters"))[:, 0]
            catalogue = self.cascade.catalogue.withdraw(hidden)
            self._filtered[key] = self.cascade.with_catalogue(catalogue)
        return self._filtered[key]

    def close(self) -> None:
        """Let another server open the journal."""
        if self._journal is not None:
            self._journal.close()

    def _allowed(self, filters: Filters, place: str) -> Tensor:  # (I,) bool
        catalogue = self.cascade.catalogue
        allowed = torch.ones(len(catalogue), dtype=torch.bool)
        if filters.categories is not None:
            codes = self._codes(f"{place}.categories", filters.categories)
            allowed &= torch.isin(catalogue.category, codes)
        if filters.not_categories:
            codes = self._codes(f"{place}.not_categories", filters.not_categories)
            allowed &= ~torch.isin(catalogue.category, codes)
        if filters.price_max is not None:
            if PRICE not in catalogue.columns:
                raise RequestError(f"{place}.price_max: items have no price")
            allowed &= catalogue.columns[PRICE] <= filters.price_max
        return allowed

    def _codes(self, place: str, names: list[str]) -> Tensor:
        for name in names:
            if name not in self._categories:
                raise RequestError(
                    f"{place}: no category {name!r}; {_near(name, self._categories)}"
                )
        return torch.tensor([self._categories[name] for name in names], dtype=torch.int64)

    def _replay(self, record: Mapping[str, Any]) -> None:
        item = self._items.row(record["item"])
        columns = self.cascade.catalogue.columns
        numbers = {name: x for name, x in record["numbers"].items() if name in columns}
        if item == 0 or len(numbers) < len(record["numbers"]):
            logger.warning("a change of item %s is not of this log; left out", record["item"])
        if item:
            self._apply(item, Change(available=record["available"], numbers=numbers))

    def _apply(self, item: int, change: Change) -> None:
        catalogue, at = self.cascade.catalogue, torch.tensor([item])
        if change.available is not None:
            catalogue = catalogue.withdraw(at, available=change.available)
        for name, number in change.numbers.items():
            catalogue = catalogue.reprice(name, at, torch.tensor([number]))
        self.cascade = self.cascade.with_catalogue(catalogue)
        self._filtered.clear()


def shown(filters: Filters) -> tuple[object, ...]:
    """Equal for filters that show the same items of a catalogue."""
    only = None if filters.categories is None else tuple(sorted(set(filters.categories)))
    return only, tuple(sorted(set(filters.not_categories))), filters.price_max


def _near(name: str, known: Mapping[str, int]) -> str:
    """The nearest name; a catalogue has too many categories to list."""
    near = suggest(name, known)
    return near if near.startswith("did you mean") else "see the categories that slates show"
