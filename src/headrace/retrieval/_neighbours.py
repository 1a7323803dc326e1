"""Items by the company they keep: what ``item_cf`` and ``swing`` have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Requests
from ..features import FeatureSpace
from ..ops import own_items, walk
from ..samples import Samples
from ..samples.split import DAY_MS
from ..training import Trainer
from ._base import Channel, reads
from ._counting import check_sequences, counted, left_out, past, scored, type_mask

Array = NDArray[Any]
Graph = tuple[Array, Array, Array]  # offsets, neighbour, weight: see ops/co_occurrence.py
CHUNK = 2048  # items whose rows one thread makes at a time


class NeighbourConfig(config.Config):
    """Settings of every channel that walks from a user's items to their neighbours."""

    history: str = "lifetime"
    """The sequence whose items are the seeds."""
    events: tuple[str, ...] | None = None
    """Event types that count, in the graph and as seeds. Default: the targets of the samples."""
    unit: Literal["user", "request"] = "user"
    """What items share: a user's life, or one basket or page."""
    max_items: int = Field(default=500, ge=2, le=100_000)
    """Items of a unit that count, the newest: time grows with the square of it."""
    neighbours: int = Field(default=200, ge=1, le=10_000)
    """Kept for each item."""
    seeds: int = Field(default=300, ge=1, le=100_000)
    """Distinct items of a user to start from, the newest."""
    half_life_days: float = Field(default=42.0, gt=0, le=10_000)
    """A seed counts half after so long since the user had it last."""
    skip: str | None = None
    """A sequence whose items are not returned, since another channel brings them back.
    Default: none."""

    def check(self, space: FeatureSpace) -> None:
        """Raise ConfigError unless the sequences exist."""
        check_sequences(space, self.history, self.skip)


@dataclass(frozen=True)
class Units:
    """The items of each unit and the units of each item; see ops/co_occurrence.py."""

    offsets: Array  # (U + 1,) int64
    item: Array  # (X,) int32, ascending within a unit
    day: Array  # (X,) int32, of the last event on the item, counted from the first of the log
    item_offsets: Array  # (I + 1,) int64
    place: Array  # (X,) int64, into ``item``
    unit: Array  # (X,) int32

    @classmethod
    def of(cls, samples: Samples, settings: NeighbourConfig, until_ms: int) -> Units:
        """The distinct items of each unit, of the events before a time."""
        log = samples.log
        event_E = counted(samples, type_mask(samples, settings.events), until_ms)
        if settings.unit == "request":
            event_E = event_E[np.asarray(log.event("request"))[event_E] >= 0]
        of = np.asarray(log.event("request")) if settings.unit == "request" else log.event_user
        unit_E = of[event_E].astype(np.int64)
        item_E = np.asarray(log.event("item"))[event_E]
        since_ms = np.asarray(log.event("time_ms"))[event_E] - log.manifest.first_ms
        day_E = (since_ms // DAY_MS).astype(np.int32)
        order = np.lexsort((-day_E, item_E, unit_E))  # newest first within a pair
        unit, item, day = unit_E[order], item_E[order], day_E[order]
        first = np.ones(len(unit), bool)
        first[1:] = (unit[1:] != unit[:-1]) | (item[1:] != item[:-1])
        unit, item, day = unit[first], item[first], day[first]
        kept = _newest(unit, day, settings.max_items) & (item > 0)
        return cls._cut(unit[kept], item[kept], day[kept], log.manifest.num_items)

    @classmethod
    def _cut(cls, unit: Array, item: Array, day: Array, num_items: int) -> Units:
        _, number = np.unique(unit, return_inverse=True)
        place = np.argsort(item, kind="stable")
        return cls(
            _offsets(np.bincount(number)),
            item,
            day,
            _offsets(np.bincount(item, minlength=num_items)),
            place,
            number[place].astype(np.int32),
        )

    @property
    def sizes(self) -> Array:  # (U,) int64
        """Items of each unit."""
        return np.diff(self.offsets)


def _offsets(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _newest(unit: Array, day: Array, most: int) -> Array:
    """Whether each item is among its unit's ``most`` newest; units ascend."""
    order = np.lexsort((-day, unit))
    start = np.searchsorted(unit, unit)  # in either order a unit's items have the same span
    kept = np.empty(len(unit), bool)
    kept[order] = np.arange(len(unit)) - start < most
    return kept


def build(rows: Callable[[int, int], Graph], num_items: int) -> Mapping[str, Tensor]:
    """Make a graph's rows by several threads: ``rows(first, last)`` makes those of some items."""
    starts = range(0, num_items, CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda at: rows(at, min(at + CHUNK, num_items)), starts))
    counts = np.concatenate([np.diff(offsets) for offsets, _, _ in parts])
    return {
        "offsets": torch.from_numpy(_offsets(counts)),
        "neighbour": torch.from_numpy(np.concatenate([part[1] for part in parts])),
        "weight": torch.from_numpy(np.concatenate([part[2] for part in parts])),
    }


class NeighbourChannel(Channel):
    """Abstract. A final channel says how it weighs what occurs together before a time."""

    def __init__(self, settings: NeighbourConfig) -> None:
        self._settings = settings

    @abstractmethod
    def count(self, samples: Samples, until_ms: int) -> Mapping[str, Tensor]:
        """The arrays of a ``Neighbours``."""
        raise NotImplementedError

    def fit(self, samples: Samples, name: str, trainer: Trainer) -> Neighbours:
        """Count before the validation interval."""
        del name, trainer
        arrays = self.count(samples, samples.split.valid_ms)
        return Neighbours(self._settings, arrays, self.count)

    def restore(self, arrays: Mapping[str, Tensor], space: FeatureSpace) -> Neighbours:
        """Take up the graph."""
        del space
        return Neighbours(self._settings, arrays, self.count)


@final
class Neighbours:
    """A graph of items, walked one step from each of a user's newest items."""

    def __init__(
        self,
        config: NeighbourConfig,
        arrays: Mapping[str, Tensor],
        count: Callable[[Samples, int], Mapping[str, Tensor]],
    ) -> None:
        """``arrays``: offsets (I + 1,), neighbour (Y,), weight (Y,), type_mask ().

        ``count`` makes such arrays of the events before a time.
        """
        self.config, self._arrays, self._count = config, arrays, count
        self.reads_sequences = reads(config.history, config.skip)
        self._offsets = arrays["offsets"].numpy()
        self._neighbour, self._weight = arrays["neighbour"].numpy(), arrays["weight"].numpy()
        self._type_mask = int(arrays["type_mask"])

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """The items with the highest ``Σ_seeds weight · worth``, best first."""
        events = past(requests, self.config.history)
        num_items = len(self._offsets) - 1
        seeds = own_items.recent(
            *events,
            self._type_mask,
            self.config.half_life_days * DAY_MS,
            self.config.seeds,
            np.zeros(max(num_items, 1 + int(events[1].max(initial=0))), np.uint8),
        )
        return scored(
            *walk.gather(
                self._offsets,
                self._neighbour,
                self._weight,
                *seeds,
                *left_out(requests, self.config.skip),
                quota_B.numpy(),
                np.zeros(num_items, np.float32),
            )
        )

    def recount(self, samples: Samples) -> Neighbours:
        """The graph of all events before the test interval."""
        arrays = self._count(samples, samples.split.test_ms)
        return Neighbours(self.config, arrays, self._count)

    def arrays(self) -> Mapping[str, Tensor]:
        """The graph, and which events are seeds."""
        return self._arrays
