"""Each planted signal is there when it is on, where it should be and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from headrace.log import RawLog
from headrace.world import World
from headrace.world.rules import make_rules
from tests.world.shown import TASKS, exposed, truth

NO_BIAS = {"position_bias": 0.0}
#: A long-term world in small: a round of the ring is 40 sessions of some 15 events.
LONG = {
    "catalogue": {"items": 4_000, "tree": (16, 8)},
    "people": {"users": 80, "events_per_user": 2_500.0},
    "slate": {"pages": 6, **NO_BIAS},
    "long_term": {"ring": 40},
}


def preset(name: str, **settings: Any) -> World:
    return World(World.Config.model_validate({"preset": name, **settings}))


def long_term(name: str, **changes: Any) -> tuple[World, RawLog, pl.DataFrame]:
    settings = {**LONG, **{k: {**LONG.get(k, {}), **v} for k, v in changes.items()}}
    world = preset(name, **settings)
    raw = world.raw_log()
    return world, raw, exposed(raw).filter(pl.col("scene") == "revisit")


def seen_before(rows: pl.DataFrame, *keys: str) -> np.ndarray:
    """Views less the expected ones of the user's earlier revisits with these keys."""
    pages = rows.group_by("user", "time_ms", *keys).agg(
        score=(pl.col("view") - rows["view"].mean()).sum()
    )
    pages = pages.sort("time_ms").with_columns(
        before=pl.col("score").cum_sum().over("user", *keys) - pl.col("score")
    )
    return rows.join(pages, on=["user", "time_ms", *keys], maintain_order="left")[
        "before"
    ].to_numpy()


def later(rows: pl.DataFrame) -> np.ndarray:
    """The last half of the log, where there is something to know."""
    return (rows["time_ms"] > rows["time_ms"].median()).to_numpy()


def auc(label: Any, score: np.ndarray, where: np.ndarray) -> float:
    return float(roc_auc_score(np.asarray(label)[where], score[where]))


@pytest.fixture(scope="module")
def plain_long() -> tuple[World, RawLog, pl.DataFrame]:
    return long_term("long_term")


def test_long_term_evidence_decides(plain_long: tuple[World, RawLog, pl.DataFrame]):
    world, _, rows = plain_long
    oracle = auc(rows["view"], truth(world, rows)[:, 0], later(rows))
    history = auc(rows["view"], seen_before(rows, "category"), later(rows))
    assert oracle > 0.7 and oracle - 0.04 < history < oracle


def test_long_term_evidence_is_never_recent(plain_long: tuple[World, RawLog, pl.DataFrame]):
    _, raw, rows = plain_long
    assert raw.items is not None
    events = raw.events.join(raw.items.select("item", "category"), on="item").sort(
        "user", "time_ms"
    )
    nearest = np.inf
    for user in range(1, 6):
        mine = events.filter(pl.col("user") == user)
        times, category = mine["time_ms"].to_numpy(), np.array(mine["category"])
        pages = rows.filter(pl.col("user") == user).unique(["time_ms"])
        for time_ms, wanted in pages.select("time_ms", "category").iter_rows():
            before = category[: np.searchsorted(times, time_ms)]
            back = np.flatnonzero(before[::-1] == wanted)
            nearest = min(nearest, back[0] if len(back) else np.inf)
    assert 300 < nearest < 1_000


def test_without_long_term_there_are_no_revisits():
    world = preset("shop", people={"users": 20, "events_per_user": 50.0})
    requests = world.raw_log().requests
    assert requests is not None and set(requests["scene"]) == {"feed"}


def test_feed_pages_show_no_category_of_the_ring(plain_long: tuple[World, RawLog, pl.DataFrame]):
    _, raw, rows = plain_long
    feed = exposed(raw).filter(pl.col("scene") == "feed").select("user", "category").unique()
    assert feed.join(rows.select("user", "category").unique(), on=["user", "category"]).height == 0


def test_styles_make_the_rest_of_a_category_noise():
    world, _, rows = long_term("styles", people={"events_per_user": 5_000.0})
    by_category = auc(rows["view"], seen_before(rows, "category"), later(rows))
    by_style = auc(rows["view"], seen_before(rows, "category", "style"), later(rows))
    oracle = auc(rows["view"], truth(world, rows)[:, 0], later(rows))
    assert by_category + 0.05 < by_style < oracle


def test_substitutes_hold_the_evidence():
    world, _, rows = long_term(
        "substitutes",
        catalogue={"items": 8_000, "tree": (16, 16)},
        people={"events_per_user": 1_800.0},
        long_term={"ring": 30},
    )
    group = (pl.col("category").str.slice(1).cast(pl.Int32) - 1) % world.catalogue.shelf.num_groups
    rows = rows.with_columns(group=group)
    by_category = auc(rows["view"], seen_before(rows, "category"), later(rows))
    by_need = auc(rows["view"], seen_before(rows, "group"), later(rows))
    assert by_need > 0.65 > 0.53 > by_category
    revisits = (
        rows.select("user", "group", "time_ms", "category")
        .unique()
        .sort("user", "group", "time_ms")
    )
    before = revisits.with_columns(
        last=pl.col("category").shift(1).over("user", "group")
    ).drop_nulls()
    assert (before["last"] != before["category"]).all()


def test_tastes_last_or_are_tossed_anew(plain_long: tuple[World, RawLog, pl.DataFrame]):
    ring = plain_long[2].sample(3_000, with_replacement=True, seed=0)
    silent = {**LONG, "interests": {"session": 0.0}}

    def same(world: World, days: int) -> float:
        then = np.full(3_000, world.config.people.start_ms + 40 * 86_400_000)
        before = world.probability(ring["user"], then, ring["item"])[:, 0]
        after = world.probability(ring["user"], then + days * 86_400_000, ring["item"])[:, 0]
        return float((abs(before - after) < 1e-9).mean())

    assert same(preset("long_term", **silent), 120) == 1.0
    decay = preset("decay", **{**silent, "long_term": {"ring": 40, "lifetime_days": 40.0}})
    assert same(decay, 20) == pytest.approx(0.75, abs=0.05)  # half tossed anew, half of these alike
    assert same(decay, 100) == pytest.approx(0.5, abs=0.05)


def ends(world: World, raw: RawLog) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Sequel exposures, and for each: is its category next to the last, first, any view's?"""
    shown = exposed(raw)
    place = np.argsort(world.catalogue.shelf.walk_ring)
    category = shown["category"].str.slice(1).cast(pl.Int32).to_numpy() - 1
    pages = world.config.order.steps + 1
    shown = shown.with_columns(
        place=pl.Series(place[category]),
        dice=pl.Series(np.random.default_rng(0).random(shown.height)),
        session=(pl.col("time_ms").rank("dense").over("user") - 1) // pages,
    )
    views = shown.filter((pl.col("scene") == "walk") & (pl.col("view") == 1)).sort("time_ms")
    key = ["user", "session"]
    walk = views.group_by(key).agg(
        last=pl.col("place").last(),
        first=pl.col("place").first(),
        some=pl.col("place").sort_by("dice").first(),
    )
    sequel = shown.filter(pl.col("scene") == "sequel").join(walk, on=key)
    size = len(place)
    near = {
        view: (abs((sequel["place"] - sequel[view]).to_numpy()) % (size - 2) == 1).astype(float)
        for view in ("last", "first", "some")
    }
    return sequel, near


def test_order_is_told_by_the_last_views_and_by_nothing_else():
    small = {"people": {"users": 1_500, "events_per_user": 100.0}, "slate": {"pages": 0, **NO_BIAS}}
    world = preset("order", **small)
    raw = world.raw_log()
    sequel, near = ends(world, raw)
    everywhere = np.ones(sequel.height, bool)
    assert auc(sequel["view"], near["last"], everywhere) > 0.65
    assert auc(sequel["view"], near["first"], everywhere) < 0.4
    assert auc(sequel["view"], near["some"], everywhere) == pytest.approx(0.5, abs=0.02)
    assert auc(sequel["view"], truth(world, sequel)[:, 0], everywhere) > 0.75
    walks = exposed(raw).filter(pl.col("scene") == "walk")
    p = truth(world, walks)[:, 0]
    assert p.std() < 1e-9  # the walk itself is all alike


def cells(world: World, raw: RawLog) -> tuple[float, float]:
    """AUC on odd requests of what even requests tell: segment and make apart, and together."""
    assert raw.users is not None
    rows = exposed(raw).join(raw.users, on="user")
    even = rows.filter(pl.col("group") % 2 == 0)
    odd = rows.filter(pl.col("group") % 2 == 1)

    def known(*keys: str) -> np.ndarray:
        rate = even.group_by(keys).agg(rate=(pl.col("view").sum() + 1) / (pl.len() + 8))
        return (
            odd.join(rate, on=keys, how="left", maintain_order="left")["rate"]
            .fill_null(0.12)
            .to_numpy()
        )

    everywhere = np.ones(odd.height, bool)
    apart = auc(odd["view"], known("segment") + known("make"), everywhere)
    return apart, auc(odd["view"], known("segment", "make"), everywhere)


def test_interaction_is_in_no_sum_of_parts():
    settings: dict[str, Any] = {"people": {"users": 400}, "slate": NO_BIAS}
    world = preset("interaction", **settings)
    apart, together = cells(world, world.raw_log())
    assert apart < 0.53 and together > 0.7
    off = preset("interaction", **settings, interaction={"strength": 0.0})
    apart, together = cells(off, off.raw_log())
    assert apart < 0.53 and together < 0.53


def test_interaction_table_is_balanced_and_of_nearly_full_rank():
    table = make_rules(World.Config(preset="interaction")).table
    assert set(np.unique(table)) == {-1.0, 1.0}
    assert not table.sum(axis=0).any() and not table.sum(axis=1).any()
    assert np.linalg.matrix_rank(table) >= 28


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_dwell_tells_of_purchases_after_the_event(strength: float):
    world = preset(
        "dwell",
        catalogue={"items": 2_000},
        people={"users": 300},
        dwell={"strength": strength},
        funnel={"buy": 0.2},
    )
    raw = world.raw_log()
    views = raw.events.filter(pl.col("type") == "view").rename({"value": "dwell"})
    bought = raw.events.filter(pl.col("type") == "buy").select("request", "item", bought=pl.lit(1))
    views = views.join(bought, on=["request", "item"], how="left").with_columns(
        pl.col("bought").fill_null(0)
    )
    found = roc_auc_score(views["bought"], views["dwell"])
    assert found > 0.6 if strength else abs(found - 0.5) < 0.02
    assert len(views) and views["bought"].mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_value_differs_between_requests_and_can_be_foreseen(spread: float):
    world = preset(
        "value",
        catalogue={"items": 2_000},
        people={"users": 400, "activity_sd": 0.0},
        value={"spread": spread},
        funnel={"buy": 0.1},
    )
    raw = world.raw_log()
    assert raw.users is not None
    rows = exposed(raw).join(raw.users, on="user")
    viewed = rows.filter(pl.col("view") == 1)
    by_tier = viewed.group_by("tier").agg(pl.col("buy").mean()).sort("tier")["buy"].to_numpy()
    by_entry = viewed.group_by("entry").agg(pl.col("buy").mean()).sort("entry")["buy"].to_numpy()
    worth = truth(world, rows, position=False)[:, TASKS.index("buy")]
    per_request = (
        rows.with_columns(worth=pl.Series(worth)).group_by("group").agg(pl.col("worth").mean())
    )
    relative_sd = per_request["worth"].std() / per_request["worth"].mean()
    if spread:
        assert (np.diff(by_tier) > 0).all() and by_tier[-1] > 3 * by_tier[0]
        assert (np.diff(by_entry) > 0).all() and relative_sd > 1.0
    else:
        assert by_tier.max() < 1.5 * by_tier.min() and by_entry.max() < 1.2 * by_entry.min()
        assert relative_sd < 0.7
