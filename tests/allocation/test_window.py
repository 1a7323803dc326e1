"""Rates of requests, the window that prices them, and the budget of the hour."""

import numpy as np
import pytest

from headrace.allocation.window import Rate, Window, budget_share
from tests.allocation.planted import Hand


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
