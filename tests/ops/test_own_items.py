"""Kernels over a user's own items against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import own_items

ITEMS = 9
NOW = 1_000
events = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 2), st.integers(0, NOW - 1)), max_size=25
)
rows = st.lists(events, min_size=1, max_size=4)


def columns(rows):
    """Item, type and time of rows of events, oldest first, and their offsets."""
    flat = [e for row in rows for e in sorted(row, key=lambda e: e[2])]
    offsets = np.cumsum([0, *map(len, rows)])
    return offsets, *(np.array([e[k] for e in flat], np.int64) for k in range(3))


def is_of(mask):
    return lambda event: mask >> event[1] & 1


@given(rows, st.integers(0, 7), st.integers(1, 6))
def test_recent_lists_the_newest_distinct_items(rows, mask, most):
    scratch = np.zeros(ITEMS, np.uint8)
    now = np.full(len(rows), NOW)
    offsets, item, worth = own_items.recent(*columns(rows), now, mask, 100.0, most, scratch)
    for b, row in enumerate(rows):
        last = {}
        for i, _, t in sorted(filter(is_of(mask), row), key=lambda e: e[2]):
            last.pop(i, None)
            last[i] = t
        got = slice(offsets[b], offsets[b + 1])
        want = dict(list(reversed(last.items()))[:most])
        assert sorted(worth[got], reverse=True) == worth[got].tolist()
        assert worth[got].tolist() == pytest.approx(
            [0.5 ** ((NOW - t) / 100) for t in want.values()], rel=1e-5
        )
        if len(set(last.values())) == len(last):  # no ties in time
            assert item[got].tolist() == list(want)
    assert not scratch.any()


@given(rows, st.integers(0, 7), st.integers(0, 6), st.sets(st.integers(0, ITEMS + 2)))
def test_rank_sums_decays(rows, mask, quota, excluded):
    factor = np.linspace(0.5, 2, ITEMS - 2).astype(np.float32)  # the last items have none: 1
    scratch = np.zeros(ITEMS, np.int32)
    size = len(rows)
    offsets, item, score = own_items.rank(
        *columns(rows),
        np.full(size, NOW),
        mask,
        300.0,
        factor,
        np.arange(size + 1) * len(excluded),
        np.array(sorted(excluded) * size, np.int64),
        np.full(size, quota),
        scratch,
    )
    for b, row in enumerate(rows):
        want = {}
        for i, _, t in filter(is_of(mask), row):
            if i > 0 and i not in excluded:
                own = factor[i] if i < len(factor) else 1
                want[i] = want.get(i, 0.0) + own * np.exp((t - NOW) / 300)
        got = dict(
            zip(item[offsets[b] : offsets[b + 1]].tolist(), score[offsets[b] :], strict=False)
        )
        assert len(got) == min(quota, len(want))
        assert got == pytest.approx({i: want[i] for i in got}, rel=1e-5)
        assert list(got.values()) == sorted(got.values(), reverse=True)
        left = [want[i] for i in want if i not in got]
        assert not got or not left or min(got.values()) >= max(left) - 1e-5
    assert not scratch.any()
