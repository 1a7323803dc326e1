"""A schema with its encoders fitted: what every model is built from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, suggest
from ..log import Log
from ..schema import COUNTERS, RATES, Feature, Schema
from . import encoders
from .catalogue import Catalogue
from .encoders import Bucket, Encoder, Hashed, Own, Vocabulary

Array = NDArray[Any]
CLOCK = ("hour", "weekday")  # context that every request has
#: Fixed edges for counters: log-spaced, since counts and gaps are; 0 is an interval of its own.
COUNTER_EDGES: Mapping[str, Bucket] = {
    name: encoders.spaced(1 / 24, 730, 20)
    if name.endswith("_days")
    else encoders.spaced(0.01, 1, 10)
    if name.endswith("_share")
    else encoders.spaced(0.05, 200, 24)
    if name.endswith("_decay")
    else encoders.spaced(0.001, 1, 20)
    if name in RATES
    else encoders.spaced(1, 100_000, 32)
    if name.startswith("item_popularity")
    else encoders.spaced(1, 200, 14)
    for name in COUNTERS
}


@dataclass(frozen=True)
class FeatureSpace:
    """What models see: schema, encoders, and the encoded catalogue."""

    schema: Schema
    encoders: Mapping[str, Encoder]  # by feature
    catalogue: Catalogue
    types: tuple[str, ...]  # event types, by code

    @classmethod
    def fit(cls, schema: Schema, log: Log, until_ms: int) -> FeatureSpace:
        """Fit the encoders on what was known at ``until_ms``, the end of the training period."""
        fitted = {
            name: _fit(name, feature, log, until_ms) for name, feature in schema.features.items()
        }
        return cls.over(schema, fitted, log)

    @classmethod
    def over(cls, schema: Schema, fitted: Mapping[str, Encoder], log: Log) -> FeatureSpace:
        """Put fitted encoders over the items of a log."""
        features = {
            name: torch.from_numpy(
                fitted[name].encode(log.items[schema.features[name].column or name])
            )
            for name in schema.names("item")
        }
        numbers = {
            c: torch.from_numpy(log.items[c].cast(pl.Float32).fill_null(0.0).to_numpy().copy())
            for c, dtype in log.items.schema.items()
            if dtype.is_numeric()
        }
        available = torch.ones(log.manifest.num_items, dtype=torch.bool)
        available[0] = False
        category = torch.from_numpy(log.item_category.astype(np.int64))
        catalogue = Catalogue(features, numbers, category, available)
        return cls(schema, fitted, catalogue, log.manifest.event_types)

    def rows_of(self, feature: str) -> int:
        """Rows of the table that a feature reads: enough for every feature that shares it."""
        table = self.schema.table_of(feature)
        sharing = [n for n in self.schema.features if self.schema.table_of(n) == table]
        return max(self.encoders[n].rows for n in sharing)

    def revealed(self, names: Collection[str]) -> FeatureSpace:
        """The same space to a teacher, who reads these privileged features as crosses.

        Raises ConfigError for what is not privileged.
        """
        return replace(self, schema=self.schema.revealed(names))

    def told_by_events(self, feature: str) -> bool:
        """Whether a feature is the value of an event, known only once that happened."""
        described = self.schema.features[feature]
        return described.of == "privileged" and (described.column or feature) in self.types

    def with_catalogue(self, catalogue: Catalogue) -> FeatureSpace:
        """The same space over another catalogue."""
        return replace(self, catalogue=catalogue)


def _fit(name: str, feature: Feature, log: Log, until_ms: int) -> Encoder:
    column = feature.column or name
    if feature.of in ("cross", "privileged") and column in COUNTER_EDGES:
        return COUNTER_EDGES[column]
    if feature.of == "context" and column in CLOCK:
        return Vocabulary(tuple(str(i) for i in range(24 if column == "hour" else 7)))
    if feature.encode == "id":
        return Own.fit(_counts(feature.of, log, until_ms), feature.min_count)
    if feature.of == "privileged" and column in log.manifest.event_types:
        return Bucket.fit(_event_values(column, log, until_ms), feature.buckets)
    values = _values(name, feature, column, log)
    if feature.encode == "hash":
        return Hashed(feature.buckets)
    if feature.encode == "bucket":
        return Bucket.fit(values, feature.buckets)
    return Vocabulary.fit(values, feature.min_count)


def _values(name: str, feature: Feature, column: str, log: Log) -> pl.Series:
    """The raw values that a feature's encoder is fitted on."""
    tables: Mapping[str, pl.DataFrame] = {"user": log.users, "item": log.items}
    if feature.of in tables:
        known = tables[feature.of].columns
        if column in known:
            return tables[feature.of][column][1:]
    else:
        known = [*log.manifest.context, *CLOCK] if feature.of == "context" else _crossable(log)
        known += log.manifest.event_types if feature.of == "privileged" else ()
        if column == "exposed":
            return pl.Series(column, ["1"])
        if column in known and column in log.vocab:
            return pl.Series(column, log.vocab[column][1:])
    raise ConfigError(
        f"schema.features.{name}: the log has no {feature.of} column {column!r}; "
        f"{suggest(column, known)}"
    )


def _event_values(kind: str, log: Log, until_ms: int) -> pl.Series:
    """Values of the training period's events of one type: seconds of dwell, say."""
    wanted = np.asarray(log.event("type")) == log.type_code(kind)
    wanted &= np.asarray(log.event("time_ms")) < until_ms
    return pl.Series(kind, np.asarray(log.event("value"))[wanted])


def _crossable(log: Log) -> list[str]:
    return [*COUNTERS, *log.manifest.exposure, "exposed"]


def _counts(side: str, log: Log, until_ms: int) -> Array:
    """Events of each user or item before a time."""
    before = np.asarray(log.event("time_ms")) < until_ms
    size = log.manifest.num_users if side == "user" else log.manifest.num_items
    rows = log.event_user if side == "user" else log.event("item")
    return np.bincount(np.asarray(rows)[before], minlength=size)
