"""The behaviour store of a server: the mapped log, and what has happened since."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import polars as pl

from ..log import Log
from .base import EVERY_TYPE, Array, Events
from .ids import RawIds
from .journal import Journal
from .mapped import MappedLog
from .overlay import Overlay, Tail

KIND = "events"  # of the journal
REMEMBERED = 1_000_000  # event ids known as duplicates; older ones by what they say
CHUNK = 10_000  # events of the journal taken up at a time
logger = logging.getLogger(__name__)


class RawEvent(NamedTuple):
    """What a user did, in the caller's own ids."""

    event_id: str
    user: str
    item: str
    type: str
    time_ms: int
    value: float


class Receipt(NamedTuple):
    """What became of a batch of events."""

    accepted: int
    duplicates: int  # known by their id, or the same in user, time, item and type


@dataclass(frozen=True, slots=True)
class _Columns:
    """Events in numbers of the log, in the order of arrival."""

    user: Array
    item: Array
    category: Array
    type: Array
    time_ms: Array
    value: Array

    def take(self, at: Array) -> _Columns:
        """Events at these positions, or where a mask is true."""
        return _Columns(
            self.user[at],
            self.item[at],
            self.category[at],
            self.type[at],
            self.time_ms[at],
            self.value[at],
        )

    def tail(self, at: Array) -> Tail:
        """Events of one user."""
        return Tail.of(
            self.item[at], self.category[at], self.type[at], self.time_ms[at], self.value[at]
        )


@final
class LiveStore:
    """A log as the base, a tail in memory for every user who came back, a journal under the tails.

    An event counts when it is in the journal: it is on disk before ``append`` returns, and visible
    to the next read then. Reads take no lock; tails are replaced, never edited. Late events take
    their place by time. As in a log, what is equal in user, time, item and type happened once, so
    a journal that was ingested meanwhile does no harm; events of one time are in order of arrival.
    A new user's number is one that the log does not have, and another after the log has grown.
    """

    def __init__(self, log: Log, journal: Journal | None = None) -> None:
        """Take up what the journal holds; without one, events live as long as the store."""
        self._log, self._journal = log, journal
        self._tails: dict[int, Tail] = {}
        self._view = Overlay(MappedLog(log), self._tails)
        self._users, self.items = RawIds(log.users["user"]), RawIds(log.items["item"])
        self._new_users: dict[str, int] = {}
        self._types = {name: code for code, name in enumerate(log.manifest.event_types)}
        self._ids: set[int] = set()
        self._ids_by_age: deque[int] = deque()
        self._lock = threading.Lock()
        self.num_events = 0
        self.last_ms = log.manifest.last_ms
        if journal is not None:
            self._replay([RawEvent(*row) for record in journal.records for row in record])
            journal.records.clear()

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self._view.latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        return self._view.by_category(user_P, category_P, before_P, n)

    def user(self, raw: str) -> int:
        """The number of a user; 0 for one that neither log nor events know."""
        return self._users.row(raw) or self._new_users.get(raw, 0)

    def newest_ms(self, user: int) -> int:
        """The time of a user's last event; -1 without any."""
        end = np.array([np.iinfo(np.int64).max])
        events = self.latest(np.array([user]), end, 1, EVERY_TYPE)
        return int(events.time_ms[0]) if len(events) else -1

    def append(self, batches: Sequence[Sequence[RawEvent]]) -> list[Receipt]:
        """Keep batches of events, all of them or none; one write to disk for all.

        Their items and types must be the log's. Raises JournalError when they cannot be written.
        """
        events = [event for batch in batches for event in batch]
        batch_E = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        with self._lock:
            at, columns, new_users, ids = self._admit(events)
            if self._journal is not None and len(at):
                self._journal.append([tuple(events[i]) for i in at])
            self._hold(columns, new_users, ids)
        accepted = np.bincount(batch_E[at], minlength=len(batches)).tolist()
        return [Receipt(n, len(b) - n) for n, b in zip(accepted, batches, strict=True)]

    def close(self) -> None:
        """Let another server open the journal."""
        if self._journal is not None:
            self._journal.close()

    @property
    def journal_bytes(self) -> int:
        """Size of the journal."""
        return self._journal.size_bytes if self._journal is not None else 0

    def _replay(self, events: list[RawEvent]) -> None:
        usable = [e for e in events if e.type in self._types and self.items.row(e.item)]
        if len(usable) < len(events):
            lost = len(events) - len(usable)
            logger.warning("%d journal events name items or types unknown to the log", lost)
        for start in range(0, len(usable), CHUNK):
            _, columns, new_users, ids = self._admit(usable[start : start + CHUNK])
            self._hold(columns, new_users, ids)

    def _admit(
        self, events: Sequence[RawEvent]
    ) -> tuple[Array, _Columns, dict[str, int], list[int]]:
        """Sort out duplicates; changes nothing.

        Returns the positions of the others, those in numbers, users without a number so far, and
        the ids to remember.
        """
        ids = [_digest(e.event_id) for e in events]
        first = {i: at for at, i in reversed(list(enumerate(ids))) if i not in self._ids}
        at = np.array(sorted(first.values()), np.int64)
        new_users: dict[str, int] = {}
        columns = self._columns([events[i] for i in at], new_users)
        new = self._is_new(columns)
        return at[new], columns.take(new), new_users, [ids[i] for i in at[new]]

    def _columns(self, events: Sequence[RawEvent], new_users: dict[str, int]) -> _Columns:
        following = len(self._users) + len(self._new_users)
        users = [
            self.user(e.user) or new_users.setdefault(e.user, following + len(new_users))
            for e in events
        ]
        item = self.items.rows([e.item for e in events])
        return _Columns(
            np.array(users, np.int64),
            item,
            self._log.item_category[item],
            np.array([self._types[e.type] for e in events], np.int64),
            np.array([e.time_ms for e in events], np.int64),
            np.array([e.value for e in events], np.float32),
        )

    def _is_new(self, c: _Columns) -> Array:
        """Whether each event differs from all that are there and all before it, ``(E,) bool``."""
        keys = np.stack([c.user, c.time_ms, c.item, c.type], axis=1)
        new = np.zeros(len(keys), bool)
        new[np.unique(keys, axis=0, return_index=True)[1]] = True
        unsure, n = np.flatnonzero(new), 16
        while len(unsure):
            there = self.latest(c.user[unsure], c.time_ms[unsure] + 1, n, EVERY_TYPE)
            row = np.repeat(np.arange(len(unsure)), np.diff(there.offsets))
            at = unsure[row]
            tie = there.time_ms == c.time_ms[at]
            new[at[tie & (there.item == c.item[at]) & (there.type == c.type[at])]] = False
            ties = np.bincount(row[tie], minlength=len(unsure))
            unsure = unsure[(ties == n) & new[unsure]]  # so many at that time: there may be more
            n *= 8
        return new

    def _hold(self, columns: _Columns, new_users: dict[str, int], ids: Iterable[int]) -> None:
        """Show events to readers."""
        order = np.argsort(columns.user, kind="stable")
        users, starts = np.unique(columns.user[order], return_index=True)
        for user, at in zip(users.tolist(), np.split(order, starts[1:]), strict=False):
            tail, before = columns.tail(at), self._tails.get(user)
            self._tails[user] = before.extended(tail) if before else tail
        self._new_users |= new_users
        self.num_events += len(order)
        self.last_ms = max(self.last_ms, int(columns.time_ms.max(initial=0)))
        self._ids.update(ids)
        self._ids_by_age.extend(ids)
        while len(self._ids_by_age) > REMEMBERED:
            self._ids.discard(self._ids_by_age.popleft())


def _digest(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little")


def export(path: Path) -> pl.DataFrame:
    """The events of a journal as raw events, to be ingested as a later day of the log.

    Columns user, item, type, event_id (text), time_ms (int64), value (float32). Ingesting it twice
    adds nothing, and the server may go on writing meanwhile.
    """
    journal = Journal(path, KIND, writable=False)
    rows = [row for record in journal.records for row in record]
    schema = {
        "event_id": pl.String,
        "user": pl.String,
        "item": pl.String,
        "type": pl.String,
        "time_ms": pl.Int64,
        "value": pl.Float32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")
