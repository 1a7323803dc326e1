"""Further events laid over a store: merged when read, in order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from ..ops import history
from .base import Array, BehaviorStore, Events


@dataclass(frozen=True, slots=True)
class Tail:
    """Some users' events by user and time, with their order by category; never edited.

    A tail as it is kept is of one user; those that a query needs are put end to end.
    """

    offsets: Array  # (U + 1,) int64
    item: Array  # (E,) int32
    category: Array  # (E,) int32
    type: Array  # (E,) uint8
    time_ms: Array  # (E,) int64
    value: Array  # (E,) float32
    order: Array  # (E,) int64
    key_offsets: Array  # (U + 1,) int64
    key_category: Array  # (P,) int32
    key_start: Array  # (P + 1,) int64

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def of(cls, item: Array, category: Array, kind: Array, time_ms: Array, value: Array) -> Tail:
        """Sort one user's events by time; those of one time stay in the order given."""
        at = np.argsort(time_ms, kind="stable")
        sorted_category = category[at].astype(np.int32)
        offsets = np.array([0, len(at)], np.int64)
        order = history.second_order(offsets, sorted_category)
        keys = history.category_keys(offsets, sorted_category, order)
        return cls(
            offsets,
            item[at].astype(np.int32),
            sorted_category,
            kind[at].astype(np.uint8),
            time_ms[at].astype(np.int64),
            value[at].astype(np.float32),
            order,
            *keys,
        )

    def extended(self, other: Tail) -> Tail:
        """One user's events with later ones among them; at equal times these come first."""
        return Tail.of(
            np.concatenate([self.item, other.item]),
            np.concatenate([self.category, other.category]),
            np.concatenate([self.type, other.type]),
            np.concatenate([self.time_ms, other.time_ms]),
            np.concatenate([self.value, other.value]),
        )

    @classmethod
    def end_to_end(cls, tails: Sequence[Tail]) -> Tail:
        """Several users' tails as one."""
        if len(tails) == 1:
            return tails[0]
        events = np.cumsum([0, *(len(t) for t in tails)])
        keys = np.cumsum([0, *(len(t.key_category) for t in tails)])
        starts = [t.key_start[:-1] + at for t, at in zip(tails, events[:-1], strict=True)]
        return cls(
            events,
            np.concatenate([t.item for t in tails]),
            np.concatenate([t.category for t in tails]),
            np.concatenate([t.type for t in tails]),
            np.concatenate([t.time_ms for t in tails]),
            np.concatenate([t.value for t in tails]),
            np.concatenate([t.order + at for t, at in zip(tails, events[:-1], strict=True)]),
            keys,
            np.concatenate([t.key_category for t in tails]),
            np.concatenate([*starts, events[-1:]]),
        )

    def latest(self, row_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        """As a store's; rows are places in this tail, -1 for none."""
        at, offsets = history.latest(
            self.offsets, self.time_ms, self.type, row_B, before_B, n, type_mask
        )
        return self._events(at, offsets)

    def by_category(self, row_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        """As a store's; rows are places in this tail, -1 for none."""
        at, offsets = history.by_category(
            self.key_offsets,
            self.key_category,
            self.key_start,
            self.order,
            self.time_ms,
            row_P,
            category_P,
            before_P,
            n,
        )
        return self._events(at, offsets)

    def _events(self, at: Array, offsets: Array) -> Events:
        return Events(
            offsets,
            self.item[at],
            self.category[at],
            self.type[at],
            self.time_ms[at],
            self.value[at],
        )


@final
class Overlay:
    """A store over another, with tails by user number. Tails may be replaced while it is read."""

    def __init__(self, base: BehaviorStore, tails: Mapping[int, Tail]) -> None:
        self._base, self._tails = base, tails

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        events = self._base.latest(user_B, before_B, n, type_mask)
        tail, row_B = self._of(user_B)
        return events.merge(tail.latest(row_B, before_B, n, type_mask), n) if tail else events

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        events = self._base.by_category(user_P, category_P, before_P, n)
        tail, row_P = self._of(user_P)
        return events.merge(tail.by_category(row_P, category_P, before_P, n), n) if tail else events

    def _of(self, users: Array) -> tuple[Tail | None, Array]:
        """The tails of these users end to end, and each user's place among them."""
        place: dict[int, int] = {}
        tails: list[Tail] = []
        for user in np.unique(users).tolist():
            tail = self._tails.get(user)
            if tail is not None:
                place[user] = len(tails)
                tails.append(tail)
        if not tails:
            return None, users
        rows = np.fromiter((place.get(u, -1) for u in users.tolist()), np.int64, len(users))
        return Tail.end_to_end(tails), rows
