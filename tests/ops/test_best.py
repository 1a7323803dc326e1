import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops.best import best

FEW = st.integers(0, 5).map(float)  # many are equal
ANY = st.floats(width=32, allow_nan=False)  # infinite, negative, -0
NEAR = st.integers(0, 9).map(lambda n: 1 + n * 2.0**-40)  # equal in single precision


@given(
    st.one_of(st.lists(each, max_size=60) for each in (FEW, ANY, NEAR)),
    st.integers(0, 70),
    st.integers(0, 60),
)
def test_equals_a_full_sort(scores, most, size):
    size = min(size, len(scores))
    score = np.array(scores)
    item = np.random.default_rng(len(scores)).permutation(len(scores))
    got = best(score, item, size, most)
    assert got.tolist() == np.lexsort((item[:size], -score[:size]))[:most].tolist()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_equals_a_full_sort_of_many(scale):
    rng = np.random.default_rng(0)
    score, item = (scale * rng.gamma(0.2, 1, 20_000)).astype(np.float32), rng.permutation(20_000)
    for most in (1, 400, 19_999, 20_000):
        got = best(score, item, len(score), most)
        assert (got == np.lexsort((item, -score))[:most]).all()
