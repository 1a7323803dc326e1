"""What every re-ranker obeys, and what each one is for."""

import math

import pytest
import torch
from pydantic import ValidationError

from headrace.config import Kinds
from headrace.data import Candidates, Ragged, Requests
from headrace.features.catalogue import Catalogue
from headrace.reranking.dpp import Dpp
from headrace.reranking.mmr import Mmr
from headrace.reranking.top import Top

KINDS = Kinds("headrace.reranking").names()
NAN, INF = math.nan, math.inf


def requests(size):
    zero = torch.zeros(size, dtype=torch.int64)
    none = Ragged(zero[:0], torch.zeros(size + 1, dtype=torch.int64))
    return Requests(zero, zero, {}, zero - 1, none)


def candidates(*rows):
    """One row of (item, value) pairs a request."""
    items = Ragged.of([torch.tensor([item for item, _ in row], dtype=torch.int64) for row in rows])
    values = torch.tensor([value for row in rows for _, value in row], dtype=torch.float32)
    return Candidates(items).scored("value", values[:, None])


def choose(selector, given, *quota):
    """The items of each slate."""
    kept = selector.select(requests(len(quota)), given, torch.tensor(quota))
    assert kept.dtype == torch.int64
    out = given.take(kept)  # fails unless grouped by request
    return [row.tolist() for row in (out.item_id[b] for b in range(len(quota)))]


def shelf(seed=0, items=40, width=8):
    generator = torch.Generator().manual_seed(seed)
    category = torch.randint(1, 6, (items,), generator=generator)
    vectors = torch.randn(items, width, generator=generator) if width else None
    plain = Catalogue.plain(category)
    return Catalogue(plain.features, plain.columns, category, plain.available, vectors)


def drawn(seed, *lengths):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for n in lengths:
        items = (1 + torch.randperm(39, generator=generator)[:n]).tolist()
        rows.append(list(zip(items, torch.randn(n, generator=generator).tolist(), strict=True)))
    return candidates(*rows)


def build(kind, catalogue, **settings):
    return Kinds("headrace.reranking").find(kind).Config(**settings).build(catalogue)


every_kind = pytest.mark.parametrize("kind", KINDS)
with_and_without_vectors = pytest.mark.parametrize("width", [0, 8])


@every_kind
@with_and_without_vectors
def test_a_slate_is_full_of_distinct_candidates(kind, width):
    given = drawn(1, 12, 0, 3, 30)
    slates = choose(build(kind, shelf(width=width)), given, 5, 5, 5, 0)
    assert [len(s) for s in slates] == [5, 0, 3, 0]
    for b, slate in enumerate(slates):
        assert len(set(slate)) == len(slate)
        assert set(slate) <= set(given.item_id[b].tolist())


@every_kind
@with_and_without_vectors
def test_a_request_gets_the_same_slate_alone_as_in_a_batch(kind, width):
    selector, given = build(kind, shelf(width=width)), drawn(2, 9, 20, 1)
    together = choose(selector, given, 4, 12, 3)
    alone = [
        choose(selector, given.take_rows(torch.tensor([b])), quota)[0]
        for b, quota in enumerate((4, 12, 3))
    ]
    assert together == alone


@every_kind
@with_and_without_vectors
def test_the_best_comes_first_and_scaling_the_values_changes_nothing(kind, width):
    selector, given = build(kind, shelf(width=width)), drawn(3, 25)
    best = int(given.item_id.values[given.scores["value"][:, 0].argmax()])
    scaled = given.scored("value", given.scores["value"] * 1000 - 7)
    slate = choose(selector, given, 10)
    assert slate[0][0] == best
    assert choose(selector, scaled, 10) == slate


@every_kind
def test_equal_values_keep_their_order(kind):
    catalogue = Catalogue.plain(torch.arange(40))  # nothing is alike
    slate = choose(build(kind, catalogue), candidates([(7, 1.0), (3, 1.0), (9, 1.0)]), 2)
    assert slate == [[7, 3]]


@every_kind
@with_and_without_vectors
def test_a_broken_value_is_the_worst(kind, width):
    given = candidates([(1, NAN), (2, -5.0), (3, INF), (4, 2.0), (5, -INF)], [(6, NAN), (7, NAN)])
    selector = build(kind, shelf(width=width))
    first, second = choose(selector, given, 5, 2)
    assert set(first[:2]) == {2, 4} and first[2:] == [1, 3, 5]
    assert second == [6, 7]


@every_kind
@with_and_without_vectors
def test_no_category_takes_more_than_its_share(kind, width):
    catalogue = shelf(width=width)
    selector = build(kind, catalogue, max_per_category=2)
    slates = choose(selector, drawn(4, 30, 4), 10, 4)
    for slate in slates:
        assert torch.bincount(catalogue.category[torch.tensor(slate)]).max() <= 2
    assert len(slates[0]) == 10  # five categories, two of each


@every_kind
def test_unknown_categories_are_not_one_category(kind):
    catalogue = Catalogue.plain(torch.zeros(40, dtype=torch.int64))
    selector = build(kind, catalogue, max_per_category=1)
    assert (
        choose(selector, drawn(5, 20), 8)[0] == choose(build("top", catalogue), drawn(5, 20), 8)[0]
    )


@every_kind
def test_empty_batches_and_rows(kind):
    selector = build(kind, shelf())
    assert choose(selector, candidates([], []), 3, 3) == [[], []]
    assert (
        selector.select(requests(0), candidates(), torch.zeros(0, dtype=torch.int64)).tolist() == []
    )


@every_kind
@pytest.mark.parametrize("cap", [0, -1, 1.5, True])
def test_a_cap_is_a_positive_number_of_items(kind, cap):
    with pytest.raises(ValidationError, match="max_per_category"):
        build(kind, shelf(), max_per_category=cap)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mmr", {"theta": 1.1}),
        ("mmr", {"theta": NAN}),
        ("mmr", {"window": 0}),
        ("dpp", {"alpha": -1.0}),
        ("dpp", {"alpha": INF}),
        ("dpp", {"window": 0}),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings):
    with pytest.raises(ValidationError, match=next(iter(settings))):
        build(kind, shelf(), **settings)


def test_top_is_the_order_of_value():
    selector = Top.Config().build(shelf())
    given = candidates([(1, 0.1), (2, 0.9), (3, 0.5)], [(4, -1.0), (5, 0.0)])
    assert choose(selector, given, 2, 9) == [[2, 3], [5, 4]]


def test_mmr_and_dpp_at_the_end_of_their_range_are_top():
    given, catalogue = drawn(6, 30, 15), shelf()
    wanted = choose(Top.Config().build(catalogue), given, 10, 10)
    assert choose(Mmr.Config(theta=1.0).build(catalogue), given, 10, 10) == wanted
    assert choose(Mmr.Config(theta=0.7).build(catalogue), given, 10, 10) != wanted
    assert choose(Dpp.Config(alpha=5.0).build(catalogue), given, 10, 10) != wanted
    apart = Catalogue.plain(torch.arange(40))  # S = I
    assert choose(Dpp.Config(alpha=0.5).build(apart), given, 10, 10) == wanted


def test_mmr_prefers_another_category_when_it_is_nearly_as_good():
    catalogue = Catalogue.plain(torch.tensor([0, 1, 1, 1, 2]))
    given = candidates([(1, 1.0), (2, 0.9), (3, 0.0), (4, 0.8)])
    assert choose(Mmr.Config(theta=0.7).build(catalogue), given, 3) == [[1, 4, 2]]
    assert choose(Mmr.Config(theta=0.99).build(catalogue), given, 3) == [[1, 2, 4]]


def test_mmr_compares_with_the_window_only():
    catalogue = Catalogue.plain(torch.tensor([0, 1, 1, 2, 2, 3]))
    given = candidates([(1, 1.0), (2, 0.99), (3, 0.98), (4, 0.97), (5, 0.5)])
    assert choose(Mmr.Config(theta=0.5, window=1).build(catalogue), given, 4) == [[1, 3, 2, 4]]
    assert choose(Mmr.Config(theta=0.5).build(catalogue), given, 4) == [[1, 3, 5, 2]]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0, 100.0])
def test_dpp_never_shows_a_copy(alpha):
    catalogue = shelf(items=40, width=64)
    vectors = catalogue.vectors.clone()
    vectors[20:] = vectors[:20] * 3.0  # cosine 1 with another item
    twins = Catalogue(
        catalogue.features, catalogue.columns, catalogue.category, catalogue.available, vectors
    )
    slate = choose(Dpp.Config(alpha=alpha).build(twins), drawn(7, 39), 19)[0]
    assert len({item % 20 for item in slate}) == 19


def test_dpp_does_not_take_opposites_for_copies():
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.99, 0.14], [-1.0, 0.0]])
    plain = Catalogue.plain(torch.arange(4))
    catalogue = Catalogue(plain.features, plain.columns, plain.category, plain.available, vectors)
    given = candidates([(1, 1.0), (2, 0.9), (3, 0.9)])
    assert choose(Dpp.Config(alpha=1.0).build(catalogue), given, 2) == [[1, 3]]


@pytest.mark.parametrize(("kind", "settings"), [("mmr", {"theta": 0.4}), ("dpp", {"alpha": 1.0})])
def test_diversity_costs_value_and_buys_distance(kind, settings):
    catalogue, given = shelf(items=40, width=16), drawn(8, 39)
    value = dict(
        zip(given.item_id.values.tolist(), given.scores["value"][:, 0].tolist(), strict=True)
    )

    def judged(selector):
        slate = choose(selector, given, 10)[0]
        unit = torch.nn.functional.normalize(catalogue.vectors[torch.tensor(slate)], dim=1)
        alike = (unit @ unit.T).sum() - 10
        return sum(value[i] for i in slate), float(alike)

    worth, alike = judged(build(kind, catalogue, **settings))
    best_worth, top_alike = judged(build("top", catalogue))
    assert worth < best_worth
    assert alike < top_alike


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_a_broken_vector_is_alike_to_nothing_and_harms_nobody(kind):
    given = drawn(9, 39)
    best = int(given.item_id.values[given.scores["value"][:, 0].argmax()])
    whole, zero, broken = shelf(), shelf(), shelf()
    zero.vectors[best] = 0.0
    broken.vectors[best] = torch.tensor([NAN] + [1.0] * 7)
    strong = {"theta": 0.3} if kind == "mmr" else {"alpha": 1.0}
    slates = [choose(build(kind, c, **strong), given, 20) for c in (whole, zero, broken)]
    assert slates[1] == slates[2] != slates[0]
