import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.data import Ragged
from headrace.errors import BundleError
from headrace.retrieval._indexes import Exact, FastScan, Hnsw

SIZE, DIM = 500, 8
NOTHING = torch.zeros(0, dtype=torch.int64)


def vectors(seed=0, size=SIZE):
    torch.manual_seed(seed)
    return torch.randn(size, DIM) * torch.rand(size, 1)


def no_rows(number):
    return Ragged.of([NOTHING] * number)


def everything(size=SIZE):
    return torch.ones(size, dtype=torch.bool)


def reference(vector_ID, available_I, query_D, most, exclude):
    """Sort all of them."""
    score_I = vector_ID @ query_D
    order = [i for i in score_I.argsort(descending=True).tolist() if available_I[i] and i > 0]
    return [i for i in order if i not in set(exclude.tolist())][:most]


@given(st.data())
def test_exact_search_equals_sorting(data):
    size = data.draw(st.integers(1, 40))
    seed = data.draw(st.integers(0, 1000))
    vector_ID = vectors(seed, size)
    available_I = torch.rand(size) < 0.8
    queries = data.draw(st.integers(0, 4))
    query_BD = torch.randn(queries, DIM)
    exclude = Ragged.of([torch.randint(0, 60, (n,)) for n in torch.randint(0, 9, (queries,))])
    most = data.draw(st.integers(0, 50))
    found = Exact(vector_ID, available_I).search(query_BD, most, exclude)
    assert len(found.item_id) == queries
    for b in range(queries):
        want = reference(vector_ID, available_I, query_BD[b], most, exclude[b])
        assert found.item_id[b].tolist() == want
    torch.testing.assert_close(
        found.scores["score"][:, 0],
        (found.item_id.spread(query_BD) * vector_ID[found.item_id.values]).sum(1),
    )


def test_exact_search_finds_the_same_alone_as_among_many():
    index, query_BD = Exact(vectors(), everything()), torch.randn(40, DIM)  # Faiss differs from 20
    whole = index.search(query_BD, 20, no_rows(40))
    for b in range(40):
        alone = index.search(query_BD[b : b + 1], 20, no_rows(1))
        assert torch.equal(alone.item_id.values, whole.item_id[b])


@pytest.mark.parametrize("kind", [Hnsw.Config(), FastScan.Config()])
class TestApproximate:
    def test_finds_what_exact_search_finds(self, kind):
        vector_ID, query_BD = vectors(), torch.randn(20, DIM)
        exact = Exact(vector_ID, everything()).search(query_BD, 50, no_rows(20))
        found = kind.build(vector_ID, everything()).search(query_BD, 50, no_rows(20))
        both = torch.isin(
            found.item_id.row * SIZE + found.item_id.values,
            exact.item_id.row * SIZE + exact.item_id.values,
        )
        assert both.float().mean() > 0.98
        assert torch.equal(found.item_id.lengths, torch.full((20,), 50))

    def test_scores_are_inner_products_best_first(self, kind):
        vector_ID, query_BD = vectors(), torch.randn(5, DIM)
        found = kind.build(vector_ID, everything()).search(query_BD, 30, no_rows(5))
        score_N = (found.item_id.spread(query_BD) * vector_ID[found.item_id.values]).sum(1)
        torch.testing.assert_close(found.scores["score"][:, 0], score_N)
        for b in range(5):
            row = found.scores["score"][found.item_id.row == b, 0]
            assert (row.diff() <= 0).all()

    def test_excluded_items_make_room_for_others(self, kind):
        vector_ID, query_BD = vectors(), torch.randn(3, DIM)
        index = kind.build(vector_ID, everything())
        first = index.search(query_BD, 40, no_rows(3)).item_id
        exclude = Ragged.of([first[0], NOTHING, first[2][:10]])
        found = index.search(query_BD, 40, exclude).item_id
        assert found.lengths.tolist() == [40, 40, 40]
        assert not set(found[0].tolist()) & set(first[0].tolist())
        assert found[1].tolist() == first[1].tolist()
        assert found[2][:30].tolist() == first[2][10:].tolist()

    def test_items_that_are_not_available_are_not_found(self, kind):
        available_I = torch.arange(SIZE) % 3 == 0
        found = kind.build(vectors(), available_I).search(torch.randn(4, DIM), 400, no_rows(4))
        items = found.item_id.values
        assert len(items)
        assert (items % 3 == 0).all() and (items > 0).all()

    def test_restored_bit_for_bit(self, kind):
        vector_ID, query_BD = vectors(), torch.randn(6, DIM)
        index = kind.build(vector_ID, everything())
        again = kind.restore(index.arrays(), vector_ID, everything())
        before, after = (i.search(query_BD, 50, no_rows(6)) for i in (index, again))
        assert torch.equal(before.item_id.values, after.item_id.values)
        assert torch.equal(before.scores["score"], after.scores["score"])

    def test_items_added_since_are_reachable(self, kind):
        vector_ID = vectors()
        index = kind.build(vector_ID[:480], everything(480))
        grown = kind.restore(index.arrays(), vector_ID, everything())
        found = grown.search(vector_ID[490:], 20, no_rows(10)).item_id
        exact = Exact(vector_ID, everything()).search(vector_ID[490:], 20, no_rows(10)).item_id
        new = exact.values[exact.values >= 480]
        assert len(new)
        assert torch.isin(new, found.values).float().mean() > 0.9

    @pytest.mark.parametrize(
        "arrays", [{}, dict.fromkeys(("graph", "quantizer"), torch.zeros(40, dtype=torch.uint8))]
    )
    def test_damaged_arrays_are_refused(self, kind, arrays):
        with pytest.raises(BundleError, match="can be read from the bundle"):
            kind.restore(arrays, vectors(), everything())

    def test_more_than_there_is(self, kind):
        index = kind.build(vectors(size=6), everything(6))
        found = index.search(torch.randn(2, DIM), 100, no_rows(2)).item_id
        assert sorted(found[0].tolist()) == [1, 2, 3, 4, 5]

    def test_nothing_asked_nothing_found(self, kind):
        index = kind.build(vectors(), everything())
        assert len(index.search(torch.randn(2, DIM), 0, no_rows(2))) == 0
        assert len(index.search(torch.randn(0, DIM), 5, no_rows(0)).item_id) == 0

    def test_of_no_items_at_first(self, kind):
        index = kind.build(vectors(size=1), everything(1))
        assert len(index.search(torch.randn(2, DIM), 5, no_rows(2)).item_id.values) == 0
        grown = kind.restore(index.arrays(), vectors(), everything())
        found = grown.search(torch.randn(2, DIM), 5, no_rows(2)).item_id
        assert found.lengths.tolist() == [5, 5]


@pytest.mark.parametrize("dim", [7, 8])
def test_codes_for_any_width(dim):
    torch.manual_seed(0)
    vector_ID, query_BD = torch.randn(5_000, dim), torch.randn(100, dim)
    exact = Exact(vector_ID, everything(5_000)).search(query_BD, 50, no_rows(100)).item_id
    made = FastScan.Config(rescored=20).build(vector_ID, everything(5_000))
    found = made.search(query_BD, 50, no_rows(100)).item_id
    assert exact.within(found).float().mean() > 0.98
