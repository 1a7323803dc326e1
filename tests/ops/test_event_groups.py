"""A lifetime's groups by the kernel against lists, event by event."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import event_groups
from headrace.ops.event_groups import Folded
from headrace.ops.event_pools import Told

ITEMS, NOW = 12, 5000
STARTS = np.array([1000, 3000])


def case(seed, lengths):
    rng = np.random.default_rng(seed)

    def some(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    size = sum(lengths)
    made = Folded(
        rng.integers(0, 4, ITEMS), some(ITEMS, 3), some(ITEMS, 2), some(3), some(3, 2), STARTS
    )
    told = Told(
        np.concatenate([[0], np.cumsum(lengths)]),
        rng.integers(0, ITEMS, size),
        np.zeros(size, np.int64),
        np.sort(rng.integers(0, NOW, size)),
        np.full(len(lengths), NOW),
    )
    return made, told


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.integers(1, 9),
)
def test_it_groups_the_newest_events(seed, lengths, hits):
    made, told = case(seed, lengths)
    b = len(lengths) - 1
    code_P, start_P, length_P, *columns = event_groups.groups(made, told, b, hits)
    wanted = {}
    for e in range(told.offsets[b], told.offsets[b + 1]):
        wanted.setdefault(int(made.category_I[told.item_E[e]]), []).append(e)
    assert code_P.tolist() == sorted(wanted)
    assert sum(length_P) == len(columns[0])
    for code, start, length in zip(code_P, start_P, length_P, strict=True):
        newest = wanted[code][-hits:]
        item = told.item_E[newest]
        age = np.searchsorted(STARTS, NOW - told.time_E[newest], "right")
        key, bias, value = (column[start : start + length] for column in columns)
        np.testing.assert_array_equal(key, made.key_ID[item])
        np.testing.assert_array_equal(bias, made.bias_G[age])
        np.testing.assert_array_equal(value, made.value_IW[item] + made.age_GW[age])


def test_an_event_of_an_unknown_item_is_an_error():
    made, told = case(0, [3])
    told.item_E[1] = ITEMS
    with pytest.raises(IndexError, match="beyond what was trained on"):
        event_groups.groups(made, told, 0, 5)
