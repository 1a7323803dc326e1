"""The merge kernels against dictionaries."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import union

ITEMS = 9
ranked = st.permutations(range(1, ITEMS)).flatmap(
    lambda p: st.integers(0, ITEMS - 1).map(lambda n: list(p)[:n])
)
lists = st.integers(1, 3).flatmap(
    lambda size: st.lists(st.lists(ranked, min_size=size, max_size=size), min_size=1, max_size=4)
)
WORTH = np.array([[1.5, 1, 0.5], [1.25, 0.25, -0.5], [0.5, 0.5, 0.25], [2, 0.125, 0]], np.float32)


def columns(lists):
    """Lists by channel, then request, end to end, with the offsets of each channel."""
    flat = np.array([i for channel in lists for row in channel for i in row], np.int64)
    lengths = np.array([[len(row) for row in channel] for channel in lists])
    ends = lengths.cumsum().reshape(lengths.shape)
    starts = np.concatenate([[0], ends.ravel()])[:-1].reshape(lengths.shape)
    return flat, np.concatenate([starts, ends[:, -1:]], axis=1)


@given(lists, st.integers(0, 10), st.booleans())
def test_merge_adds_up_worths_or_takes_the_best(lists, quota, adds_up):
    flat, offsets_CX = columns(lists)
    scratch = np.zeros(ITEMS, np.int32)
    size = len(lists[0])
    out, item, worth, bits = union.merge(
        flat, offsets_CX, WORTH[: len(lists)], adds_up, np.full(size, quota), scratch
    )
    for b in range(size):
        want, by = {}, {}
        for c, channel in enumerate(lists):
            for place, i in enumerate(channel[b]):
                this = float(WORTH[c, min(place, 2)])
                old = want.get(i)
                want[i] = this if old is None else old + this if adds_up else max(old, this)
                by[i] = by.get(i, 0) | 1 << c
        order = sorted(want, key=lambda i: -want[i])[:quota]  # stable: first mention first
        got = slice(out[b], out[b + 1])
        assert item[got].tolist() == order
        assert worth[got].tolist() == [want[i] for i in order]
        assert bits[got].tolist() == [by[i] for i in order]
    assert not scratch.any()


@given(lists)
def test_collect_knows_every_place(lists):
    flat, offsets_CX = columns(lists)
    scratch = np.zeros(ITEMS, np.int32)
    out, item, place = union.collect(flat, offsets_CX, scratch)
    for b in range(len(lists[0])):
        items = item[out[b] : out[b + 1]].tolist()
        assert items == list(dict.fromkeys(i for channel in lists for i in channel[b]))
        for i, places in zip(items, place[out[b] : out[b + 1]].tolist(), strict=True):
            assert places == [c[b].index(i) if i in c[b] else -1 for c in lists]
    assert not scratch.any()
