"""What a store knows of some users at one moment."""

from __future__ import annotations

from typing import final

import numpy as np

from .base import Array, Events
from .mapped import MappedLog


@final
class Snapshot:
    """The log, and over it what came since of some users, which was read at once.

    So all that is made of one request belongs together, and a request is one look-up.
    """

    def __init__(self, base: MappedLog, user_U: Array, tail: Events) -> None:
        """``user_U`` ascend, and ``tail`` has a row for each; others have what the log has."""
        self._base, self._user_U, self._tail = base, user_U, tail

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        events = self._base.latest(user_B, before_B, n, type_mask)
        if not len(self._tail):
            return events
        return events.merge(self._tail.latest(self._rows(user_B), before_B, n, type_mask), n)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        events = self._base.by_category(user_P, category_P, before_P, n)
        if not len(self._tail):
            return events
        tail, row_P = self._tail.by_category, self._rows(user_P)
        return events.merge(self._base.moves.read(tail, row_P, category_P, before_P, n), n)

    def _rows(self, users: Array) -> Array:
        """The row of each user in the tail; -1 for others."""
        at = np.searchsorted(self._user_U, users)
        at = np.minimum(at, len(self._user_U) - 1)
        return np.where(self._user_U[at] == users, at, -1)
