"""Weightless encoders from raw values to ids. Id 0 is the unknown, whatever the encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError
from ..ops import buckets

Array = NDArray[Any]


class Encoder(Protocol):
    """From a column of raw values to ids below ``rows``."""

    @property
    def rows(self) -> int: ...

    def encode(self, values: pl.Series) -> Array: ...  # (n,) int64

    def state(self) -> Mapping[str, Any]: ...  # plain data, for the bundle


@dataclass(frozen=True)
class Vocabulary:
    """Each known value has an id of its own, in order of the names."""

    kind: ClassVar[str] = "vocabulary"
    names: tuple[str, ...]

    @classmethod
    def fit(cls, values: pl.Series, min_count: int) -> Vocabulary:
        """Learn the values that occur at least ``min_count`` times."""
        counts = values.cast(pl.String).drop_nulls().alias("value").value_counts()
        kept = counts.filter(pl.col("count") >= min_count)["value"].sort()
        return cls(tuple(kept.to_list()))

    @property
    def rows(self) -> int:
        return len(self.names) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names, 1)}

    def encode(self, values: pl.Series) -> Array:
        ids = self._ids
        return np.array([ids.get(v, 0) for v in values.cast(pl.String).to_list()], np.int64)

    def state(self) -> Mapping[str, Any]:
        return {"kind": self.kind, "names": list(self.names)}


@dataclass(frozen=True)
class Hashed:
    """Values share ``buckets`` ids by a stable hash: no vocabulary to keep, some collisions."""

    kind: ClassVar[str] = "hash"
    buckets: int

    @property
    def rows(self) -> int:
        return self.buckets + 1

    def encode(self, values: pl.Series) -> Array:
        return np.array([self._id(v) for v in values.cast(pl.String).to_list()], np.int64)

    def _id(self, value: str | None) -> int:
        if value is None:
            return 0
        digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "little") % self.buckets

    def state(self) -> Mapping[str, Any]:
        return {"kind": self.kind, "buckets": self.buckets}


@dataclass(frozen=True)
class Bucket:
    """Numbers by the interval that they fall in; missing and not-a-number are unknown."""

    kind: ClassVar[str] = "bucket"
    edges: tuple[float, ...]  # ascending; id 1 is below the first

    @classmethod
    def fit(cls, values: pl.Series, buckets: int) -> Bucket:
        """Cut at the quantiles of the values."""
        try:
            numbers = values.cast(pl.Float64).drop_nulls().to_numpy()
        except pl.exceptions.InvalidOperationError:
            example = values.drop_nulls()[0]
            raise DataError(
                f'{values.name}: encode = "bucket" needs numbers, got e.g. {example!r}'
            ) from None
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return cls(())
        cuts = np.quantile(numbers, np.linspace(0, 1, buckets + 1)[1:-1])
        return cls(tuple(np.unique(cuts).tolist()))

    @property
    def rows(self) -> int:
        return len(self.edges) + 2

    @cached_property
    def _edges(self) -> Array:
        return np.asarray(self.edges, np.float64)

    def encode(self, values: pl.Series) -> Array:
        return self.encode_numbers(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())

    def encode_numbers(self, numbers: Array) -> Array:
        """Encode an array of numbers, ``(n,)`` to ``(n,) int64``."""
        return buckets.ids(self._edges, np.asarray(numbers, np.float64))

    def state(self) -> Mapping[str, Any]:
        return {"kind": self.kind, "edges": list(self.edges)}


@dataclass(frozen=True)
class Own:
    """The log's own number of a user or item; rare ones share the unknown id."""

    kind: ClassVar[str] = "id"
    size: int
    rare: Array  # (r,) int64, numbers that are too rare to have an id

    @classmethod
    def fit(cls, counts: Array, min_count: int) -> Own:
        """Keep numbers that occur at least ``min_count`` times, ``counts`` given for all."""
        return cls(len(counts), np.flatnonzero(counts < min_count))

    @property
    def rows(self) -> int:
        return self.size

    def encode_numbers(self, numbers: Array) -> Array:
        """Encode row numbers; those the log did not have when this was fitted are unknown."""
        kept = np.ones(self.size, bool)
        kept[self.rare] = False
        known = (numbers >= 0) & (numbers < self.size)
        clipped = np.where(known, numbers, 0)
        return np.where(known & kept[clipped], clipped, 0).astype(np.int64)

    def encode(self, values: pl.Series) -> Array:
        return self.encode_numbers(np.arange(len(values)))

    def state(self) -> Mapping[str, Any]:
        return {"kind": self.kind, "size": self.size, "rare": self.rare.tolist()}


def restore(state: Mapping[str, Any]) -> Encoder:
    """Rebuild an encoder from its plain state."""
    match state["kind"]:
        case "vocabulary":
            return Vocabulary(tuple(state["names"]))
        case "hash":
            return Hashed(state["buckets"])
        case "bucket":
            return Bucket(tuple(state["edges"]))
        case "id":
            return Own(state["size"], np.array(state["rare"], np.int64))
        case kind:
            raise DataError(f"vocabularies: no encoder of kind {kind!r} in this version")


def spaced(low: float, high: float, steps: int) -> Bucket:
    """Edges at 0 and log-spaced from ``low`` to ``high``."""
    edges: Sequence[float] = np.geomspace(low, high, steps).tolist()
    return Bucket((0.0, *edges))
