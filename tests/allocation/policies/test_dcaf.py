"""The live allocator on planted requests: budgets, floors, exploration, revision and bad days."""

import json
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch

from headrace.allocation.actions import Actions
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged, statistics
from headrace.allocation.model import Model
from headrace.allocation.policies.dcaf import Dcaf
from headrace.allocation.window import Rate, Window, budget_share
from headrace.config import Config, Kinds, parse
from headrace.data import Candidates, Ragged, Requests
from headrace.errors import ConfigError, DataError
from headrace.stages import Statistics, Status, Trace

QUOTA = {"popular": 40, "tower": 40, "retrieval": 60, "preranking": 20, "reranking": 5}
CHANNELS = ("popular", "tower")
COST = np.array([1.0, 2.0, 4.0, 8.0])
PLANS = [
    {**QUOTA, "tower": 0, "preranking": 5},
    {**QUOTA, "tower": 0, "preranking": 20},
    {**QUOTA, "preranking": 20},
    {**QUOTA, "preranking": 60},
]


class Hand:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def requests(worth):
    """Requests whose worth stands in a column."""
    size = len(worth)
    zero = torch.zeros(size, dtype=torch.int64)
    empty = Ragged(zero[:0], torch.zeros(size + 1, dtype=torch.int64))
    return Requests(zero, zero + 1_700_000_000_000, {"rank": torch.as_tensor(worth)}, zero, empty)


def worths(size, seed=0):
    return np.random.default_rng(seed).integers(0, 100, size)


def told(worth):
    """Pre-ranking tells a tenth of the worth of each of ten candidates."""
    return Ragged.of([torch.full((30,), 0.1 * float(w)) for w in worth])


def logged(size=3000):
    """What is known beforehand is the worth up to a factor; pre-ranking tells it all."""
    seen = worths(size)
    worth = seen * np.random.default_rng(7).uniform(0.2, 1.8, size)
    gain = worth[:, None] * (1 - np.exp(-0.4 * COST))
    stats = statistics(told(worth))
    return Logged(
        Describer("", ("rank",))(requests(seen)),
        np.stack([stats, stats], axis=1),
        gain,
        gain,
        np.arange(size),
        np.arange(size),
    )


@pytest.fixture(scope="module")
def model():
    actions = Actions.of(PLANS, COST, COST)
    return Model.fit(actions, Describer("", ("rank",)), logged())


def made(model, clock=None, **settings):
    settings = {"quota": QUOTA, "explore": 0.0, "log_decisions": False, **settings}
    allocator = Dcaf(Dcaf.Config(**settings), clock or Hand())
    allocator.take_up(model)
    return allocator


def drive(allocator, clock, per_s, seconds, seed=1):
    """Requests one at a time at an even pace; what each was planned to cost."""
    spent = []
    for worth in worths(int(per_s * seconds), seed):
        clock.now += 1 / per_s
        spent.append(COST[allocator.plan(requests([worth])).note["action"].item()])
    return np.array(spent)


def test_until_it_is_fitted_the_quota_serves():
    allocator = Dcaf.Config(quota=QUOTA).build()
    assert {k: v.tolist() for k, v in allocator.plan(requests([1, 2])).quota.items()} == {
        k: [n, n] for k, n in QUOTA.items()
    }
    assert allocator.revise(allocator.plan(requests([1])), Statistics(told([1]))).note == {}


def test_the_budget_follows_the_load(model):
    clock = Hand()
    allocator = made(model, clock, budget_ms=300)
    calm = drive(allocator, clock, 30, 20)  # 10 ms a request: more than the widest costs
    assert (calm[100:] == 8).all() and allocator.price == 0
    busy = drive(allocator, clock, 120, 20)[-1200:]  # 2.5 ms
    assert 2.2 < busy.mean() <= 2.5 * 1.05
    crowd = drive(allocator, clock, 1000, 20)[-10_000:]  # less than the cheapest: all at the floor
    assert (crowd == 1).mean() > 0.99


def test_who_is_worth_more_gets_more(model):
    clock = Hand()
    allocator = made(model, clock, budget_ms=300)
    drive(allocator, clock, 120, 10)
    cost = COST[allocator.plan(requests(np.arange(0, 100, 5))).note["action"].numpy()]
    assert cost[0] == 1 and cost[-1] > 1 and np.corrcoef(cost, np.arange(20))[0, 1] > 0.8


def test_overload_lowers_the_power_and_the_plans(model):
    clock = Hand()
    allocator = made(model, clock)
    for _ in range(20):
        clock.now += 0.25
        allocator.steer(Status(p99_ms=900, waiting=60, cpu=1.0, errors=0.5))
    assert allocator.plan(requests([99])).note["action"].tolist() == [0]
    assert allocator.state()["max_power"] == 0


def test_a_share_gets_the_widest_and_says_how_likely_that_was(model):
    clock = Hand()
    allocator = made(model, clock, explore=0.2, budget_ms=1e-9)
    drive(allocator, clock, 500, 3)
    plan = allocator.plan(requests(worths(4000)))
    full = plan.note["action"] == 3
    assert 0.17 < full.double().mean() < 0.23
    assert torch.equal(full, plan.note["explored"])
    assert set(plan.note["propensity"][full].tolist()) == {0.2}
    assert set(plan.note["propensity"][~full].tolist()) == {0.8}


def test_revision_moves_within_what_was_retrieved(model):
    clock = Hand()
    allocator = made(model, clock, budget_ms=300)
    drive(allocator, clock, 120, 10)
    plan = allocator.plan(requests(worths(50)))
    was = plan.note["action"]
    poor = allocator.revise(plan, Statistics(told([0] * 50)))
    rich = allocator.revise(plan, Statistics(told([99] * 50)))
    assert (poor.quota["preranking"] <= rich.quota["preranking"]).all()
    assert (poor.quota["preranking"] < rich.quota["preranking"]).any()
    for revised in (poor, rich):
        assert torch.equal(revised.quota["tower"], plan.quota["tower"])
        assert ((revised.note["action"] < 2) == (was < 2)).all()  # the same channels


def test_the_likelihood_is_that_of_the_last_decision(model):
    """The widest was the choice; pre-ranking tells better, but of those that are explored."""
    allocator = made(model, explore=0.2)
    plan = allocator.plan(requests([99] * 2000))  # at price 0 all get the widest
    assert set(plan.note["propensity"].tolist()) == {1.0}
    allocator.price = 1e9
    poor = allocator.revise(plan, Statistics(told([0] * 2000)))
    explored = poor.note["explored"]
    assert 0.15 < explored.double().mean() < 0.25
    assert (poor.note["action"][explored] == 3).all() and (
        poor.note["action"][~explored] == 2
    ).all()
    assert set(poor.note["propensity"][explored].tolist()) == {0.2}
    assert set(poor.note["propensity"][~explored].tolist()) == {0.8}
    allocator.price = 0.0
    rich = allocator.revise(plan, Statistics(told([99] * 2000)))
    assert set(rich.note["propensity"].tolist()) == {1.0}


def trace_of(plan, spent_us):
    items = Ragged.of([torch.arange(2)] * len(plan.note["action"]))
    slate = Candidates(items, scores={"value": torch.ones(len(items.values), 1)})
    return Trace(plan, {"all": spent_us}, {}, {"reranking": slate})


def test_costs_are_corrected_and_decisions_logged(model, tmp_path):
    model.write(tmp_path / "allocation")
    clock = Hand()
    allocator = Dcaf(Dcaf.Config(quota=QUOTA, budget_ms=300), clock)
    allocator.restore(tmp_path, CHANNELS)
    for worth in worths(400):
        clock.now += 1 / 120
        plan = allocator.plan(requests([worth]))
        cost = COST[plan.note["action"].numpy()].sum()
        allocator.observe(trace_of(plan, int(2000 * cost)))
    assert allocator.state()["cost_correction"] == pytest.approx(2, abs=0.05)
    allocator.close()
    rows = [json.loads(line) for line in (tmp_path / "allocation/decisions.jsonl").open()]
    assert len(rows) == 400
    assert {"user", "time_ms", "action", "propensity", "price", "max_power", "value"} <= set(
        rows[0]
    )
    assert rows[0]["value"] == 2 and rows[0]["items"] == [0, 1]
    keys = model.actions.keys
    assert all(row["plan"] == keys[row["action"]] for row in rows)
    assert {row["first"] for row in rows} <= set(keys) and rows[0]["widest"] == keys[3]
    assert len(rows[0]["features"]) == len(model.describe.names)


def test_wall_time_is_compared_with_wall_time(model):
    """Plans that wait for another machine cost more time than processor time."""
    slow = replace(model, actions=Actions.of(PLANS, 3 * COST, COST))
    allocator = made(slow)
    for _ in range(200):
        plan = allocator.plan(requests([50]))
        allocator.observe(trace_of(plan, int(3000 * COST[plan.note["action"]].sum())))
    assert allocator.state()["cost_correction"] == pytest.approx(1, abs=0.01)


def test_an_operator_can_hold_the_price(model, tmp_path):
    model.write(tmp_path / "allocation")
    clock, price = Hand(), tmp_path / "allocation" / "price.json"
    allocator = Dcaf(Dcaf.Config(quota=QUOTA, log_decisions=False, explore=0), clock)
    allocator.restore(tmp_path, CHANNELS)
    price.write_text('{"price": 1e9}')
    clock.now += 2
    assert allocator.plan(requests([99])).note["action"].tolist() == [0]
    assert (allocator.price, allocator.held) == (1e9, True)
    for wrong in ("", '{"price": -1}', '{"price": "x"}', "[]"):
        price.write_text(wrong)
        clock.now += 2
        allocator.plan(requests([99]))
        assert not allocator.held
    price.unlink()
    clock.now += 2
    assert allocator.plan(requests([99])).note["action"].tolist() == [3]


def test_a_model_comes_back_from_disk(model, tmp_path):
    model.write(tmp_path)
    again = Model.read(tmp_path, CHANNELS)
    asked = requests(worths(5))
    assert np.array_equal(model.expect(asked)[1], again.expect(asked)[1])


def test_missing_damaged_and_foreign_models(model, tmp_path):
    with pytest.raises(DataError, match="headrace allocate profile"):
        made(model).restore(tmp_path, CHANNELS)
    model.actions.write(tmp_path / "allocation" / "actions.json")
    with pytest.raises(DataError, match="headrace allocate replay"):
        made(model).restore(tmp_path, CHANNELS)
    model.write(tmp_path / "allocation")
    with pytest.raises(ConfigError, match="no such stage or channel 'tower'"):
        made(model).restore(tmp_path, ("popular",))
    Actions.of(PLANS, COST + 0.1, COST + 0.1).write(tmp_path / "allocation" / "actions.json")
    with pytest.raises(DataError, match="of different replays"):
        made(model).restore(tmp_path, CHANNELS)
    model.actions.write(tmp_path / "allocation" / "actions.json")
    path = tmp_path / "allocation" / "model.npz"
    whole = path.read_bytes()
    for torn in (b"no", b"", whole[: len(whole) // 2]):
        path.write_bytes(torn)
        with pytest.raises(DataError, match="damaged model"):
            made(model).restore(tmp_path, CHANNELS)


def test_a_replay_comes_back_or_says_what_is_wrong(tmp_path):
    path = tmp_path / "replay.npz"
    with pytest.raises(DataError, match="run `headrace allocate replay` first"):
        Logged.read(path)
    logged(20).write(path)
    assert np.array_equal(Logged.read(path).gain_NJ, logged(20).gain_NJ)
    whole = path.read_bytes()
    for torn in (b"no", b"", whole[: len(whole) // 2]):
        path.write_bytes(torn)
        with pytest.raises(DataError, match=r"no replay \(.*\); replay again"):
            Logged.read(path)


def test_gains_that_are_no_numbers_are_refused():
    bad, actions = logged(10), Actions.of(PLANS, COST, COST)
    bad.gain_NJ[3, 1] = np.nan
    with pytest.raises(DataError, match="value formula"):
        Model.fit(actions, Describer("", ("rank",)), bad)
    with pytest.raises(DataError, match="no requests"):
        Model.fit(actions, Describer("", ("rank",)), bad.take(np.arange(0)))


def test_rates_and_clocks_that_go_backwards():
    clock = Hand()
    rate = Rate(clock)
    assert rate.per_s == 0
    for _ in range(300):
        clock.now += 0.1
        rate.add(2)
    assert rate.per_s == pytest.approx(20, rel=0.02)
    clock.now -= 1000
    rate.add(1)
    for _ in range(100):
        clock.now += 0.1
        rate.add(1)
    assert rate.per_s == pytest.approx(10, rel=0.15)


def test_the_rate_after_a_night_is_that_of_the_rush():
    clock = Hand()
    rate = Rate(clock)
    clock.now += 8 * 3600
    for _ in range(900):
        clock.now += 0.01
        rate.add(1)
    assert rate.per_s == pytest.approx(100, rel=0.15)  # three half-lives


def test_a_window_of_few_or_none_and_one_action():
    nothing = Window(np.zeros((0, 2)), np.array([1.0, 2.0]), 100)
    assert nothing.price(1.5, np.ones(2, bool)) == 0 and len(nothing) == 0
    one = Window(np.ones((500, 1)), np.array([3.0]), 200)
    assert len(one) == 200 and one.price(0.0, np.ones(1, bool)) == 0


def test_budget_through_the_day():
    profile = (0.5, 1.0, 2.0)
    hours = [budget_share(profile, h * 3_600_000) for h in (0, 7, 8, 15, 16, 23)]
    assert hours == [0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    assert budget_share((), 5) == 1.0


def test_a_part_of_the_day_without_a_budget_is_served_at_the_floor(model):
    clock = Hand()
    allocator = made(model, clock, budget_by_day=(0.0,))
    assert (drive(allocator, clock, 100, 3)[150:] == 1).all()


def test_a_clock_that_goes_backwards_keeps_a_price(model):
    clock = Hand()
    allocator = made(model, clock, budget_ms=300)
    clock.now = 10_000.0
    drive(allocator, clock, 120, 20)
    price = allocator.price
    clock.now = 0.0
    assert drive(allocator, clock, 120, 20)[-1200:].mean() <= 2.5 * 1.05
    assert allocator.price == pytest.approx(price, rel=0.3)


def test_no_requests_and_one_action(model):
    allocator = made(model)
    plan = allocator.plan(requests([]))
    assert [len(quota) for quota in plan.quota.values()] == [0] * len(plan.quota)
    assert len(allocator.revise(plan, Statistics(Ragged.of([]))).note["action"]) == 0
    one = logged(200)
    one = Logged(
        one.feature_NF,
        one.statistics_NGS[:, :1],
        -one.gain_NJ[:, :1],  # and worse than nothing
        one.real_NJ[:, :1],
        one.user_N,
        one.time_ms_N,
    )
    actions = Actions.of(PLANS[:1], COST[:1], COST[:1])
    alone = made(Model.fit(actions, Describer("", ("rank",)), one), explore=0.5)
    plan = alone.plan(requests([1, 50, 99]))
    assert plan.note["action"].tolist() == [0] * 3
    assert plan.note["propensity"].tolist() == [1.0] * 3


def test_describer_names_a_wrong_sequence():
    with pytest.raises(ConfigError, match=r"allocation\.history: no sequence 'x'"):
        Describer.of(requests([1]), "x")
    assert Describer.of(requests([1]), "").names == ("utc_hour", "utc_weekday", "rank")


class File(Config):
    allocation: Annotated[Any, Kinds("headrace.allocation.policies")]


TEXT = """[allocation]
kind = "dcaf"
budget_by_day = [0.5, 1]
[allocation.controller]
p99_ms = 30
[allocation.quota]
popular = 40
retrieval = 60
preranking = 20
reranking = 5
"""


def test_it_is_configured_like_any_policy():
    settings = parse(TEXT, File).allocation
    settings.check(["popular"])
    assert (settings.controller.p99_ms, settings.budget_by_day) == (30, (0.5, 1))
    assert isinstance(settings.build(), Dcaf)
    with pytest.raises(ConfigError, match=r"c.toml:5: allocation.controller.p99_ms: .*, got -30"):
        parse(TEXT.replace("30", "-30"), File, "c.toml")
    for wrong in ("-0.5", "nan", "inf"):
        with pytest.raises(ConfigError, match=r"allocation.budget_by_day"):
            parse(TEXT.replace("0.5", wrong), File)
    with pytest.raises(ConfigError, match=r"did you mean 'budget_ms'"):
        parse(TEXT.replace("budget_by_day = [0.5, 1]", "budget_mss = 5"), File)
    with pytest.raises(ConfigError, match="no such stage or channel 'popular'"):
        settings.check(["other"])
