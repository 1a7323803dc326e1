"""A log small enough to check by hand."""

import numpy as np
import polars as pl
import pytest

from headrace.behavior import RawEvent
from headrace.log import RawLog, write_log

NUM_ITEMS = 6
TYPES = ("view", "buy")
NOW = 1_000_000_000_000  # events of the log are in the 20 ms from here


def raw_log():
    """Three users; items a to f in categories x, y, z; several events at one time."""
    rng = np.random.default_rng(3)
    size = 60
    events = pl.DataFrame(
        {
            "user": rng.choice(["u1", "u2", "u3"], size),
            "item": rng.choice(list("abcdef"), size),
            "time_ms": rng.integers(NOW, NOW + 20, size),
            "type": rng.choice(TYPES, size),
            "value": rng.random(size).astype(np.float32),
        }
    )
    items = pl.DataFrame({"item": list("abcdef"), "category": list("xxyyzz"), "price": [1.0] * 6})
    return RawLog(events=events, items=items, event_types=TYPES)


def small_log(path):
    return write_log(path, raw_log(), "test")


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    return small_log(tmp_path_factory.mktemp("log"))


def event(number, user="u1", item="a", kind="buy", time_ms=NOW + 5, value=1.0):
    return RawEvent(f"e{number}", user, item, kind, time_ms, value)
