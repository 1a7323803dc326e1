"""Policies on planted pools: methods §12, with estimates instead of knowledge."""

import numpy as np
import pytest

from headrace.allocation.compare import Pool, cost_at, gain_at, headline
from headrace.errors import DataError

COST = np.arange(1.0, 11.0) * 20


def pool(seed, noise, size=10_000):
    """Worth and pace are log-normal; estimates know the worth up to noise."""
    rng = np.random.default_rng(seed)

    def requests(count):
        worth = rng.lognormal(0, 1, count)
        pace = rng.lognormal(np.log(0.015), 0.7, count)
        gain = worth[:, None] * (1 - np.exp(-pace[:, None] * COST))
        return gain, gain * rng.lognormal(0, noise, (count, 1))

    gain, expected = requests(size)
    return Pool(COST, gain, gain, expected, requests(size)[1])


@pytest.mark.parametrize("seed", range(3))
def test_better_than_equal_and_near_the_oracle(seed):
    made = pool(seed, noise=0.3)
    told = headline(made, made.curves(), 100.0)
    gains, cuts = told["value_gain_at_equal_cost"], told["cost_cut_at_equal_value"]
    assert gains["oracle"] > gains["dcaf"] > 0.037
    assert told["oracle_ratio"] >= 0.8
    assert cuts["oracle"] > cuts["dcaf"] > 0.2
    assert told["random_value_loss"]["dcaf"] > 0.1


def test_slates_worth_nothing_are_one_line():
    nothing = np.zeros((50, 10))
    made = Pool(COST, nothing, nothing, nothing, nothing)
    with pytest.raises(DataError, match="no slate is worth anything"):
        headline(made, {}, 100.0)


def test_the_stream_keeps_to_its_budget():
    made = pool(0, noise=0.3, size=20_000)
    outcome, over = made.stream(100.0)
    assert np.quantile(over, 0.99) <= 0.05
    assert 90 < outcome.cost <= 101
    assert outcome.gain > float(np.interp(outcome.cost, *made.equal()))


def test_the_ends_of_the_curves():
    made = pool(1, noise=0.1, size=500)
    for name, curve in made.curves().items():
        assert curve[0].cost == pytest.approx(20), name
        assert curve[-1].gain == pytest.approx(made.gain_NJ[:, -1].mean(), rel=1e-6), name
        assert gain_at(curve, 1e9) == pytest.approx(curve[-1].gain)
        assert cost_at(curve, 1e9) == float("inf")
        assert cost_at(curve, 0.0) == pytest.approx(20)
