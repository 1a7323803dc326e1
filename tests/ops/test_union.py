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


def columns(lists):
    """Lists by channel, then request, end to end, with the offsets of each channel."""
    flat = np.array([i for channel in lists for row in channel for i in row], np.int64)
    lengths = np.array([[len(row) for row in channel] for channel in lists])
    ends = lengths.cumsum().reshape(lengths.shape)
    starts = np.concatenate([[0], ends.ravel()])[:-1].reshape(lengths.shape)
    return flat, np.concatenate([starts, ends[:, -1:]], axis=1)


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


@given(lists)
def test_quadratic_is_the_form(lists):
    flat, offsets_CX = columns(lists)
    _, _, place_MC = union.collect(flat, offsets_CX, np.zeros(ITEMS, np.int32))
    nearness_P = np.array([1.0, 0.5, 0.25])
    size = 1 + 2 * len(lists)
    weight_ZZ = np.triu(np.random.default_rng(0).normal(size=(size, size)))
    z_MZ = np.ones((len(place_MC), size))
    z_MZ[:, 1::2] = place_MC >= 0
    z_MZ[:, 2::2] = np.where(place_MC >= 0, nearness_P[place_MC.clip(0, 2)], 0)
    got = union.quadratic(place_MC, nearness_P, weight_ZZ)
    np.testing.assert_allclose(got, np.einsum("mi,ij,mj->m", z_MZ, weight_ZZ, z_MZ), atol=1e-12)
