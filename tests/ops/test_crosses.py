"""Columns of (request, item) against plain NumPy and plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import buckets, crosses, groups, history

ITEMS, CATEGORIES = 12, 4
CATEGORY_I = np.arange(ITEMS) * 7 % CATEGORIES
HALF_LIFE_MS = 3.0 * crosses.DAY_MS
EDGES = np.array([0, 0.3, 1, 2, 5])
rows = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), max_size=4)


def ragged(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return offsets, np.array([x for row in rows for x in row], np.int64)


@given(rows)
def test_keys_are_the_distinct_pairs(rows):
    offsets, item_N = ragged(rows)
    row_P, category_P, key_N = crosses.keys(offsets, item_N, CATEGORY_I, CATEGORIES)
    row_N = np.repeat(np.arange(len(rows)), np.diff(offsets))
    pair_P, want_N = np.unique(row_N * CATEGORIES + CATEGORY_I[item_N], return_inverse=True)
    assert np.array_equal(row_P * CATEGORIES + category_P, pair_P)
    assert np.array_equal(key_N, want_N)


@given(rows, st.randoms(use_true_random=False))
def test_counters_are_cut_where_plain_ones_are(rows, random):
    offsets, item_N = ragged(rows)
    _, category_P, key_N = crosses.keys(offsets, item_N, CATEGORY_I, CATEGORIES)
    before_P = np.array([random.randrange(10, 20) * crosses.DAY_MS for _ in category_P], np.int64)
    events = [  # of each key, oldest first
        sorted(
            (random.randrange(9 * crosses.DAY_MS), random.choice(np.nonzero(c == CATEGORY_I)[0]))
            for _ in range(random.randrange(4))
        )
        for c in category_P
    ]
    cuts, _ = ragged(events)
    time_E = np.array([t for row in events for t, _ in row], np.int64)
    item_E = np.array([i for row in events for _, i in row], np.int32)
    columns = [5, 0, 3, 1, 2, 4]  # in any order
    wanted = crosses.Counters.of(np.array(columns), [EDGES] * 6)
    got_FN = crosses.counters(
        item_E,
        time_E,
        cuts,
        before_P,
        key_N,
        item_N,
        HALF_LIFE_MS,
        wanted,
    )
    time_N = before_P[key_N]
    own, kin, *lasts = history.counters(item_E, time_E, cuts, key_N, item_N)
    days = [np.where(x >= 0, (time_N - x) / crosses.DAY_MS, np.nan) for x in lasts]
    decay = [
        sum(0.5 ** ((now - t) / HALF_LIFE_MS) for i, t in zip(some, then, strict=True) if i == item)
        for item, now, some, then in (
            (i, now, item_E[cuts[k] : cuts[k + 1]], time_E[cuts[k] : cuts[k + 1]])
            for i, now, k in zip(item_N, time_N, key_N, strict=True)
        )
    ]
    plain = own, days[0], own / np.maximum(kin, 1), decay, kin, days[1]
    for f, column in enumerate(columns):
        want_N = buckets.ids_reference(EDGES, np.asarray(plain[column], float))
        assert np.array_equal(got_FN[f], want_N), crosses.COUNTED[column]


def test_what_was_not_made_yet_is_told():
    id_IF = np.array([[0, 0], [3, 1], [2, 0]], np.int16)
    id_FN, lacking = crosses.made(id_IF, np.array([1, 2, 0, 1]), np.array([1, 0]))
    assert lacking.tolist() == [1, 2]
    assert id_FN[:, [0, 3]].tolist() == [[0, 0], [2, 2]]


@given(
    st.lists(st.sets(st.integers(0, 20)), max_size=4),
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 21)), max_size=9),
)
def test_items_are_found_in_their_groups(shown, asked):
    offsets, item = ragged([sorted(group) for group in shown])
    group_N, item_N = np.array(asked, np.int64).reshape(-1, 2).T
    at_N = groups.find(offsets, item.astype(np.int32), group_N, item_N)
    code_S = np.array([7, 8, 9])
    kind = (np.arange(len(item)) % 3).astype(np.uint8)
    taken_N = groups.taken(kind, code_S, at_N)
    for n, (g, i) in enumerate(asked):
        there = 0 <= g < len(shown) and i in shown[g]
        assert (at_N[n] >= 0) == there
        if there:
            assert offsets[g] <= at_N[n] < offsets[g + 1] and item[at_N[n]] == i
        assert taken_N[n] == (code_S[kind[at_N[n]]] if there else 7)
