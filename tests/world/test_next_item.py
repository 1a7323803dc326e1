"""World W1 is the one of the method notes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from headrace.log import RawLog
from headrace.world import World
from headrace.world.next_item import NextItemWorld

USERS, TEST = 3_000, 200


@pytest.fixture(scope="module")
def world() -> World:
    return World(
        World.Config.model_validate(
            {"preset": "w1", "people": {"users": USERS}, "next_item": {"test_users": TEST}}
        )
    )


@pytest.fixture(scope="module")
def raw(world: World) -> RawLog:
    return world.raw_log()


@pytest.fixture(scope="module")
def items(raw: RawLog) -> np.ndarray:
    """(U, 21), history and target, counted from 0."""
    return raw.events.sort("user", "time_ms")["item"].to_numpy().reshape(USERS, 21) - 1


def test_the_preset_itself_has_the_sizes_of_the_notes():
    config = World.Config(preset="w1")
    assert config.people.users == 81_000 and config.next_item is not None
    assert config.next_item.model_dump() == {
        "history": 20,
        "categories": 3,
        "recent": 10,
        "neighbours": 8,
        "popularity_power": 0.5,
        "test_users": 1_000,
    }


def test_catalogue(world: World):
    shelf, vector = world.catalogue.shelf, world.catalogue.vector
    assert vector.shape == (4_096, 12)
    assert np.array_equal(np.bincount(shelf.goods["category"]), [64] * 64)
    centre = np.array([vector[shelf.goods["category"] == c].mean(axis=0) for c in range(64)])
    assert (vector - centre[shelf.goods["category"]]).std() == pytest.approx(0.6, rel=0.02)
    assert centre.std() == pytest.approx(1.0, rel=0.1)
    popularity = np.sort(world.catalogue.popularity)[::-1]
    assert np.allclose(popularity / popularity[0], 1 / np.arange(1, 4_097))


def test_histories(world: World, items: np.ndarray):
    category = world.catalogue.shelf.goods["category"][items[:, :20]]
    kinds = np.array([len(set(row)) for row in category])
    assert kinds.max() == 3 and kinds.mean() > 2.9
    counts = np.bincount(items[:, :20].ravel(), minlength=4_096)
    best_first = np.argsort(-world.catalogue.popularity)
    head, tail = best_first[:200], best_first[-200:]
    in_category = world.catalogue.popularity**0.5
    mass = np.bincount(world.catalogue.shelf.goods["category"], in_category)
    expected = in_category / mass[world.catalogue.shelf.goods["category"]] / 64 * USERS * 20
    assert counts[head].sum() == pytest.approx(expected[head].sum(), rel=0.05)
    assert counts[tail].sum() == pytest.approx(expected[tail].sum(), rel=0.1)


def test_targets_are_near_a_recent_item(world: World, items: np.ndarray):
    vector = world.catalogue.vector.astype(float)
    for row in items[:200]:
        distance = ((vector[row[10:20], None] - vector[None]) ** 2).sum(-1)
        distance[np.arange(10), row[10:20]] = np.inf
        assert row[20] in np.argsort(distance, axis=1)[:, :8]


def test_probability_is_a_distribution_that_targets_follow(world: World, items: np.ndarray):
    w1 = world._behaviour
    assert isinstance(w1, NextItemWorld)
    every = np.arange(1, 4_097)
    for user in (1, 77, USERS):
        time_ms = int(w1.target_ms(np.array([user - 1]))[0])
        p = world.probability(np.full(4_096, user), np.full(4_096, time_ms), every)
        assert p.shape == (4_096, 1) and p.sum() == pytest.approx(1.0)
        earlier = world.probability(
            np.full(4_096, user), np.full(4_096, time_ms - 10 * 86_400_000), every
        )
        assert earlier.sum() == pytest.approx(1.0) and not np.allclose(p, earlier)
    user = np.arange(1, USERS + 1)
    hit = world.probability(user, w1.target_ms(user - 1), items[:, 20] + 1)[:, 0]
    assert hit.min() > 0
    counts = sum(
        world.answer(
            user[:300], w1.target_ms(user[:300] - 1), items[:300, 20:] + 1, seed=s
        ).done.sum()
        for s in range(100)
    )
    assert counts / 100 == pytest.approx(hit[:300].sum(), rel=0.05)


def test_splits_and_times(world: World, raw: RawLog):
    assert raw.users is not None
    assert raw.users["split"].to_list() == ["train"] * (USERS - TEST) + ["test"] * TEST
    last = raw.events.group_by("user").agg(pl.col("time_ms").max()).join(raw.users, on="user")
    by_split = dict(last.group_by("split").agg(pl.col("time_ms").unique().first()).iter_rows())
    assert by_split["test"] - by_split["train"] == 86_400_000
    visits = world.visits(0, world.end_ms)
    assert visits.height == USERS and set(visits["time_ms"]) == set(by_split.values())
    assert world.visits(0, by_split["test"]).height == USERS - TEST


def test_answers(world: World, items: np.ndarray):
    visits = world.visits(0, world.end_ms).sort("user")
    slate = np.stack([items[:, 20] + 1, np.zeros(USERS, int)], axis=1)
    answer = world.answer(visits["user"], visits["time_ms"], slate)
    assert answer.done[:, 0].all() and not answer.done[:, 1].any() and world.tasks == ("view",)
    assert answer.events()["item"].to_list() == (items[:, 20] + 1).tolist()
    again = World(world.config).raw_log().events
    assert again.equals(world.raw_log().events)
