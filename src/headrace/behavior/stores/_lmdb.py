"""The tables of the local store in LMDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from ..base import Array
from ..lmdb_environment import Environment as Base
from ..packed import EVENT

RECORD = np.dtype([("key", ">u8"), ("event", EVENT)])


@final
class Environment(Base):
    """The tables of one store."""

    def open_tables(self) -> None:
        self.journal, self.ids = self.table(b"journal"), self.table(b"ids")
        self.fresh = self.table(b"fresh", dupsort=True)
        self.tail = self.table(b"tail", dupsort=True)

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

    def _of(self, txn: Any, table: Any, keys: Sequence[bytes]) -> bytes:
        with txn.cursor(table) as cursor:
            return bytes(
                cursor.getmulti(keys, dupdata=True, dupfixed_bytes=EVENT.itemsize, keyfixed=True)
            )
