"""As-of look-ups against a scan of all events."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import history

FAST = settings(max_examples=150, deadline=None, derandomize=True)
USERS, CATEGORIES, TYPES, LAST_MS = 4, 5, 3, 9


@st.composite
def logs(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Event columns in (user, time) order; some users have none."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, USERS - 1),
                st.integers(0, LAST_MS),
                st.integers(0, CATEGORIES - 1),
                st.integers(0, TYPES - 1),
                st.integers(0, 3),
            ),
            max_size=40,
        )
    )
    rows.sort(key=lambda row: row[:2])
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    names = ("user", "time_ms", "category", "type", "item")
    log = dict(zip(names, columns.copy(), strict=True))
    log["user_offsets"] = np.searchsorted(log["user"], np.arange(USERS + 1))
    log["category"] = log["category"].astype(np.int32)
    log["type"] = log["type"].astype(np.uint8)
    return log


def second(log: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The second order with its keys, as it lies on disk."""
    order = history.second_order(log["user_offsets"], log["category"])
    keys = history.category_keys(log["user_offsets"], log["category"], order)
    return (*keys, order.astype(np.uint32))


users = st.integers(-1, USERS + 1)  # -1 and USERS are outside the log
times = st.integers(-1, LAST_MS + 2)
queries = st.lists(st.tuples(users, times), min_size=1, max_size=6)


def rows_of(positions: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    assert offsets[0] == 0
    assert offsets[-1] == len(positions)
    return [positions[a:z].tolist() for a, z in pairwise(offsets)]


@given(logs(), queries, st.integers(0, 12), st.sets(st.integers(0, TYPES - 1)) | st.none())
@FAST
def test_latest(log, asked, n, types):
    mask = history.EVERY_TYPE if types is None else sum(1 << t for t in types)
    user, before = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    got = history.latest(log["user_offsets"], log["time_ms"], log["type"], user, before, n, mask)
    want = []
    for u, t in asked:
        seen = [
            p
            for p in range(len(log["user"]))
            if log["user"][p] == u
            and log["time_ms"][p] < t
            and (types is None or log["type"][p] in types)
        ]
        want.append(seen[len(seen) - n :] if n < len(seen) else seen)
    assert rows_of(*got) == want


@given(
    logs(),
    st.lists(st.tuples(users, times, st.integers(-1, CATEGORIES)), min_size=1, max_size=6),
    st.integers(0, 12),
)
@FAST
def test_by_category(log, asked, n):
    user, before, category = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    keys = second(log)
    got = history.by_category(*keys, log["time_ms"], user, category.astype(np.int32), before, n)
    want = []
    for u, t, c in asked:
        seen = [
            p
            for p in range(len(log["user"]))
            if log["user"][p] == u and log["category"][p] == c and log["time_ms"][p] < t
        ]
        want.append(seen[len(seen) - n :] if n < len(seen) else seen)
    assert rows_of(*got) == want


@given(
    logs(),
    st.lists(st.tuples(users, times, st.integers(-1, CATEGORIES)), min_size=1, max_size=6),
    st.integers(0, 12),
)
@FAST
def test_of_category_answers_without_a_second_order(log, asked, n):
    user, before, category = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    keys = second(log)
    want = history.by_category(*keys, log["time_ms"], user, category, before, n)
    columns = (log["user_offsets"], log["category"], log["time_ms"])
    got = history.of_category(*columns, user, category, before, n)
    assert rows_of(*got) == rows_of(*want)


@given(logs())
@FAST
def test_the_second_order_and_its_keys(log):
    key_offsets, key_category, key_start, order = second(log)
    positions = range(len(log["user"]))
    by_key: dict[tuple[int, int], list[int]] = {}
    for p in positions:
        by_key.setdefault((int(log["user"][p]), int(log["category"][p])), []).append(p)
    want = sorted(by_key)
    owner = np.repeat(np.arange(USERS), np.diff(key_offsets)).tolist()
    assert list(zip(owner, key_category.tolist(), strict=True)) == want
    assert rows_of(order, key_start) == [by_key[key] for key in want]


row = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)), max_size=8)


@given(st.lists(st.tuples(row, row), min_size=1, max_size=4), st.integers(0, 10))
@FAST
def test_merge(pairs, n):
    (a, offsets_a), (b, offsets_b) = (flat(rows) for rows in zip(*pairs, strict=True))
    positions, offsets = history.merge(*a.T, offsets_a, *b.T, offsets_b, n)
    both = np.concatenate([a, b]).tolist()
    times = history.pick(a[:, 0], b[:, 0], positions)
    assert times.tolist() == [both[p][0] for p in positions]
    want = [sorted(x | y)[max(0, len(x | y) - n) :] for x, y in pairs]
    found = [[tuple(both[p]) for p in row] for row in rows_of(positions, offsets)]
    assert found == want
    for (x, _), row in zip(pairs, rows_of(positions, offsets), strict=True):
        assert all(p < len(a) for p in row if tuple(both[p]) in x)  # of equals the first stays


def flat(rows):
    values = np.array([v for row in rows for v in sorted(row)], np.int64).reshape(-1, 3)
    return values, np.cumsum([0, *(len(row) for row in rows)])


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=6),
)
@FAST
def test_counters(rows, asked):
    asked = [(key % len(rows), item) for key, item in asked]
    item_E = np.array([item for row in rows for item in row], np.int64)
    time_E = np.arange(len(item_E)) * 10 + 5
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    key, item = (np.array([q[i] for q in asked], np.int64) for i in (0, 1))
    got = [c.tolist() for c in history.counters(item_E, time_E, offsets, key, item)]
    for n, (k, i) in enumerate(asked):
        mine = [p for p in range(offsets[k], offsets[k + 1]) if item_E[p] == i]
        assert got[0][n] == len(mine)
        assert got[1][n] == len(rows[k])
        assert got[2][n] == (time_E[mine[-1]] if mine else -1)
        assert got[3][n] == (time_E[offsets[k + 1] - 1] if rows[k] else -1)


@pytest.mark.parametrize("n", [1, 3, 10_000])
def test_an_event_at_the_time_of_the_request_is_not_seen(n):
    offsets, time_ms = np.array([0, 3]), np.array([10, 20, 20])
    kind, user = np.zeros(3, np.uint8), np.zeros(1, np.int64)
    for before, seen in ((10, 0), (11, 1), (20, 1), (21, 3)):
        asked = np.array([before])
        positions, _ = history.latest(offsets, time_ms, kind, user, asked, n, history.EVERY_TYPE)
        assert len(positions) == min(n, seen)
