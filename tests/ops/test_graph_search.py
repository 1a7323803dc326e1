"""The search of a graph against plain sets and loops, and what must hold of any search."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops.graph import Graph, Level
from headrace.ops.graph_search import Effort, pack, search

EVERYTHING = Effort(width=(10_000,), hops=(10_000,))


def level(links, num_items, width=4):
    """A level out of ``{item: neighbours}``."""
    nodes = np.array(sorted(links), np.int32)
    neighbours = np.full((len(nodes), width), -1, np.int32)
    row_of = np.full(num_items, -1, np.int32)
    for row, item in enumerate(nodes.tolist()):
        neighbours[row, : len(links[item])] = links[item]
        row_of[item] = row
    return Level(neighbours, nodes, row_of)


def random_graph(rng, num_items, num_levels=3, width=4):
    """Nested levels with links at random: some nodes have none, some links occur twice."""
    levels, items = [], np.arange(num_items)
    for _ in range(num_levels):
        links = {int(i): rng.choice(items, rng.integers(0, width + 1)).tolist() for i in items}
        levels.append(level(links, num_items, width))
        items = rng.choice(items, math.ceil(len(items) / 3), replace=False)
    return Graph(tuple(levels))


def chain(num_items):
    """Two levels: a chain from item 0, of which alone the coarse level knows."""
    links = {i: [j for j in (i - 1, i + 1) if 0 <= j < num_items] for i in range(num_items)}
    return Graph((level(links, num_items), level({0: []}, num_items)))


class Table:
    """A score read from a table, and what was asked of it."""

    def __init__(self, score_BI):
        self.score_BI, self.calls = score_BI, []

    def __call__(self, row_N, item_N):
        assert (np.diff(row_N) >= 0).all()
        self.calls.append([set(item_N[row_N == b].tolist()) for b in range(len(self.score_BI))])
        assert sum(map(len, self.calls[-1])) == len(item_N)  # none twice
        return self.score_BI[row_N, item_N]


def cut(nodes, score, shown, kept, limit):
    """The best of the nodes: the fewest that hold ``kept`` shown ones, or ``limit``."""
    out = set()
    for i in sorted(nodes, key=lambda i: (-score[i], i)):
        if len(out) == limit or len(out & shown) == kept:
            break
        out.add(i)
    return out


def reference(graph, score_I, most, effort, shown, scale=1.0, seeds=()):
    """One request by sets: what it finds, what it scores hop by hop, the thresholds by level."""
    score = np.where(np.isfinite(score_I), score_I, -np.inf)
    scored, calls, thresholds = set(), [], []

    def answer():
        good = [i for i in scored & shown if np.isfinite(score[i])]
        return sorted(good, key=lambda i: (-score[i], i))[:most]

    def sizes(at):
        kept = min(max(math.ceil(effort.of(at)[0] * scale), 1), graph.num_items)
        return kept, min(max(math.ceil(kept * effort.stretch), kept), graph.num_items)

    last = len(graph.levels) - 1
    scored |= set(graph.levels[last].nodes.tolist())
    calls.append(set(scored))
    front = cut(scored, score, shown, *sizes(last))
    for at in range(last - 1, -1, -1):
        links, seen, new = graph.levels[at], set(front), set(front)
        thresholds.append([])
        if at == 0 and (near := set(seeds) - seen):
            calls.append(near - scored)
            seen |= near
            scored |= near
            front = cut(front | near, score, shown, *sizes(at))
            new = set(front)
        for _ in range(effort.of(at)[1]):
            found = {int(j) for i in new for j in links.neighbours[links.row_of[i]] if j >= 0}
            found -= seen
            if not found:
                break
            seen |= found
            before = answer()
            calls.append(found - scored)
            scored |= found
            pool = front | found if effort.rule == "paper" else found
            front = cut(pool, score, shown, *sizes(at))
            kept, limit = sizes(at)
            full = len(front & shown) >= kept or len(front) >= limit
            thresholds[-1].append(min(score[i] for i in front) if full else -np.inf)
            new = front & found
            if len(set(answer()) - set(before)) < effort.stop * len(answer()):
                break
    return answer(), calls, thresholds, len(scored)


efforts = st.builds(
    Effort,
    width=st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
    hops=st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
    rule=st.sampled_from(["paper", "served"]),
    stop=st.sampled_from([0.0, 0.1, 0.5]),
    stretch=st.sampled_from([1.0, 2.0, 4.0]),
)


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 70),
    efforts,
    st.sampled_from([1.0, 0.7, 0.1, 0.0]),
    st.booleans(),
)
def test_search_equals_sets(seed, num_items, num_levels, size, most, effort, share, seeded):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, num_items, num_levels)
    score_BI = rng.integers(-4, 4, (size, num_items)).astype(np.float32)  # many ties, both signs
    score_BI[score_BI == 0] = rng.choice([0.0, -0.0])
    score_BI[rng.random(score_BI.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    allowed = rng.random(num_items) < share
    excluded = [rng.integers(-2, num_items + 5, rng.integers(0, 6)) for _ in range(size)]
    exclude = np.cumsum([0, *map(len, excluded)]), np.concatenate(excluded)
    scale_B = rng.choice([0.01, 0.5, 1.0, 3.0], size)
    table = Table(score_BI)
    near = [rng.integers(-2, num_items + 5, rng.integers(0, 9)) for _ in range(size * seeded)]
    seeds = (np.cumsum([0, *map(len, near)]), np.concatenate(near)) if seeded else None
    filters = {"allowed": allowed, "exclude": exclude, "scale_B": scale_B, "seeds": seeds}
    found = search(graph, table, size, most, effort, **filters)
    for b in range(size):
        shown = set(np.flatnonzero(allowed).tolist()) - set(excluded[b].tolist())
        items, calls, thresholds, scored = reference(
            *(graph, score_BI[b], most, effort, shown, scale_B[b]),
            [i for i in near[b].tolist() if 0 <= i < num_items] if seeded else (),
        )
        row = slice(found.offsets[b], found.offsets[b + 1])
        assert found.item[row].tolist() == items
        assert np.array_equal(found.score[row], score_BI[b, items])
        assert [call[b] for call in table.calls if call[b]] == [call for call in calls if call]
        assert found.num_scored[b] == scored == len(set().union(*(call[b] for call in table.calls)))
        if effort.rule == "paper":
            for falls in thresholds:
                assert falls == sorted(falls)  # of the worst kept
    assert found.offsets[-1] == len(found.item) == len(found.score)


def islands(rng, num_islands, size):
    """A ring of items each; the rings hang together by one link, the coarse level knows the first.

    Scores fall on the way from ring to ring, and are best in the middle of each.
    """
    num_items, links, score_I = num_islands * size, {}, np.empty(num_islands * size, np.float32)
    for i in range(num_items):
        low, place = i - i % size, i % size
        links[i] = [low + (place + step) % size for step in (1, size - 1)]
        if place == 0:
            links[i] += [j for j in (i - size, i + size) if 0 <= j < num_items]
        score_I[i] = min(place, size - place) + rng.random()
    return Graph((level(links, num_items), level({5: []}, num_items))), score_I


def test_seeds_find_peaks_that_the_walk_misses():
    graph, score_I = islands(np.random.default_rng(5), 8, 40)
    effort = Effort(width=(24,), hops=(30,))
    best = set(np.argsort(-score_I)[:24].tolist())
    item_S = np.arange(8) * 40 + 12  # some way off each peak
    without, with_ = (
        search(graph, Table(score_I[None]), 1, 24, effort, seeds=seeds)
        for seeds in (None, (np.array([0, 8]), item_S))
    )
    assert len(best & set(without.item.tolist())) < 12
    assert set(with_.item.tolist()) == best
    assert with_.num_scored[0] < len(score_I) * 0.7


def test_requests_without_seeds_go_on_beside_those_that_have_some():
    graph, score_I = islands(np.random.default_rng(5), 8, 40)
    effort = Effort(width=(24,), hops=(30,), rule="served", stop=0.01)
    score_BI = np.stack([score_I, score_I])
    both = search(graph, Table(score_BI), 2, 24, effort, seeds=([0, 1, 1], [95]))
    for b, seeds in enumerate((([0, 1], [95]), None)):
        alone = search(graph, Table(score_BI[:1]), 1, 24, effort, seeds=seeds)
        row = slice(both.offsets[b], both.offsets[b + 1])
        assert np.array_equal(both.item[row], alone.item)
        assert both.num_scored[b] == alone.num_scored[0]


def test_seeds_of_other_requests_are_refused():
    with pytest.raises(ValueError, match="seeds have 2 rows, want 1"):
        search(chain(20), Table(np.ones((1, 20))), 1, 5, EVERYTHING, seeds=([0, 1, 1], [3]))


@pytest.mark.parametrize("rule", ["paper", "served"])
def test_alone_is_as_in_a_batch(rule):
    rng = np.random.default_rng(1)
    graph, score_BI = random_graph(rng, 300), rng.standard_normal((8, 300)).astype(np.float32)
    effort = Effort(width=(20, 8, 4), hops=(3, 2), rule=rule, stop=0.1)
    whole = search(graph, Table(score_BI), 8, 15, effort)
    for b in range(8):
        alone = search(graph, Table(score_BI[b : b + 1]), 1, 15, effort)
        row = slice(whole.offsets[b], whole.offsets[b + 1])
        assert np.array_equal(alone.item, whole.item[row])
        assert alone.num_scored[0] == whole.num_scored[b]


def test_wide_enough_finds_all_that_can_be_reached():
    rng = np.random.default_rng(2)
    graph, score_BI = random_graph(rng, 200), rng.standard_normal((1, 200)).astype(np.float32)
    near, reached = set(range(200)), set(graph.levels[-1].nodes.tolist())
    for links in reversed(graph.levels[:-1]):
        near = set(reached)
        while near:
            rows = links.neighbours[[links.row_of[i] for i in near]]
            near = set(rows[rows >= 0].tolist()) - reached
            reached |= near
    found = search(graph, Table(score_BI), 1, 500, EVERYTHING)  # more than there are
    assert found.item.tolist() == sorted(reached, key=lambda i: -score_BI[0, i])
    assert 100 < found.num_scored[0] == len(reached) < 200


def test_more_effort_never_finds_worse():
    rng = np.random.default_rng(3)
    graph, score_BI = random_graph(rng, 400), rng.standard_normal((1, 400)).astype(np.float32)
    worst, scored = -np.inf, 0
    for hops in range(6):
        found = search(graph, Table(score_BI), 1, 10, Effort(width=(15, 5, 5), hops=(hops, 1)))
        assert found.score[-1] >= worst
        assert found.num_scored[0] >= scored
        worst, scored = found.score[-1], found.num_scored[0]


def test_what_may_not_be_returned_is_walked_through():
    score_BI = np.arange(20, dtype=np.float32)[None]
    allowed = np.zeros(20, np.bool_)
    allowed[19] = True  # at the end of a chain of withdrawn items
    for given_ in (allowed, pack(allowed)):
        found = search(chain(20), Table(score_BI), 1, 5, EVERYTHING, allowed=given_)
        assert found.item.tolist() == [19]
    exclude = np.array([0, 19]), np.arange(19)
    found = search(chain(20), Table(score_BI), 1, 5, EVERYTHING, exclude=exclude)
    assert found.item.tolist() == [19]


def test_filters_widen_the_walk_and_not_the_answer():
    """With a tenth of the items allowed, ten times as many nodes are kept, if ``stretch`` lets."""
    rng = np.random.default_rng(4)
    graph, score_BI = random_graph(rng, 900), rng.standard_normal((1, 900)).astype(np.float32)
    effort = Effort(width=(10, 10, 10), hops=(4, 2))
    allowed = rng.random(900) < 0.1
    narrow, wide = (
        search(graph, Table(score_BI), 1, 5, replace(effort, stretch=s), allowed=allowed)
        for s in (1.0, 10.0)
    )
    assert wide.num_scored[0] > 2 * narrow.num_scored[0]
    assert wide.score.sum() > narrow.score.sum()
    assert allowed[wide.item].all()


def test_nothing_may_be_returned():
    score_BI = np.ones((2, 20), np.float32)
    found = search(chain(20), Table(score_BI), 2, 5, EVERYTHING, allowed=np.zeros(20, np.bool_))
    assert found.item.tolist() == []
    assert found.offsets.tolist() == [0, 0, 0]
    assert found.num_scored.tolist() == [20, 20]


def test_scores_that_are_no_numbers():
    score_BI = np.full((1, 20), np.nan, np.float32)
    score_BI[0, 15] = -7.0
    found = search(chain(20), Table(score_BI), 1, 5, EVERYTHING)
    assert found.item.tolist() == [15]
    assert found.score.tolist() == [-7.0]


@pytest.mark.parametrize(("rows", "most"), [(0, 5), (2, 0)])
def test_nothing_asked(rows, most):
    table = Table(np.ones((rows, 20), np.float32))
    found = search(chain(20), table, rows, most, EVERYTHING)
    assert len(found.item) == 0
    assert len(found.offsets) == rows + 1
    assert not table.calls


def test_an_early_stop_saves_hops():
    """Down a chain of falling scores a short answer does not change any more."""
    score_BI = -np.arange(200, dtype=np.float32)[None]
    full, early = (
        search(chain(200), Table(score_BI), 1, 5, replace(EVERYTHING, stop=stop))
        for stop in (0.0, 0.1)
    )
    assert full.item.tolist() == early.item.tolist() == [0, 1, 2, 3, 4]
    assert full.num_scored[0] == 200
    assert early.num_scored[0] < 10


def test_arrays_that_do_not_fit():
    table = Table(np.ones((2, 20), np.float32))
    with pytest.raises(ValueError, match="scale_B has shape"):
        search(chain(20), table, 2, 5, EVERYTHING, scale_B=np.ones(3))
    with pytest.raises(ValueError, match="exclude has 1 rows"):
        search(chain(20), table, 2, 5, EVERYTHING, exclude=(np.array([0, 1]), np.array([3])))
    with pytest.raises(ValueError, match="does not describe 20 items"):
        search(chain(20), table, 2, 5, EVERYTHING, allowed=np.ones(21, np.bool_))
    with pytest.raises(ValueError, match="answered with shape"):
        search(chain(20), lambda row, item: np.ones(1, np.float32), 2, 5, EVERYTHING)
