"""The world answers slates: with the log's own luck, alike in every arm, and by its odds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log import RawLog
from headrace.world import World
from tests.world.shown import config


@pytest.fixture(scope="module")
def world() -> World:
    return World(
        config(
            funnel={"view": 0.2, "cart": 0.2, "favourite": 0.2, "buy": 0.2, "delay_minutes": 1.0},
            long_term={"strength": 1.0, "ring": 8},
            order={"strength": 1.0},
            dwell={"strength": 1.0},
            value={"spread": 1.0},
        )
    )


@pytest.fixture(scope="module")
def raw(world: World) -> RawLog:
    return world.raw_log()


def slates(raw: RawLog) -> tuple[pl.DataFrame, np.ndarray]:
    """The logged requests and what they were shown, 0 where a page was short."""
    assert raw.requests is not None and raw.exposures is not None
    requests = raw.requests.with_row_index("b")
    shown = raw.exposures.join(requests.select("b", group="group"), on="group")
    slate = np.zeros((requests.height, 10), np.int64)
    slate[shown["b"], shown["position"]] = shown["item"]
    return requests, slate


def test_the_logs_own_slates_get_the_logs_own_events(world: World, raw: RawLog):
    requests, slate = slates(raw)
    answer = world.answer(requests["user"], requests["time_ms"], slate)
    events = answer.events().filter(pl.col("time_ms") < world.end_ms)
    columns = ["user", "item", "time_ms", "type", "value"]
    assert events.select(columns).sort(columns).equals(raw.events.select(columns).sort(columns))
    keys = requests["request"].to_numpy()[events["request"]]
    linked = raw.events.select("request", "item", "type").sort("request", "item", "type")
    assert linked.equals(
        events.with_columns(request=pl.Series(keys)).select(linked.columns).sort(linked.columns)
    )


def test_same_item_same_luck_in_both_arms(world: World):
    visits = world.visits(world.end_ms, world.end_ms + 5 * 86_400_000).head(500)
    rng = np.random.default_rng(0)
    a = np.array([rng.choice(2_000, 10, replace=False) + 1 for _ in range(len(visits))])
    b = a.copy()
    b[:, 5:] = 0  # shorter slates, and the places in which both arms agree
    one = world.answer(visits["user"], visits["time_ms"], a, seed=3)
    two = world.answer(visits["user"], visits["time_ms"], b, seed=3)
    assert np.array_equal(one.done[:, :5], two.done[:, :5]) and one.done[:, :5].any()
    assert not two.done[:, 5:].any() and (two.time_ms[:, 5:] == -1).all()
    swapped = world.answer(visits["user"], visits["time_ms"], a[:, ::-1], seed=3)
    up, down = one.done[:, 0, 0], swapped.done[:, 9, 0]  # the same item, at the top and at the end
    assert (down <= up).all() and down.sum() < up.sum()
    other = world.answer(visits["user"], visits["time_ms"], a, seed=4)
    assert not np.array_equal(one.done, other.done)


def test_answers_follow_the_odds(world: World):
    visits = world.visits(world.end_ms, world.end_ms + 86_400_000).head(60)
    slate = np.random.default_rng(1).integers(1, 2_001, (len(visits), 10))
    place = np.broadcast_to(np.arange(10), slate.shape)
    p = world.probability(
        visits["user"].to_numpy().repeat(10),
        visits["time_ms"].to_numpy().repeat(10),
        slate.ravel(),
        place.ravel(),
    )
    runs = 300
    done = sum(
        world.answer(visits["user"], visits["time_ms"], slate, seed=s)
        .done.reshape(-1, 4)
        .astype(int)
        for s in range(runs)
    )
    z = (done - runs * p) / np.sqrt(runs * p * (1 - p))
    assert abs(z[:, 0].mean()) < 0.2 and abs(z[:, 0].std() - 1) < 0.1
    assert np.allclose(done.sum(0), runs * p.sum(0), rtol=0.06)


def test_a_better_cascade_earns_more(world: World):
    visits = world.visits(world.end_ms, world.end_ms + 5 * 86_400_000).head(400)
    candidates = np.random.default_rng(2).integers(1, 2_001, (len(visits), 100))
    p = world.probability(
        visits["user"].to_numpy().repeat(100),
        visits["time_ms"].to_numpy().repeat(100),
        candidates.ravel(),
    )[:, 3].reshape(candidates.shape)
    best = np.take_along_axis(candidates, np.argsort(-p, axis=1)[:, :10], axis=1)
    good = world.answer(visits["user"], visits["time_ms"], best, seed=0)
    random = world.answer(visits["user"], visits["time_ms"], candidates[:, :10], seed=0)
    assert good.done[:, :, 3].sum() > 2 * random.done[:, :, 3].sum() > 0
    assert (good.value[:, :, 3] > 0).sum() == good.done[:, :, 3].sum()


def test_bad_slates_are_refused(world: World):
    for slate, message in (
        ([[1, 2_001]], "item: no 2001 in this world"),
        ([1, 2], "a user, a time and a slate"),
        ([[1], [2]], "a user, a time and a slate"),
        (np.zeros((1, 2_000)), "slates of 2000, at most 1024 places"),
    ):
        with pytest.raises(DataError, match=message):
            world.answer([1], [world.end_ms], slate)
    with pytest.raises(DataError, match="answer: seed -1, want 0 or more"):
        world.answer([1], [world.end_ms], [[1]], seed=-1)
    with pytest.raises(DataError, match="user: no 0"):
        world.answer([0], [world.end_ms], [[1]])
