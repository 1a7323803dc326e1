"""No feature sees the moment of its request or anything after it."""

import numpy as np
import polars as pl
import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.features.build import Asked
from headrace.log import RawLog
from tests import tiny


@pytest.fixture(scope="module")
def revealed(tmp_path_factory):
    """The tiny log, and one in which every user takes item 7 at one moment and ever after."""
    raw = tiny.raw_log()
    moment = tiny.START_MS + 60 * tiny.DAY_MS + 12 * 3_600_000
    leaks = [
        pl.DataFrame(
            {
                "request": pl.Series([None] * tiny.USERS, dtype=pl.Int64),
                "user": np.arange(tiny.USERS),
                "item": np.full(tiny.USERS, 7),
                "time_ms": np.full(tiny.USERS, moment + delay),
                "type": "buy",
                "value": 1e6,
            }
        )
        for delay in (0, 1, 3_600_000, 20 * tiny.DAY_MS)
    ]
    leaky = RawLog(
        events=pl.concat([raw.events, *leaks]),
        items=raw.items,
        users=raw.users,
        requests=raw.requests,
        exposures=raw.exposures,
        event_types=raw.event_types,
    )
    logs = [tiny.write(tmp_path_factory.mktemp("leak"), r) for r in (raw, leaky)]
    return moment, [tiny.samples(log) for log in logs]


WITH_PRIVILEGED = {
    **tiny.SCHEMA,
    "features": {**tiny.SCHEMA["features"], "paid": {"of": "privileged", "column": "buy"}},
}


def features(samples, time_ms):
    users = samples.log.users["user"].to_list()
    user = np.array([users.index(str(u)) for u in range(tiny.USERS)])
    asked = Asked(user, np.full(len(user), time_ms), {}, np.full(len(user), -1))
    requests = samples.builder.requests(asked, samples.store)
    item = samples.log.items["item"].to_list().index("7")
    found = Candidates(Ragged.sized(torch.full((len(user),), item), torch.ones(len(user)).long()))
    return requests, samples.builder.candidates(requests, found, samples.store)


def test_events_at_and_after_the_moment_are_invisible(revealed):
    moment, (clean, leaky) = revealed
    (requests, found), (leaky_requests, leaky_found) = (features(s, moment) for s in (clean, leaky))
    for name, column in requests.features.items():
        other = leaky_requests.features[name]
        if isinstance(column, Ragged):
            assert torch.equal(column.values, other.values), name
            assert torch.equal(column.offsets, other.offsets), name
        else:
            assert torch.equal(column, other), name
    for name, column in found.features.items():
        assert torch.equal(column, leaky_found.features[name]), name


def test_the_same_events_are_visible_a_moment_later(revealed):
    """The law above would hold for features that see nothing at all."""
    moment, (clean, leaky) = revealed
    (requests, found), (leaky_requests, leaky_found) = (
        features(s, moment + 2 * tiny.DAY_MS) for s in (clean, leaky)
    )
    item, other = (r.ragged("history.item") for r in (requests, leaky_requests))
    assert not torch.equal(item.values, other.values)
    blind = {"exposed", "shelf"}  # known from what is on show, not from events
    for name in found.features.keys() - blind:
        assert not torch.equal(found.features[name], leaky_found.features[name]), name


def test_history_is_strictly_before_every_training_request(tiny_samples):
    rows = tiny_samples.requests("train")
    requests = tiny_samples.features(rows)
    times = requests.ragged("history.time_ms")
    assert (times.values < times.spread(requests.time_ms)).all()


def test_privileged_features_exist_in_training_only(tiny_log):
    samples = tiny.samples(tiny_log, schema=WITH_PRIVILEGED)
    rows = samples.requests("train")[:50]
    batch = samples.batch(samples.draw(rows, seed=1))
    known = batch.candidates.features["paid"] > 0
    assert torch.equal(known, batch.labels["buy"] > 0)
    served = samples.builder.candidates(
        samples.features(rows), Candidates(samples.truth(rows)), samples.store
    )
    assert "paid" not in served.features
