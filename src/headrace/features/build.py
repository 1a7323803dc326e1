"""From (user, time, context) and items to the structs that models read.

The only place where features are made. Training passes the mapped log as the behaviour store and
codes out of the log; serving passes the live store and codes of the raw request. Every look-up is
strictly before the request's time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..behavior import EVERY_TYPE, BehaviorStore, Distant, Events
from ..data import Candidates, Hits, Ragged, Requests
from ..errors import ConfigError
from ..log import Log
from ..ops import crosses, groups
from ..schema import RATES
from ..schema import Sequence as Stretch
from .daily import Daily, by_day
from .delivery import Delivery
from .encoders import Bucket
from .popularity import DAY_MS, Popularity
from .space import CLOCK, FeatureSpace

Array = NDArray[Any]
HOUR_MS = 3_600_000
HALF_LIFE_MS = 60.0 * DAY_MS  # of user_item_decay


@dataclass(frozen=True)
class Asked:
    """The bare facts of some requests, as numbers of the log."""

    user: Array  # (B,) int64
    time_ms: Array  # (B,) int64
    context: Mapping[str, Array]  # context column -> (B,) codes of the log's vocabulary
    group: Array  # (B,) int64, -1 none
    exclude: Ragged | None = None


@dataclass(frozen=True, slots=True)
class _Keys:
    """A look-up by category of some candidates."""

    user_P: Array
    category_P: Array
    before_P: Array
    key_N: Array  # of each candidate

    @property
    def asked(self) -> tuple[Array, Array, Array]:
        """As a store takes it."""
        return self.user_P, self.category_P, self.before_P


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Cross features by what they are made of."""

    daily: Sequence[str]
    counted: Sequence[str]
    counters: crosses.Counters  # of the counted ones
    promoted: Sequence[str]


class FeatureBuilder:
    """Makes features of one log under one feature space."""

    def __init__(self, space: FeatureSpace, log: Log, delivery: Delivery | None = None) -> None:
        """``delivery``: what delivery rates are made of, by default what is kept beside the log.

        Raises DataError if they are among the features and were never counted.
        """
        self.space = space
        self._popularity = Popularity.of(log)
        self._group_offsets, self._group_item = log.exposure("offsets"), log.exposure("item")
        self._shown = {c: log.exposure(c) for c in log.manifest.exposure}
        schema = space.schema
        self._dear = [n for n in schema.names("privileged") if not space.told_by_events(n)]
        rates = [n for n in (*schema.names("cross"), *self._dear) if self._column(n) in RATES]
        self.delivery = (delivery or Delivery.needed(log, rates)) if rates else None
        made = [(n, space.encoders[n]) for n in (*schema.names("cross"), *self._dear)]
        self._edges = {n: np.array(each.edges) for n, each in made if isinstance(each, Bucket)}
        self._wanted: dict[tuple[str, ...], _Wanted] = {}
        self._num_categories = int(space.catalogue.category.max()) + 1
        self._user = {n: self._encode_users(n, log) for n in schema.names("user")}
        self._codes = {  # codes of the log's vocabulary -> ids of the feature
            n: space.encoders[n].encode(pl.Series(log.vocab[self._column(n)]))
            for n in (*schema.names("context"), *schema.names("cross"), *self._dear)
            if self._column(n) in log.vocab
        }
        self._types = log.manifest.event_types
        self._masks = {n: self._mask(s, log) for n, s in schema.sequences.items()}

    @property
    def delivery(self) -> Delivery | None:
        """What delivery rates are made of; a server replaces it as it counts."""
        return self._delivery

    @delivery.setter
    def delivery(self, delivery: Delivery | None) -> None:
        self._delivery = delivery
        self._daily = Daily(self.space, self._popularity, delivery)  # what it kept was of the old

    def requests(
        self, asked: Asked, store: BehaviorStore, sequences: Collection[str] | None = None
    ) -> Requests:
        """Encode who asks and gather their sequences: those named, by default all."""
        features: dict[str, Tensor | Ragged] = {}
        for name, ids in self._user.items():
            known = np.where(asked.user < len(ids), asked.user, 0)
            features[name] = torch.from_numpy(ids[known])
        for name in self.space.schema.names("context"):
            features[name] = torch.from_numpy(self._context(name, asked))
        for name, sequence in self.space.schema.sequences.items():
            if sequences is None or name in sequences:
                events = store.latest(asked.user, asked.time_ms, sequence.length, self._masks[name])
                features |= sequence_columns(name, events)
        nothing = Ragged(torch.zeros(0, dtype=torch.int64), torch.zeros(len(asked.user) + 1).long())
        return Requests(
            torch.from_numpy(asked.user),
            torch.from_numpy(asked.time_ms),
            features,
            torch.from_numpy(asked.group),
            asked.exclude or nothing,
        )

    def sequence(self, name: str, store: BehaviorStore, user_B: Array) -> Events:
        """A sequence of users as it is now."""
        ever_B = np.full(len(user_B), np.iinfo(np.int64).max)
        length = self.space.schema.sequences[name].length
        return store.latest(user_B, ever_B, length, self._masks[name])

    def takes(self, sequence: str) -> Collection[str]:
        """Event types that enter a sequence."""
        return self.space.schema.sequences[sequence].events or self._types

    def candidates(
        self,
        requests: Requests,
        found: Candidates,
        store: BehaviorStore,
        *,
        hits: bool = False,
        names: Sequence[str] | None = None,
    ) -> Candidates:
        """Add cross features of every (request, item), ``names`` or all: a column at a time.

        With ``hits``, also the user's past events in each candidate's category. Counters and hits
        come out of one look-up. Raises ConfigError for a privileged feature: nothing that serves
        can make one.
        """
        privileged = self.space.schema.names("privileged")
        for name in names or ():
            if name in privileged:
                raise ConfigError(
                    f"features: {name!r} is privileged, there in training alone; serving cannot "
                    'read it: declare another feature with of = "cross", or leave it to a teacher'
                )
        names = self.space.schema.names("cross") if names is None else names
        return self._with_crosses(requests, found, store, hits, names)

    def in_training(
        self, requests: Requests, found: Candidates, store: BehaviorStore, *, hits: bool
    ) -> Candidates:
        """``candidates`` with those privileged features too that are made like crosses."""
        names = [*self.space.schema.names("cross"), *self._dear]
        return self._with_crosses(requests, found, store, hits, names)

    def _with_crosses(
        self,
        requests: Requests,
        found: Candidates,
        store: BehaviorStore,
        hits: bool,
        names: Sequence[str],
    ) -> Candidates:
        wanted = self._wanted.get(tuple(names)) or self._sort_out(tuple(names))
        offsets, item_N = found.item_id.offsets.numpy(), found.item_id.values.numpy()
        ids = dict(self._daily.ids(wanted.daily, item_N, requests.time_ms.numpy(), offsets))
        if hits or wanted.counted:
            keys = self._keys(requests, found)
            events = store.by_category(*keys.asked, self.space.schema.key_events)
            if wanted.counted:
                answer = events.item, events.time_ms, events.offsets, keys.before_P, keys.key_N
                id_FN = crosses.counters(*answer, item_N, HALF_LIFE_MS, wanted.counters)
                ids |= zip(wanted.counted, id_FN, strict=True)
            if hits:
                found = replace(found, hits=_hits(events, keys.key_N, keys.before_P))
        if wanted.promoted:
            group_N = requests.group.numpy().repeat(np.diff(offsets))
            at_N = groups.find(self._group_offsets, self._group_item, group_N, item_N)
            ids |= {n: self._promotion(n, at_N) for n in wanted.promoted}
        features = {n: torch.from_numpy(ids[n]) for n in names}
        return replace(found, features={**found.features, **features})

    def _sort_out(self, names: tuple[str, ...]) -> _Wanted:
        """By what they are made of, once for the same names."""
        column_of = {n: self._column(n) for n in names}
        counted = self.counters(names)
        edges = [self._edges[n] for n in counted]
        what_F = np.array([crosses.COUNTED.index(column_of[n]) for n in counted], np.int64)
        self._wanted[names] = wanted = _Wanted(
            [n for n in names if by_day(column_of[n])],
            counted,
            crosses.Counters.of(what_F, edges),
            [n for n in names if column_of[n] in ("exposed", *self._shown)],
        )
        return wanted

    def counters(self, names: Sequence[str]) -> list[str]:
        """Those of the cross features that come out of the look-up of users' past events."""
        return [n for n in names if self._column(n) in crosses.COUNTED]

    def _promotion(self, name: str, at_N: Array) -> Array:
        """Of how a candidate was on show, or whether it was at all."""
        column, encoder = self._column(name), self.space.encoders[name]
        if column != "exposed":
            return groups.taken(self._shown[column], self._codes[name], at_N)
        there_N = (at_N >= 0).astype(np.int64)
        return encoder.encode_numbers(there_N) if isinstance(encoder, Bucket) else there_N

    def ahead(
        self,
        requests: Requests,
        found: Candidates,
        store: BehaviorStore,
        *,
        hits: bool,
        names: Sequence[str],
    ) -> BehaviorStore:
        """Begin the look-up of ``candidates`` for these or some of these, where it takes a trip."""
        if not (hits or self.counters(names)) or not isinstance(store, Distant):
            return store
        return store.ahead(*self._keys(requests, found).asked, self.space.schema.key_events)

    def _keys(self, requests: Requests, found: Candidates) -> _Keys:
        """What to look up: each request with the categories of its candidates, once."""
        offsets, item_N = found.item_id.offsets.numpy(), found.item_id.values.numpy()
        category_I = self.space.catalogue.category.numpy()
        row_P, category_P, key_N = crosses.keys(offsets, item_N, category_I, self._num_categories)
        user_P, before_P = requests.user.numpy()[row_P], requests.time_ms.numpy()[row_P]
        return _Keys(user_P, category_P, before_P, key_N)

    def _context(self, name: str, asked: Asked) -> Array:
        column = self._column(name)
        if column in CLOCK:
            hours = asked.time_ms // HOUR_MS
            # the epoch began on a Thursday; Monday is 0
            return 1 + (hours % 24 if column == "hour" else (hours // 24 + 3) % 7)
        codes = asked.context.get(column)
        if codes is None:
            return np.zeros(len(asked.user), np.int64)
        return self._codes[name][codes]

    def _column(self, name: str) -> str:
        return self.space.schema.features[name].column or name

    def _encode_users(self, name: str, log: Log) -> Array:
        return self.space.encoders[name].encode(log.users[self._column(name)])

    def _mask(self, sequence: Stretch, log: Log) -> int:
        if sequence.events is None:
            return EVERY_TYPE
        return sum(1 << log.type_code(name) for name in sequence.events)


def sequence_columns(name: str, events: Events) -> dict[str, Tensor | Ragged]:
    """A sequence as the columns of Requests."""
    offsets = torch.from_numpy(events.offsets)
    return {
        f"{name}.item": Ragged(torch.from_numpy(events.item.astype(np.int64)), offsets),
        f"{name}.type": Ragged(torch.from_numpy(events.type.astype(np.int64)), offsets),
        f"{name}.time_ms": Ragged(torch.from_numpy(events.time_ms), offsets),
        f"{name}.value": Ragged(torch.from_numpy(events.value), offsets),
    }


def _hits(events: Events, key_N: Array, asked_P: Array) -> Hits:
    """The look-up's answer as models read it."""
    offsets = torch.from_numpy(events.offsets)
    age_E = np.repeat(asked_P, np.diff(events.offsets)) - events.time_ms
    return Hits(
        torch.from_numpy(key_N),
        Ragged(torch.from_numpy(events.item.astype(np.int64)), offsets),
        Ragged(torch.from_numpy(events.type.astype(np.int64)), offsets),
        Ragged(torch.from_numpy(age_E), offsets),
    )
