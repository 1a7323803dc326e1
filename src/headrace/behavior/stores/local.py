"""Events on this machine's disk: the log as the base, what came since in LMDB."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, final

import lmdb
import numpy as np
import orjson
import polars as pl
from pydantic import Field

from ... import config
from ...log import Log
from ..base import Array, Events, RawEvent, Receipt, StoreError, frame
from ..ids import RawIds
from ..intake import NEW, REMEMBERED, Admitted, Columns, Intake
from ..packed import EVENT, IDENTITY_BYTES, beyond, pack, unpack
from ..snapshot import Snapshot
from ._lmdb import RECORD, Environment

FOLDER = "store"  # in the run's events/
FRESH = 64  # events of a user before they go to the tail: within LMDB's half page
CHUNK = 10_000  # events of the journal numbered anew at a time
logger = logging.getLogger(__name__)


@final
class LocalStore:
    """One writer, many readers in any process; each sees what was appended as soon as it is safe.

    An LMDB environment of four tables, written in one transaction a call:

      journal   number of the call -> its events as JSON in raw ids: the truth, to be exported
      ids       number of the call -> digests of its event ids, the newest million
      fresh     key of the user -> packed events, ascending; made from the journal, for reading
      tail      the same, older: where fresh ones go when a user has too many for part of a page
      meta      format, sources of the log under the tail, counts, how often it was made anew

    So most appends touch a quarter of a page a user, and not three pages. What a user has is read
    as a whole, as it is short: at least the newest ``keep`` events of each category; the rest is
    forgotten whenever the tail has doubled, but stays in the journal. When the log is rebuilt, so
    that its numbers are others, the writer makes the tail anew.
    """

    class Config(config.Config):
        """Settings of LocalStore."""

        kind: Literal["local"] = "local"
        map_mb: int = Field(default=65_536, ge=1, le=16_777_216)
        """Room that is mapped: addresses, not disk. The writer doubles it when it is full."""

        def build(self, log: Log, folder: Path, keep: int, *, writable: bool) -> LocalStore:
            """Open the store below ``folder``; see LocalStore."""
            return LocalStore(self, log, folder / FOLDER, keep, writable=writable)

    def __init__(
        self, config: Config, log: Log, path: Path, keep: int, *, writable: bool = True
    ) -> None:
        """Open or create the store at ``path`` over ``log``.

        ``keep`` is how many events of a (user, category) the tail holds at least. A store that may
        only be read and is not there is empty. Raises DataError on what is no store, on one of a
        newer format, and when another process writes it.
        """
        self._keep, self._path = keep, path
        self._lock = threading.Lock()
        self.degraded: Counter[str] = Counter()
        self._env = Environment.open(path, config.map_mb << 20, writable=writable)
        try:
            self._use(log)
            if writable:
                self._take_up()
        except BaseException:
            self.close()
            raise

    @property
    def items(self) -> RawIds:
        return self._intake.items

    @property
    def num_events(self) -> int:
        return self._fact("events", 0)

    @property
    def size_bytes(self) -> int:
        return 0 if self._env is None else self._env.file_bytes

    @property
    def last_ms(self) -> int:
        return max(self._fact("last_ms", 0), self._intake.log.manifest.last_ms)

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self.snapshot(user_B).latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        return self.snapshot(user_P).by_category(user_P, category_P, before_P, n)

    def snapshot(self, users: Array) -> Snapshot:
        users = np.unique(users)
        tail = self._tails(users)  # may follow the writer to another log
        return Snapshot(self._intake.base, users, tail)

    def user(self, raw: str) -> int:
        number = self._intake.number(raw)
        return number if number < NEW or len(self._tails(np.array([number]))) else 0

    def append(self, batches: Sequence[Sequence[RawEvent]]) -> list[Receipt]:
        env = self._writer()
        with self._lock:
            admitted = self._intake.admit(batches, self._has)
            if admitted.events:
                env.write(lambda txn: self._write(env, txn, admitted))
                self._intake.remember(admitted.ids)
        return admitted.receipts

    def journal(self, after: int) -> Iterator[tuple[int, list[RawEvent]]]:
        if self._env is None:
            return
        with self._env.read() as txn, txn.cursor(self._env.journal) as cursor:
            there = cursor.set_range((after + 1).to_bytes(8, "big"))
            while there:
                events = [RawEvent(*row) for row in orjson.loads(cursor.value())]
                yield int.from_bytes(cursor.key(), "big"), events
                there = cursor.next()

    def export(self) -> tuple[pl.DataFrame, int]:
        calls = list(self.journal(0))
        mark = calls[-1][0] if calls else 0
        return frame([event for _, events in calls for event in events]), mark

    def release(self, mark: int, log: Log) -> None:
        env = self._writer()

        def drop(txn: Any) -> None:
            with txn.cursor(env.journal) as cursor:
                while cursor.first() and int.from_bytes(cursor.key(), "big") <= mark:
                    cursor.delete()

        with self._lock:
            env.write(drop)
            known = self._intake.remembered()
            self._use(log)
            self._renumber()
            self._intake.remember(known)

    def stats(self) -> dict[str, Any]:
        found = {"kind": "local", "path": str(self._path), "events": self.num_events}
        return found if self._env is None else found | self._env.stats()

    def close(self) -> None:
        """Close the files and let another writer in."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _use(self, log: Log) -> None:
        """Read over this log from now on."""
        self._intake = Intake(log)
        stored = self._fact("sources", list(log.manifest.sources))
        self._tail_version = self._fact("tail_version", 0)
        self._readable = list(log.manifest.sources[: len(stored)]) == stored
        if not self._readable:
            logger.warning("%s: of another log than %s; not read as it is", self._path, log.path)

    def _follow(self, version: int) -> None:
        """Open the log anew after the writer put another one under the tail."""
        folder = self._intake.log.path.parents[1]
        if version != self._tail_version and (folder / "CURRENT").exists():
            self._use(Log.open(folder))

    def _take_up(self) -> None:
        """Bring the tail to the numbers of the log; remember the ids of earlier calls."""
        env = self._writer()
        if self._fact("sources", None) != list(self._intake.log.manifest.sources):
            self._renumber()
        with env.read() as txn:
            ids = b"".join(bytes(digests) for _, digests in txn.cursor(env.ids))
        self._intake.remember(np.frombuffer(ids, "<u8").tolist())

    def _renumber(self) -> None:
        """Make the tail from the journal, in numbers of the log; what the log holds is left out."""
        events = [RawEvent(*row) for row in self.export()[0].rows()]
        item = self.items.rows([e.item for e in events]).tolist()
        usable = [e for e, i in zip(events, item, strict=True) if i and self._intake.fits(e)]
        if len(usable) < len(events):
            lost = len(events) - len(usable)
            logger.warning("%d events name items or types unknown to the log", lost)
        intake, env = self._intake, self._writer()
        chunks = [usable[at : at + CHUNK] for at in range(0, len(usable), CHUNK)]
        columns = [intake.admit([chunk]).columns for chunk in chunks]

        def replace(txn: Any) -> None:
            txn.drop(env.fresh, delete=False)
            txn.drop(env.tail, delete=False)
            for some in columns:
                self._index(env, txn, some)
            env.put(txn, "events", sum(map(len, columns)))
            env.put(txn, "sources", list(intake.log.manifest.sources))
            env.put(txn, "tail_version", env.get(txn, "tail_version", 0) + 1)

        env.write(replace)
        self._tail_version, self._readable = self._fact("tail_version", 0), True

    def _write(self, env: Environment, txn: Any, admitted: Admitted) -> None:
        call = env.get(txn, "calls", 0) + 1
        number = call.to_bytes(8, "big")
        txn.put(number, orjson.dumps([tuple(e) for e in admitted.events]), db=env.journal)
        txn.put(number, np.array(admitted.ids, "<u8").tobytes(), db=env.ids)
        known = env.get(txn, "ids", 0) + len(admitted.ids)
        with txn.cursor(env.ids) as cursor:
            while known > REMEMBERED and cursor.first():
                known -= len(cursor.value()) // 8
                cursor.delete()
        self._index(env, txn, admitted.columns)
        last_ms = int(admitted.columns.time_ms.max())
        env.put(txn, "calls", call)
        env.put(txn, "ids", known)
        env.put(txn, "events", env.get(txn, "events", 0) + len(admitted.events))
        env.put(txn, "last_ms", max(last_ms, env.get(txn, "last_ms", last_ms)))

    def _index(self, env: Environment, txn: Any, c: Columns) -> None:
        """Put events into the tails of their users."""
        order = np.argsort(c.key, kind="stable")
        keys = c.key[order].astype(">u8").tobytes()
        packed = pack(c.time_ms, c.item, c.type, c.category, c.value)[order].tobytes()
        size = EVENT.itemsize
        pairs = [
            (keys[at * 8 : at * 8 + 8], packed[at * size : (at + 1) * size])
            for at in range(len(order))
        ]
        crowded: list[bytes] = []
        with txn.cursor(env.fresh) as cursor:
            cursor.putmulti(pairs)
            for number in np.unique(c.key).tolist():
                key = number.to_bytes(8, "big")
                if cursor.set_key(key) and cursor.count() > FRESH:
                    crowded.append(key)
        for key in crowded:
            before, after = env.spill(txn, key)
            if after > 2 * self._keep and after.bit_length() > before.bit_length():
                self._trim(env, txn, key)

    def _trim(self, env: Environment, txn: Any, key: bytes) -> None:
        """Forget what lies beyond the newest ``keep`` of each of a user's categories."""
        records = env.events(txn, [key])["event"]
        for record in records[beyond(records["category"], self._keep)]:
            txn.delete(key, record.tobytes(), db=env.tail)

    def _has(self, c: Columns) -> Array:
        """Which events the tail has."""
        env = self._writer()
        nothing = np.zeros(len(c))
        packed = pack(c.time_ms, c.item, c.type, nothing, nothing).tobytes()
        keys, size = c.key.astype(">u8").tobytes(), EVENT.itemsize
        found = np.zeros(len(c), bool)
        with env.read() as txn:
            for table in (env.fresh, env.tail):
                with txn.cursor(table) as cursor:
                    for at in range(len(c)):
                        record = packed[at * size : (at + 1) * size]
                        if cursor.set_range_dup(keys[at * 8 : at * 8 + 8], record):
                            same = record[:IDENTITY_BYTES]
                            found[at] |= bytes(cursor.value()[:IDENTITY_BYTES]) == same
        return found

    def _tails(self, user_U: Array) -> Events:
        """The tails of distinct users, a row each."""
        env = self._env
        key_U = np.array([self._intake.key(user) for user in user_U.tolist()], np.uint64)
        keys = np.unique(key_U)
        try:
            records = np.zeros(0, RECORD) if env is None else self._read(env, keys)
        except lmdb.Error as error:
            self.degraded["disk"] += 1
            logger.error("%s: cannot be read (%s)", self._path, error)
            records = np.zeros(0, RECORD)
        if not len(records):
            return Events.none(len(user_U))
        ends = np.searchsorted(records["key"].astype(np.uint64), keys, side="right")
        tail = unpack(records["event"], np.concatenate([[0], ends]).astype(np.int64))
        row_U = np.searchsorted(keys, key_U)
        return tail.rows(row_U) if (row_U[1:] <= row_U[:-1]).any() else tail

    def _read(self, env: Environment, keys: Array) -> Array:
        raw = keys.astype(">u8").tobytes()
        with env.read() as txn:
            version = env.get(txn, "tail_version", 0)
            records = env.events(txn, [raw[at : at + 8] for at in range(0, len(raw), 8)])
        self._follow(version)
        return records if self._readable else records[:0]

    def _fact(self, name: str, default: Any) -> Any:
        if self._env is None:
            return default
        with self._env.read() as txn:
            return self._env.get(txn, name, default)

    def _writer(self) -> Environment:
        if self._env is None or not self._env.writable:
            raise StoreError(f"{self._path}: open for reading only")
        return self._env
