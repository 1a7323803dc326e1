"""What a report says of the pre-ranker's choice, against definitions written out slowly."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.app import App
from headrace.config import parse
from headrace.data import Ragged
from headrace.errors import ConfigError
from headrace.evaluation import consistency as part
from headrace.evaluation import lists
from headrace.evaluation.consistency import Orders

SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=9)
REQUESTS = st.lists(SCORES, min_size=1, max_size=5)
slow = settings(max_examples=30, deadline=None)


def orders(rough, fine, truth=None):
    """Rows of scores; the items of each row are numbered from 1."""
    truth = truth or [[] for _ in rough]
    return Orders(
        torch.tensor([x for row in rough for x in row], dtype=torch.float32),
        torch.tensor([x for row in fine for x in row], dtype=torch.float32),
        Ragged.of([torch.arange(1, len(row) + 1) for row in rough]),
        Ragged.of([torch.tensor(row, dtype=torch.int64) for row in truth]),
    )


def at(found, k):
    return found["at"][str(k)]


def test_a_pre_ranker_that_is_the_ranker_keeps_all():
    rng = np.random.default_rng(0)
    scores = [rng.permutation(120).tolist() for _ in range(4)]
    found = part.consistency(orders(scores, scores), {})
    assert found["tau"] == pytest.approx(1)
    for k in part.LENGTHS:
        assert at(found, k)["hit"] == at(found, k)["worth_hit"] == at(found, k)["ndcg"] == 1
        assert at(found, k)["se"]["hit"] == 0


def test_the_reverse_keeps_nothing_until_all_is_kept():
    up = [list(range(100))]
    found = part.consistency(orders(up, [list(range(100, 0, -1))]), {})
    assert found["tau"] == pytest.approx(-1)
    assert at(found, 50)["hit"] == at(found, 50)["worth_hit"] == 0
    assert at(found, 100)["hit"] == 1


def test_worth_is_weighed():
    fine = [10.0, 1.0] * 5 + [0.0] * 20  # ten favourites, five of them dear
    rough = [1.0, 0.0] * 5 + [0.5] * 20
    found = part.consistency(orders([rough], [fine]), {})
    assert at(found, 10)["hit"] == 0.5
    assert at(found, 10)["worth_hit"] == pytest.approx(50 / 55)


def test_fewer_candidates_than_favourites_or_places():
    found = part.consistency(orders([[1.0, 2.0, 3.0], [5.0]], [[3.0, 2.0, 1.0], [1.0]]), {})
    assert found["requests"] == 2
    assert at(found, 10)["hit"] == at(found, 100)["worth_hit"] == 1
    assert found["tau"] == pytest.approx(-1)  # one candidate alone has no order


@pytest.mark.parametrize("fine", [[0.0, 0.0, 0.0], [-1.0, -2.0, -3.0]])
def test_without_worth_there_is_no_share_of_it(fine):
    found = part.consistency(orders([[1.0, 2.0, 3.0]], [fine]), {})
    assert math.isnan(at(found, 10)["worth_hit"])
    assert at(found, 10)["hit"] == 1


def test_no_candidates_and_nothing_taken_are_undefined_not_an_error():
    found = part.consistency(orders([[]], [[]]), {"kind": torch.ones(5, dtype=torch.bool)})
    assert found["requests"] == 0
    numbers = [
        found["tau"],
        at(found, 10)["hit"],
        at(found, 10)["ndcg"],
        at(found, 10)["taken_hit"],
    ]
    numbers += [found["kinds"]["kind"][key] for key in ("candidates", "hit", "taken_hit")]
    assert all(math.isnan(x) for x in numbers)


def test_what_was_taken_counts_whoever_found_it():
    """Item 9 was taken and never found: it is missed at every length."""
    found = part.consistency(orders([[3.0, 2.0, 1.0]], [[1.0, 1.0, 1.0]], [[1, 9]]), {})
    assert at(found, 10)["taken_hit"] == 0.5


def test_kinds_are_judged_by_their_own_items():
    size = 60
    rough = list(range(size, 0, -1))  # keeps items 1 to 50
    fine = [0.0] * size
    fine[0], fine[55] = 1.0, 3.0
    fine[1:9] = [0.5] * 8
    is_dear = torch.zeros(size + 1, dtype=torch.bool)
    is_dear[[1, 56]] = True
    none = torch.zeros(size + 1, dtype=torch.bool)
    judged = orders([rough], [fine], [[1, 56, 2]])
    got = part.consistency(judged, {"dear": is_dear, "none": none})["kinds"]
    assert (got["dear"]["favourites"], got["dear"]["taken"]) == (2, 2)
    assert got["dear"]["hit"] == got["dear"]["taken_hit"] == 0.5
    assert got["dear"]["worth_hit"] == 0.25
    assert got["dear"]["candidates"] == pytest.approx(2 / 60)
    assert got["none"]["favourites"] == 0
    assert math.isnan(got["none"]["hit"])


def test_parts_joined_are_the_whole():
    parts = [orders([[1.0, 2.0]], [[2.0, 1.0]], [[1]]), orders([[3.0], []], [[1.0], []], [[], [4]])]
    whole = Orders.join(parts)
    assert whole.item.lengths.tolist() == [2, 1, 0]
    assert whole.truth.lengths.tolist() == [1, 0, 1]
    assert whole.rough_N.tolist() == [1, 2, 3]


@slow
@given(REQUESTS)
def test_kendall_tau_counts_pairs(requests):
    rough, fine = ([[pair[i] for pair in row] for row in requests] for i in (0, 1))
    judged = orders(rough, fine)
    got = lists.kendall_tau(judged.rough_N, judged.fine_N, judged.item.offsets)
    for row, tau in zip(requests, got, strict=True):
        signs = [
            (np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for i, a in enumerate(row) for b in row[:i]
        ]
        left, right = (sum(abs(pair[i]) for pair in signs) for i in (0, 1))
        if left and right:
            assert tau == pytest.approx(sum(a * b for a, b in signs) / math.sqrt(left * right))
        else:
            assert math.isnan(tau)


@slow
@given(st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1), st.integers(1, 9))
def test_ndcg_of_graded_lists(rows, k):
    def gain(row):
        return sum((2**g - 1) / math.log2(i + 2) for i, g in enumerate(row[:k]))

    graded = Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])
    got = lists.graded_ndcg(graded.values, graded.offsets, k)
    for row, ndcg in zip(rows, got, strict=True):
        best = gain(sorted(row, reverse=True))
        assert ndcg == pytest.approx(gain(row) / best) if best else math.isnan(ndcg)


def test_kinds_of_a_log(tiny_samples):
    kinds = part.kinds(tiny_samples)
    assert list(kinds) == ["new items", "rare items", "small by brand"]
    count_I = tiny_samples.frequency
    rare_I = kinds["rare items"].numpy()
    assert count_I[rare_I].sum() <= part.SMALL_SHARE * count_I.sum()
    assert count_I[rare_I].max() <= count_I[~rare_I].min()
    brand_I = tiny_samples.space.catalogue.features["brand"].numpy()
    small_I = kinds["small by brand"].numpy()
    assert not set(brand_I[small_I]) & set(brand_I[~small_I])
    assert not kinds["new items"][1:].any()  # the shop sold all of them from the first days on
    assert list(part.kinds(tiny_samples, ())) == ["new items", "rare items"]


def test_a_seller_must_be_an_item_feature():
    text = Path("examples/complete_journey.toml").read_text()
    assert parse(text, App).evaluation.sellers is None
    with pytest.raises(ConfigError, match="no item feature 'manufactrer'; did you mean 'manufac"):
        parse(f'{text}\n[evaluation]\nsellers = ["manufactrer"]\n', App)
