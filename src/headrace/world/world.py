"""A synthetic platform with a known truth: it writes logs, knows the odds, and answers slates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ..config import Config, load
from ..errors import DataError
from ..log import Log, RawLog, ingest
from .catalogue import Catalogue, named
from .config import WorldConfig
from .generate import Progress
from .jit import SOURCES
from .next_item import NextItemWorld
from .rules import MAX_POSITIONS
from .shop import Shop

Array = NDArray[Any]


class _Behaviour(Protocol):
    """What people do. Users and items count from 0."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def end_ms(self) -> int: ...
    def raw_log(self, threads: int | None, progress: Progress | None) -> RawLog: ...
    def visits(self, user_B: Array, first_ms: int, last_ms: int) -> pl.DataFrame: ...
    def probability(
        self, user_N: Array, time_N: Array, item_N: Array, position_N: Array
    ) -> Array: ...
    def answer(
        self, user_B: Array, time_B: Array, item_BK: Array, seed: int | None
    ) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True)
class Outcomes:
    """What users did with slates: B requests, K places, T tasks in the order of ``World.tasks``."""

    user: Array  # (B,) int64
    item: Array  # (B, K) int64, 0 an empty place
    done: Array  # (B, K, T) bool
    time_ms: Array  # (B, K, T) int64, -1 where it did not happen
    value: Array  # (B, K, T) float32: dwell seconds of a view, price of a purchase
    tasks: tuple[str, ...]

    def events(self) -> pl.DataFrame:
        """The same as rows of a raw log's events, by user and time; ``request`` is the row b."""
        b, k, t = np.nonzero(self.done)
        return pl.DataFrame(
            {
                "user": self.user[b].astype(np.int32),
                "item": self.item[b, k].astype(np.int32),
                "time_ms": self.time_ms[b, k, t],
                "type": named(self.tasks, t.astype(np.uint8)),
                "value": self.value[b, k, t],
                "request": b,
            }
        ).sort("user", "time_ms", maintain_order=True)


class Simulation(Config):
    """What ``headrace simulate`` reads."""

    log: Path
    """Folder of the log, relative to the working directory."""
    world: WorldConfig = WorldConfig()
    """The platform."""


@final
class World:
    """A platform made by one config.

    Users, items, categories count from 1, which is also their row in the log that ``simulate``
    writes (row 0 of a log is the unknown one).
    """

    Config: TypeAlias = WorldConfig

    def __init__(self, config: WorldConfig) -> None:
        """Draw the catalogue and the people, and fit the funnel's rates; events come later."""
        self.config = config
        self.catalogue = Catalogue.make(config)
        rule = config.next_item
        self._behaviour: _Behaviour = (
            Shop(config, self.catalogue)
            if rule is None
            else NextItemWorld(config, self.catalogue, rule)
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The event types, in the order of the log's codes."""
        return self._behaviour.tasks

    @property
    def end_ms(self) -> int:
        """Where the log ends; visits go on after it."""
        return self._behaviour.end_ms

    def raw_log(self, *, threads: int | None = None, progress: Progress | None = None) -> RawLog:
        """Let the people live from the first day to the last.

        Events carry their request and, as ``value``, the dwell seconds of a view (known only after
        it) or the price of a purchase. Requests carry ``scene`` (which kind of page) and ``entry``
        (how the session began); exposures ``position``, from 0. ``threads`` changes nothing but
        time; default: one a core. ``progress`` is called with users done and users in all.
        """
        return self._behaviour.raw_log(threads, progress)

    def visits(self, first_ms: int, last_ms: int, user_B: ArrayLike | None = None) -> pl.DataFrame:
        """When users ask for a page in [first_ms, last_ms): ``user``, ``time_ms`` and context.

        Known for any time, also after the end of the log. Default: all users.
        """
        users = self.config.people.users
        user_B = np.arange(1, users + 1) if user_B is None else _ids("user", user_B, 1, users)
        frame = self._behaviour.visits(user_B - 1, first_ms, last_ms)
        return frame.with_columns(pl.col("user") + 1).sort("time_ms", "user")

    def probability(
        self,
        user_N: ArrayLike,
        time_ms_N: ArrayLike,
        item_N: ArrayLike,
        position_N: ArrayLike | None = None,
    ) -> Array:
        """The chance from which each task's label is drawn when an item is shown, ``(N, T)``.

        Without ``position_N`` (places from 0) the item is taken to be looked at. Each task counts
        by exposure, not by view; a purchase counts even if it comes after the end of the log.
        Raises DataError for a user, item or position that does not exist.
        """
        user = _ids("user", user_N, 1, self.config.people.users)
        item = _ids("item", item_N, 1, self.config.catalogue.items)
        time_ms = np.ascontiguousarray(time_ms_N, np.int64)
        position = (
            np.zeros(len(user), np.int64)
            if position_N is None
            else _ids("position", position_N, 0, MAX_POSITIONS - 1)
        )
        if not len(user) == len(item) == len(time_ms) == len(position):
            raise DataError("probability: want as many users, times, items and positions")
        return self._behaviour.probability(user - 1, time_ms, item - 1, position)

    def answer(
        self,
        user_B: ArrayLike,
        time_ms_B: ArrayLike,
        slate_BK: ArrayLike,
        seed: int | None = None,
    ) -> Outcomes:
        """What these users do at these times with slates of items, best first, 0 an empty place.

        The same user, time, item and seed meet the same luck in any slate, so that two cascades
        differ by their slates alone. Without a seed it is the luck of the log: its own slates get
        its own events again.
        """
        user = _ids("user", user_B, 1, self.config.people.users)
        item = _ids("item", slate_BK, 0, self.config.catalogue.items)
        time_ms = np.ascontiguousarray(time_ms_B, np.int64)
        if item.ndim != 2 or not len(user) == len(time_ms) == len(item):
            raise DataError("answer: want a user, a time and a slate (B, K) for each request")
        if seed is not None and seed < 0:
            raise DataError(f"answer: seed {seed}, want 0 or more")
        if item.shape[1] > MAX_POSITIONS:
            raise DataError(f"answer: slates of {item.shape[1]}, at most {MAX_POSITIONS} places")
        done, when, value = self._behaviour.answer(user - 1, time_ms, item - 1, seed)
        return Outcomes(user, item, done, when, value, self.tasks)


@final
@dataclass(frozen=True)
class WorldSource:
    """A world where a log may come from, as from any adapter (a ``headrace.log.Source``)."""

    config: WorldConfig
    progress: Progress | None = None

    def read(self) -> RawLog:
        """Everything that happens."""
        return World(self.config).raw_log(progress=self.progress)

    def fingerprint(self) -> str:
        """Tell worlds apart by all that their events follow from: settings, and this package."""
        text = f"{SOURCES} {self.config.model_dump_json()}"
        return f"world-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def simulate(config: WorldConfig, path: Path, progress: Progress | None = None) -> Log:
    """Make a world and write its log at ``path``; a log that holds it already is left as it is."""
    return ingest(WorldSource(config, progress), path)[0]


def simulate_file(path: Path, progress: Progress | None = None) -> Log:
    """``simulate`` what a TOML file describes: ``log = "FOLDER"`` and a table ``[world]``."""
    simulation = load(path, Simulation)
    return simulate(simulation.world, simulation.log, progress)


def _ids(name: str, values: ArrayLike, low: int, high: int) -> Array:
    """As int64, all in [low, high]."""
    ids = np.ascontiguousarray(values, np.int64)
    wrong = (ids < low) | (ids > high)
    if wrong.any():
        raise DataError(f"{name}: no {int(ids[wrong][0])} in this world, want {low} to {high}")
    return ids
