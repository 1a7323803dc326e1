"""The columnar event log on disk: what every adapter writes and everything else maps.

A log is a directory. ``CURRENT`` is a link to one immutable version below ``versions/``; a new
version is written beside the old one and the link is swapped, so that readers always see a whole
log. Inside a version:

  manifest.json                  counts, time interval, event types, sources, what was dropped
  vocab.json                     categories, values of context and exposure columns; code 0: unknown
  users.parquet, items.parquet   raw ids and attributes; row 0 stands for an unknown one
  events/*.npy                   user_offsets, item, time_ms, type, value, category, request
  by_category/*.npy              the second order (user, category, time): see ops/history.py
  requests/*.npy                 user, time_ms, group (if there are any) and context codes, in
                                 (user, time) order
  exposures/*.npy                offsets (G+1,), item and attribute codes; items ascend in a group

All arrays are mapped, ids are int32, and a user's or item's row never changes when a later day is
appended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError

FORMAT = 1
UNKNOWN = 0
NO_GROUP = -1
READ_BYTES = 1 << 22  # at a time, when reading ahead
Array = NDArray[Any]


@dataclass(frozen=True)
class Manifest:
    """What a log version holds."""

    format: int
    num_users: int  # including row 0, the unknown one
    num_items: int
    num_events: int
    num_requests: int
    num_groups: int
    first_ms: int
    last_ms: int
    event_types: tuple[str, ...]  # at most 63; an event's type is its place here
    context: tuple[str, ...]
    exposure: tuple[str, ...]
    sources: tuple[str, ...]  # fingerprints of what was ingested, in order
    notes: tuple[str, ...]  # what was dropped or mended on the way in

    @classmethod
    def read(cls, path: Path) -> Manifest:
        raw = _read_json(path)
        if raw.get("format") != FORMAT:
            raise DataError(
                f"{path}: log format {raw.get('format')}, this program reads {FORMAT}; ingest again"
            )
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        try:
            return cls(**fields)
        except TypeError as error:
            raise DataError(f"{path}: damaged ({error}); ingest again") from None


@dataclass(frozen=True)
class Log:
    """One version of a log, mapped read-only."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Log:
        """Map the current version of the log at ``path``."""
        version = (path / "CURRENT").resolve() if (path / "CURRENT").exists() else path
        if not (version / "manifest.json").exists():
            raise DataError(f"{path}: no log here; run `headrace ingest CONFIG` first")
        return cls(version, Manifest.read(version / "manifest.json"))

    @property
    def folder(self) -> Path:
        """Where its versions lie, and what is kept beside them."""
        return self.path.parents[1] if self.path.parent.name == "versions" else self.path

    @cached_property
    def users(self) -> pl.DataFrame:
        """Raw id in column ``user`` and attributes; the row is the user's number."""
        return pl.read_parquet(self.path / "users.parquet")

    @cached_property
    def items(self) -> pl.DataFrame:
        """Raw id in column ``item``, ``category`` (name), ``price``, and attributes."""
        return pl.read_parquet(self.path / "items.parquet")

    @cached_property
    def vocab(self) -> Mapping[str, list[str]]:
        """Values by code of ``category`` and of each context and exposure column."""
        return _read_json(self.path / "vocab.json")

    @cached_property
    def item_category(self) -> Array:  # (I,) int32
        """The category code of each item today; events keep the one they happened under."""
        return self._array("items", "category")

    def event(self, column: str) -> Array:
        """A column of events: item, time_ms, type, value, category, request; or user_offsets."""
        return self._array("events", column)

    def by_category(self, column: str) -> Array:
        """A part of the second order: order, key_offsets, key_category, key_start."""
        return self._array("by_category", column)

    def request(self, column: str) -> Array:
        """A column of requests: user, time_ms, group, or a context column's codes."""
        if column == "group" and self.manifest.num_groups == 0:  # then it is not stored
            return np.full(self.manifest.num_requests, NO_GROUP, np.int32)
        return self._array("requests", column)

    def exposure(self, column: str) -> Array:
        """A column of exposures: offsets, item, or an attribute's codes."""
        return self._array("exposures", column)

    def read_ahead(self) -> None:
        """Read every column once, so that the system has it in memory, as far as there is room."""
        for path in sorted(self.path.glob("*/*.npy")):
            with path.open("rb", buffering=0) as file:
                while file.read(READ_BYTES):
                    pass

    def type_code(self, name: str) -> int:
        """The code of an event type by name."""
        if name not in self.manifest.event_types:
            known = ", ".join(self.manifest.event_types)
            raise DataError(f"{self.path.name}: no event type {name!r}; the log has {known}")
        return self.manifest.event_types.index(name)

    @cached_property
    def event_user(self) -> Array:  # (E,) int32
        """The user of each event, unfolded from the offsets."""
        counts = np.diff(self.event("user_offsets"))
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    @cached_property
    def _mapped(self) -> dict[tuple[str, str], Array]:
        """Columns mapped so far: samples ask for the same ones batch by batch."""
        return {}

    def _array(self, group: str, column: str) -> Array:
        if (group, column) not in self._mapped:
            self._mapped[group, column] = _map(self.path / group / f"{column}.npy")
        return self._mapped[group, column]


def _map(path: Path) -> Array:
    if not path.exists():
        raise DataError(f"{path}: the log has no such column")
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: damaged ({error}); ingest again") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); ingest again") from None
