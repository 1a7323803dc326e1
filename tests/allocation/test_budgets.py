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
