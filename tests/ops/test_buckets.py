"""Intervals of numbers: the compiled way against the plain one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import buckets

numbers = st.one_of(st.floats(-3, 3), st.integers(-3, 3).map(float), st.just(float("nan")))
edges = st.lists(st.integers(-3, 3), unique=True).map(sorted)


@given(edges, st.lists(numbers))
def test_as_numpy_says(edges, numbers):
    edge_M, number_N = np.array(edges, float), np.array(numbers, float)
    got_N = buckets.ids(edge_M, number_N)
    assert got_N.dtype == np.int64
    assert np.array_equal(got_N, buckets.ids_reference(edge_M, number_N))


def test_beyond_all_edges():
    edge_M = np.array([0.0, 1.0])
    assert buckets.ids(edge_M, np.array([-np.inf, 0, 1, np.inf])).tolist() == [1, 2, 3, 3]
