"""Polynomials against NumPy in float64."""

import numpy as np
from numba import njit

from headrace.ops import fast_math


@njit
def exp_each(x_N, out_N):
    for n in range(len(x_N)):
        out_N[n] = fast_math.exp(x_N[n])


@njit
def log_each(x_N, out_N):
    for n in range(len(x_N)):
        out_N[n] = fast_math.log(x_N[n])


def of(each, x_N):
    out_N = np.empty_like(x_N)
    each(x_N, out_N)
    return out_N


def test_exp():
    x_N = np.linspace(-87, 88, 200_003, dtype=np.float32)
    want_N = np.exp(x_N.astype(np.float64))
    assert np.abs(of(exp_each, x_N) / want_N - 1).max() < 1.2e-7


def test_exp_of_what_is_far_below_is_next_to_nothing():
    got = of(exp_each, np.array([-88.0, -1e30, -np.inf, 0.0, np.nan], np.float32))
    assert (got[:3] > 0).all()
    assert (got[:3] < 2e-38).all()
    assert got[3] == 1
    assert np.isnan(got[4])


def test_log():
    x_N = np.exp(np.linspace(-87, 88, 200_003)).astype(np.float32)
    x_N = np.append(x_N, np.linspace(0.5, 2, 10_001, dtype=np.float32))
    want_N = np.log(x_N.astype(np.float64))
    unit_N = np.spacing(np.abs(want_N).astype(np.float32))
    assert (np.abs(of(log_each, x_N) - want_N) / unit_N).max() < 1
