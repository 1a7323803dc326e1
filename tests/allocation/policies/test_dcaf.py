"""The live allocator on planted requests: budgets, floors, exploration, revision and bad days."""

import json
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch

from headrace.allocation.actions import Actions
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged
from headrace.allocation.model import Model
from headrace.allocation.policies.dcaf import Dcaf
from headrace.config import Config, Kinds, parse
from headrace.data import Ragged
from headrace.errors import ConfigError, DataError
from headrace.ops import knapsack
from headrace.stages import Statistics, Status
from tests.allocation.planted import (
    CHANNELS,
    COST,
    PLANS,
    QUOTA,
    Hand,
    drive,
    logged,
    made,
    requests,
    told,
    trace_of,
    worths,
)


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


def test_what_passes_share_is_paid_once(model):
    """In passes of ten a request costs a tenth of what is shared: the same budget buys more."""
    sharing = Actions.of(PLANS, COST, COST, [0.9, 0.9, 0.5, 0.5])
    clock = Hand()
    allocator = made(replace(model, actions=sharing), clock, budget_ms=300)
    for at in range(120):
        clock.now += 0.1
        plan = allocator.plan(requests(worths(10, at)))
        took = COST * sharing.together(0.1)
        allocator.observe(trace_of(plan, int(1000 * took[plan.note["action"].numpy()].sum())))
    state = allocator.state()
    assert list(state["cost_ms"].values()) == pytest.approx(took, rel=0.02)
    assert state["cost_correction"] == pytest.approx(1, rel=0.02)  # profiled as it is
    spent = [took[allocator.plan(requests([w])).note["action"].item()] for w in worths(500, 1)]
    assert 2.2 < np.mean(spent) <= 3 * 1.05  # 100 requests/s: 3 ms each


def test_a_pass_takes_no_longer_than_it_may(model):
    """Ten at once, at a price of nothing: what a pass has time for goes to those worth most."""
    sharing = Actions.of(PLANS, COST, COST, [0.5] * 4)
    allocator = made(replace(model, actions=sharing), pass_ms=20.0)
    took = COST * sharing.together(0.1)
    asked = requests(np.arange(0, 100, 10))
    action = allocator.plan(asked).note["action"].numpy()
    assert 18 < took[action].sum() <= 20 and action[-1] > action[0]
    assert allocator.plan(requests([0, 99])).note["action"].tolist() == [3, 3]
    allocator.config = allocator.config.model_copy(update={"pass_ms": 1.0})
    assert (allocator.plan(asked).note["action"] == 0).all()  # the cheapest is everyone's
    assert allocator.plan(requests([50])).note["action"].tolist() == [3]  # nobody waits for it


def test_a_second_look_keeps_to_the_time_of_a_pass(model):
    allocator = made(model, pass_ms=20.0)
    plan = allocator.plan(requests(np.arange(0, 100, 10)))
    rich = allocator.revise(plan, Statistics(told([99] * 10)))
    assert COST[rich.note["action"].numpy()].sum() <= 20


def test_after_a_rehearsal_it_stands_as_if_nobody_had_asked(model):
    clock = Hand()
    allocator = made(model, clock, budget_ms=200)
    before = allocator.state()
    rng = torch.Generator().manual_seed(1)
    for _ in range(20):
        clock.now += 0.01
        allocator.plan(requests(torch.rand(8, generator=rng).tolist()))
    assert allocator.state() != before
    allocator.forget()
    assert allocator.state() == before
    clock.now += 1
    allocator.plan(requests([1.0]))
    assert sum(allocator.state()["mix"].values()) == 1
    assert allocator.state()["requests_per_s"] < 2


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


def test_power_waits_below_what_prices_allow(model):
    clock, good = Hand(), Status(p99_ms=5, waiting=0, cpu=0.1, errors=0)

    def seconds(count, per_s):
        for at in range(count):
            drive(allocator, clock, per_s, 1, seed=at)
            allocator.steer(good)
        return allocator.controller.power

    allocator = made(model, clock, budget_ms=300)  # at 120 requests/s 2.5 ms each
    seconds(10, 120)
    allocator.controller.power = 0.5  # plans of up to 4.5 ms
    assert allocator.state()["held_back"] < 0.2
    assert seconds(10, 120) < 0.6
    assert seconds(60, 10) == 1  # 30 ms each: power alone holds back
    assert allocator.state()["held_back"] < 0.01
    allocator.controller.power = 0.0
    clock.now += 0.25
    allocator.steer(Status(cpu=0.0, waiting=0))  # nobody asks
    assert allocator.controller.power > 0


def test_nothing_is_compiled_when_the_rush_comes(model):
    """A kernel is compiled anew for every order in memory, which takes hundreds of ms."""
    clock = Hand()
    allocator = made(model, clock, budget_ms=20, pass_ms=8.0)

    def rush(power, size):
        clock.now += 2
        allocator.controller.power = power
        plan = allocator.plan(requests(worths(size)))
        allocator.revise(plan, Statistics(told(worths(size))))

    rush(1.0, 16)  # as a server warms up
    kernels = [k for k in vars(knapsack).values() if hasattr(k, "signatures")]
    known = {kernel.__name__: len(kernel.signatures) for kernel in kernels}
    assert known["counts"] and known["hulls"]
    for power, size in ((0.3, 1), (0.3, 9), (0.0, 1), (0.0, 16), (1.0, 2)):
        rush(power, size)
    assert {kernel.__name__: len(kernel.signatures) for kernel in kernels} == known
    taken = [arg for signature in knapsack.counts.signatures for arg in signature]
    assert {arg.layout for arg in taken} == {"C"}  # whatever ran before in this process


def test_where_nobody_has_a_choice_there_is_no_second_look(model, monkeypatch):
    allocator = made(model)
    allocator.controller.power = 0.0
    plan = allocator.plan(requests([1, 99]))
    monkeypatch.setattr(Model, "expect_after", lambda *_: 1 / 0)
    assert allocator.revise(plan, Statistics(told([1, 99]))) is plan


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


def test_missing_damaged_and_foreign_models(model, tmp_path):
    with pytest.raises(DataError, match="headrace allocate profile"):
        made(model).restore(tmp_path, CHANNELS)
    model.actions.write(tmp_path / "allocation" / "actions.json")
    with pytest.raises(DataError, match="headrace allocate replay"):
        made(model).restore(tmp_path, CHANNELS)
    model.write(tmp_path / "allocation")
    with pytest.raises(ConfigError, match="no such stage or channel 'tower'"):
        made(model).restore(tmp_path, ("popular",))
    others = [*PLANS[:3], {**PLANS[3], "reranking": 4}]
    Actions.of(others, COST, COST).write(tmp_path / "allocation" / "actions.json")
    with pytest.raises(DataError, match="of different replays"):
        made(model).restore(tmp_path, CHANNELS)
    model.actions.write(tmp_path / "allocation" / "actions.json")
    path = tmp_path / "allocation" / "model.npz"
    whole = path.read_bytes()
    for torn in (b"no", b"", whole[: len(whole) // 2]):
        path.write_bytes(torn)
        with pytest.raises(DataError, match="damaged model"):
            made(model).restore(tmp_path, CHANNELS)


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


@pytest.mark.parametrize("size", [1, 8])
def test_a_group_counts_as_so_many_requests(model, size):
    """Of a group's time each has a share; rate, means and mix are as if they had come alone."""
    clock = Hand()
    allocator, alone = (made(model, clock, budget_ms=3000) for _ in range(2))  # all they want
    for group in np.split(worths(400), 400 // size):
        clock.now += size / 40
        plan = allocator.plan(requests(group))
        allocator.observe(trace_of(plan, int(500 * COST[plan.note["action"].numpy()].sum())))
        for worth, action in zip(group, plan.note["action"].tolist(), strict=True):
            one = alone.plan(requests([worth]))
            assert one.note["action"].item() == action
            alone.observe(trace_of(one, int(500 * COST[action])))
    state, other = allocator.state(), alone.state()
    assert state["cost_correction"] == pytest.approx(0.5, abs=0.01)
    assert state["requests_per_s"] == pytest.approx(40, rel=0.1)
    for name in ("cost_correction", "requests_per_s", "slate_value", "mix"):
        assert state[name] == pytest.approx(other[name], rel=1e-6), name
