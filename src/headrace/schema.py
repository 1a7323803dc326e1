"""Which features exist, whom they describe, and which embedding table each one reads.

A schema is data: it owns no weights. Every feature becomes an integer id before a model sees it;
the encoders that do so (``features/encoders.py``) are fitted once, on the training period, and
travel in the bundle. Features share weights by naming the same table, and only so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import Field, model_validator

from .config import Config
from .errors import ConfigError, suggest

Side = Literal["user", "item", "context", "cross", "privileged"]

#: Shares of what got into pre-ranking, in so many whole days; see features/delivery.py.
RATES: Mapping[str, tuple[Literal["delivery", "passing"], int]] = {
    f"item_{what}_{days}": (what, days)
    for what in ("delivery", "passing")  # got into a slate, got to the ranker
    for days in (1, 7, 28)
}

#: What the cross and privileged sides can be computed from; see features/build.py.
COUNTERS = (
    "user_item_count",  # the user's events on this item
    "user_item_days",  # days since the last of them
    "user_item_share",  # ... as a share of the user's events in the item's category
    "user_item_decay",  # the user's events on it, each halved every 60 days
    "user_category_count",
    "user_category_days",
    "item_popularity_1",  # the item's events in the last 1, 3, 7, 28, 91 whole days
    "item_popularity_3",
    "item_popularity_7",
    "item_popularity_28",
    "item_popularity_91",
    *RATES,
)


class Table(Config):
    """One embedding table."""

    dim: int = Field(gt=0, le=1024)
    """Width of its vectors."""


class Feature(Config):
    """One input of the models."""

    of: Side
    """Whom it describes. Privileged features are for teachers (``training/distill.py``): what is
    known only after the event, or of a pair but too dear to make. Training sees them, serving
    cannot."""
    column: str | None = None
    """Where it comes from: a column of users or items, a context column of requests (or "hour",
    "weekday"), an exposure column or counter (of = "cross"), one of these or an event type whose
    value is meant (of = "privileged"; values are bucketed). Default: the feature's own name."""
    table: str | None = None
    """Embedding table. Default: one of the feature's own name."""
    encode: Literal["id", "vocabulary", "hash", "bucket"] = "vocabulary"
    """id: the log's own number of a user or item. vocabulary: values seen at least min_count times.
    hash: into ``buckets`` rows. bucket: a number, by quantiles of the training period."""
    min_count: int = Field(default=1, ge=1)
    """vocabulary: rarer values share the unknown id."""
    buckets: int = Field(default=16, ge=2, le=10_000_000)
    """hash and bucket: how many."""


class Sequence(Config):
    """A stretch of a user's history, gathered by reference, newest ``length`` events."""

    length: int = Field(default=100, gt=0, le=100_000)
    """Events at most."""
    events: tuple[str, ...] | None = None
    """Event types that enter it; default: all."""


class Schema(Config):
    """The vocabulary every model of one application shares."""

    tables: Mapping[str, Table] = {}
    """Embedding tables by name; a table that is not listed has ``default_dim``."""
    default_dim: int = Field(default=8, gt=0, le=1024)
    """Width of tables not listed."""
    initial: Literal["normal", "glorot"] = "normal"
    """How tables begin: "normal", equally wide, or "glorot", the narrower the more rows there are,
    so that what has few values is learnt before what ids remember."""
    initial_scale: float = Field(default=1.0, gt=0, le=1000)
    """How many times as wide as that."""
    features: Mapping[str, Feature]
    sequences: Mapping[str, Sequence] = {"history": Sequence()}
    key_events: int = Field(default=200, gt=0, le=10_000)
    """Newest events read of each (user, category), for counters and category search."""

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        names = {self.table_of(n) for n in self.features}
        for table in self.tables:
            if table not in names:
                raise ValueError(f"tables.{table}: no feature reads it; {suggest(table, names)}")
        for name, feature in self.features.items():
            if "." in self.table_of(name):
                raise ValueError(f"features.{name}: a feature's or table's name may hold no dot")
            column = feature.column or name
            if feature.encode == "id" and (feature.of, column) not in {
                ("user", "user"),
                ("item", "item"),
            }:
                raise ValueError(
                    f'features.{name}: encode = "id" is for the user and item columns; '
                    "use vocabulary, hash or bucket"
                )
        if not self.names("item"):
            raise ValueError(
                'features: none describes items; add item = { of = "item", encode = "id" }'
            )
        return self

    def names(self, of: Side) -> list[str]:
        """Features of one side, in the order of the file."""
        return [n for n, f in self.features.items() if f.of == of]

    def revealed(self, names: Collection[str]) -> Schema:
        """With these privileged features as crosses, and without the others: what a teacher reads.

        Raises ConfigError for what is not privileged.
        """
        known = self.names("privileged")
        for name in names:
            if name not in known:
                raise ConfigError(f"no privileged feature {name!r}; {suggest(name, known)}")
        features = {
            n: f.model_copy(update={"of": "cross"}) if n in names else f
            for n, f in self.features.items()
            if n in names or n not in known
        }
        return self.model_copy(update={"features": features})

    def table_of(self, feature: str) -> str:
        """The table a feature reads."""
        return self.features[feature].table or feature

    def dim_of(self, feature: str) -> int:
        """The width of a feature's vector."""
        table = self.tables.get(self.table_of(feature))
        return table.dim if table else self.default_dim
