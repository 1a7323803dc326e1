"""The interface of every behaviour store, and the columns that it answers with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError
from ..log import Log
from ..ops import history
from .ids import RawIds

Array = NDArray[Any]
EVERY_TYPE = history.EVERY_TYPE


class StoreError(DataError):
    """What was to be kept could not be written; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events of several rows, end to end; within a row ascending by (time, item, type)."""

    offsets: Array  # (R + 1,) int64
    item: Array  # (E,) int32
    category: Array  # (E,) int32, as it was when the event happened
    type: Array  # (E,) uint8
    time_ms: Array  # (E,) int64
    value: Array  # (E,) float32

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def none(cls, rows: int) -> Events:
        """No events in any of ``rows`` rows."""
        return cls(
            np.zeros(rows + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
        )

    @classmethod
    def of(cls, item: Array, category: Array, kind: Array, time_ms: Array, value: Array) -> Events:
        """One row of events, sorted."""
        at = np.lexsort((kind, item, time_ms))
        return cls(
            np.array([0, len(at)], np.int64),
            item[at].astype(np.int32),
            category[at].astype(np.int32),
            kind[at].astype(np.uint8),
            time_ms[at].astype(np.int64),
            value[at].astype(np.float32),
        )

    @classmethod
    def end_to_end(cls, parts: Sequence[Events]) -> Events:
        """The rows of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        counts = [np.diff(part.offsets) for part in parts]
        return cls(
            np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
            np.concatenate([part.item for part in parts]),
            np.concatenate([part.category for part in parts]),
            np.concatenate([part.type for part in parts]),
            np.concatenate([part.time_ms for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def take(self, at: Array, offsets: Array) -> Events:
        """Events at positions, cut into rows by new offsets."""
        return Events(
            offsets,
            self.item[at],
            self.category[at],
            self.type[at],
            self.time_ms[at],
            self.value[at],
        )

    def rows(self, row_R: Array) -> Events:
        """These rows, in this order, repeats allowed."""
        counts = np.diff(self.offsets)[row_R]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[row_R] - offsets[:-1], counts)
        return self.take(at, offsets)

    def latest(self, row_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        """As a store's ``latest``, where users are rows of this; row -1 has no events."""
        at, offsets = history.latest(
            self.offsets, self.time_ms, self.type, row_B, before_B, n, type_mask
        )
        return self.take(at, offsets)

    def by_category(self, row_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        """As a store's ``by_category``, where users are rows of this; row -1 has no events."""
        at, offsets = history.of_category(
            self.offsets, self.category, self.time_ms, row_P, category_P, before_P, n
        )
        return self.take(at, offsets)

    def merge(self, other: Events, n: int) -> Events:
        """Row by row, the newest ``n`` of these events and the other's.

        What is equal in time, item and type happened once, so that it does no harm if both hold an
        event.
        """
        if not len(other):
            return self
        at, offsets = history.merge(
            self.time_ms,
            self.item,
            self.type,
            self.offsets,
            other.time_ms,
            other.item,
            other.type,
            other.offsets,
            n,
        )
        return Events(
            offsets,
            history.pick(self.item, other.item, at),
            history.pick(self.category, other.category, at),
            history.pick(self.type, other.type, at),
            history.pick(self.time_ms, other.time_ms, at),
            history.pick(self.value, other.value, at),
        )


class BehaviorStore(Protocol):
    """Reads are batched, as of a time (strictly before it), and answer with the newest ``n``.

    Users are rows of the log's user table, or what ``EventStore.user`` says of newer ones; a user
    that the store does not know has no events.
    """

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        """The last ``n`` events of each user, of the types whose bits are set in the mask."""
        ...

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        """The last ``n`` events of each (user, category)."""
        ...


@runtime_checkable
class Distant(Protocol):
    """A store on another machine, worth asking before the answer is needed."""

    def ahead(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> BehaviorStore:
        """Begin ``by_category`` on another thread.

        The store returned answers as this one does, and waits where it is asked for these keys.
        """
        ...


@runtime_checkable
class Journaled(Protocol):
    """A store whose calls of ``append`` have numbers that ascend for good."""

    def journal(self, after: int) -> Iterator[tuple[int, list[RawEvent]]]:
        """The calls since that number that the log does not hold, each with what it accepted."""
        ...


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


class EventStore(BehaviorStore, Protocol):
    """A store that takes events and knows raw ids; one file of ``stores/`` each.

    The log is the base. Over it lies a tail of what has been appended since; a read merges the two.
    Events of one time are in the order of a log, by item and type, so that an answer is the same
    before and after the tail has become part of the log. Of each (user, category) a store may
    forget what has been appended beyond its newest ``keep``; the log forgets nothing.
    """

    @property
    def items(self) -> RawIds:
        """The rows of items."""
        ...

    @property
    def num_events(self) -> int:
        """Events kept since the log, or since it last became part of it."""
        ...

    @property
    def size_bytes(self) -> int:
        """What the store takes on this machine's disk."""
        ...

    @property
    def last_ms(self) -> int:
        """The time of the last event of all."""
        ...

    @property
    def degraded(self) -> Counter[str]:
        """Look-ups answered without the tail, by reason."""
        ...

    def user(self, raw: str) -> int:
        """The number of a user; 0 for one that neither log nor tail know."""
        ...

    def snapshot(self, users: Array) -> BehaviorStore:
        """These users as they are now: what came since the log is read once, not at every look-up.

        Others have what the log has of them.
        """
        ...

    def append(self, batches: Sequence[Sequence[RawEvent]]) -> list[Receipt]:
        """Keep batches of events, all of them or none; one write for all.

        Their items and types must be the log's. When it returns, they are as safe as the store
        makes them, and visible to every reader. Raises StoreError when they cannot be written.
        """
        ...

    def export(self) -> tuple[pl.DataFrame, int]:
        """What has been appended, in raw ids, and a mark that tells ``release`` how far.

        Columns event_id, user, item, type (text), time_ms (int64), value (float32); in the order of
        arrival, none forgotten. Raises DataError where a store keeps none.
        """
        ...

    def release(self, mark: int, log: Log) -> None:
        """Let go of what was exported: ``log``, which is the base from now on, holds it."""
        ...

    def stats(self) -> dict[str, Any]:
        """Facts for an operator."""
        ...

    def close(self) -> None:
        """Let another writer in."""
        ...


def newest_ms(store: BehaviorStore, user_B: Array) -> Array:  # (B,) int64
    """The time of each user's last event; -1 without any."""
    ever_B = np.full(len(user_B), np.iinfo(np.int64).max)
    events = store.latest(user_B, ever_B, 1, EVERY_TYPE)
    newest_B = np.full(len(user_B), -1)
    newest_B[np.diff(events.offsets) > 0] = events.time_ms
    return newest_B


def frame(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Raw events as a table."""
    schema = {
        "event_id": pl.String,
        "user": pl.String,
        "item": pl.String,
        "type": pl.String,
        "time_ms": pl.Int64,
        "value": pl.Float32,
    }
    return pl.DataFrame(list(rows), schema=schema, orient="row")
