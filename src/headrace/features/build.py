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
from ..ops import groups, history
from ..schema import COUNTERS, RATES
from ..schema import Sequence as Stretch
from .delivery import Delivery
from .encoders import Bucket
from .popularity import DAY_MS, Popularity
from .space import CLOCK, FeatureSpace

Array = NDArray[Any]
HOUR_MS = 3_600_000
POPULARITY = "item_popularity_"  # and a number of days
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
        self._user = {n: self._encode_users(n, log) for n in schema.names("user")}
        self._codes = {  # codes of the log's vocabulary -> ids of the feature
            n: space.encoders[n].encode(pl.Series(log.vocab[self._column(n)]))
            for n in (*schema.names("context"), *schema.names("cross"), *self._dear)
            if self._column(n) in log.vocab
        }
        self._types = log.manifest.event_types
        self._masks = {n: self._mask(s, log) for n, s in schema.sequences.items()}

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
        columns = {self._column(n) for n in names}
        row_N, item_N = found.item_id.row.numpy(), found.item_id.values.numpy()
        time_N = requests.time_ms.numpy()[row_N]
        numbers = self._by_day(columns, time_N, item_N)
        if hits or self.counters(names):
            keys = self._keys(requests, found)
            events = store.by_category(*keys.asked, self.space.schema.key_events)
            key_N, asked_P = keys.key_N, keys.before_P
            numbers |= _counters(columns, events, key_N, time_N, item_N)
            if hits:
                found = replace(found, hits=_hits(events, key_N, asked_P))
        if columns & ({"exposed"} | self._shown.keys()):
            at = groups.find(
                self._group_offsets, self._group_item, requests.group.numpy()[row_N], item_N
            )
            numbers |= {"exposed": (at >= 0).astype(np.int64)}
            for column in columns & self._shown.keys():
                shown = self._shown[column]
                numbers[column] = np.where(at >= 0, shown[at] if len(shown) else 0, 0)
        features = {n: torch.from_numpy(self._cross(n, numbers)) for n in names}
        return replace(found, features={**found.features, **features})

    def counters(self, names: Sequence[str]) -> list[str]:
        """Those of the cross features that come out of the look-up of users' past events."""
        return [n for n in names if (c := self._column(n)) in COUNTERS and c.startswith("user_")]

    def _cross(self, name: str, numbers: Mapping[str, Array]) -> Array:
        column = self._column(name)
        encoder = self.space.encoders[name]
        if isinstance(encoder, Bucket):
            return encoder.encode_numbers(numbers[column])
        return self._codes[name][numbers[column]] if name in self._codes else numbers[column]

    def _by_day(self, columns: set[str], time_N: Array, item_N: Array) -> dict[str, Array]:
        """What the whole days before its request tell of each item."""
        numbers = {
            c: self._popularity.count(item_N, time_N, int(c.removeprefix(POPULARITY))).astype(float)
            for c in columns
            if c.startswith(POPULARITY)
        }
        if (delivery := self.delivery) is not None:  # a server may replace it meanwhile
            numbers |= {c: delivery.rate(c, item_N, time_N) for c in columns & RATES.keys()}
        return numbers

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
        row_N, item_N = found.item_id.row.numpy(), found.item_id.values.numpy()
        category_I = self.space.catalogue.category.numpy()
        category_N = category_I[item_N]
        pair_N = row_N * np.int64(category_I.max() + 1) + category_N
        _, first_P, key_N = np.unique(pair_N, return_index=True, return_inverse=True)
        row_P = row_N[first_P]
        user_P, before_P = requests.user.numpy()[row_P], requests.time_ms.numpy()[row_P]
        return _Keys(user_P, category_N[first_P], before_P, key_N)

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


def _counters(
    columns: set[str], events: Events, key_N: Array, time_N: Array, item_N: Array
) -> dict[str, Array]:
    """Counters of (user, item) and (user, category) as of the request."""
    own, kin, own_last, kin_last = history.counters(
        events.item, events.time_ms, events.offsets, key_N, item_N
    )
    out: dict[str, Array] = {
        "user_item_count": own.astype(float),
        "user_item_days": _days(time_N, own_last),
        "user_item_share": own / np.maximum(kin, 1),
        "user_category_count": kin.astype(float),
        "user_category_days": _days(time_N, kin_last),
    }
    if "user_item_decay" in columns:
        out["user_item_decay"] = history.decayed_count(
            events.item, events.time_ms, events.offsets, key_N, item_N, time_N, HALF_LIFE_MS
        )
    return out


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


def _days(time_N: Array, last_N: Array) -> Array:
    """Days since the last event; not a number where there was none."""
    return np.where(last_N >= 0, (time_N - last_N) / DAY_MS, np.nan)
