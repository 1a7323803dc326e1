"""A small shop for tests: 40 users in 4 taste groups, 60 items, 100 days."""

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from headrace.behavior import MappedLog
from headrace.data import Ragged
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import RawLog, write_log
from headrace.ops.grades import grades
from headrace.preranking._ranked import BID, FOUND, GRADE, RANKED, WORTH
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import Split
from headrace.schema import Schema

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS
USERS, ITEMS, DAYS = 40, 60, 100

SCHEMA = {
    "default_dim": 4,
    "tables": {"item": {"dim": 8}},
    "features": {
        "user": {"of": "user", "encode": "id"},
        "city": {"of": "user"},
        "store": {"of": "context"},
        "hour": {"of": "context"},
        "item": {"of": "item", "encode": "id"},
        "category": {"of": "item"},
        "price": {"of": "item", "encode": "bucket", "buckets": 4},
        "brand": {"of": "item", "encode": "hash", "buckets": 8},
        "user_item_count": {"of": "cross"},
        "user_item_days": {"of": "cross"},
        "user_item_decay": {"of": "cross"},
        "user_category_count": {"of": "cross"},
        "item_popularity_28": {"of": "cross"},
        "exposed": {"of": "cross"},
        "shelf": {"of": "cross"},
    },
    "sequences": {"history": {"length": 20}, "lifetime": {"length": 500}},
    "key_events": 50,
}
SAMPLES = {
    "tasks": ("click", "buy"),
    "test_days": 10,
    "valid_days": 10,
    "negatives": {"keep_exposures": 0.5, "uniform": 2, "frequency": 2, "history": 2},
}


def raw_log(seed=0, users=USERS, items=ITEMS, days=DAYS, per_user=30):
    """Users click and buy mostly in their group's 15 items; every request is shown 12 items."""
    rng = np.random.default_rng(seed)
    size = users * per_user
    user = np.repeat(np.arange(users), per_user)
    time_ms = START_MS + rng.integers(0, days * DAY_MS // 1000, size) * 1000
    group = user % 4
    shown = rng.integers(0, items, (size, 12))
    own = rng.random((size, 12)) < 0.5
    shown[own] = (rng.zipf(1.5, own.sum()) % 15) * 4 + np.repeat(group, own.sum(1))
    taken = [np.unique(row[row % 4 == g])[:3] for row, g in zip(shown, group, strict=True)]
    request = np.repeat(np.arange(size), [len(t) for t in taken])
    item = np.concatenate(taken)
    clicks = pl.DataFrame(
        {
            "request": request,
            "user": user[request],
            "item": item,
            "time_ms": time_ms[request],
            "type": "click",
            "value": 1.0,
        }
    )
    buys = clicks.filter(pl.Series(rng.random(len(item)) < 0.5)).with_columns(
        pl.lit("buy").alias("type"), pl.lit(9.5).alias("value")
    )
    return RawLog(
        events=pl.concat([clicks, buys]),
        items=pl.DataFrame(
            {
                "item": np.arange(items),
                "category": [f"c{i % 8}" for i in range(items)],
                "price": 1.0 + np.arange(items) % 7,
                "brand": [f"b{i % 5}" for i in range(items)],
                "name": [f"item {i}" for i in range(items)],
            }
        ),
        users=pl.DataFrame({"user": np.arange(users), "city": [f"t{u % 3}" for u in range(users)]}),
        requests=pl.DataFrame(
            {
                "request": np.arange(size),
                "user": user,
                "time_ms": time_ms,
                "group": np.arange(size),
                "store": [f"s{u % 2}" for u in user],
            }
        ),
        exposures=pl.DataFrame(
            {
                "group": np.repeat(np.arange(size), 12),
                "item": shown.ravel(),
                "shelf": [f"f{i % 3}" for i in shown.ravel()],
            }
        ),
        event_types=("click", "buy"),
    )


def write(path, raw):
    return write_log(path / "log", raw, "tiny")


def samples(log, seed=1, schema=SCHEMA, **settings):
    schema = Schema.model_validate(schema)
    config = SamplesConfig.model_validate({**SAMPLES, **settings}, strict=False)
    split = Split.of(config, log)
    space = FeatureSpace.fit(schema, log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), seed)


def graded(samples, seed=0, requests=40):
    """Ranked lists of training requests, as pre-rankers learn from them; the order is random."""
    rows = samples.requests("train")[-requests:]
    batch = samples.batch(samples.draw(rows, seed=seed))
    worth_N1 = torch.rand(len(batch.candidates), 1, generator=torch.Generator().manual_seed(seed))
    grade_N = grades(worth_N1[:, 0], batch.candidates.item_id.offsets, (2, 5)).float()
    scores = {
        WORTH: worth_N1,
        BID: torch.ones_like(worth_N1),
        GRADE: grade_N.unsqueeze(1),
        RANKED: torch.cat([0.3 * worth_N1, 0.1 * worth_N1], dim=1),
        FOUND: 0.5 * worth_N1,
    }
    return replace(batch, candidates=replace(batch.candidates, scores=scores), labels={})


def with_only(requests, sequences):
    """The same requests without any other sequence."""
    features = {
        name: column
        for name, column in requests.features.items()
        if not isinstance(column, Ragged) or name.split(".")[0] in sequences
    }
    return replace(requests, features=features)
