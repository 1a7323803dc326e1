"""Several budgets: all kept, and close to what linear programming reaches."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, identity, kron, vstack

from headrace.allocation import budgets, solver


def relaxed(gain, cost_RJ, budget_R):
    size, _ = gain.shape
    spent = csr_matrix(np.tile(cost_RJ, (1, size)))
    upper = vstack([spent, kron(identity(size), np.ones((1, gain.shape[1])))])
    done = linprog(-gain.ravel(), A_ub=upper, b_ub=np.concatenate([budget_R, np.ones(size)]))
    return -done.fun


@pytest.mark.parametrize("seed", range(3))
def test_as_linear_programming(seed):
    rng = np.random.default_rng(seed)
    cost = np.stack([np.arange(1, 9.0), np.sqrt(np.arange(1, 9.0)), rng.uniform(0, 3, 8)])
    gain = rng.lognormal(0, 1, (600, 1)) * np.sqrt(cost).sum(0)
    budget = np.array([900.0, 700.0, 500.0])
    solved = budgets.solve(gain, cost, budget)
    best = relaxed(gain, cost, budget)
    assert (solved.spend <= budget * (1 + 1e-12)).all()
    assert best * (1 - 1e-9) <= solved.bound <= best * 1.002
    assert solved.gain >= best * 0.99
    assert (solved.price >= 0).all()


def test_one_budget_is_the_plain_problem():
    gain = np.random.default_rng(1).lognormal(0, 1, (500, 4)).cumsum(axis=1)
    cost = np.array([1.0, 2.0, 3.0, 4.0])
    one, many = solver.solve(gain, cost, 900.0), budgets.solve(gain, cost[None], [900.0])
    assert many.bound == pytest.approx(one.bound, rel=1e-4)
    assert many.gain == pytest.approx(one.gain, rel=5e-3)


def test_a_budget_that_does_not_bind_is_free():
    gain = np.random.default_rng(1).lognormal(0, 1, (200, 2))
    solved = budgets.solve(gain, [[1.0, 2.0], [1.0, 1.0]], [100.0, 1e6])
    assert solved.price[0] > 0 and solved.price[1] == pytest.approx(0, abs=1e-9)
    rich = budgets.solve(gain, [[1.0, 2.0]], [1e6])
    assert rich.gain == pytest.approx(gain.max(axis=1).sum())
    assert len(budgets.solve(np.zeros((0, 2)), [[1.0, 2.0]], [1.0]).choice) == 0


@pytest.mark.parametrize(
    ("cost", "budget", "message"),
    [
        ([[1.0]], [1.0], "does not go with"),
        ([[1.0, -1.0]], [1.0], "cost"),
        ([[1.0, 1.0]], [0.0], "budget"),
        ([[1.0, 1.0]], [np.nan], "budget"),
    ],
)
def test_what_makes_no_sense_is_refused(cost, budget, message):
    with pytest.raises(ValueError, match=message):
        budgets.solve([[1.0, 2.0]], cost, budget)


def pool(size=2000, actions=12, seed=0):
    """Gains with diminishing returns, and three costs that rise together, none in step."""
    rng = np.random.default_rng(seed)
    cpu = np.sort(rng.uniform(1, 10, actions))
    cost = np.stack([cpu, cpu * rng.uniform(1, 1.4, actions), np.linspace(1, 6, actions).round()])
    worth, pace = rng.lognormal(0, 1, (size, 1)), rng.lognormal(np.log(0.3), 0.7, (size, 1))
    return worth * (1 - np.exp(-pace * cpu)), cost


def spent(gain, cost, price):
    choice = np.argmax(gain - price @ cost, axis=1)
    return cost[:, choice].sum(axis=1), gain[np.arange(len(gain)), choice].sum()


@pytest.mark.parametrize(
    ("share", "binds"),
    [
        ((0.4, 9, 9), (True, False, False)),
        ((0.9, 9, 0.3), (False, False, True)),
        ((9, 0.3, 0.9), (False, True, False)),
        ((9, 9, 9), (False, False, False)),
        ((np.inf, 0.3, np.inf), (False, True, False)),
    ],
)
def test_live_prices_are_of_what_binds(share, binds):
    gain, cost = pool()
    least, most = (x * len(gain) for x in (cost.min(axis=1), cost.max(axis=1)))
    budget = least + np.array(share) * (most - least)
    price = budgets.prices(gain, cost, budget)
    assert ((price > 0) == binds).all()
    took, worth = spent(gain, cost, price)
    assert (took <= budget * (1 + 1e-6)).all()
    best = [solver.solve(gain, c, b, floor=True).gain for c, b in zip(cost, budget, strict=True)]
    assert worth >= 0.999 * min(best)


@pytest.mark.parametrize("seed", range(3))
def test_live_prices_where_several_bind(seed):
    gain, cost = pool(seed=seed)
    best = solver.solve(gain, cost[0], 4.5 * len(gain), floor=True).choice
    budget = cost[:, best].sum(axis=1) * np.array([1.0, 1.2, 0.97])
    price = budgets.prices(gain, cost, budget)
    took, worth = spent(gain, cost, price)
    assert (took <= budget * (1 + 1e-6)).all()
    assert worth >= 0.98 * budgets.solve(gain, cost, budget).bound
    warm = budgets.prices(gain, cost, budget, price)
    assert (spent(gain, cost, warm)[0] <= budget * (1 + 1e-6)).all()


def test_live_prices_of_what_cannot_be_kept():
    gain, cost = pool(300)
    price = budgets.prices(gain, cost, np.array([1e-9, 1e9, 1e9]))
    assert np.argmax(gain - price @ cost, axis=1).max() == 0  # the least for everyone
    price = budgets.prices(gain[:, :5], cost[:, :5], np.array([1e9, 1e9, 2.0 * 300]))
    assert np.isfinite(price).all() and price[2] > 0
