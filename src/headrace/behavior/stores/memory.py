"""Events in the memory of one process, gone with it: for tests and experiments."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import polars as pl

from ... import config
from ...errors import DataError
from ...log import Log
from ..base import Array, Events, RawEvent, Receipt
from ..ids import RawIds
from ..intake import NEW, Columns, Intake
from ..snapshot import Snapshot


@final
class MemoryStore:
    """A log as the base, and a tail in memory for every user who came back.

    Reads take no lock; tails are replaced, never edited. It forgets nothing while it lives.
    """

    class Config(config.Config):
        """Settings of MemoryStore."""

        kind: Literal["memory"] = "memory"

        def build(self, log: Log, folder: Path, keep: int, *, writable: bool) -> MemoryStore:
            """Open a store over ``log``; it neither needs the folder nor forgets."""
            del folder, keep, writable
            return MemoryStore(log)

    def __init__(self, log: Log) -> None:
        self._intake = Intake(log)
        self._tails: dict[int, Events] = {}
        self._kept: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self.degraded: Counter[str] = Counter()
        self.num_events = self.size_bytes = 0
        self.last_ms = log.manifest.last_ms

    @property
    def items(self) -> RawIds:
        return self._intake.items

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self.snapshot(user_B).latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        return self.snapshot(user_P).by_category(user_P, category_P, before_P, n)

    def snapshot(self, users: Array) -> Snapshot:
        users = np.unique(users)
        tails = [self._tails.get(user, Events.none(1)) for user in users.tolist()]
        tail = Events.end_to_end(tails) if tails else Events.none(0)
        return Snapshot(self._intake.base, users, tail)

    def user(self, raw: str) -> int:
        number = self._intake.number(raw)
        return number if number < NEW or number in self._tails else 0

    def append(self, batches: Sequence[Sequence[RawEvent]]) -> list[Receipt]:
        with self._lock:
            admitted = self._intake.admit(batches, self._has)
            self._hold(admitted.columns)
            self._intake.remember(admitted.ids)
        return admitted.receipts

    def export(self) -> tuple[pl.DataFrame, int]:
        raise DataError('serving.store: kind = "memory" keeps nothing; use "local" or "redis"')

    def release(self, mark: int, log: Log) -> None:
        del mark, log
        self.export()

    def stats(self) -> dict[str, Any]:
        return {"kind": "memory", "events": self.num_events, "users": len(self._tails)}

    def close(self) -> None:
        """Nothing to do."""

    def _has(self, c: Columns) -> Array:
        return np.array([identity in self._kept for identity in _identities(c)], bool)

    def _hold(self, c: Columns) -> None:
        """Show events to readers."""
        order = np.argsort(c.user, kind="stable")
        users, starts = np.unique(c.user[order], return_index=True)
        for user, at in zip(users.tolist(), np.split(order, starts[1:]), strict=False):
            tail = Events.of(c.item[at], c.category[at], c.type[at], c.time_ms[at], c.value[at])
            before = self._tails.get(user)
            self._tails[user] = before.merge(tail, len(before) + len(tail)) if before else tail
        self._kept.update(_identities(c))
        self.num_events += len(c)
        self.last_ms = max(self.last_ms, int(c.time_ms.max(initial=0)))


def _identities(c: Columns) -> list[tuple[int, ...]]:
    columns = (c.user, c.time_ms, c.item, c.type)
    return list(zip(*(column.tolist() for column in columns), strict=True))
