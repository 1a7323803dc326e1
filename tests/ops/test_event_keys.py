"""Keys and values of events by the kernel against the formula, number by number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import event_keys
from headrace.ops.attention_score import PADDING
from headrace.ops.event_keys import Folded
from headrace.ops.event_pools import Told
from headrace.ops.lanes import padded

ITEMS, KINDS, WIDTH = 7, 3, 5
STARTS = np.array([1000, 3000])


def made(rng, heads, depth, values):
    """Weights at random; the number of a value's columns is padded, as of all keys'."""

    def some(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    key_VX = padded(some(WIDTH, heads * depth))
    high = padded(some(1, values)).shape[1]

    def sides(size):
        zeros = np.zeros((size, key_VX.shape[1]), np.float32)
        return np.concatenate([zeros, some(size, heads * high)], axis=1)

    return Folded(
        some(ITEMS, WIDTH),
        np.concatenate([key_VX, some(WIDTH, heads * high)], axis=1),
        sides(KINDS),
        sides(len(STARTS) + 1),
        some(KINDS, heads),
        some(len(STARTS) + 1, heads),
        STARTS,
        some(heads),
        some(heads, high),
        depth,
    )


def told(rng, lengths):
    size = sum(lengths)
    return Told(
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.integers(0, ITEMS, size),
        rng.integers(0, KINDS, size),
        np.sort(rng.integers(0, 5000, size)),
        np.full(len(lengths), 5000),
    )


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 20),
)
def test_it_is_the_formula(seed, lengths, most, heads, depth, values):
    rng = np.random.default_rng(seed)
    folded, events = made(rng, heads, depth, values), told(rng, lengths)
    b = len(lengths) - 1
    key_AQL, bias_AL, value_ALH = event_keys.keys(folded, events, b, most)
    newest = range(events.offsets[b], events.offsets[b + 1])[-most:]
    for a in range(heads):
        assert not key_AQL[a, :, 0].any()
        assert bias_AL[a, 0] == folded.nothing_A[a]
        assert np.array_equal(value_ALH[a, 0], folded.nothing_AH[a])
        assert (bias_AL[a, 1 + len(newest) :] == PADDING).all()
        for at, e in enumerate(newest, 1):
            kind, age = events.kind_E[e], np.searchsorted(STARTS, 5000 - events.time_E[e], "right")
            told_X = folded.vector_IV[events.item_E[e]].astype(np.float64) @ folded.weight_VX
            key_Q = told_X[a * depth : (a + 1) * depth]
            np.testing.assert_allclose(key_AQL[a, :, at], key_Q / np.linalg.norm(key_Q), atol=1e-5)
            told_X += folded.kind_KX[kind] + folded.age_GX[age]
            value_AH = told_X[len(told_X) - value_ALH[:, 0].size :].reshape(heads, -1)
            np.testing.assert_allclose(value_ALH[a, at], value_AH[a], atol=1e-5)
            bias = folded.bias_KA[kind, a] + folded.bias_GA[age, a]
            np.testing.assert_allclose(bias_AL[a, at], bias, atol=1e-5)


@pytest.mark.parametrize("column", ["item_E", "kind_E"])
@pytest.mark.parametrize("unknown", [-1, 1000])
def test_an_event_of_what_is_not_there_is_an_error(column, unknown):
    rng = np.random.default_rng(0)
    events = told(rng, [3])
    getattr(events, column)[1] = unknown
    with pytest.raises(IndexError, match="beyond what was trained on"):
        event_keys.keys(made(rng, 1, 4, 4), events, 0, 10)
