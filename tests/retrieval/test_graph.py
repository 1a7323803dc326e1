import numpy as np
import pytest
import torch

from headrace.errors import BundleError, DataError
from headrace.ops.graph_search import Effort, search
from headrace.retrieval._graph import ItemGraph

SIZE, DIM, MOST = 3_000, 12, 50
CONFIG = ItemGraph.Config(links=8, build_width=40)


def world(seed=0, size=SIZE):
    """Vectors in clusters, and what 20 users think of them: two tastes, the larger counts."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((60, DIM))
    vector = centre[rng.integers(60, size=size)] + 0.6 * rng.standard_normal((size, DIM))
    taste = centre[rng.integers(60, size=(20, 2))]
    score_BI = np.einsum("bkd,id->bki", taste, vector).max(1)
    return torch.from_numpy(vector.astype(np.float32)), score_BI.astype(np.float32)


def coverage(graph, score_BI, effort, allowed=None):
    """The share found of what is truly the best, and the share scored."""
    allowed = np.ones(score_BI.shape[1], np.bool_) if allowed is None else allowed
    allowed[0] = False
    found = search(graph, lambda row, item: score_BI[row, item], 20, MOST, effort, allowed=allowed)
    exact = np.argsort(np.where(allowed, -score_BI, np.inf), axis=1)[:, :MOST]
    hits = [
        len(np.intersect1d(exact[b], found.item[found.offsets[b] : found.offsets[b + 1]]))
        for b in range(20)
    ]
    return np.mean(hits) / MOST, found.num_scored.mean() / score_BI.shape[1]


EFFORT = Effort(width=(100, 60), hops=(4, 2))


def test_searches_find_the_best_at_a_small_share():
    vector_ID, score_BI = world()
    graph = CONFIG.build(vector_ID).graph
    assert len(graph.levels) == 2
    assert 200 < len(graph.levels[1].nodes) < 600
    found, share = coverage(graph, score_BI, EFFORT)
    assert found > 0.97
    assert share < 0.5


def test_levels_are_nested_and_leave_out_item_0():
    vector_ID, _ = world()
    graph = ItemGraph.Config(links=3, build_width=20).build(vector_ID).graph
    assert len(graph.levels) == 3
    assert [level.neighbours.shape[1] for level in graph.levels] == [6, 3, 3]
    finest = graph.levels[0]
    assert np.array_equal(finest.nodes, np.arange(SIZE))
    assert (finest.neighbours[0] == -1).all()
    assert (finest.neighbours[1:, 0] > 0).all()
    for finer, level in zip(graph.levels, graph.levels[1:], strict=False):
        assert (finer.row_of[level.nodes] >= 0).all()
        linked = level.neighbours[level.neighbours >= 0]
        assert (level.row_of[linked] >= 0).all()
        assert 0 not in level.nodes
    near = torch.cdist(vector_ID[1:200], vector_ID[1:]).topk(2, largest=False).indices[:, 1] + 1
    links = torch.from_numpy(finest.neighbours[1:200])
    assert (links == near[:, None]).any(1).float().mean() > 0.7  # nearly all know the nearest


@pytest.mark.parametrize("size", [1, 2, 40])
def test_a_small_corpus_is_scored_whole(size):
    vector_ID, score_BI = world(size=size)
    item_graph = CONFIG.build(vector_ID)
    assert len(item_graph.graph.levels) == 1
    found, share = coverage(item_graph.graph, score_BI, EFFORT)
    assert (found * MOST, share) == (size - 1, 1.0)
    assert CONFIG.restore(item_graph.arrays(), (vector_ID,)).graph.num_items == size


def test_equal_vectors_are_all_found():
    vector_ID = torch.zeros(400, DIM)
    vector_ID[200:] = 1.0
    graph = CONFIG.build(vector_ID).graph
    score_I = np.r_[np.zeros(200), np.ones(200)].astype(np.float32)
    effort = Effort(width=(400,), hops=(100,))
    found = search(graph, lambda _, item: score_I[item], 1, 100, effort)
    assert found.score.tolist() == [1.0] * 100


def test_churn_costs_no_coverage():
    """A twentieth of the items goes, as many come; against a graph that is built anew."""
    vector_ID, score_BI = world()
    leave, come = np.arange(1, SIZE // 20), torch.arange(SIZE - SIZE // 20, SIZE)
    allowed = np.ones(SIZE, np.bool_)
    allowed[leave] = False
    old = CONFIG.build(vector_ID[: int(come[0])])
    new = old.insert(vector_ID, come)
    rebuilt = CONFIG.build(vector_ID)
    assert old.graph.num_items == int(come[0])
    assert new.graph.num_items == SIZE
    inserted, _ = coverage(new.graph, score_BI, EFFORT, allowed)
    built, _ = coverage(rebuilt.graph, score_BI, EFFORT, allowed)
    assert inserted > built - 0.01
    fresh = np.zeros(SIZE, np.bool_)
    fresh[come] = True  # of which alone the answers consist
    found, _ = coverage(new.graph, score_BI, EFFORT, fresh)
    assert found > 0.9


def test_a_graph_that_was_saved_is_the_same():
    vector_ID, _ = world()
    item_graph = CONFIG.build(vector_ID)
    item_graph = item_graph.insert(torch.cat([vector_ID, vector_ID[:9]]), SIZE + torch.arange(9))
    again = CONFIG.restore(item_graph.arrays(), (torch.cat([vector_ID, vector_ID[:9]]),))
    for a, b in zip(item_graph.graph.levels, again.graph.levels, strict=True):
        for name in ("neighbours", "nodes", "row_of"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def without(name):
    return lambda arrays: arrays.pop(name)


def put(name, change):
    return lambda arrays: arrays.update({name: change(arrays[name].clone())})


def changed(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without("neighbours.0"), "neighbours.0 is missing"),
        (without("vectors"), "the graph has 3000 items, the vectors 3000"),
        (without("neighbours.1"), "neighbours.1 is missing"),
        (put("neighbours.0", lambda t: t[:-1]), "the graph has 2999 items, the vectors 3000"),
        (put("neighbours.0", lambda t: t.float()), "no int32 array"),
        (put("neighbours.0", changed((5, 0), SIZE)), "out of range on level 0"),
        (put("neighbours.0", changed((5, 0), -2)), "out of range on level 0"),
        (put("neighbours.1", lambda t: t[:-1]), "level 1 has"),
        (put("neighbours.1", changed((5, 0), 0)), "an item that level 1 lacks"),
        (put("nodes.1", changed(3, SIZE)), "out of range on level 0"),
        (put("nodes.1", lambda t: changed(3, t[4])(t)), "an item twice"),
        (put("vectors", lambda t: t + 1), "different versions"),
    ],
)
def test_damage_is_told_in_one_line(damage, says):
    vector_ID, _ = world()
    arrays = dict(CONFIG.build(vector_ID).arrays())
    damage(arrays)
    with pytest.raises(BundleError, match=says) as caught:
        CONFIG.restore(arrays, (vector_ID,))
    assert "\n" not in str(caught.value)


def test_vectors_must_be_finite():
    vector_ID, _ = world(size=50)
    item_graph = CONFIG.build(vector_ID)
    vector_ID[7, 3] = torch.nan
    with pytest.raises(DataError, match="item 7 is not finite"):
        CONFIG.build(vector_ID)
    with pytest.raises(DataError, match="item 7 is not finite"):
        item_graph.insert(vector_ID, torch.tensor([7]))
