"""Products by tiles against NumPy."""

import numpy as np
import pytest

from headrace.ops.lanes import LANES
from headrace.ops.tiles import add_product, add_product_of_turned


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 5, 6, 13, 52])
@pytest.mark.parametrize("depth", [0, 1, 7, 40])
@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 7])
def test_products_of_all_sizes(rows, depth, vectors, dtype):
    rng = np.random.default_rng(rows)
    a, b = rng.normal(size=(rows, depth)).astype(dtype), rng.normal(size=(depth, vectors * LANES))
    b = b.astype(dtype)
    c = rng.normal(size=(rows, vectors * LANES)).astype(dtype)
    expected, turned = c + a @ b, c.copy()
    add_product(a, b, c)
    add_product_of_turned(np.ascontiguousarray(a.T), b, turned)
    np.testing.assert_allclose(c, expected, atol=1e-4 if dtype == np.float32 else 1e-12)
    np.testing.assert_array_equal(turned, c)


def test_not_a_number_stays_one():
    a, b, c = np.ones((3, 4)), np.ones((4, LANES)), np.zeros((3, LANES))
    a[1, 2] = np.nan
    add_product(a, b, c)
    assert np.isnan(c).all(axis=1).tolist() == [False, True, False]
