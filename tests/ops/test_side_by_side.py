import numpy as np
import pytest

from headrace.ops.side_by_side import side_by_side

TABLES = (
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.zeros((1, 0), np.float32),
    np.arange(4, dtype=np.float32).reshape(4, 1),
)


def test_rows_lie_as_numpy_lays_them():
    id_FB = np.array([[2, 0], [0, 0], [1, 3]])
    want = np.concatenate([table[ids] for table, ids in zip(TABLES, id_FB, strict=True)], axis=1)
    assert np.array_equal(side_by_side(TABLES, id_FB), want)
    assert side_by_side(TABLES, id_FB[:, :0]).shape == (0, 3)


@pytest.mark.parametrize("beyond", [-1, 4])
def test_an_id_beyond_its_table_is_refused(beyond):
    with pytest.raises(IndexError, match="beyond its table"):
        side_by_side(TABLES, np.array([[0], [0], [beyond]]))
