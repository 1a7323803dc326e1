"""Item-to-item kernels against loops, and the worked example of the Swing paper."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import co_occurrence

baskets = st.lists(st.sets(st.integers(1, 7), min_size=1), min_size=1, max_size=8)


def arrays(units, num_items=8):
    """Both cuts of the same pairs: unit_offsets, item, item_offsets, place, unit."""
    offsets = np.cumsum([0, *map(len, units)])
    item = np.array([i for u in units for i in sorted(u)], np.int32)
    unit = np.repeat(np.arange(len(units), dtype=np.int32), np.diff(offsets))
    place = np.argsort(item, kind="stable")
    item_offsets = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=num_items))])
    return offsets, item, item_offsets, place, unit[place]


def cosine(units, weight, keep, least=1, days=None, fade=(1.0,)):
    offsets, item, item_offsets, place, unit = arrays(units)
    day = np.zeros(len(item), np.int64) if days is None else days
    return co_occurrence.cosine(
        0,
        8,
        offsets,
        item,
        day,
        item_offsets,
        place,
        unit,
        np.asarray(weight, np.float32),
        np.asarray(fade, np.float32),
        least,
        keep,
    )


def swing(units, keep=100, alpha=1.0, most_units=1000):
    offsets, item, item_offsets, _, unit = arrays(units)
    weight = (1 / np.sqrt([len(u) for u in units])).astype(np.float32)
    return co_occurrence.swing(
        0, 8, offsets, item, item_offsets, unit, weight, alpha, most_units, 1, keep
    )


def weights(graph):
    offsets, neighbour, weight = graph
    return {
        (i, int(neighbour[k])): float(weight[k])
        for i in range(len(offsets) - 1)
        for k in range(offsets[i], offsets[i + 1])
    }


@given(baskets)
def test_cosine_equals_the_formula(units):
    weight = 1 / np.log1p([len(u) for u in units])
    got = weights(cosine(units, weight, 100))
    want = {}
    for i in range(8):
        for j in range(8):
            shared = [w for u, w in zip(units, weight, strict=True) if i in u and j in u]
            n = [sum(k in u for u in units) for k in (i, j)]
            if i != j and shared:
                want[i, j] = sum(shared) / np.sqrt(n[0] * n[1])
    assert got == pytest.approx(want, rel=1e-5)


@given(baskets)
def test_swing_equals_the_formula_and_is_not_fooled_by_one_common_unit(units):
    got = weights(swing(units))
    want = {}
    for i in range(8):
        for j in range(8):
            both = [u for u in units if i in u and j in u]
            total = sum(
                1 / np.sqrt(len(u) * len(v)) / (1.0 + len((u & v) - {i}))
                for u, v in combinations(both, 2)
            )
            if i != j and total:
                want[i, j] = total
    assert got == pytest.approx(want, rel=1e-5)


def test_the_papers_example():
    """Three users of h: A and B share {h, p, r, t...}; unit weights, alpha 1: 1/4 + 1/2 + 1/2."""
    # with weights 1/sqrt taken out again: each pair adds 1 / (alpha + what else it shares)
    units = [{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2}]
    got = weights(swing(units))[1, 2]
    sizes = [4, 4, 2]
    pairs = [(0, 1, 1 / 4), (0, 2, 1 / 2), (1, 2, 1 / 2)]
    assert sum(share for _, _, share in pairs) == 1.25
    assert got == pytest.approx(sum(s / np.sqrt(sizes[a] * sizes[b]) for a, b, s in pairs))


def test_only_the_best_neighbours_are_kept_best_first():
    units = [{1, 2}, {1, 2}, {1, 2, 3}, {1, 3, 4}]
    offsets, neighbour, weight = cosine(units, np.ones(4), 2)
    assert neighbour[offsets[1] : offsets[2]].tolist() == [2, 3]
    assert weight[offsets[1]] > weight[offsets[1] + 1]


@given(
    baskets, st.lists(st.integers(0, 7), max_size=5), st.sets(st.integers(0, 7)), st.integers(0, 6)
)
def test_gather_adds_up_and_leaves_out(units, seeds, excluded, quota):
    graph = cosine(units, np.ones(len(units)), 100)
    weight = weights(graph)
    seed_weight = np.linspace(1, 2, len(seeds)).astype(np.float32)
    offsets, item, score = co_occurrence.gather(
        *graph,
        np.array([0, len(seeds)]),
        np.array(seeds, np.int64),
        seed_weight,
        np.array([0, len(excluded)]),
        np.array(sorted(excluded), np.int64),
        np.array([quota]),
        np.zeros(8, np.float32),
    )
    want = {}
    for h, w in zip(seeds, seed_weight, strict=True):
        for (i, j), weight_ij in weight.items():
            if i == h and i > 0 and j not in excluded:
                want[j] = want.get(j, 0.0) + weight_ij * w
    assert len(item) == min(quota, len(want)) == offsets[1]
    assert dict(zip(item.tolist(), score.tolist(), strict=True)) == pytest.approx(
        {j: want[j] for j in item.tolist()}, rel=1e-4
    )
    assert sorted(score, reverse=True) == score.tolist()


def test_far_apart_counts_less_and_pairs_seen_once_can_be_left_out():
    units = [{1, 2}, {1, 3}]
    days = np.array([0, 2, 0, 0])
    got = weights(cosine(units, np.ones(2), 10, days=days, fade=(1.0, 0.5, 0.25)))
    assert got[1, 2] == pytest.approx(0.25 * got[1, 3])
    assert weights(cosine(units, np.ones(2), 10, least=2)) == {}
