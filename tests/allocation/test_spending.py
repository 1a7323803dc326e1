"""What plans cost today, and what requests are told to have taken."""

import numpy as np
import pytest

from headrace.allocation.actions import Actions
from headrace.allocation.spending import Spending
from tests.allocation.planted import COST, PLANS

WALL = [1.0, 8.0, 2.0, 8.0]


def spending(*names, shared=0.0):
    return Spending(Actions.of(PLANS, WALL, COST, np.full(4, shared)), ("cpu_ms", *names))


def test_power_caps_everything_that_is_time_of_the_machine():
    """The second plan is cheap by processor time and waits long; what is counted has no cap."""
    assert spending().within(0.5).tolist() == [True, True, True, False]
    assert spending("wall_ms").within(0.5).tolist() == [True, False, True, False]
    assert spending("ranked", "calls").within(0.5).tolist() == [True, True, True, False]
    assert spending("wall_ms").within(0.0).tolist() == [True, False, False, False]
    assert spending("wall_ms").within(1.0).all()


def test_costs_of_time_follow_how_many_share_a_pass():
    told = spending("ranked", shared=0.8)
    alone_RJ = told.cost_RJ.copy()
    for _ in range(200):
        told.arrived(8)
    assert np.array_equal(told.cost_RJ, alone_RJ)  # until they are looked at again
    told.refresh()
    assert told.cost_RJ[0] == pytest.approx(COST * (1 - 0.8 * 7 / 8))
    assert np.array_equal(told.cost_RJ[1], alone_RJ[1])  # counted, whoever shares
    assert told.pass_ms(8) == pytest.approx(np.array(WALL) * (1 - 0.8 * 7 / 8))
    assert told.pass_ms(1) == pytest.approx(WALL)


def test_requests_that_take_twice_what_was_profiled_are_billed_for_it():
    told = spending("wall_ms", "ranked")
    for _ in range(400):
        told.observe(16.0, np.array([3]))
    assert told.spent_ms == pytest.approx(16, rel=0.01)
    assert told.correction == pytest.approx(2, rel=0.01)
    assert told.corrections == pytest.approx([2, 2, 1], rel=0.01)
    assert told.took_R == pytest.approx([16, 16, 60], rel=0.02)
    assert told.pass_ms(1) == pytest.approx(2 * np.array(WALL), rel=0.01)


def test_a_pass_counts_as_its_requests_would_alone():
    together, apart = spending(), spending()
    together.observe(24.0, np.full(3, 3))
    for _ in range(3):
        apart.observe(8.0, np.array([3]))
    assert together.spent_ms == pytest.approx(apart.spent_ms)
    assert together.took_R == pytest.approx(apart.took_R)


def test_the_next_pass_knows_when_all_becomes_slow():
    told = spending()
    for _ in range(3):
        told.observe(8 * 8.0 * 2, np.full(8, 3))
    assert told.correction < 1.5 and told.pass_ms(1)[3] > 1.9 * 8
    for _ in range(3):
        told.observe(8 * 8.0 / 2, np.full(8, 3))
    assert told.pass_ms(1)[3] == pytest.approx(told.correction * 8)  # quick for once is no promise


def test_one_stall_moves_the_correction_little_and_nothing_moves_nothing():
    told = spending()
    told.observe(1e9, np.array([0]))
    assert 1 < told.correction < 1.1
    before = told.correction
    told.observe(5.0, np.zeros(0, np.int64))
    told.arrived(0)
    told.refresh()
    assert told.correction == before and np.array_equal(told.cost_RJ[0], COST)
