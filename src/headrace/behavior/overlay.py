"""Further events laid over a store: merged when read, in order of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from .base import Array, BehaviorStore, Events


@final
class Overlay:
    """A store over another, with events by user number. They may be replaced while it is read."""

    def __init__(self, base: BehaviorStore, tails: Mapping[int, Events]) -> None:
        self._base, self._tails = base, tails

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        events = self._base.latest(user_B, before_B, n, type_mask)
        tail, row_B = self._of(user_B)
        return events.merge(tail.latest(row_B, before_B, n, type_mask), n) if tail else events

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        events = self._base.by_category(user_P, category_P, before_P, n)
        tail, row_P = self._of(user_P)
        return events.merge(tail.by_category(row_P, category_P, before_P, n), n) if tail else events

    def _of(self, users: Array) -> tuple[Events | None, Array]:
        """The tails of these users end to end, and each user's place among them."""
        place: dict[int, int] = {}
        tails: list[Events] = []
        for user in np.unique(users).tolist():
            tail = self._tails.get(user)
            if tail is not None:
                place[user] = len(tails)
                tails.append(tail)
        if not tails:
            return None, users
        rows = np.fromiter((place.get(u, -1) for u in users.tolist()), np.int64, len(users))
        return Events.end_to_end(tails), rows
