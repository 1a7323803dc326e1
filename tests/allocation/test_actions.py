"""Plans to choose from: what a grid holds, what they cost, and mistakes in a list of them."""

import numpy as np
import pytest

from headrace.allocation.actions import Actions, grid, smooth, whole
from headrace.errors import ConfigError, DataError

QUOTA = {"popular": 40, "swing": 40, "tower": 40, "retrieval": 60, "preranking": 20, "reranking": 5}
PLANS3 = [{**QUOTA, "preranking": n} for n in (5, 6, 7)]
MS = {"popular": 0.1, "swing": 0.4, "tower": 2.0}


def actions(count=3):
    quotas = [{**QUOTA, "preranking": 5 + at} for at in range(count)]
    return Actions.of(quotas, np.arange(count) + 1.0, np.arange(count) + 0.5)


def test_the_grid_holds_what_is_configured_and_the_widest():
    plans = grid(QUOTA, MS)
    assert {**QUOTA, "ranking": 1} in plans
    assert plans[-1] == {**QUOTA, "preranking": 60, "ranking": 1}
    assert len({tuple(sorted(p.items())) for p in plans}) == len(plans)
    on = {tuple(name for name in MS if p[name]) for p in plans}
    nested = {("popular",), ("popular", "swing"), tuple(MS)}  # cheapest first
    assert on == {*nested, ("swing",), ("tower",)}
    assert any(p["tower"] == p["swing"] == p["ranking"] == 0 for p in plans)
    assert all(p["preranking"] <= p["retrieval"] for p in plans)
    Actions.of(plans, np.ones(len(plans)), np.ones(len(plans))).check(MS)


def test_the_widest_may_have_more_than_is_configured():
    plans = grid(QUOTA, MS, widen=2)
    assert plans[-1] == {
        **QUOTA,
        **dict.fromkeys(MS, 80),
        "retrieval": 120,
        "preranking": 120,
        "ranking": 1,
    }
    assert whole(QUOTA) in plans and set(map(str, grid(QUOTA, MS)[:-1])) <= set(map(str, plans))


def test_costs_are_smoothed_over_what_plans_consist_of():
    plans = grid(QUOTA, MS)
    true = [
        1.0
        + 0.2 * (p["tower"] > 0)
        + 0.01 * p["tower"]
        + p["ranking"] * (0.5 + 0.02 * p["preranking"])
        for p in plans
    ]
    noisy = np.array(true) * np.random.default_rng(0).lognormal(0, 0.1, len(plans))
    assert np.abs(smooth(plans, true) - true).max() < 1e-9
    assert np.abs(smooth(plans, noisy) - true).mean() < 0.5 * np.abs(noisy - true).mean()


def test_the_widest_holds_every_plan():
    few = {**QUOTA, "tower": 0, "ranking": 0}
    part = {**QUOTA, "popular": 10, "swing": 10, "retrieval": 15, "preranking": 15, "ranking": 1}
    made = Actions.of([few, part], [1, 2], [1, 2])
    assert made.widest == {**QUOTA, "ranking": 1}


def test_cheapest_first_and_back_from_disk(tmp_path):
    made = Actions.of([QUOTA, {**QUOTA, "preranking": 9}], [5, 2], [4, 1], [0.5, 0.25])
    assert made.quotas[0]["preranking"] == 9
    made.write(tmp_path / "a.json")
    again = Actions.read(tmp_path / "a.json")
    assert again.quotas == made.quotas and np.array_equal(again.cpu_ms, made.cpu_ms)
    assert again.shared.tolist() == [0.25, 0.5]
    plan = again.plan(np.array([1, 0, 1]))
    assert plan.quota["preranking"].tolist() == [20, 9, 20]
    assert again.family.tolist() == [0, 0]


def test_costs_in_passes():
    made = Actions.of(PLANS3, [3, 1, 2], [3.0, 1.0, 2.0], [0.9, 0.0, 0.5])
    assert made.shared.tolist() == [0.0, 0.5, 0.9] and made.together(1.0).tolist() == [1, 1, 1]
    ten = made.under(10)
    assert ten.cpu_ms == pytest.approx([3 * 0.19, 1, 2 * 0.55]) and not ten.shared.any()
    assert ten.quotas == (PLANS3[0], PLANS3[1], PLANS3[2])  # cheapest first as it is then
    assert made.take(np.array([2])).shared.tolist() == [0.9]
    for part in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match="from 0 to 1"):
            Actions.of(PLANS3, [1, 2, 3], [1, 2, 3], [0, 0, part])


def test_a_plan_of_another_cascade_is_refused():
    with pytest.raises(
        ConfigError, match="plan 0: no such stage or channel 'tower'; did you mean 'towers'"
    ):
        actions().check(["popular", "swing", "towers"])
    with pytest.raises(ConfigError, match="plan 0: new is missing"):
        actions().check([*MS, "new"])


def test_a_damaged_list_is_refused(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="run `headrace allocate profile` first"):
        Actions.read(path)
    for text in ("{", "[1]", '[{"quota": {"a": "x"}, "cost_ms": 1, "cpu_ms": 1}]', '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not a list of plans"):
            Actions.read(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="0 plans"):
        Actions.read(path)
    with pytest.raises(DataError, match="finite"):
        Actions.of([QUOTA], [1.0], [float("nan")])


OPTIONS = ("preranker", "ranking", "reranker", "ranking.lr", "effort.tower")


def test_a_grid_over_all_dimensions():
    plans = grid(QUOTA, MS, OPTIONS)
    assert len({tuple(sorted(p.items())) for p in plans}) == len(plans) <= 10 * len(grid(QUOTA, MS))
    assert whole(QUOTA, OPTIONS) in plans
    assert plans[-1] == {**whole(QUOTA, OPTIONS), "preranking": 60}
    assert {(p["ranking"], p["ranking.lr"]) for p in plans} == {(0, 0), (1, 0), (1, 1)}
    assert {p["reranker"] for p in plans} == {0, 1}
    assert {(p["preranker"], p["ranking"]) for p in plans} == {(0, 0), (1, 0), (1, 1)}
    assert {p["effort.tower"] for p in plans if p["tower"]} == {100, 25}
    assert {p["effort.tower"] for p in plans if not p["tower"]} == {0}
    made = Actions.of(plans, np.ones(len(plans)), np.ones(len(plans)))
    made.check(MS, OPTIONS)
    assert made.tiers == ("lr",) and made.widest == plans[-1]
    wide = {**QUOTA, "popular": 0, "swing": 0}
    assert all(not p["popular"] for p in grid(wide, MS, OPTIONS))


def test_costs_of_all_dimensions_add_up():
    plans = grid(QUOTA, MS, OPTIONS)
    true = [
        1.0
        + 0.02 * p["effort.tower"] * (p["tower"] > 0)
        + (p["ranking"] - p["ranking.lr"]) * (0.5 + 0.02 * p["preranking"])
        + p["ranking.lr"] * (0.1 + 0.003 * p["preranking"])
        + p["reranker"] * (0.2 + 0.005 * p["preranking"])
        + p["preranker"] * (0.3 + 0.002 * p["retrieval"])
        for p in plans
    ]
    assert np.abs(smooth(plans, true) - true).max() < 1e-9


def test_families_are_alike_up_to_the_ranker():
    full = whole(QUOTA, OPTIONS)
    late = [full, {**full, "ranking.lr": 1}, {**full, "reranker": 0}, {**full, "ranking": 0}]
    less = {**full, "effort.tower": 25}
    made = Actions.of([*late, less], np.arange(5.0), np.arange(5.0))
    assert made.family.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("ranking.lr", r"plan 0: the bundle has no tier 'lr' \(known: none\); name it in `tiers`"),
        ("reranker", "plan 0: re-ranking cannot be skipped in this cascade; profile again"),
        ("preranker", "plan 0: the merge was never fitted in this cascade; profile again"),
        ("effort.tower", "plan 0: no channel obeys 'effort.tower' in this cascade"),
        ("effrot.tower", "plan 0: no such stage or channel 'effrot.tower'"),
    ],
)
def test_an_option_that_the_cascade_does_not_have_is_refused(key, message):
    made = Actions.of([{**QUOTA, key: 1}], [1.0], [1.0])
    with pytest.raises(ConfigError, match=message):
        made.check(MS)


def test_an_option_that_only_some_plans_name_is_refused():
    made = Actions.of([{**QUOTA, "ranking": 1}, QUOTA], [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="plan 1: ranking is missing; profile again"):
        made.check(MS)
    near = Actions.of([{**QUOTA, "ranking.lrr": 1}], [1.0], [1.0])
    with pytest.raises(ConfigError, match=r"no tier .lrr. .did you mean .lr."):
        near.check(MS, OPTIONS)
