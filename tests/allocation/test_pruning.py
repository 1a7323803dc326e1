"""Which plans of a grid are kept: the best for everyone, and what is the best for some."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.allocation import solver
from headrace.allocation.pruning import MOST, pareto, worth_having
from headrace.errors import DataError
from headrace.ops.concave import concave


def test_dominated_plans_go():
    kept = pareto([3.0, 1.0, 2.0, 2.0, 4.0], [5.0, 1.0, 0.5, 3.0, 5.0])
    assert kept.tolist() == [1, 3, 0]
    near = pareto([2.4, 2.6, 1.0, 5.0], [0.5, 2.8, 0.4, 3.0])
    assert near.tolist() == [2, 1, 3]  # 2.4 saves little and loses most
    floor = pareto([0.17, 0.25, 1.0], [0.5, 3.0, 3.2])
    assert floor.tolist() == [1, 2]  # a third of the cost for five sixths of the gain
    assert pareto([1.0], [1.0]).tolist() == [0]
    many = pareto(np.arange(1, 100.0), np.sqrt(np.arange(1, 100.0)), most=8)
    assert len(many) == 8 and many[0] == 0 and many[-1] == 98


def test_gains_that_are_no_numbers_dominate_nothing():
    with pytest.raises(DataError, match="value formula"):
        pareto([1.0, 2.0], [1.0, float("nan")])
    assert pareto([1.0, 2.0], [-2.0, -1.0]).tolist() == [0, 1]  # losses are compared like gains


def two_kinds(size=400):
    """Half of the requests want one channel, half another; both cost more and suit nobody else."""
    rng = np.random.default_rng(0)
    worth = rng.lognormal(0, 0.3, (size, 1))
    first = np.arange(size)[:, None] < size // 2
    cost = np.array([1.0, 2.0, 2.1, 4.0])
    rows = np.where(first, [[0.5, 1.0, 0.1, 1.1]], [[0.5, 0.1, 1.0, 1.1]])
    return cost, worth * rows


def test_what_is_the_best_for_some_is_kept_though_for_all_it_is_worse():
    cost, gain = two_kinds()
    every = gain.mean(axis=0)
    line = concave(every[None], cost)[0]
    assert every[1] < line[1] and every[2] < line[2]  # below the line of the others
    kept = worth_having(cost, gain)
    assert kept.tolist() == [0, 1, 2, 3]
    solved = solver.solve(gain[:, kept], cost[kept], 2.1 * len(gain), floor=True)
    assert solved.gain > 1.3 * len(gain) * np.interp(2.1, cost, line)


@given(st.integers(1, 30), st.integers(0, 1000))
def test_one_plan_for_everyone_is_always_had(actions, seed):
    rng = np.random.default_rng(seed)
    cost, gain = rng.uniform(1, 9, actions), rng.lognormal(0, 1, (40, actions))
    kept = worth_having(cost, gain)
    assert len(kept) <= MOST and len(set(kept.tolist())) == len(kept)
    assert (np.diff(cost[kept]) >= 0).all()
    assert int(gain.mean(axis=0).argmax()) in kept
    assert set(pareto(cost, gain.mean(axis=0), MOST // 2).tolist()) <= set(kept.tolist())


def test_where_all_requests_are_alike_only_the_best_for_all_are_kept():
    cost = np.arange(1.0, 6.0)
    gain = np.ones((50, 1)) * np.array([1.0, 0.9, 1.5, 1.4, 1.6])
    assert worth_having(cost, gain).tolist() == [0, 2, 4]
    assert worth_having(cost, np.ones((50, 5))).tolist() == [0]


def test_gains_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="value formula"):
        worth_having([1.0, 2.0], [[1.0, float("nan")], [1.0, 2.0]])
