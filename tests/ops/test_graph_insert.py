"""Insertion against the algorithm in plain loops, and what must hold of the graph it leaves."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops.graph import Graph, Level
from headrace.ops.graph_insert import insert
from headrace.ops.graph_search import Effort, search

LINKS, WIDE = 4, 10_000


def empty(num_items, coarse):
    """Two levels without a link; the coarse one holds the first few items."""
    every, first = np.arange(num_items, dtype=np.int32), np.arange(coarse, dtype=np.int32)
    row_of = np.full(num_items, -1, np.int32)
    row_of[:coarse] = first
    fine = Level(np.full((num_items, 2 * LINKS), -1, np.int32), every, every)
    return Graph((fine, Level(np.full((coarse, LINKS), -1, np.int32), first, row_of)))


def rows(level):
    return {
        int(i): [j for j in row.tolist() if j >= 0]
        for i, row in zip(level.nodes, level.neighbours, strict=True)
    }


def choose(vector, item, near, width):
    """Algorithm 4 where there are too many."""
    near = sorted(near, key=lambda j: (distance(vector, item, j), j))
    if len(near) <= width:
        return near
    out = []
    for j in near:
        if all(distance(vector, j, k) >= distance(vector, item, j) for k in out):
            out.append(j)
    return out[:width]


def distance(vector, i, j):
    return float(((vector[i] - vector[j]) ** 2).sum())


def reachable(links, sources):
    seen, new = set(sources), set(sources)
    while new:
        new = {j for i in new for j in links[i]} - seen
        seen |= new
    return seen


def linked(vector, links, sources, item, width):
    """The links of a level after an item is put in, everything that can be reached in view."""
    links = {i: list(row) for i, row in links.items()}
    links[item] = choose(vector, item, reachable(links, sources) - {item}, width)
    for i in links[item]:
        if item in links[i]:
            continue
        if len(links[i]) < width:
            links[i].append(item)
        else:
            links[i] = choose(vector, i, [*links[i], item], width)
    return links


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 25))
def test_insertion_equals_the_algorithm(seed, num_old, num_new):
    """Whole numbers as coordinates: sums are exact, and ties common."""
    rng = np.random.default_rng(seed)
    vector = rng.integers(-3, 4, (num_old + num_new, 3)).astype(np.float32)
    old, joining = empty(num_old, num_old), range(num_old, num_old + num_new)
    new = insert(old, vector, np.array(joining), WIDE, seed)
    coarse = new.levels[1].nodes.tolist()  # seen from the start, linked or not
    fine_links, coarse_links = ({i: [] for i in level.nodes.tolist()} for level in new.levels)
    for item in joining:
        fine_links = linked(vector, fine_links, coarse, item, 2 * LINKS)
        if item in coarse:
            coarse_links = linked(vector, coarse_links, coarse, item, LINKS)
    assert rows(new.levels[0]) == fine_links
    assert rows(new.levels[1]) == coarse_links


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_what_holds_of_the_graph(seed, more):
    rng = np.random.default_rng(seed)
    vector = rng.integers(-2, 3, (5 + more, 3)).astype(np.float32)  # many are equal
    graph = empty(5, 5)
    new = insert(graph, vector, np.arange(5, 5 + more), build_width=8, seed=seed)
    assert (graph.levels[0].neighbours == -1).all()  # the old one is left as it was
    assert len(graph.levels[0].nodes) == 5
    fine, coarse = new.levels
    assert set(coarse.nodes.tolist()) <= set(fine.nodes.tolist()) == set(range(5 + more))
    for level in new.levels:
        assert np.array_equal(level.row_of[level.nodes], np.arange(len(level.nodes)))
        for i, row in rows(level).items():
            assert i not in row
            assert len(set(row)) == len(row)
            assert all(level.row_of[j] >= 0 for j in row)
        assert (np.diff((level.neighbours < 0).astype(int)) >= 0).all()  # padded at the end
    again = insert(graph, vector, np.arange(5, 5 + more), build_width=8, seed=seed)
    assert all(
        np.array_equal(a.neighbours, b.neighbours)
        for a, b in zip(new.levels, again.levels, strict=True)
    )


def test_levels_are_drawn_as_often_as_they_should():
    rng = np.random.default_rng(0)
    vector = rng.standard_normal((4_000, 2)).astype(np.float32)
    new = insert(empty(5, 5), vector, np.arange(5, 4_000), build_width=4)
    assert abs(len(new.levels[1].nodes) - 5 - 4_000 / LINKS) < 120  # four standard deviations


def test_an_item_that_moved_is_found_where_it_is_now():
    rng = np.random.default_rng(0)
    vector = rng.standard_normal((300, 4)).astype(np.float32)
    graph = insert(empty(5, 5), vector, np.arange(300), build_width=20)
    vector[200] = vector[100] + 1e-3
    moved = insert(graph, vector, np.array([200]), build_width=20)
    assert 100 in rows(moved.levels[0])[200]
    assert 200 in rows(moved.levels[0])[100]
    assert len(moved.levels[1].nodes) == len(graph.levels[1].nodes)
    near = -((vector - vector[100]) ** 2).sum(1)
    found = search(moved, lambda _, item: near[item], 1, 2, Effort(width=(10,), hops=(5,)))
    assert found.item.tolist() == [100, 200]
