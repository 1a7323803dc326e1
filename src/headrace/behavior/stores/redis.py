"""Events in Redis or Valkey, shared by the servers of several machines, over each one's log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import orjson
import polars as pl
from pydantic import Field

from ... import config
from ...log import Log
from ..ahead import Ahead
from ..base import EVERY_TYPE, Array, BehaviorStore, Events, RawEvent, Receipt, frame
from ..ids import RawIds
from ..intake import NEW, Admitted, Columns, Intake
from ..packed import EVENT, pack, unpack
from ..snapshot import Snapshot
from ._redis import Command, Server

REMEMBERED = 64  # event ids known as duplicates, of each user
USERS_A_TRIP = 100  # when the log is loaded
SIZE = EVENT.itemsize
NEVER = np.iinfo(np.int64).max


@final
class RedisStore:
    """Many writers and readers; one round trip a look-up, two an append.

    A request makes two look-ups, one of the user and one of the candidates' categories.

    Packed events lie under the key of the user, which is its hash tag, as strings that APPEND
    extends and GETRANGE reads, in the order of arrival; what a reader gets it sorts:

      PREFIX:{USER}:u            the user's events
      PREFIX:{USER}:cCATEGORY    those in one category
      PREFIX:{USER}:i            digests of the newest event ids
      PREFIX:journal             a list of calls: their events as JSON in raw ids, to be exported
      PREFIX:meta, :events       format and sources of the log; events since the log

    A string above twice its cap is cut to the cap, newest by time, unless somebody else writes it
    at that moment: then the next one cuts it. How safe an acknowledged event is, is Redis' matter
    (appendfsync). Where it is away or slower than the deadline, look-ups are answered from the log
    alone and counted in ``degraded``, and it is left alone for ``retry_ms``; appends raise.

    The same event under another id is accepted again, and counts once all the same.
    """

    class Config(config.Config):
        """Settings of RedisStore."""

        kind: Literal["redis"] = "redis"
        url: str = "redis://127.0.0.1:6379/0"
        """Where it is: redis://, rediss:// (TLS) or unix://, with user and password if needed."""
        prefix: str = Field(default="headrace", pattern=r"^[A-Za-z0-9._-]+$")
        """Begins every key; one for each log."""
        user_events: int = Field(default=1_000, ge=1, le=100_000)
        """Newest events kept of each user, beside those kept of each category."""
        deadline_ms: int = Field(default=50, ge=1, le=60_000)
        """Longest wait for an answer to a look-up."""
        write_deadline_ms: int = Field(default=5_000, ge=1, le=60_000)
        """Longest wait for an answer to an append."""
        retry_ms: int = Field(default=1_000, ge=0, le=600_000)
        """After a failed look-up, the log answers alone for so long."""
        look_ahead: bool = False
        """Ask for the categories of all candidates while they are pre-ranked, not for those that
        are left. Pays where a round trip takes 0.7 ms or more; nearer, the work costs more."""

        def build(self, log: Log, folder: Path, keep: int, *, writable: bool) -> RedisStore:
            """Open the store; it needs no folder, and anyone may write."""
            del folder, writable
            return RedisStore(self, log, keep)

    def __init__(self, config: Config, log: Log, keep: int) -> None:
        """Connect, if somebody is there. ``keep`` is the cap of a (user, category).

        Raises ConfigError on an URL that is none, DataError where the prefix holds the events of
        another log or of a newer format.
        """
        self._user_events, self._keep = config.user_events, keep
        self._look_ahead = config.look_ahead
        self._intake = Intake(log)
        self._lock, self._newest_ms = threading.Lock(), 0
        self.thread = ThreadPoolExecutor(1, "look-up")
        self._server = Server(
            config.url,
            config.prefix,
            log,
            deadline_ms=config.deadline_ms,
            write_deadline_ms=config.write_deadline_ms,
            retry_ms=config.retry_ms,
        )
        self.size_bytes = 0  # none of it on this machine, or none that it knows of
        self._server.look([])

    @property
    def degraded(self) -> Counter[str]:
        return self._server.degraded

    @property
    def items(self) -> RawIds:
        return self._intake.items

    @property
    def num_events(self) -> int:
        return int((self._server.look([("GET", self._server.name("events"))]) or [0])[0] or 0)

    @property
    def last_ms(self) -> int:
        found = self._server.look([("GET", self._server.name("last_ms"))]) or [None]
        return max(int(found[0] or 0), self._intake.log.manifest.last_ms)

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self.snapshot(user_B).latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        base = self._intake.base
        tail = base.moves.read(self._by_category, user_P, category_P, before_P, n)
        return base.by_category(user_P, category_P, before_P, n).merge(tail, n)

    def user(self, raw: str) -> int:
        number = self._intake.number(raw)
        if number < NEW:
            return number
        found = self._server.look([("EXISTS", self._of_user(number, "u"))])
        return number if found and found[0] else 0

    def snapshot(self, users: Array) -> BehaviorStore:
        users = np.unique(users)
        tail = self._tails([self._of_user(user, "u") for user in users.tolist()])
        kind = _Foresighted if self._look_ahead else _Snapshot
        return kind(Snapshot(self._intake.base, users, tail), self)

    def append(self, batches: Sequence[Sequence[RawEvent]]) -> list[Receipt]:
        with self._lock:
            admitted = self._intake.admit(batches, is_known=self._knows)
            if admitted.events:
                self._write(admitted)
            self._intake.remember(admitted.ids)
        return admitted.receipts

    def load(self) -> int:
        """Put the newest events of the log under the keys, so that others than its owners see them.

        What is there already stays. Nobody may append meanwhile. Returns the number of keys.
        """
        log, base, keys = self._intake.log, self._intake.base, 0
        key_offsets = np.asarray(log.by_category("key_offsets"))
        for start in range(1, log.manifest.num_users, USERS_A_TRIP):
            user_U = np.arange(start, min(start + USERS_A_TRIP, log.manifest.num_users))
            low, high = key_offsets[user_U[0]], key_offsets[user_U[-1] + 1]
            category_P = np.asarray(log.by_category("key_category")[low:high])
            user_P = np.repeat(user_U, key_offsets[user_U + 1] - key_offsets[user_U])
            users = [self._of_user(user, "u") for user in user_U.tolist()]
            pairs = self._of_categories(user_P, category_P)
            caps = self._user_events, self._keep
            for names, cap, events in (
                (users, caps[0], base.latest(user_U, _ever(user_U), caps[0], EVERY_TYPE)),
                (pairs, caps[1], base.by_category(user_P, category_P, _ever(user_P), caps[1])),
            ):
                self._put_under(names, events, cap)
                keys += len(names)
        return keys

    def export(self) -> tuple[pl.DataFrame, int]:
        calls = self._server.ask([("LRANGE", self._server.name("journal"), 0, -1)])[0]
        return frame([row for call in calls for row in orjson.loads(call)]), len(calls)

    def release(self, mark: int, log: Log) -> None:
        journal, events = self._server.name("journal"), self._server.name("events")
        calls = self._server.ask([("LRANGE", journal, 0, mark - 1)])[0] if mark else []
        known = self._intake.remembered()
        self._intake = Intake(log)
        self._intake.remember(known)
        released = sum(len(orjson.loads(call)) for call in calls)
        self._server.ask(
            [
                ("LTRIM", journal, mark, -1),
                ("DECRBY", events, released),
            ]
        )
        self._server.take_over(log)

    def stats(self) -> dict[str, Any]:
        names = [self._server.name(name) for name in ("events", "last_ms")]
        found = self._server.ask(
            [*(("GET", n) for n in names), ("LLEN", self._server.name("journal"))]
        )
        memory = self._server.ask([("INFO", "memory")])[0]
        return {
            "kind": "redis",
            "place": self._server.place,
            "events": int(found[0] or 0),
            "journal_calls": found[2],
            "used_memory_bytes": memory.get("used_memory", 0),
        }

    def close(self) -> None:
        """Close the connections."""
        self.thread.shutdown()
        self._server.close()

    def _of_user(self, user: int, what: str) -> str | None:
        key = self._intake.key(user)
        return self._server.name_of(key, what) if key else None

    def _of_categories(self, user_P: Array, category_P: Array) -> list[str | None]:
        begin = {u: self._of_user(u, "c") for u in np.unique(user_P).tolist()}
        return [
            None if begin[user] is None else f"{begin[user]}{category}"
            for user, category in zip(user_P.tolist(), category_P.tolist(), strict=True)
        ]

    def _by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        tail = self._tails(self._of_categories(user_P, category_P))
        return tail.latest(np.arange(len(user_P)), before_P, n, EVERY_TYPE)

    def _tails(self, names: Sequence[str | None]) -> Events:
        """What lies under these keys, a row each; nothing where Redis does not answer."""
        commands = [("GETRANGE", name, 0, -1) for name in names if name is not None]
        found = self._server.look(commands) if commands else None
        return Events.none(len(names)) if found is None else self._unpack(names, found)

    def _unpack(self, names: Sequence[str | None], found: Sequence[bytes]) -> Events:
        answers = iter(found)
        rows = [b"" if name is None else next(answers) for name in names]
        records = np.frombuffer(b"".join(rows), EVENT)
        counts = np.fromiter(map(len, rows), np.int64, len(rows)) // SIZE
        events = unpack(records, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        known = events.item < len(self.items)  # others have a newer log
        if known.all():
            return events
        ends = np.concatenate([[0], np.cumsum(known)])[events.offsets]
        return events.take(np.flatnonzero(known), ends.astype(np.int64))

    def _knows(self, c: Columns, ids: list[int]) -> Array:
        """Which event ids are known of their users; the newest time comes by the same trip."""
        keys = np.unique(c.key).tolist()
        names = [("GETRANGE", self._server.name_of(key, "i"), -8 * REMEMBERED, -1) for key in keys]
        last_ms = ("GET", self._server.name("last_ms"))
        *found, newest = self._server.ask([*names, last_ms])
        self._newest_ms = int(newest or 0)
        digests = np.frombuffer(b"".join(found), "<u8")
        return np.isin(np.array(ids, np.uint64), digests)

    def _write(self, admitted: Admitted) -> None:
        c = admitted.columns
        packed = pack(c.time_ms, c.item, c.type, c.category, c.value)
        digests, name_of = np.array(admitted.ids, "<u8"), self._server.name_of
        appends: list[tuple[str, bytes, int]] = []
        for at, events in _runs(np.argsort(c.key, kind="stable"), c.key):
            key = int(c.key[at])
            appends.append((name_of(key, "u"), packed[events].tobytes(), self._user_events))
            appends.append((name_of(key, "i"), digests[events].tobytes(), 0))
        for at, events in _runs(np.lexsort((c.category, c.key)), c.key, c.category):
            name = name_of(int(c.key[at]), f"c{c.category[at]}")
            appends.append((name, packed[events].tobytes(), self._keep))
        last_ms = max(int(c.time_ms.max()), self._newest_ms)
        rest: list[Command] = [
            (
                "RPUSH",
                self._server.name("journal"),
                orjson.dumps([tuple(e) for e in admitted.events]),
            ),
            ("INCRBY", self._server.name("events"), len(admitted.events)),
            ("SET", self._server.name("last_ms"), last_ms),
        ]
        commands = [("APPEND", name, some) for name, some, _ in appends]
        lengths = self._server.ask([*commands, *rest], together=True)
        for (name, _, cap), length in zip(appends, lengths, strict=False):
            if length > 2 * (cap * SIZE or 8 * REMEMBERED):
                self._server.cut(name, partial(_newest, cap=cap) if cap else _newest_ids)

    def _put_under(self, names: Sequence[str | None], events: Events, cap: int) -> None:
        """Set strings to these events and those that are there."""
        there = self._server.ask([("GETRANGE", name, 0, -1) for name in names])
        merged = events.merge(self._unpack(names, there), cap)
        packed, offsets = _packed(merged).tobytes(), (merged.offsets * SIZE).tolist()
        rows = [packed[a:z] for a, z in pairwise(offsets)]
        self._server.ask([("SET", name, row) for name, row in zip(names, rows, strict=True)])


@dataclass(frozen=True)
class _Snapshot:
    """Users' newest events as they were, their categories as they are: these are other keys."""

    users: Snapshot
    store: RedisStore

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self.users.latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        return self.store.by_category(user_P, category_P, before_P, n)


@final
class _Foresighted(_Snapshot):
    """The same, of which a look-up by category may be begun before it is needed."""

    def ahead(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> BehaviorStore:
        asked = user_P, category_P, before_P, n
        return Ahead(self, self.store.thread.submit(self.by_category, *asked), *asked)


def _newest(found: bytes, cap: int) -> bytes:
    records = np.frombuffer(found, EVENT)
    return _packed(unpack(records, np.array([0, len(records)])))[-cap:].tobytes()


def _newest_ids(found: bytes) -> bytes:
    return found[-8 * REMEMBERED :]


def _packed(events: Events) -> Array:
    return pack(events.time_ms, events.item, events.type, events.category, events.value)


def _ever(user: Array) -> Array:
    return np.full(len(user), NEVER)


def _runs(order: Array, *columns: Array) -> Iterator[tuple[int, Array]]:
    """Stretches of an order in which columns are the same: the first of each, and all of it."""
    changes = np.zeros(max(0, len(order) - 1), bool)
    for column in columns:
        changes |= column[order[1:]] != column[order[:-1]]
    for run in np.split(order, np.flatnonzero(changes) + 1):
        yield int(run[0]), run
