"""Counts and shares of whole days against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import popularity

ITEMS, DAYS = 5, 9
events = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, DAYS)), max_size=30)
asked = st.lists(st.tuples(st.integers(-1, ITEMS), st.integers(0, DAYS + 3)), max_size=10)


def cumulated(events):
    item, day = np.array(events, np.int64).reshape(-1, 2).T
    return popularity.cumulate(item, day, np.argsort(day, kind="stable"), ITEMS)


@given(events, asked, st.integers(1, 5))
def test_whole_days_before_are_counted(events, asked, window):
    item, day = np.array(asked, np.int64).reshape(-1, 2).T
    got = popularity.count(*cumulated(events), item, day, window)
    for n, (i, today) in enumerate(asked):
        assert got[n] == sum(e == i and today - window <= d < today for e, d in events)


@given(events, asked, st.integers(1, 5))
def test_a_share_of_itself_is_one_where_there_is_any(events, asked, window):
    offsets, day, total = cumulated([*events, *((0, d) for d in range(DAYS))])
    item, today = np.array(asked, np.int64).reshape(-1, 2).T
    of = popularity.count(offsets, day, total, item, today, window)
    got = popularity.share(offsets, day, total, total, item, today, window, 3.0)
    assert np.array_equal(np.isnan(got), of == 0)
    assert got[of > 0] == pytest.approx((of[of > 0] + 3) / (of[of > 0] + 3))


def test_items_are_tallied():
    count_I = np.array([0, 1, 0], np.int32)
    popularity.tally(count_I, np.array([1, 2, 1]))
    assert count_I.tolist() == [0, 3, 1]
