"""Estimators: they learn, tell who is suited by what, and are read back bit for bit."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.allocation import gains, solver
from headrace.ops.concave import concave

COST = np.array([1.0, 2.0, 4.0, 8.0])


def planted(size=2000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 3))
    worth = np.exp(0.7 * x[:, 0])
    q = worth[:, None] * (1 - np.exp(-0.4 * COST)) * rng.lognormal(0, 0.2, (size, 1))
    return x, q, worth


def fitted(kind, x, q, **how):
    return gains.Gains.fit(kind, [x] * len(COST), q, np.arange(len(q)), **how)


@pytest.mark.parametrize("kind", ["linear", "gbdt"])
def test_it_learns_what_is_there(kind):
    x, q, _ = planted()
    told = fitted(kind, x, q)[0].predict(planted(seed=1)[0])
    assert np.corrcoef(told[:, -1], planted(seed=1)[2])[0, 1] > 0.85


@pytest.mark.parametrize("kind", ["linear", "gbdt"])
def test_restored_bit_for_bit(kind):
    x, q, _ = planted(500)
    model, _ = fitted(kind, x, q)
    again = gains.Gains.from_arrays(kind, model.arrays())
    assert np.array_equal(model.predict(x[:7]), again.predict(x[:7]))


def test_trees_are_those_of_the_library(monkeypatch):
    made = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a: made.append(train(*a)) or made[-1])
    x, q, _ = planted(800)
    told = gains.Trees.fit([x] * len(COST), q).predict(x)
    theirs = [model.predict(x) * q[:, j].std() for j, model in enumerate(made)]
    assert np.allclose(told, np.stack(theirs, axis=1))


@pytest.mark.parametrize("kind", ["linear", "gbdt"])
def test_what_cannot_be_foreseen_is_taken_to_be_alike(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3))
    q = rng.lognormal(0, 1, (1000, 1)) * np.sqrt(COST)
    model, pool = fitted(kind, x, q)
    told = model.predict(x)
    assert told[:, -1].std() < 0.15 * q[:, -1].std()
    assert np.allclose(told.mean(axis=0), q.mean(axis=0), rtol=0.1)
    assert pool[:, -1].std() < 0.15 * q[:, -1].std()


def test_estimates_are_of_models_that_did_not_see_the_user():
    """Gains that are a user's own noise: fitted on itself it would look foreseen."""
    rng = np.random.default_rng(0)
    user = np.arange(400) // 2
    x = user[:, None].astype(float)
    q = rng.lognormal(0, 1, 200)[user][:, None] * COST
    _, pool = gains.Gains.fit("gbdt", [x] * len(COST), q, user)
    assert np.corrcoef(pool[:, -1], q[:, -1])[0, 1] < 0.3


def test_chains_are_told_apart():
    x, q, _ = planted()
    model, _ = fitted("gbdt", x, q, chain_J=np.array([0, 1, 0, 1]))
    told = model.predict(x)
    alone, _ = gains.Gains.fit("gbdt", [x] * 2, q[:, [0, 2]], np.arange(len(q)))
    assert np.allclose(told[:, [0, 2]], alone.predict(x))
    assert np.allclose(told.mean(axis=0), q.mean(axis=0), rtol=0.1)


def test_what_suits_only_some_is_told_to_them():
    """A plan that is the worst for most and the best for the rest, between two that suit all."""
    x, q, _ = planted(6000)
    some = x[:, 1] > 1
    q = np.insert(q[:, :3], 2, np.where(some, 1.5 * q[:, 3], 0.3 * q[:, 0]), axis=1)
    early, late = np.arange(6000) < 3000, np.arange(6000) >= 3000
    told = fitted("gbdt", x[early], q[early])[0].predict(x[late])
    best = solver.choose(told - told[:, :1], COST - COST[0], 0.05)
    chosen, suits = best == 2, some[late]
    assert chosen[suits].mean() > 0.9 and chosen[~suits].mean() < 0.05


@given(st.integers(1, 7), st.floats(0, 3), st.integers(0, 1000))
def test_who_chooses_by_estimates_goes_by_their_hull(actions, price, seed):
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(0, 5, actions))
    told = rng.normal(size=(20, actions)).cumsum(axis=1)
    hull = concave(told, cost)
    chosen = solver.choose(told + 1000, cost, price)  # so that nobody goes without
    worth = told[np.arange(len(told)), chosen] - price * cost[chosen]
    assert np.allclose(worth, (hull - price * cost).max(axis=1))


@given(st.integers(1, 7), st.integers(0, 1000))
def test_the_concave_hull(actions, seed):
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(0, 5, actions))
    gain = rng.normal(size=(3, actions))
    told = concave(gain, cost)
    assert (told >= np.maximum.accumulate(gain, axis=1) - 1e-12).all()
    assert (np.diff(told) >= -1e-12).all()
    if actions > 2:
        slopes = np.diff(told) / np.diff(cost)
        assert (np.diff(slopes) <= 1e-6 * (1 + np.abs(slopes[:, 1:]))).all()
    assert np.array_equal(told[:, 0], gain[:, 0])
    assert np.allclose(told[:, -1], gain.max(axis=1))
