"""What an interest center keeps in LMDB: states under (encoder version, user)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from .base import Array
from .lmdb_environment import Environment

HEAD = np.dtype([("seq", "<i8"), ("last_ms", "<i8")])
NEVER = np.iinfo(np.int64).min


class Kept(NamedTuple):
    """What there is of a user."""

    seq: int  # of the last event
    last_ms: int
    state_Z: Array | None  # None is a hole: a replay must reach that number


@final
class States(Environment):
    """states: digest of the version and key of the user -> head and state, or head alone."""

    what, remedy = "interest center", "remove it and fill it again"

    def open_tables(self) -> None:
        self.states = self.table(b"states")

    def versions(self, txn: Any) -> dict[str, bool]:
        """The versions kept, and whether each is complete."""
        return self.get(txn, "versions", {})

    def kept(self, txn: Any, version: str, users: Iterable[int]) -> list[Kept | None]:
        """What there is of some users."""
        found = [txn.get(key(version, user), db=self.states) for user in users]
        return [None if value is None else _unpack(value) for value in found]

    def put_states(self, txn: Any, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write some states, as ``key`` and ``pack`` make them."""
        with txn.cursor(self.states) as cursor:
            cursor.putmulti(pairs)

    def holes(self, txn: Any, version: str) -> list[int]:
        """Users of a version that have a number but no state."""
        begin, found = _digest(version), list[int]()
        with txn.cursor(self.states) as cursor:
            there = cursor.set_range(begin)
            while there and bytes(cursor.key())[:8] == begin:
                if len(cursor.value()) == HEAD.itemsize:
                    found.append(int.from_bytes(bytes(cursor.key())[8:], "big"))
                there = cursor.next()
        return found

    def drop(self, txn: Any, version: str) -> None:
        """Forget a version."""
        begin = _digest(version)
        with txn.cursor(self.states) as cursor:
            while cursor.set_range(begin) and bytes(cursor.key())[:8] == begin:
                cursor.delete()
        known = self.versions(txn)
        known.pop(version, None)
        self.put(txn, "versions", known)

    def replace(self, txn: Any, then: Any, other: States) -> None:
        """Hold the states of another environment, read in the transaction ``then``."""
        txn.drop(self.states, delete=False)
        rows = ((bytes(k), bytes(v)) for k, v in then.cursor(other.states))
        with txn.cursor(self.states) as cursor:
            cursor.putmulti(rows, append=True)


def key(version: str, user: int) -> bytes:
    """Where a state lies."""
    return _digest(version) + user.to_bytes(8, "big")


def pack(seq: int, last_ms: int, state_Z: Array | None) -> bytes:
    """A state as it lies there."""
    head = np.array((seq, last_ms), HEAD).tobytes()
    return head if state_Z is None else head + state_Z.astype("<f4").tobytes()


def _digest(version: str) -> bytes:
    return hashlib.blake2b(version.encode(), digest_size=8).digest()


def _unpack(value: Any) -> Kept:
    raw = bytes(value)  # the page is another's after the transaction
    seq, last_ms = np.frombuffer(raw, HEAD, 1)[0].tolist()
    state_Z = np.frombuffer(raw, "<f4", offset=HEAD.itemsize)
    return Kept(seq, last_ms, state_Z if len(state_Z) else None)
