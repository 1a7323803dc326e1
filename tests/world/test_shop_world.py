"""The ordinary platform: it is what its config says, and its oracle is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace.errors import ConfigError, DataError
from headrace.log import RawLog
from headrace.world import World, generate, simulate
from headrace.world.shop import Shop
from tests.world.shown import TASKS, config, exposed, truth

EVERYTHING = {
    "catalogue": {"tree": (8, 16)},
    "people": {"users": 400},
    "funnel": {"view": 0.2, "cart": 0.2, "favourite": 0.2, "buy": 0.2, "delay_minutes": 1.0},
    "long_term": {"strength": 1.5, "ring": 16, "styles": 2, "lifetime_days": 10.0},
    "substitutes": {"span": 4},
    "order": {"strength": 1.5},
    "interaction": {"strength": 1.0},
    "dwell": {"strength": 1.5},
    "value": {"spread": 1.5},
}


@pytest.fixture(scope="module")
def world() -> World:
    return World(config())


@pytest.fixture(scope="module")
def raw(world: World) -> RawLog:
    return world.raw_log()


@pytest.fixture(scope="module")
def rows(raw: RawLog) -> pl.DataFrame:
    return exposed(raw)


def test_same_seed_same_log_whatever_the_threads(
    world: World, raw: RawLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(generate, "_BLOCK_EVENTS", 1_000)
    steps: list[tuple[int, int]] = []
    again = World(config()).raw_log(threads=2, progress=lambda done, of: steps.append((done, of)))
    for name in ("events", "requests", "exposures", "items", "users"):
        assert getattr(raw, name).equals(getattr(again, name)), name
    assert len(steps) > 5 and steps[-1] == (150, 150) and steps == sorted(steps)
    other = World(config(seed=1)).raw_log()
    assert not raw.events.equals(other.events)


def test_a_block_that_needs_more_room_gets_it(world: World, raw: RawLog):
    shop = world._behaviour
    assert isinstance(shop, Shop)
    start = world.config.people.start_ms
    none_expected = np.full(150, 0.01)
    frames = generate.generate(shop.truth, none_expected, shop.end_ms, start, 1, None)
    assert frames.events.equals(raw.events)


def test_funnel_has_the_rates_of_taobao(raw: RawLog, rows: pl.DataFrame):
    count = dict(raw.events["type"].value_counts().iter_rows())
    assert count["view"] / rows.height == pytest.approx(0.12, rel=0.03)
    for task, of_taobao in (("cart", 5_292), ("favourite", 2_959), ("buy", 2_144)):
        assert count[task] / count["view"] == pytest.approx(of_taobao / 85_774, rel=0.12), task
    assert raw.events.height / 150 == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_labels_are_drawn_from_the_oracles_probabilities(settings: dict):
    world = World(config(**settings))
    rows = exposed(world.raw_log())
    rows = rows.filter(pl.col("time_ms") < world.end_ms - 86_400_000)  # no purchase is cut off
    p = truth(world, rows)
    for t, task in enumerate(TASKS):
        label = rows[task].to_numpy()
        order = np.argsort(p[:, t])
        mass = np.cumsum(p[order, t])
        bucket = np.minimum(12 * mass / mass[-1], 11).astype(int)  # equally many expected in each
        for part in (order[bucket == b] for b in range(12)):
            expected, sd = p[part, t].sum(), np.sqrt((p[part, t] * (1 - p[part, t])).sum())
            assert abs(label[part].sum() - expected) < 4 * sd, (task, expected, label[part].sum())


def test_places_are_looked_at_as_configured(world: World, rows: pl.DataFrame):
    p = truth(world, rows, position=False)[:, 0]
    for place in range(10):
        here = (rows["position"] == place).to_numpy()
        looked_at = rows["view"].to_numpy()[here].sum() / p[here].sum()
        assert looked_at == pytest.approx((1 + place) ** -0.4, rel=0.15)
    assert np.allclose(truth(world, rows)[:, 0], p * (1.0 + rows["position"].to_numpy()) ** -0.4)


def test_nothing_happens_before_its_cause(world: World, raw: RawLog):
    assert raw.requests is not None and raw.exposures is not None
    events = raw.events.join(raw.requests.rename({"time_ms": "asked_ms"}), on="request")
    assert events.height == raw.events.height and (events["user"] == events["user_right"]).all()
    assert (events["time_ms"] > events["asked_ms"]).all()
    shown = raw.exposures.select(request="group", item="item")
    assert raw.events.join(shown, on=["request", "item"], how="anti").height == 0
    assert shown.is_unique().all()
    views = raw.events.filter(pl.col("type") == "view").rename({"time_ms": "view_ms"})
    later = raw.events.filter(pl.col("type") != "view").join(views, on=["request", "item"])
    assert later.height == raw.events.height - views.height
    assert (later["time_ms"] > later["view_ms"]).all()
    buys = later.filter(pl.col("type") == "buy")
    assert 10 < (buys["time_ms"] - buys["view_ms"]).mean() / 60_000 < 60
    assert raw.events["time_ms"].max() < world.end_ms
    assert raw.requests["time_ms"].min() >= world.config.people.start_ms
    next_page = raw.requests.sort("user", "time_ms").with_columns(
        next_ms=pl.col("time_ms").shift(-1).over("user")
    )
    views = views.join(next_page, on="request").drop_nulls("next_ms")
    assert (views["view_ms"] < views["next_ms"]).all()  # the next page may know them


def test_values_are_dwell_and_price(raw: RawLog):
    assert raw.items is not None
    views = raw.events.filter(pl.col("type") == "view")["value"]
    assert 10 < views.median() < 40 and views.min() > 0
    buys = raw.events.filter(pl.col("type") == "buy").join(raw.items, on="item")
    assert (buys["value"] == buys["price"]).all()


def test_people_sleep(raw: RawLog):
    assert raw.requests is not None
    hour = raw.requests["time_ms"].to_numpy() // 3_600_000 % 24
    by_hour = np.bincount(hour, minlength=24)
    assert by_hour[21] > 5 * max(by_hour[3], 1)


def test_popularity_is_zipf():
    silent = {"lasting": 0.0, "session": 0.0, "seasonal": 0.0, "quality": 0.0, "price": 0.0}
    only_popular = {"popular": 1.0, "lasting": 0.0, "session": 0.0, "seasonal": 0.0, "skill": 0.0}
    world = World(config(interests=silent, slate={**only_popular, "pool": 10}))
    rank = np.arange(1, 2_001)
    exact = np.polyfit(np.log(rank), np.log(np.sort(world.catalogue.popularity)[::-1]), 1)[0]
    assert exact == pytest.approx(-1.0, abs=1e-6)
    assert world.catalogue.popularity.sum() == pytest.approx(1.0)
    views = np.bincount(world.raw_log().events["item"].to_numpy() - 1, minlength=2_000)
    by_rank = views[np.argsort(-world.catalogue.popularity)]
    slope = np.polyfit(np.log(rank[3:100]), np.log(by_rank[3:100]), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.15)


def test_visits_are_the_requests_and_go_on_after_the_log(world: World, raw: RawLog):
    assert raw.requests is not None
    start, day = world.config.people.start_ms, 86_400_000
    visits = world.visits(start + 5 * day, start + 9 * day)
    asked = raw.requests.filter(
        pl.col("time_ms").is_between(start + 5 * day, start + 9 * day, closed="left")
    )
    columns = ["user", "time_ms", "scene", "entry"]
    assert visits.sort(columns).equals(
        asked.with_columns(pl.col("user").cast(pl.Int64)).select(columns).sort(columns)
    )
    later = world.visits(world.end_ms + day, world.end_ms + 2 * day, [3, 4])
    assert set(later["user"]) <= {3, 4}
    assert world.visits(world.end_ms, world.end_ms + 3 * day).height > 100
    assert np.isfinite(world.probability(later["user"], later["time_ms"], later["user"])).all()


def test_exposures_can_be_kept_for_the_last_days_only(raw: RawLog):
    world = World(config(slate={"exposure_days": 2.0}))
    short = world.raw_log()
    assert short.requests is not None and raw.requests is not None and raw.exposures is not None
    assert short.events.drop("request").equals(raw.events.drop("request"))
    assert short.requests.equals(
        raw.requests.filter(pl.col("time_ms") >= world.end_ms - 2 * 86_400_000)
    )
    assert short.exposures is not None and short.exposures.height < raw.exposures.height / 8


def test_simulate_writes_a_log_whose_rows_are_the_worlds_numbers(tmp_path: Path, raw: RawLog):
    log = simulate(config(), tmp_path / "log")
    assert log.manifest.num_events == raw.events.height
    assert log.manifest.event_types == tuple(TASKS)
    assert log.manifest.exposure == ("position",) and log.manifest.context == ("scene", "entry")
    assert log.users["user"][1:].to_list() == [str(u) for u in range(1, 151)]
    assert log.items["item"][1:].to_list() == [str(i) for i in range(1, 2_001)]
    assert np.array_equal(
        np.diff(log.event("user_offsets"))[1:], np.bincount(raw.events["user"])[1:]
    )
    assert simulate(config(), tmp_path / "log").path == log.path


def test_heavy_users_come_oftener(raw: RawLog):
    even = World(config(people={"activity_sd": 0.0})).raw_log()
    spread = raw.events["user"].value_counts()["count"]
    assert spread.std() / spread.mean() > 0.4
    assert (c := even.events["user"].value_counts()["count"]).std() / c.mean() < 0.2


def test_fifty_thousand_events_of_one_user():
    world = World(
        config(people={"users": 2, "events_per_user": 50_000.0, "activity_sd": 0.0, "days": 365})
    )
    assert world.raw_log().events.height / 2 == pytest.approx(50_000, rel=0.05)


def test_impossible_worlds_are_refused():
    with pytest.raises(ConfigError, match=r"funnel.view: 0.9 views an exposure, but only 0\.\d+"):
        World(config(funnel={"view": 0.9}))
    with pytest.raises(ConfigError, match=r"people.days: 1 days are too short for"):
        World(config(people={"events_per_user": 50_000.0, "days": 1}, funnel={"view": 0.05}))


def test_unknown_users_items_and_places_are_refused(world: World):
    for user, item, place, message in (
        (0, 1, 0, "user: no 0 in this world, want 1 to 150"),
        (1, 2_001, 0, "item: no 2001 in this world, want 1 to 2000"),
        (1, 1, 5_000, "position: no 5000 in this world, want 0 to 1023"),
    ):
        with pytest.raises(DataError, match=message):
            world.probability([user], [world.end_ms], [item], [place])
    with pytest.raises(DataError, match="as many users, times, items and positions"):
        world.probability([1, 2], [world.end_ms], [1, 2])


SILENT = {"lasting": 0.0, "session": 0.0, "seasonal": 0.0, "quality": 0.0, "price": 0.0}


def odds(world: World, user: np.ndarray, time_ms: np.ndarray, item: np.ndarray) -> np.ndarray:
    p = world.probability(user, time_ms, item)[:, 0]
    return np.log(p / (1 - p))


@pytest.mark.parametrize("kind", ["lasting", "session", "seasonal", "quality", "price"])
def test_each_wish_moves_the_odds_by_its_strength(kind: str):
    world = World(config(interests={**SILENT, kind: 2.0, "season_days": 40.0}))
    shop = world._behaviour
    assert isinstance(shop, Shop)
    shelf, crowd = shop.truth.shelf, shop.truth.crowd
    user, item = np.repeat(np.arange(1, 21), 2_000), np.tile(np.arange(1, 2_001), 20)
    day = world.config.people.start_ms + np.arange(0, 40) * 86_400_000
    here = odds(world, user, np.full(len(user), day[3]), item)
    if kind == "lasting":
        wish = (shelf.unit[item - 1, None] * shelf.unit[crowd.interest[user - 1]]).sum(-1).max(1)
    elif kind == "quality":
        wish = shelf.goods["quality"][item - 1]
    elif kind == "price":
        wish = -crowd.price_sense[user - 1] * shelf.goods["price_z"][item - 1]
    elif kind == "seasonal":
        # an item that a user wants in season: the odds rise and fall with the calendar
        asked = np.repeat(np.arange(1, 21), 40)
        year = odds(world, asked, np.tile(day, 20), crowd.seasonal[asked - 1] + 1).reshape(20, 40)
        assert np.allclose(np.ptp(year, axis=1), 2.0, atol=0.05)
        roots = shelf.root[shelf.goods["category"][crowd.seasonal[:20]]]
        assert np.allclose(year.argmax(1), (roots + 0.5) * 5, atol=1)
        return
    else:
        # all pages of a session want the same, another session something else
        visits = world.visits(world.config.people.start_ms, world.end_ms, [1])["time_ms"].to_numpy()
        some = np.arange(1, 2_001)
        first, second, later = (
            odds(world, np.ones(2_000, int), np.full(2_000, t), some) for t in visits[[0, 1, 5]]
        )
        assert np.allclose(first, second) and not np.allclose(first, later)
        assert np.ptp(first) > 2.0
        return
    assert np.allclose(here - here.mean(), 2.0 * (wish - wish.mean()), atol=1e-4)
