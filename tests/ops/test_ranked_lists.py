import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import ranked_lists

ITEMS = 12
lists = st.lists(st.permutations(range(1, ITEMS)).map(lambda p: p[:7]), min_size=1, max_size=3)
asked = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(0, 9), st.lists(st.integers(0, ITEMS + 3))),
    max_size=5,
)


@given(lists, asked)
def test_head_skips_what_is_excluded(lists, asked):
    scratch = np.zeros(ITEMS, np.uint8)
    flat = np.array([i for row in lists for i in row], np.int32)
    offsets, position = ranked_lists.head(
        np.cumsum([0, *map(len, lists)]),
        flat,
        np.array([min(a[0], len(lists) - 1) for a in asked], np.int64),
        np.cumsum([0, *(len(a[2]) for a in asked)]),
        np.array([i for a in asked for i in a[2]], np.int64),
        np.array([a[1] for a in asked], np.int64),
        scratch,
    )
    for b, (which, quota, excluded) in enumerate(asked):
        row = lists[min(which, len(lists) - 1)] if which >= 0 else []
        want = [i for i in row if i not in excluded][:quota]
        assert flat[position[offsets[b] : offsets[b + 1]]].tolist() == want
    assert not scratch.any()
