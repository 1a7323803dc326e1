"""The log itself as a behaviour store: its mapped columns, read in place. Training reads this."""

from __future__ import annotations

from typing import final

import numpy as np

from ..log import Log
from ..ops import history
from .base import Array, Events
from .moves import Moves


@final
class MappedLog:
    """Read-only; the base under every store that also takes new events."""

    def __init__(self, log: Log) -> None:
        self.moves = Moves.of(log)
        self._user_offsets = log.event("user_offsets")
        self._columns = {c: log.event(c) for c in ("item", "category", "type", "time_ms", "value")}
        self._order = log.by_category("order")
        self._key_offsets = log.by_category("key_offsets")
        self._key_category = log.by_category("key_category")
        self._key_start = log.by_category("key_start")

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        columns = self._columns
        at, offsets = history.latest(
            self._user_offsets, columns["time_ms"], columns["type"], user_B, before_B, n, type_mask
        )
        return self._gather(at, offsets)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        return self.moves.read(self._by_category, user_P, category_P, before_P, n)

    def holds(self, user_E: Array, time_E: Array, item_E: Array, type_E: Array) -> Array:
        """Whether it has each event, ``(E,) bool``."""
        columns = self._columns
        stored = (columns["time_ms"], columns["item"], columns["type"])
        return history.place(self._user_offsets, *stored, (user_E, time_E, item_E, type_E))[1]

    def _by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        at, offsets = history.by_category(
            self._key_offsets,
            self._key_category,
            self._key_start,
            self._order,
            self._columns["time_ms"],
            user_P,
            category_P,
            before_P,
            n,
        )
        return self._gather(at, offsets)

    def _gather(self, at: Array, offsets: Array) -> Events:
        columns = {name: np.take(column, at) for name, column in self._columns.items()}
        return Events(offsets, **columns)
