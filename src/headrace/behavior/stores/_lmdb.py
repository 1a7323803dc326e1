"""An LMDB environment as a store needs it: one writer, a map that grows, errors of ours."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import lmdb
import numpy as np
import orjson

from ...errors import DataError
from ..base import Array, StoreError
from ..packed import EVENT

FORMAT = 1
READERS = 512  # processes and threads that may read at one moment
RECORD = np.dtype([("key", ">u8"), ("event", EVENT)])


@final
class Environment:
    """The tables of one store. It must not be carried through a fork."""

    def __init__(self, path: Path, map_bytes: int, *, writable: bool) -> None:
        """Open or create the environment at ``path``; see ``open``."""
        self.path, self.writable = path, writable
        self._guard = _claim(path) if writable else None
        self._gate = threading.Lock()  # between reads and a change of the map's size
        self._env: Any = None
        try:
            self._env = lmdb.open(
                str(path),
                map_size=map_bytes if writable else 0,
                max_dbs=8,
                max_readers=READERS,
                readonly=not writable,
                readahead=False,
            )
            self._open_tables()
        except lmdb.Error as error:
            self.close()
            raise DataError(
                f"{path}: cannot be opened as a store ({error}); close what has it open, or move "
                "it away"
            ) from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, writable: bool) -> Environment | None:
        """The environment at ``path``, created if it may be written; None with nothing to read.

        Raises DataError on what is no store of this format, and when another process writes it.
        """
        if not writable and not (path / "data.mdb").exists():
            return None
        return cls(path, map_bytes, writable=writable)

    @contextmanager
    def read(self) -> Generator[Any]:
        """A short look at what is there now. Never kept open: it would keep old pages alive."""
        with self._gate:
            try:
                txn = self._env.begin(buffers=True)
            except lmdb.MapResizedError:  # by the writer
                self._env.set_mapsize(0)
                txn = self._env.begin(buffers=True)
            try:
                yield txn
            finally:
                txn.abort()

    def write(self, work: Callable[[Any], None]) -> None:
        """Do ``work`` in one transaction, on disk when this returns.

        Raises StoreError when it cannot be written, as when the disk is full; all is as before.
        """
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    work(txn)
                return
            except lmdb.MapFullError:
                with self._gate:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise StoreError(
                    f"{self.path}: cannot be written ({error}); nothing of this was kept, make "
                    "room and send it again"
                ) from None

    def events(self, txn: Any, keys: Sequence[bytes]) -> Array:
        """The records of these users, whose keys ascend; older ones first where they arrived so."""
        found = b"".join(self._of(txn, table, keys) for table in (self.tail, self.fresh))
        records = np.frombuffer(found, RECORD)
        return records if len(keys) == 1 else records[np.argsort(records["key"], kind="stable")]

    def spill(self, txn: Any, key: bytes) -> tuple[int, int]:
        """Move a user's fresh events to the tail; how many it had there before and has now."""
        fresh = np.frombuffer(self._of(txn, self.fresh, [key]), RECORD)["event"]
        with txn.cursor(self.tail) as cursor:
            cursor.putmulti([(key, event.tobytes()) for event in fresh])
            cursor.set_key(key)
            count = cursor.count()
        txn.delete(key, db=self.fresh)
        return count - len(fresh), count

    def get(self, txn: Any, name: str, default: Any) -> Any:
        """A fact about the store."""
        found = txn.get(name.encode(), db=self.meta)
        return default if found is None else orjson.loads(bytes(found))

    def put(self, txn: Any, name: str, fact: Any) -> None:
        """Note a fact about the store."""
        txn.put(name.encode(), orjson.dumps(fact), db=self.meta)

    def stats(self) -> dict[str, int]:
        """Sizes, and who reads."""
        with self.read() as txn:
            journal = txn.stat(self.journal)
            tail_events = sum(txn.stat(table)["entries"] for table in (self.tail, self.fresh))
            users: set[bytes] = set()
            for table in (self.tail, self.fresh):
                with txn.cursor(table) as cursor:
                    users.update(bytes(key) for key in cursor.iternext_nodup())
        pages = journal["leaf_pages"] + journal["branch_pages"] + journal["overflow_pages"]
        return {
            "users": len(users),
            "tail_events": tail_events,
            "journal_bytes": pages * journal["psize"],
            "file_bytes": self.file_bytes,
            "map_bytes": self._env.info()["map_size"],
            "readers": max(0, len(self._env.readers().splitlines()) - 1),
        }

    @property
    def file_bytes(self) -> int:
        """What the store takes on disk."""
        return (self.path / "data.mdb").stat().st_blocks * 512

    def close(self) -> None:
        """Close the files and let another writer in."""
        if self._env is not None:
            self._env.close()
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    def _of(self, txn: Any, table: Any, keys: Sequence[bytes]) -> bytes:
        with txn.cursor(table) as cursor:
            return bytes(
                cursor.getmulti(keys, dupdata=True, dupfixed_bytes=EVENT.itemsize, keyfixed=True)
            )

    def _open_tables(self) -> None:
        self.meta = self._table(b"meta")
        if self.writable:
            self._env.reader_check()  # one that was killed would keep old pages alive
            with self._env.begin(write=True) as txn:
                if self.get(txn, "format", None) is None:
                    self.put(txn, "format", FORMAT)
        with self._env.begin() as txn:
            found = self.get(txn, "format", FORMAT)
        if found != FORMAT:
            raise DataError(
                f"{self.path}: store format {found}, this program reads {FORMAT}; use the "
                "headrace that wrote it to export its events"
            )
        self.journal, self.ids = self._table(b"journal"), self._table(b"ids")
        self.fresh = self._table(b"fresh", dupsort=True)
        self.tail = self._table(b"tail", dupsort=True)

    def _table(self, name: bytes, *, dupsort: bool = False) -> Any:
        # in a transaction of its own: a handle made in a read-only one would end with it
        return self._env.open_db(name, create=self.writable, dupsort=dupsort, dupfixed=dupsort)


def _claim(path: Path) -> int:
    """Become the one writer."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        guard = os.open(path / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(guard)
        raise DataError(f"{path}: another server is writing it; stop that one first") from None
    return guard
