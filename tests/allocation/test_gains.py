"""Estimators: they learn, rise with the cost, bend down, and are read back bit for bit."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.allocation import gains
from headrace.ops.concave import concave

COST = np.array([1.0, 2.0, 4.0, 8.0])


def planted(size=2000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 3))
    worth = np.exp(0.7 * x[:, 0])
    q = worth[:, None] * (1 - np.exp(-0.4 * COST)) * rng.lognormal(0, 0.2, (size, 1))
    return x, q, worth


@pytest.mark.parametrize("kind", ["linear", "gbdt"])
def test_it_learns_what_is_there(kind):
    x, q, _ = planted()
    told = gains.KINDS[kind].fit(x, q, COST).predict(planted(seed=1)[0])
    assert np.corrcoef(told[:, -1], planted(seed=1)[2])[0, 1] > 0.9
    assert (np.diff(told) >= 0).all()
    slopes = np.diff(told) / np.diff(COST)
    assert (np.diff(slopes) <= 1e-9).all()


@pytest.mark.parametrize("kind", ["linear", "gbdt"])
def test_restored_bit_for_bit(kind):
    x, q, _ = planted(500)
    model = gains.KINDS[kind].fit(x, q, COST)
    again = gains.KINDS[kind].from_arrays(model.arrays())
    assert np.array_equal(model.predict(x[:7]), again.predict(x[:7]))


def test_trees_are_those_of_the_library(monkeypatch):
    made = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a: made.append(train(*a)) or made[-1])
    x, q, _ = planted(800)
    told = gains.Trees.fit(x, q, COST).predict(x)
    rows = np.column_stack([np.repeat(x, len(COST), axis=0), np.tile(COST, len(x))])
    theirs = made[0].predict(rows).reshape(-1, len(COST)) * np.abs(q).mean()
    assert np.allclose(told, concave(theirs, COST))


def test_estimates_are_of_models_that_did_not_see_the_user():
    """Gains that are a user's own noise: fitted on itself it would look foreseen."""
    rng = np.random.default_rng(0)
    user = np.arange(400) // 2
    x = user[:, None].astype(float)
    q = rng.lognormal(0, 1, 200)[user][:, None] * COST
    crossed = gains.cross_fitted(gains.Trees.fit, x, q, COST, user)
    assert np.corrcoef(crossed[:, -1], q[:, -1])[0, 1] < 0.3


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
