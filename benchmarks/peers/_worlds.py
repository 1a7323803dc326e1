"""The two logs that contenders train on, and the same samples packed for those who need a copy.

Every sample is a request with one candidate: nothing can be shared between candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.peers._data import Array, Data
from headrace.behavior import MappedLog
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import Log
from headrace.log.raw import RawLog
from headrace.log.sources.movielens import Movielens
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import DAY_MS, Split
from headrace.schema import Schema

DIM = 16
START_MS = 1_600_000_000_000
CATEGORIES = 100
VALID_DAYS = 1e-4  # a validation period is not needed, but a split has one


def synthetic(seed: int, *, users: int, items: int, samples: int) -> RawLog:
    """Users with 4 to 100 events, 60 % of them in eight categories of their own, then requests.

    A click grows more likely with the events in the candidate's category, and with a quality of
    the item: what a model must find by attention, and what it must remember of ids.
    """
    rng = np.random.default_rng(seed)
    liked_UC = rng.integers(0, CATEGORIES, (users, 8))
    count_U = rng.integers(4, 101, users)
    user_E = np.repeat(np.arange(users), count_U)
    event_E = _items(rng, items, _categories(rng, liked_UC, user_E, 0.6))
    user_N = rng.integers(0, users, samples)
    item_N = _items(rng, items, _categories(rng, liked_UC, user_N, 0.5))
    seen = np.zeros((users, CATEGORIES), np.int32)
    np.add.at(seen, (user_E, event_E % CATEGORIES), 1)
    quality_I = rng.normal(0, 0.7, items)
    logit_N = -2 + 1.5 * np.log1p(seen[user_N, item_N % CATEGORIES]) + quality_I[item_N]
    clicked_N = rng.random(samples) < 1 / (1 + np.exp(-logit_N))
    at_E = START_MS + rng.integers(0, 60 * DAY_MS, len(user_E))
    at_N = START_MS + 60 * DAY_MS + np.sort(rng.integers(0, 40 * DAY_MS, samples))
    events = pl.DataFrame({"user": user_E, "item": event_E, "time_ms": at_E})
    names = pl.DataFrame({"item": np.arange(items), "category": np.arange(items) % CATEGORIES})
    pages = pl.DataFrame({"user": user_N, "item": item_N, "time_ms": at_N, "liked": clicked_N})
    return asked(events, pages, names, None)


def movielens(folder: Path) -> RawLog:
    """Ratings of MovieLens-100K: each is a sample, liked at 4 or 5 stars."""
    raw = Movielens.Config(path=folder).build().read()
    pages = raw.events.with_columns(liked=pl.col("value") >= 4)
    return asked(raw.events, pages, raw.items, raw.users)


def asked(
    events: pl.DataFrame,
    pages: pl.DataFrame,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
) -> RawLog:
    """Turn (user, item, time_ms, liked) to requests that were shown one item each."""
    pages = pages.with_row_index("request").with_columns(pl.col("request").cast(pl.Int64))
    key = {"user": pl.col("user"), "item": pl.col("item"), "time_ms": pl.col("time_ms")}
    viewed = events.select(**key, type=pl.lit("view"), request=pl.lit(None, pl.Int64))
    liked = pages.filter("liked").select(**key, type=pl.lit("like"), request=pl.col("request"))
    return RawLog(
        events=pl.concat([viewed, liked]),
        items=items,
        users=users,
        requests=pages.select("request", "user", "time_ms", group=pl.col("request")),
        exposures=pages.select("item", group=pl.col("request")),
    )


def samples_of(
    log: Log, lengths: Mapping[str, int], test_days: float, start: float = 0.0
) -> Samples:
    """The log's samples: user, item and category, and sequences of views of these lengths.

    start: tables begin so many times as wide as by Glorot's rule; 0: as they do by default.
    """
    config = SamplesConfig.model_validate(
        {
            "tasks": ("like",),
            "test_days": test_days,
            "valid_days": VALID_DAYS,
            "negatives": {"keep_exposures": 1.0, "uniform": 0, "frequency": 0, "history": 0},
        }
    )
    schema = {
        "default_dim": DIM,
        **({"initial": "glorot", "initial_scale": start} if start else {}),
        "features": {
            "user": {"of": "user", "encode": "id"},
            "item": {"of": "item", "encode": "id"},
            "category": {"of": "item"},
        },
        "sequences": {
            name: {"length": length, "events": ("view",)} for name, length in lengths.items()
        },
    }
    split = Split.of(config, log)
    space = FeatureSpace.fit(Schema.model_validate(schema), log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), seed=1)


def pack(samples: Samples) -> Data:
    """What headrace gathers for the log's samples, as one copy; rows are requests of the log."""
    time_ms = np.asarray(samples.log.request("time_ms"))
    order = np.argsort(time_ms, kind="stable")
    batch = samples.batch(samples.draw(order, seed=1), hits=False)
    assert len(batch.candidates) == len(order), "a request without or with several candidates"
    events = batch.requests.ragged("history.item")
    catalogue = samples.space.catalogue
    return Data(
        user_N=batch.requests.tensor("user").numpy(),
        item_N=batch.candidates.item_id.values.numpy(),
        label_N=batch.labels["like"].numpy(),
        event_E=events.values.numpy().astype(np.int32),
        offsets=events.offsets.numpy(),
        category_I=catalogue.features["category"].numpy(),
        num_users=samples.space.rows_of("user"),
        num_categories=samples.space.rows_of("category"),
        num_train=int(np.searchsorted(time_ms[order], samples.split.valid_ms)),
    )


def _categories(rng: np.random.Generator, liked_UC: Array, user_N: Array, share: float) -> Array:
    own_N = liked_UC[user_N, rng.integers(0, liked_UC.shape[1], len(user_N))]
    other_N = rng.integers(0, CATEGORIES, len(user_N))
    return np.where(rng.random(len(user_N)) < share, own_N, other_N)


def _items(rng: np.random.Generator, items: int, category_N: Array) -> Array:
    """Items of these categories, some three times as popular as others."""
    each = items // CATEGORIES
    place_N = (each * rng.random(len(category_N)) ** 1.5).astype(np.int64)
    return place_N * CATEGORIES + category_N
