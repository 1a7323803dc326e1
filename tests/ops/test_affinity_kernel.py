"""The affinity kernel against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import affinity

ITEMS, NOW, HALF_LIFE = 10, 500, 80.0
CODES = np.array([[0, 1, 1, 2, 2, 3, 3, 0, 1, 2], [0, 1, 2, 1, 2, 1, 2, 1, 0, 0]], np.int32)
PRIOR = np.array([[1, 0.5, 2.0, 4.0], [1, 3.0, 0.25, 1]], np.float32)
POOL = np.array([9, 3, 1, 7, 5, 2], np.int32)
LOG_SHARE = np.log(np.array([0.3, 0.25, 0.2, 0.15, 0.07, 0.03])).astype(np.float32)
SHOWN_OFFSETS, SHOWN = np.array([0, 2, 2]), np.array([1, 4])  # places in the pool
events = st.lists(
    st.tuples(st.integers(0, ITEMS), st.integers(0, 1), st.integers(0, NOW - 1)), max_size=12
)


def plain(row, mask, shown):
    worth = [
        (i, 0.5 ** ((NOW - t) / HALF_LIFE)) for i, kind, t in row if mask >> kind & 1 and i < ITEMS
    ]
    score = {}
    for place, i in enumerate(POOL.tolist()):
        total = LOG_SHARE[place] + 0.7 * (
            shown >= 0 and place in SHOWN[slice(*SHOWN_OFFSETS[shown : shown + 2])]
        )
        for codes, prior in zip(CODES, PRIOR, strict=True):
            count = sum(w for j, w in worth if codes[j] == codes[i]) if codes[i] > 0 else 0
            total += np.log1p(count / prior[codes[i]]) / len(CODES)
        score[i] = total
    return score


@given(
    st.lists(st.tuples(events, st.integers(-1, 1)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.sets(st.integers(0, ITEMS + 2)),
    st.integers(0, 8),
)
def test_equals_the_formula(asked, mask, excluded, quota):
    size = len(asked)
    flat = [e for row, _ in asked for e in sorted(row, key=lambda e: e[2])]
    place = np.full(ITEMS, -1, np.int32)
    place[POOL] = np.arange(len(POOL))
    pool = affinity.Pool(
        item_P=POOL,
        log_share_P=LOG_SHARE,
        place_I=place,
        code_AI=CODES,
        code_AP=np.ascontiguousarray(CODES[:, POOL]),
        prior_AC=PRIOR,
        type_mask=mask,
        half_life_ms=HALF_LIFE,
        lift=0.7,
        shown_offsets=SHOWN_OFFSETS,
        shown_S=SHOWN,
    )
    offsets, item, score = affinity.rank(
        pool,
        np.cumsum([0, *(len(row) for row, _ in asked)]),
        *(np.array([e[k] for e in flat], np.int64) for k in range(3)),
        np.full(size, NOW),
        np.array([shown for _, shown in asked]),
        np.arange(size + 1) * len(excluded),
        np.array(sorted(excluded) * size, np.int64),
        np.full(size, quota),
    )
    for b, (row, shown) in enumerate(asked):
        want = {i: s for i, s in plain(row, mask, shown).items() if i not in excluded}
        got = item[offsets[b] : offsets[b + 1]].tolist()
        values = score[offsets[b] : offsets[b + 1]]
        assert len(got) == len(set(got)) == min(quota, len(want))
        assert values.tolist() == pytest.approx([want[i] for i in got], rel=1e-4, abs=1e-5)
        assert values.tolist() == pytest.approx(
            sorted(want.values(), reverse=True)[:quota], abs=1e-4
        )
