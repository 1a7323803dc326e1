"""A log small enough to check by hand."""

import numpy as np
import polars as pl
import pytest

from headrace.log import RawLog, write_log

NUM_ITEMS = 6
TYPES = ("view", "buy")


def raw_log():
    """Three users; items a to f in categories x, y, z; several events at one time."""
    rng = np.random.default_rng(3)
    size = 60
    events = pl.DataFrame(
        {
            "user": rng.choice(["u1", "u2", "u3"], size),
            "item": rng.choice(list("abcdef"), size),
            "time_ms": rng.integers(1_000_000_000_000, 1_000_000_000_020, size),
            "type": rng.choice(TYPES, size),
            "value": rng.random(size).astype(np.float32),
        }
    )
    items = pl.DataFrame({"item": list("abcdef"), "category": list("xxyyzz"), "price": [1.0] * 6})
    return RawLog(events=events, items=items, event_types=TYPES)


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log"), raw_log(), "test")
