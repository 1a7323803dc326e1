import numpy as np
import pytest

from headrace.ops.row_products import row_products


@pytest.mark.parametrize(
    ("queries", "rows", "width"), [(3, 40, 7), (1, 5, 64), (2, 0, 4), (0, 3, 4)]
)
def test_equals_products_one_by_one(queries, rows, width):
    rng = np.random.default_rng(0)
    table, query = (rng.standard_normal((n, width)).astype(np.float32) for n in (30, queries))
    row = rng.integers(-1, 30, (queries, rows))
    got = row_products(table, row, query)
    want = np.einsum("bnd,bd->bn", table[row.clip(0)].astype(np.float64), query)
    assert got.shape == row.shape
    assert (got[row < 0] == -np.inf).all()
    np.testing.assert_allclose(got[row >= 0], want[row >= 0], rtol=1e-5, atol=1e-5)
