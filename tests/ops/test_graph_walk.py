"""The walk in compiled calls against the search that asks Python for scores."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from headrace.ops import atomics, graph_search, graph_walk
from headrace.ops import graph_walk_kernels as kernels
from headrace.ops.graph_search import Effort
from tests.ops import test_attention_score
from tests.ops.test_attention_score import Case
from tests.ops.test_graph_search import efforts, random_graph


def scorer(case, threads=1):
    return test_attention_score.scorer(case, case.table, threads)


def case_of(rng, items, groups=0):
    return Case(rng, items, 1, 4, 9, 6, (7, 3), 1.0, False, groups)


def by_search(graph, scorers, most, effort, **given_):
    """All requests in one search, each scored by its scorer."""

    def score(row_N, item_N):
        out_N = np.empty(len(item_N), np.float32)
        for b in np.unique(row_N):
            out_N[row_N == b] = scorers[b](item_N[row_N == b])
        return out_N

    return graph_search.search(graph, score, len(scorers), most, effort, **given_)


def check_same(walked, found):
    assert len(walked) == len(found.offsets) - 1
    for b, one in enumerate(walked):
        row = slice(found.offsets[b], found.offsets[b + 1])
        assert np.array_equal(one.item, found.item[row])
        assert np.array_equal(one.score, found.score[row])
        assert one.offsets.tolist() == [0, len(one.item)]
        assert one.num_scored.tolist() == [found.num_scored[b]]


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 80),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 70),
    efforts,
    st.sampled_from([1.0, 0.5, 0.0]),
    st.booleans(),
    st.sampled_from([0, 2]),
    st.sampled_from([1, 2]),
)
def test_it_finds_what_the_search_finds(
    seed, num_items, num_levels, size, most, effort, share, more, groups, threads
):
    rng = np.random.default_rng(seed)
    graph, cases = random_graph(rng, num_items, num_levels), []
    for _ in range(size):
        cases.append(case_of(rng, num_items, groups))
        cases[-1].table[rng.random(num_items) < 0.1] = np.nan
    filters = {"allowed": rng.random(num_items) < share, "scale_B": rng.choice([0.01, 1, 3], size)}
    if more:
        for name in ("exclude", "seeds"):
            rows = [rng.integers(-2, num_items + 5, rng.integers(0, 9)) for _ in range(size)]
            filters[name] = np.cumsum([0, *map(len, rows)]), np.concatenate(rows)
    scorers = [scorer(case, threads) for case in cases]
    walked = graph_walk.search(graph, scorers, most, effort, **filters)
    check_same(walked, by_search(graph, scorers, most, effort, **filters))


def large():
    """Hops of many tiles."""
    rng = np.random.default_rng(3)
    graph = random_graph(rng, 9_000, 3, 12)
    return graph, case_of(rng, 9_000), Effort(width=(900, 60, 60), hops=(6, 2))


def test_threads_change_nothing():
    graph, case, effort = large()
    want = by_search(graph, [scorer(case)], 200, effort)
    assert want.num_scored[0] > 4_000
    for _ in range(20):
        check_same(graph_walk.search(graph, [scorer(case, 2)], 200, effort), want)


@njit(nogil=True)
def hoard(unit, items, item_X, score_X, board):
    """Take tiles like a helper, and do nothing about them."""
    while not atomics.load(board, kernels._OVER):
        tile = atomics.load(board, kernels._NEXT)
        if tile < atomics.load(board, kernels._END):
            atomics.swap(board, kernels._NEXT, tile, tile + 1)


def test_a_helper_that_never_delivers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(kernels, "help_out", hoard)
    monkeypatch.setattr(graph_walk, "_CORES", 2)
    graph, case, effort = large()
    want = by_search(graph, [scorer(case)], 200, effort)
    check_same(graph_walk.search(graph, [scorer(case, 2)], 200, effort), want)


def test_it_says_where_the_time_went():
    graph, case, effort = large()
    spent = graph_walk.search(graph, [scorer(case)], 200, effort)[0].spent
    assert spent.scoring_s > 0
    assert min(spent.expansion_s, spent.selection_s) >= 0
