"""Item-to-item kernels against loops, and the worked example of the Swing paper."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import co_occurrence, walk

ITEMS = 8
baskets = st.lists(st.sets(st.integers(1, ITEMS - 1), min_size=1), min_size=1, max_size=8)


class Pairs:
    """Both cuts of the same (unit, item) pairs; an item's day in a unit is their sum."""

    def __init__(self, units, num_items=ITEMS):
        pairs = [(u, i) for u, items in enumerate(units) for i in sorted(items)]
        self.num_items = num_items
        self.unit_offsets = np.cumsum([0, *map(len, units)])
        self.item = np.array([i for _, i in pairs], np.int32)
        self.day = np.array([u + i for u, i in pairs], np.int32)
        self.place = np.argsort(self.item, kind="stable")
        counts = np.bincount(self.item, minlength=num_items)
        self.item_offsets = np.concatenate([[0], np.cumsum(counts)])
        self.unit = np.array([u for u, _ in pairs], np.int32)[self.place]

    def cosine(self, weight, fade=None, least=1, keep=100, rows=None):
        fade = np.ones(1000, np.float32) if fade is None else fade
        return co_occurrence.cosine(
            *(rows or (0, self.num_items)),
            self.unit_offsets,
            self.item,
            self.day,
            self.item_offsets,
            self.place,
            self.unit,
            np.asarray(weight, np.float32),
            fade,
            least,
            keep,
        )

    def swing(self, weight, alpha=1.0, most_units=1000, seed=0, keep=100, rows=None):
        return co_occurrence.swing(
            *(rows or (0, self.num_items)),
            self.unit_offsets,
            self.item,
            self.item_offsets,
            self.unit,
            np.asarray(weight, np.float32),
            alpha,
            most_units,
            seed,
            keep,
        )


def weights(graph):
    offsets, neighbour, weight = graph
    return {
        (i, int(neighbour[k])): float(weight[k])
        for i in range(len(offsets) - 1)
        for k in range(offsets[i], offsets[i + 1])
    }


def swing_weight(units):
    return [1 / np.sqrt(len(u)) for u in units]


@given(baskets, st.integers(1, 3))
def test_cosine_equals_the_formula(units, least):
    weight = 1 / np.log1p([len(u) for u in units])
    fade = 0.5 ** (np.arange(1000) / 2)
    got = weights(Pairs(units).cosine(weight, fade.astype(np.float32), least))
    want = {}
    for i in range(ITEMS):
        for j in range(ITEMS):
            shared = [w for u, w in zip(units, weight, strict=True) if i in u and j in u]
            n_i, n_j = (sum(k in u for u in units) for k in (i, j))
            if i != j and len(shared) >= least:
                want[i, j] = sum(shared) * fade[abs(i - j)] / np.sqrt(n_i * n_j)
    assert got == pytest.approx(want, rel=1e-5)


@given(baskets)
def test_swing_equals_the_formula(units):
    got = weights(Pairs(units).swing(swing_weight(units)))
    want = {}
    for i in range(ITEMS):
        for j in range(ITEMS):
            both = [u for u in units if i in u and j in u]
            total = sum(
                1 / np.sqrt(len(u) * len(v)) / (1.0 + len((u & v) - {i}))
                for u, v in combinations(both, 2)
            )
            if i != j and total:
                want[i, j] = total
    assert got == pytest.approx(want, rel=1e-5)


def test_the_worked_example_of_the_swing_paper():
    """Pairs of users that share, besides the seed, 3, 1 and 1 items: 1/4 + 1/2 + 1/2."""
    units = [{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2}]
    assert weights(Pairs(units).swing([1, 1, 1]))[1, 2] == 1.25


@given(baskets)
def test_both_are_symmetric(units):
    pairs = Pairs(units)
    for graph in (pairs.cosine(np.ones(len(units))), pairs.swing(swing_weight(units))):
        weight = weights(graph)
        assert weight == pytest.approx({(j, i): w for (i, j), w in weight.items()}, rel=1e-5)


def test_one_common_user_is_chance_to_swing_and_a_link_to_cosine():
    units = [{1, 2}, {1, 3}, {2, 4}]
    assert (1, 2) in weights(Pairs(units).cosine(np.ones(3)))
    assert (1, 2) not in weights(Pairs(units).swing(np.ones(3)))


@given(baskets, st.integers(0, ITEMS))
def test_rows_do_not_depend_on_how_the_work_is_shared(units, cut):
    pairs = Pairs(units)
    for build in (pairs.cosine, pairs.swing):
        weight = np.ones(len(units))
        whole = weights(build(weight))
        low, high = build(weight, rows=(0, cut)), build(weight, rows=(cut, ITEMS))
        later = {(i + cut, j): w for (i, j), w in weights(high).items()}
        assert weights(low) | later == whole


def test_only_the_best_neighbours_are_kept_best_first():
    units = [{1, 2}, {1, 2}, {1, 2, 3}, {1, 3, 4}]
    offsets, neighbour, weight = Pairs(units).cosine(np.ones(4), keep=2)
    assert neighbour[offsets[1] : offsets[2]].tolist() == [2, 3]
    assert weight[offsets[1]] > weight[offsets[1] + 1]


def test_swing_looks_at_so_many_users_the_same_ones_each_time():
    units = [{1, 2, 3 + u % 5} for u in range(60)]
    pairs, weight = Pairs(units), np.ones(60)
    full = weights(pairs.swing(weight))[1, 2]
    few = weights(pairs.swing(weight, most_units=10, seed=1))[1, 2]
    assert 0 < few < full / 20  # 45 of 1,770 pairs
    assert few == weights(pairs.swing(weight, most_units=10, seed=1))[1, 2]
    draws = {weights(pairs.swing(weight, most_units=10, seed=s))[1, 2] for s in range(8)}
    assert len(draws) > 1


def test_planted_substitutes_are_found_among_random_clicks():
    """40 groups of 12 substitutes and a long tail of 3,000 items; a user takes 3 items of each of 4
    groups, and one click in five is random. Cosine takes accidents with rare items for company.
    """
    rng = np.random.default_rng(5)
    groups, size, users, tail = 40, 12, 1_000, 3_000
    planted = 1 + groups * size
    units = []
    for _ in range(users):
        of = rng.choice(groups, 4, replace=False)
        taken = {1 + int(g) * size + int(k) for g in of for k in rng.choice(size, 3, replace=False)}
        units.append(taken | set(rng.integers(1, planted + tail, 3).tolist()))
    pairs = Pairs(units, planted + tail)

    def recall(graph):
        offsets, neighbour, _ = graph
        found = [
            np.count_nonzero(
                (neighbour[offsets[i] : offsets[i + 1]] - 1) // size == (i - 1) // size
            )
            for i in range(1, planted)
        ]
        return np.mean(found) / (size - 1)

    swing = recall(pairs.swing(swing_weight(units), keep=20))
    cosine = recall(pairs.cosine(1 / np.log1p([len(u) for u in units]), keep=20))
    assert swing >= cosine
    assert swing > 0.8


@given(
    baskets,
    st.lists(st.integers(0, ITEMS + 1), max_size=5),
    st.lists(st.integers(0, ITEMS + 1), max_size=6),
    st.integers(0, 6),
)
def test_gather_adds_up_and_leaves_out(units, seeds, excluded, quota):
    graph = Pairs(units).cosine(np.ones(len(units)))
    worth = np.linspace(1, 2, len(seeds)).astype(np.float32)
    scratch = np.zeros(ITEMS, np.float32)
    offsets, item, score = walk.gather(
        *graph,
        np.array([0, len(seeds)]),
        np.array(seeds, np.int64),
        worth,
        np.array([0, len(excluded)]),
        np.array(excluded, np.int64),
        np.array([quota]),
        scratch,
    )
    want = {}
    for h, w in zip(seeds, worth, strict=True):
        for (i, j), weight in weights(graph).items():
            if i == h and j not in excluded:
                want[j] = want.get(j, 0.0) + weight * w
    assert len(item) == min(quota, len(want)) == offsets[1]
    assert dict(zip(item.tolist(), score.tolist(), strict=True)) == pytest.approx(
        {j: want[j] for j in item.tolist()}, rel=1e-4
    )
    assert sorted(score, reverse=True) == score.tolist()
    if len(item):
        assert min(score) >= max((want[j] for j in want if j not in item), default=0) - 1e-4
    assert not scratch.any()


def test_gather_survives_worths_too_small_for_a_float():
    graph = Pairs([{1, 2}, {1, 2}]).cosine(np.full(2, 1e-30))
    none = np.zeros(0, np.int64)
    seeds, worth = np.full(50, 1), np.full(50, 1e-30, np.float32)
    _, item, _ = walk.gather(
        *graph,
        np.array([0, 50]),
        seeds,
        worth,
        np.zeros(2, np.int64),
        none,
        np.array([5]),
        np.zeros(ITEMS, np.float32),
    )
    assert len(item) == 0
