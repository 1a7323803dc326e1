"""An LMDB environment as we need it: one writer, a map that grows, errors of ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import lmdb
import orjson

from ..errors import DataError
from .base import StoreError
from .claim import claim

READERS = 512  # processes and threads that may read at one moment


class Environment:
    """Facts under ``meta`` and the tables of a subclass. It must not be carried through a fork."""

    what = "store"  # what messages call it
    format = 1  # of what lies in the tables
    remedy = "use the headrace that wrote it to export its events"  # for a format of another time

    def __init__(self, path: Path, map_bytes: int, *, writable: bool) -> None:
        """Open or create the environment at ``path``; see ``open``."""
        self.path, self.writable = path, writable
        self._guard = claim(path / "writer.lock", path) if writable else None
        self._gate = threading.Lock()  # between reads and a change of the map's size
        self._copying = threading.Lock()  # and between that and a copy; taken after the gate
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
                f"{path}: cannot be opened as a {self.what} ({error}); close what has it open, or "
                "move it away"
            ) from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, writable: bool) -> Self | None:
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
                with self._copying:
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
                with self._gate, self._copying:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as error:
                raise StoreError(
                    f"{self.path}: cannot be written ({error}); nothing of this was kept, make "
                    "room and send it again"
                ) from None

    def get(self, txn: Any, name: str, default: Any) -> Any:
        """A fact about the store."""
        found = txn.get(name.encode(), db=self.meta)
        return default if found is None else orjson.loads(bytes(found))

    def put(self, txn: Any, name: str, fact: Any) -> None:
        """Note a fact about the store."""
        txn.put(name.encode(), orjson.dumps(fact), db=self.meta)

    def copy(self, folder: Path) -> None:
        """Write what is there now into a folder of its own; others may read and write meanwhile.

        Who outgrows the map waits for it, and so do readers then.
        Raises StoreError when it cannot be written.
        """
        try:
            folder.mkdir(parents=True)
            with self._copying:
                self._env.copy(str(folder), compact=True)
        except (OSError, lmdb.Error) as error:
            raise StoreError(f"{folder}: cannot be written ({error}); make room") from None

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

    def open_tables(self) -> None:
        """Open what a subclass needs, by ``table``."""

    def table(self, name: bytes, *, dupsort: bool = False) -> Any:
        """One table, made where it is missing."""
        # in a transaction of its own: a handle made in a read-only one would end with it
        return self._env.open_db(name, create=self.writable, dupsort=dupsort, dupfixed=dupsort)

    def _open_tables(self) -> None:
        self.meta = self.table(b"meta")
        if self.writable:
            self._env.reader_check()  # one that was killed would keep old pages alive
            with self._env.begin(write=True) as txn:
                if self.get(txn, "format", None) is None:
                    self.put(txn, "format", self.format)
        with self._env.begin() as txn:
            found = self.get(txn, "format", self.format)
        if found != self.format:
            raise DataError(
                f"{self.path}: {self.what} format {found}, this program reads {self.format}; "
                f"{self.remedy}"
            )
        self.open_tables()
