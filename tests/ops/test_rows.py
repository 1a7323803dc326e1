"""Sums over short rows against NumPy, whatever their width."""

import numpy as np
import pytest
from numba import njit

from headrace.ops.rows import add_multiplied, add_scaled, dot, rectify, rectify_backward

AT = 3  # elements before each row


@njit
def run(a, b, scale, out):
    """All of them, from the same place."""
    width = len(a) - AT
    add_scaled(scale, a, AT, out[0], AT, width)
    add_multiplied(a, AT, b, AT, out[1], AT, width)
    rectify(a, AT, b, AT, out[2], AT, width)
    out[3, AT:], out[4, AT:] = b[AT:], a[AT:]
    rectify_backward(out[3], AT, b, AT, out[4], AT, width)
    return dot(a, AT, b, AT, width)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 48, 51])
def test_rows_of_all_widths(width, dtype):
    a, b = np.random.default_rng(width).normal(size=(2, AT + width)).astype(dtype)
    out = np.zeros((5, AT + width), dtype)
    got = run(a, b, dtype(1.5), out)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    x, y = a[AT:], b[AT:]
    np.testing.assert_allclose(got, x @ y, **close)
    assert (out[:3, :AT] == 0).all()
    np.testing.assert_allclose(out[0, AT:], 1.5 * x, **close)
    np.testing.assert_allclose(out[1, AT:], x * y, **close)
    np.testing.assert_allclose(out[2, AT:], np.where(x > 0, x, y * x), **close)
    np.testing.assert_allclose(out[3, AT:], np.where(x > 0, 0, y * x), **close)  # of the slope
    np.testing.assert_allclose(out[4, AT:], np.where(x > 0, y, y * y), **close)


def test_what_is_no_number_stays_so():
    a, b, out = np.full(AT + 20, np.nan), np.ones(AT + 20), np.zeros((5, AT + 20))
    assert np.isnan(run(a, b, 1.0, out))
    assert np.isnan(out[:, AT:][[0, 1, 2, 3]]).all()
