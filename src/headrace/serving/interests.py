"""Users' states of a memory ranker: kept up to date by events, read as a column of requests."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ..behavior import EventStore, Journaled, RawEvent, StoreError
from ..behavior.base import Array
from ..behavior.intake import key_of, key_of_number
from ..behavior.interest_center import Encoder, InterestCenter, Step
from ..data import Requests
from ..features import FeatureBuilder
from ..log import Log
from ..nn.memory import USER_STATE

FOLDER = "interests"  # in the run's events/
CALL = 1 << 20  # more events than a call of the store can have
CHUNK = 10_000  # steps made in one transaction
FILLED = 256  # users whose histories are run through after a call
EVER = np.iinfo(np.int64).max
logger = logging.getLogger(__name__)


@runtime_checkable
class Rememberer(Protocol):
    """A ranker that scores from states."""

    @property
    def remembered(self) -> str:
        """The sequence that states are made of."""
        ...

    @property
    def reads_with_state(self) -> Collection[str]:
        """The sequences that it reads of a request that has a state."""
        ...

    def states(self, requests: Requests) -> Tensor:
        """States ``(B, Z)`` made of the requests' own sequences."""
        ...

    def encoder(self) -> Encoder:
        """What makes states event by event."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """An encoder whose states are of one log: of another they would lack what it got since."""

    encoder: Encoder
    log: Log

    @property
    def version(self) -> str:
        """The encoder's, and the log's sources."""
        return f"{self.encoder.version}-{key_of(repr(self.log.manifest.sources)):x}"

    def start(self) -> Array:
        """As the encoder's."""
        return self.encoder.start()

    def advance(self, state_BZ: Array, item_E: Array, offsets: Array) -> Array:
        """As the encoder's."""
        return self.encoder.advance(state_BZ, item_E, offsets)


@final
class Interests:
    """Gives requests the column ``user_state``: one key read a user in place of a long history.

    Where the center has no state that may be used, the history is run through as in training, and
    counted in ``unrolled``: ``anonymous`` visitors, users with ``no state`` (not back-filled yet,
    or as of a time before their last event), and everybody while the center is ``behind``.

    With a ``feed`` it is kept up to date: ``follow`` brings what the store has accepted.
    """

    def __init__(
        self,
        center: InterestCenter,
        ranker: Rememberer,
        key_of: Callable[[int], int],
        feed: Feed | None = None,
    ) -> None:
        """``key_of`` makes the center's key of a user's number; 0 for those whom it cannot have."""
        self.ranker = ranker
        self._center, self._key_of, self._feed = center, key_of, feed
        self._behind = False
        self.unrolled: Counter[str] = Counter()

    @classmethod
    def open(
        cls, folder: Path, ranker: Rememberer, builder: FeatureBuilder, store: EventStore, log: Log
    ) -> Interests | None:
        """The writer's, below a run's events; None if the store's calls cannot be told apart.

        States of other encoders and logs are forgotten.
        """
        if not isinstance(store, Journaled):
            return None
        encoder = Bound(ranker.encoder(), log)
        center = InterestCenter(folder / FOLDER, [encoder])
        for version in center.versions.keys() - {encoder.version}:
            center.retire(version)
        key = partial(key_of_number, log.users["user"].cast(pl.String))
        feed = Feed(center, encoder.version, store, store, builder, ranker.remembered, key)
        interests = cls(center, ranker, key, feed)
        interests.follow()
        return interests

    def attach(self, requests: Requests, whole: Callable[[], Requests] | None = None) -> Requests:
        """The same requests with their users' states; ``whole`` makes them with all sequences."""
        key_B = np.array([self._key_of(user) for user in requests.user.tolist()], np.int64)
        behind = self._behind
        found = self._center.look_up(
            np.zeros_like(key_B) if behind else key_B, requests.time_ms.numpy()
        )
        state_BZ = torch.from_numpy(found.state_BZ)
        missing = torch.from_numpy(np.flatnonzero(~found.real_B))
        if len(missing):
            full = requests if whole is None else whole()
            state_BZ[missing] = self.ranker.states(full.take(missing))
            self.unrolled["anonymous"] += int((key_B == 0).sum())
            known = len(missing) - int((key_B == 0).sum())
            self.unrolled["behind" if behind else "no state"] += known
            if self._feed is not None:
                self._feed.want(requests.user[missing].tolist())
        return replace(requests, features={**requests.features, USER_STATE: state_BZ})

    def follow(self) -> None:
        """Make the steps of what the store has accepted since. By the thread that appends."""
        if self._feed is None:
            return
        try:
            self._feed.follow()
            self._behind = False
        except StoreError as error:  # the events are safe: the next call brings them
            self._behind = True
            logger.error("interests: %s; histories are run through meanwhile", error)

    def close(self) -> None:
        """Close the center."""
        self._center.close()


@final
class Feed:
    """Brings a center what a store accepts, in order of arrival. For the one thread that appends.

    An event's sequence number is made of the number of the call that accepted it and its place
    there. Both last, so that after a crash the journal is sent again and each event counts once.
    Users without a state get one when they have an event, and, some at a time, after a request.
    """

    def __init__(
        self,
        center: InterestCenter,
        version: str,
        store: EventStore,
        calls: Journaled,
        builder: FeatureBuilder,
        sequence: str,
        key_of: Callable[[int], int],
    ) -> None:
        """``store`` and ``calls`` are one; ``sequence`` is what states are made of."""
        self._center, self._version, self._store, self._calls = center, version, store, calls
        self._read = lambda user_U: builder.sequence(sequence, store, user_U)
        self._takes = builder.takes(sequence)
        self._key_of = key_of
        self._last_call = 0
        self._wanted: deque[int] = deque(maxlen=CHUNK)

    def want(self, users: Sequence[int]) -> None:
        """Give these users a state by and by. From any thread."""
        self._wanted.extend(users)

    def follow(self) -> None:
        """Make the steps of new calls; then fill in users who lack a state."""
        fresh, last = set[str](), self._last_call
        steps: list[Step] = []
        for call, events in self._calls.journal(last):
            steps += self._steps(call, events, fresh)
            last = call
            if len(steps) >= CHUNK:
                self._center.append(steps)
                steps = []
        self._center.append(steps)
        self._last_call = last
        wanted = [self._wanted.popleft() for _ in range(min(FILLED, len(self._wanted)))]
        self._fill([*map(self._store.user, fresh), *wanted])

    def _steps(self, call: int, events: Sequence[RawEvent], fresh: set[str]) -> list[Step]:
        items = self._store.items.rows([event.item for event in events]).tolist()
        steps: list[Step] = []
        for at, (event, item) in enumerate(zip(events, items, strict=True)):
            if item and event.type in self._takes:
                key = key_of(event.user)
                steps.append(Step(key, call * CALL + at, item, event.time_ms))
                fresh.add(event.user)
        return steps

    def _fill(self, users: Sequence[int]) -> None:
        """Run through the histories of those who have no state; they hold every call so far."""
        user_U = np.unique(np.array(users, np.int64))
        key_U = np.array([self._key_of(user) for user in user_U.tolist()], np.int64)
        lacks_U = ~self._center.look_up(key_U, np.full(len(key_U), EVER)).real_B & (key_U != 0)
        user_U, key_U = user_U[lacks_U], key_U[lacks_U]
        for at in range(0, len(user_U), FILLED):
            some = slice(at, at + FILLED)
            events = self._read(user_U[some])
            seq_U = np.full(len(key_U[some]), (self._last_call + 1) * CALL - 1)
            items = events.item.astype(np.int64)
            self._center.backfill(
                self._version, key_U[some], seq_U, items, events.time_ms, events.offsets
            )
