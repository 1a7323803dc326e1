import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops.best import best


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 70), st.integers(0, 60))
def test_equals_a_full_sort(scores, most, size):
    size = min(size, len(scores))
    score = np.array(scores, np.float32)
    item = np.random.default_rng(len(scores)).permutation(len(scores))
    got = best(score, item, size, most)
    assert got.tolist() == np.lexsort((item[:size], -score[:size]))[:most].tolist()
