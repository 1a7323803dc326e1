"""Several budgets at once on planted requests: what binds, what is told, what is refused."""

from typing import Annotated, Any

import numpy as np
import pytest

from headrace.allocation.policies.dcaf import Dcaf
from headrace.config import Config, Kinds, parse
from headrace.errors import ConfigError
from tests.allocation.planted import (
    CHANNELS,
    COST,
    QUOTA,
    Hand,
    drive,
    made,
    requests,
    trace_of,
    worths,
)


def loaded(model, clock, **settings):
    """An allocator after ten seconds of 120 requests a second, and what it planned them last."""
    allocator = made(model, clock, **settings)
    drive(allocator, clock, 120, 10)
    action = allocator.plan(requests(worths(4000))).note["action"].numpy()
    return allocator, action


def test_the_budget_that_binds_decides(model):
    ranked = np.array([5, 20, 20, 60])  # by the planted plans
    free, _ = loaded(model, Hand(), budget_ms=9000, budgets={"ranked": 1e6})
    assert free.state()["prices"] == {"cpu_ms": 0, "ranked": 0}
    items, action = loaded(model, Hand(), budget_ms=9000, budgets={"ranked": 120 * 30})
    told = items.state()
    assert told["prices"]["cpu_ms"] == 0 < told["prices"]["ranked"]
    assert told["price"] == 0 and told["budgets"]["ranked"] == pytest.approx(30, rel=0.05)
    assert 25 < ranked[action].mean() <= 30 * 1.05
    cpu, action = loaded(model, Hand(), budget_ms=300, budgets={"ranked": 1e6, "calls": 1e6})
    told = cpu.state()
    assert told["prices"]["cpu_ms"] > 0 == told["prices"]["ranked"] == told["prices"]["calls"]
    assert 2.2 < COST[action].mean() <= 2.5 * 1.05
    one, same = loaded(model, Hand(), budget_ms=300)
    assert one.price == pytest.approx(cpu.price) and (same == action).all()


def test_what_each_resource_took_is_told(model):
    allocator, _ = loaded(model, Hand(), budget_ms=9000, budgets={"ranked": 1e9, "calls": 1e9})
    for _ in range(400):
        plan = allocator.plan(requests([99]))
        allocator.observe(trace_of(plan, 16_000))  # twice what the widest was profiled at
    told = allocator.state()["spent"]
    assert told["cpu_ms"] == pytest.approx(16, rel=0.02)  # corrected by what was really spent
    assert told["ranked"] == pytest.approx(60, rel=0.01)  # counted
    assert told["calls"] == pytest.approx(3, rel=0.01)  # two channels and the ranker


def test_an_operator_can_hold_each_price(model, tmp_path):
    model.write(tmp_path / "allocation")
    clock, price = Hand(), tmp_path / "allocation" / "price.json"
    settings = {"quota": QUOTA, "log_decisions": False, "explore": 0, "budgets": {"ranked": 1e9}}
    allocator = Dcaf(Dcaf.Config(**settings), clock)
    allocator.restore(tmp_path, CHANNELS)
    price.write_text('{"price": {"ranked": 1e9}}')
    clock.now += 2
    assert allocator.plan(requests([99])).note["action"].tolist() == [0]
    assert allocator.held and allocator.price_R.tolist() == [0, 1e9]
    for wrong in ('{"price": {"rankd": 1}}', '{"price": {"ranked": -1}}', '{"price": {}}'):
        price.write_text(wrong)
        clock.now += 2
        allocator.plan(requests([99]))
        assert not allocator.held


class Budgeted(Config):
    allocation: Annotated[Any, Kinds("headrace.allocation.policies")]


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ("wall_mss = 5", "did you mean 'wall_ms'?"),
        ("cpu_ms = 5", "cpu_ms"),
        ("ranked = 0", "greater than 0"),
        ("ranked = -1", "greater than 0"),
        ("ranked = inf", "finite"),
        ('ranked = "many"', "number"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budgets, message):
    quota = "\n".join(f"{name} = {count}" for name, count in QUOTA.items())
    text = f'[allocation]\nkind = "dcaf"\n[allocation.budgets]\n{budgets}\n'
    with pytest.raises(ConfigError) as error:
        parse(f"{text}[allocation.quota]\n{quota}\n", Budgeted, "shop.toml")
    said = str(error.value)
    assert message in said and "allocation.budgets" in said and "\n" not in said
