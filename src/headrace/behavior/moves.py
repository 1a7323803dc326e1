"""Categories that are gone: their events are read under the categories that took their items."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from ..log import Log
from .base import Array, Events


@final
class Moves:
    """Maps a category of today to those it succeeds.

    Events keep the category under which they happened. When a catalogue is re-categorised so that
    no item is left in a category (renamed, merged, split), nobody would ask for its events again;
    so whoever asks for a category also gets those of the empty ones whose items are in it now.
    An item that moves between two living categories leaves its events where they happened.
    """

    def __init__(self, earlier: dict[int, Array]) -> None:
        self._earlier = earlier

    @classmethod
    def of(cls, log: Log) -> Moves:
        """Compare a log's events with its catalogue; free of charge when no category is empty."""
        today = np.asarray(log.item_category)
        empty = np.ones(len(log.vocab["category"]), bool)
        empty[today] = False
        if not empty.any():
            return cls({})
        then = log.event("category")
        at = np.flatnonzero(empty[then])
        pairs = np.unique(np.stack([today[log.event("item")[at]], then[at]], axis=1), axis=0)
        return cls({int(c): pairs[pairs[:, 0] == c, 1] for c in np.unique(pairs[:, 0])})

    def read(
        self,
        by_category: Callable[[Array, Array, Array, int], Events],
        user_P: Array,
        category_P: Array,
        before_P: Array,
        n: int,
    ) -> Events:
        """A store's look-up by category, earlier categories included."""
        events = by_category(user_P, category_P, before_P, n)
        if not self._earlier:
            return events
        depth = max(map(len, self._earlier.values()))
        for place in range(depth):  # renamed and merged ones have one or a few
            earlier_P = np.full(len(category_P), -1, np.int64)
            for p, category in enumerate(category_P.tolist()):
                before = self._earlier.get(category)
                if before is not None and place < len(before):
                    earlier_P[p] = before[place]
            events = events.merge(by_category(user_P, earlier_P, before_P, n), n)
        return events
