"""From raw requests to numbers of the log: ids, defaults, limits, inline histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
import torch

from ..app import Serving
from ..behavior import EVERY_TYPE, BehaviorStore, Events, EventStore, Overlay, newest_ms
from ..data import Ragged
from ..errors import RequestError, suggest
from ..features.build import DAY_MS, Asked
from ..log import Log
from .clock import Clock
from .context import Contexts, Situation
from .wire import Ask, PastEvent

T = TypeVar("T")
ANONYMOUS = 1 << 40  # the user numbers of inline histories: far beyond any log's
EVER = np.iinfo(np.int64).max
NAMED = 5  # wrong ids that a message tells


@dataclass(frozen=True, slots=True)
class Reading:
    """One request in numbers of the log."""

    ask: Ask
    place: str  # what messages call it
    user: int
    known: bool
    time_ms: int
    situation: Situation
    exclude: list[int]
    tail: Events | None  # of an inline history
    warnings: list[str]


@final
class Reader:
    """Reads requests against one log and what has happened since."""

    def __init__(
        self,
        log: Log,
        store: EventStore,
        settings: Serving,
        clock: Clock,
        targets: Sequence[str] | None,
    ) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._contexts = Contexts(log)
        self._types = log.manifest.event_types
        self._category_I = log.item_category
        self._taken = (
            EVERY_TYPE if targets is None else sum(1 << log.type_code(name) for name in targets)
        )

    def read(self, asks: Sequence[Ask]) -> tuple[list[Reading], BehaviorStore]:
        """Read requests, and the behaviour of those who ask, inline histories included.

        Without a time a request happens now, but after all events of its user. Raises RequestError.
        """
        places = [f"requests[{at}]." if len(asks) > 1 else "" for at in range(len(asks))]
        readings, store = self.read_each(asks, places)
        return unfailing(readings), store

    def read_each(
        self, asks: Sequence[Ask], places: Sequence[str] | None = None
    ) -> tuple[list[Reading | RequestError], BehaviorStore]:
        """The same, with what is wrong with a request in the place of its reading.

        ``places`` is what messages call the requests; by default each is called the only one.
        """
        users = [0 if ask.user is None else self._store.user(ask.user) for ask in asks]
        user_B = np.array(users, np.int64)
        store = self._store.snapshot(user_B)
        newest_B = newest_ms(store, user_B).tolist()
        readings: list[Reading | RequestError] = []
        for at, (ask, user, newest) in enumerate(zip(asks, users, newest_B, strict=True)):
            place = places[at] if places else ""
            try:
                readings.append(self._read(ask, ANONYMOUS + at, place, user, newest))
            except RequestError as error:
                readings.append(error)
        read = [r for r in readings if isinstance(r, Reading)]
        tails = {r.user: r.tail for r in read if r.tail is not None}
        return readings, Overlay(store, tails) if tails else store

    def _read(self, ask: Ask, visitor: int, place: str, user: int, newest: int) -> Reading:
        self._check(ask, place)
        warnings: list[str] = []
        time_ms = self._time(ask, newest)
        tail = self._tail(ask.history or [], time_ms, warnings, place)
        situation = self._contexts.situation(ask.context, user, warnings, place)
        exclude = self._store.items.rows(ask.filters.exclude).tolist()
        for raw, row in zip(ask.filters.exclude, exclude, strict=True):
            if row == 0:
                warnings.append(f"filters.exclude: no item {raw!r} in the log")
        return Reading(
            ask,
            place,
            user if tail is None else visitor,
            user > 0,
            time_ms,
            situation,
            [row for row in exclude if row],
            tail,
            warnings,
        )

    def asked(self, readings: Sequence[Reading], store: BehaviorStore) -> Asked:
        """The same requests as columns."""
        codes = np.array([r.situation.codes for r in readings], np.int64).T
        return Asked(
            np.array([r.user for r in readings], np.int64),
            np.array([r.time_ms for r in readings], np.int64),
            dict(zip(self._contexts.names, codes, strict=True)),
            np.array([r.situation.group for r in readings], np.int64),
            Ragged.of(
                [torch.tensor(r.exclude + self._had(r, store)).to(torch.int64) for r in readings]
            ),
        )

    def _check(self, ask: Ask, place: str) -> None:
        settings = self._settings
        if ask.k is not None and ask.k > settings.max_k:
            raise RequestError(f"{place}k: {ask.k} is too long a slate; at most {settings.max_k}")
        history = ask.history or []
        if history and ask.user is not None:
            raise RequestError(
                f"{place}history: for anonymous visitors only; send events of users to /v1/events"
            )
        if len(history) > settings.max_history:
            raise RequestError(
                f"{place}history: {len(history)} events; at most {settings.max_history}"
            )
        latest = self._clock.now_ms() + DAY_MS
        for time_ms in (ask.time_ms, *(event.time_ms for event in history)):
            if time_ms is not None and time_ms > latest:
                raise RequestError(
                    f"{place}time_ms: {time_ms} lies more than a day ahead of the server's "
                    f"{self._clock.now_ms()}; is it in milliseconds?"
                )

    def _time(self, ask: Ask, newest: int) -> int:
        if ask.time_ms is not None:
            return ask.time_ms
        past = [event.time_ms for event in ask.history or () if event.time_ms is not None]
        return max(self._clock.now_ms(), *(time_ms + 1 for time_ms in (newest, *past)))

    def _tail(
        self, history: Sequence[PastEvent], time_ms: int, warnings: list[str], place: str
    ) -> Events | None:
        row_E = self._store.items.rows([event.item for event in history])
        kept = np.flatnonzero(row_E)
        if len(kept) < len(history):
            names = [e.item for e, row in zip(history, row_E.tolist(), strict=True) if row == 0]
            told = ", ".join(repr(name) for name in names[:NAMED])
            warnings.append(f"history: {len(names)} items unknown and left out: {told}")
        if not len(kept):
            return None
        type_E = [self._type(event.type, place) for event in history]
        time_E = [
            time_ms - len(history) + at if event.time_ms is None else event.time_ms
            for at, event in enumerate(history)
        ]
        return Events.of(
            row_E[kept],
            self._category_I[row_E[kept]],
            np.array(type_E)[kept],
            np.array(time_E)[kept],
            np.array([event.value for event in history])[kept],
        )

    def _type(self, name: str | None, place: str) -> int:
        if name is None and len(self._types) == 1:
            return 0
        if name is None:
            known = ", ".join(self._types)
            raise RequestError(f"{place}history.type: needed, one of {known}")
        if name not in self._types:
            near = suggest(name, self._types)
            raise RequestError(f"{place}history.type: no type {name!r} in the log; {near}")
        return self._types.index(name)

    def _had(self, reading: Reading, store: BehaviorStore) -> list[int]:
        """What the user ever took, if that is to be left out."""
        if not reading.ask.filters.new_to_user:
            return []
        user, before = np.array([reading.user]), np.array([reading.time_ms])
        return np.unique(store.latest(user, before, EVER, self._taken).item).tolist()


def unfailing(outcomes: Sequence[T | RequestError]) -> list[T]:
    """Outcomes of which none is a mistake; raises the first that is."""
    well: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, RequestError):
            raise outcome
        well.append(outcome)
    return well
