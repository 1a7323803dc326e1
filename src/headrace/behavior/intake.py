"""What every store does with events that come in: numbers for raw ids, repeats sorted out."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import polars as pl

from ..log import Log
from .base import Array, RawEvent, Receipt
from .ids import RawIds
from .mapped import MappedLog

NEW = 1 << 62  # and a user's key: the number of a user whom the log does not have
REMEMBERED = 1_000_000  # event ids known as duplicates; older ones by what they say


@dataclass(frozen=True, slots=True)
class Columns:
    """Events in numbers, in the order of arrival."""

    user: Array  # (E,) int64, as readers call the user
    key: Array  # (E,) uint64, as stores do: the same before and after the log has the user
    item: Array
    category: Array
    type: Array
    time_ms: Array
    value: Array

    def __len__(self) -> int:
        return len(self.user)

    def take(self, at: Array) -> Columns:
        """Events at these positions, or where a mask is true."""
        return Columns(
            self.user[at],
            self.key[at],
            self.item[at],
            self.category[at],
            self.type[at],
            self.time_ms[at],
            self.value[at],
        )


class Admitted(NamedTuple):
    """The events of some batches that are new."""

    events: list[RawEvent]
    columns: Columns
    ids: list[int]  # digests of their ids
    receipts: list[Receipt]


@final
class Intake:
    """Numbers and checks events against one log. To be used by one writer at a time.

    A user's key is a hash of the raw id, so that it needs no table, is the same in every process,
    and does not change when the log gets to know the user. With ten million users who came since
    the log was written, the chance that any two share a key is 1 in 100,000.
    """

    def __init__(self, log: Log) -> None:
        self.log, self.base = log, MappedLog(log)
        self.users, self.items = RawIds(log.users["user"]), RawIds(log.items["item"])
        self._types = {name: code for code, name in enumerate(log.manifest.event_types)}
        self._known: set[int] = set()
        self._by_age: deque[int] = deque()

    def number(self, raw: str) -> int:
        """What readers call a user: a row of the log, or beyond ``NEW`` for all others."""
        return self.users.row(raw) or NEW | key_of(raw)

    def key(self, user: int) -> int:
        """The key of a user by number; 0, which is nobody's, for a number of neither kind."""
        return key_of_number(self.users.ids, user)

    def fits(self, event: RawEvent) -> bool:
        """Whether the log has the event's type; its item is another question."""
        return event.type in self._types

    def admit(
        self,
        batches: Sequence[Sequence[RawEvent]],
        is_there: Callable[[Columns], Array] | None = None,
        is_known: Callable[[Columns, list[int]], Array] | None = None,
    ) -> Admitted:
        """Sort out duplicates; changes nothing. Items and types must be the log's.

        ``is_there`` tells which events ``(E,) bool`` the tail has in user, time, item and type;
        ``is_known`` which ids, in a place that outlives this process.
        """
        events = [event for batch in batches for event in batch]
        batch_E = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        ids = [digest(e.event_id) for e in events]
        first = {i: at for at, i in reversed(list(enumerate(ids))) if i not in self._known}
        at = np.array(sorted(first.values()), np.int64)
        columns = self._columns([events[i] for i in at])
        new = self._differs(columns)
        if len(columns) and is_there is not None:
            new &= ~is_there(columns)
        if len(columns) and is_known is not None:
            new &= ~is_known(columns, [ids[i] for i in at])
        at = at[new]
        accepted = np.bincount(batch_E[at], minlength=len(batches)).tolist()
        return Admitted(
            [events[i] for i in at],
            columns.take(new),
            [ids[i] for i in at],
            [Receipt(n, len(batch) - n) for n, batch in zip(accepted, batches, strict=True)],
        )

    def remember(self, ids: Sequence[int]) -> None:
        """Know these ids as duplicates from now on; forget the oldest."""
        self._by_age.extend(ids)
        self._known.update(ids)
        while len(self._by_age) > REMEMBERED:
            self._known.discard(self._by_age.popleft())

    def remembered(self) -> list[int]:
        """What is known as duplicates, the oldest first."""
        return list(self._by_age)

    def _columns(self, events: Sequence[RawEvent]) -> Columns:
        key = np.array([key_of(e.user) for e in events], np.uint64)
        row = self.users.rows([e.user for e in events])
        item = self.items.rows([e.item for e in events])
        return Columns(
            np.where(row > 0, row, NEW + key.astype(np.int64)),
            key,
            item,
            self.log.item_category[item],
            np.array([self._types[e.type] for e in events], np.int64),
            np.array([e.time_ms for e in events], np.int64),
            np.array([e.value for e in events], np.float32),
        )

    def _differs(self, c: Columns) -> Array:
        """Whether each event differs from those of the log and all before it, ``(E,) bool``."""
        new = ~self.base.holds(c.user, c.time_ms, c.item, c.type)
        order = np.lexsort((c.type, c.item, c.time_ms, c.key))
        same = np.ones(max(0, len(order) - 1), bool)
        for column in (c.key, c.time_ms, c.item, c.type):
            same &= column[order[1:]] == column[order[:-1]]
        new[order[1:][same]] = False  # the sort is stable: the first of equals stays
        return new


def key_of(raw: str) -> int:
    """The key of a user, in 62 bits and never 0."""
    return digest(raw) >> 2 or 1


def key_of_number(users: pl.Series, user: int) -> int:
    """The key of a user by number, as ``Intake.key``, out of the log's column of users."""
    if 0 < user < len(users):
        return key_of(users[user])
    return user - NEW if user >= NEW else 0


def digest(text: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
