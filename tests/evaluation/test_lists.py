"""Each measure of lists against its definition, written out slowly."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data import Ragged
from headrace.evaluation import lists, metrics

ITEMS = st.lists(st.integers(1, 12), max_size=8)
DISTINCT = st.lists(st.integers(1, 12), max_size=8, unique=True)
REQUESTS = st.lists(st.tuples(DISTINCT, ITEMS), min_size=1, max_size=6)
CHANNELS = st.lists(st.tuples(DISTINCT, DISTINCT, DISTINCT, ITEMS), min_size=1, max_size=5)
slow = settings(max_examples=30, deadline=None)


def pack(rows):
    return Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])


def split(requests):
    return (pack(rows) for rows in zip(*requests, strict=True))


def assert_same(got, want):
    np.testing.assert_allclose(got, np.array([math.nan if w is None else w for w in want]))


def slow_ndcg(found, true, k):
    gain = sum(1 / math.log2(i + 2) for i, item in enumerate(found[:k]) if item in true)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(k, len(true))))


@slow
@given(REQUESTS, st.integers(1, 10))
def test_measures_of_a_list(requests, k):
    matches = lists.match(*split(requests))
    rows = [(found, set(true)) for found, true in requests]
    price = {item: item * 1.5 for item in range(13)}

    def each(measure):
        return [measure(found, true) if true else None for found, true in rows]

    assert_same(matches.recall(k), each(lambda f, t: len(set(f[:k]) & t) / len(t)))
    assert_same(matches.ndcg(k), each(lambda f, t: slow_ndcg(f, t, k)))
    assert_same(matches.hit(k), each(lambda f, t: float(bool(set(f[:k]) & t))))
    assert_same(
        matches.reciprocal_rank(k),
        each(lambda f, t: next((1 / (i + 1) for i, x in enumerate(f[:k]) if x in t), 0)),
    )
    prices = np.array([price[item] for found, _ in rows for item in found])
    assert_same(matches.value(prices, k), each(lambda f, t: sum(price[x] for x in f[:k] if x in t)))


def test_a_repeated_item_hits_once():
    matches = lists.match(pack([[3, 3, 4]]), pack([[3, 4, 4]]))
    assert matches.found.tolist() == [True, False, True]
    assert matches.recall(3).tolist() == [1.0]


def test_requests_must_correspond():
    with pytest.raises(ValueError, match="2 lists, but 1 sets"):
        lists.match(pack([[1], [2]]), pack([[1]]))


@slow
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), min_size=1))
def test_agreement_of_pre_ranker_and_ranker(requests):
    coarse, fine = (pack([[pair[i] for pair in row] for row in requests]) for i in (0, 1))
    got = lists.agreement(coarse.values, fine.values, coarse.offsets, top=3)
    for m in (1, 3, 5):
        want = []
        for row in requests:
            early = sorted(range(len(row)), key=lambda i: -row[i][0])[:m]
            best = sorted(range(len(row)), key=lambda i: -row[i][1])[:3]
            want.append(len(set(early) & set(best)) / len(best) if best else None)
        assert_same(got.recall(m), want)


def test_agreement_with_itself_is_whole_from_the_cut_on():
    score = torch.rand(300, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 120, 300])
    got = lists.agreement(score, score, offsets)
    assert got.recall(10).tolist() == [1.0, 1.0]
    assert got.recall(5).tolist() == [0.5, 0.5]


@slow
@given(CHANNELS)
def test_overlap_and_exclusive_hits_of_channels(requests):
    *packed, truth = split(requests)
    channels = dict(zip("abc", packed, strict=True))
    got = lists.overlap(channels)
    sets = [[set(row) for row in rows] for rows in zip(*requests, strict=True)]
    for a, left in enumerate(sets[:3]):
        for b, right in enumerate(sets[:3]):
            pairs = list(zip(left, right, strict=True))
            jaccard = [len(x & y) / len(x | y) for x, y in pairs if x | y]
            share = [len(x & y) / len(x) for x, y in pairs if x]
            assert_same(got["jaccard"][a][b], [np.mean(jaccard)] if jaccard else [None])
            assert_same(got["share"][a][b], [np.mean(share)] if share else [None])
    for c, name in enumerate("abc"):
        rows = zip(*sets, strict=True)
        alone = [
            (
                len((row[c] & row[3]) - set().union(*(row[o] for o in range(3) if o != c))),
                len(row[3]),
            )
            for row in rows
        ]
        exclusive = lists.exclusive(channels, truth)[name]
        assert exclusive.hits == sum(hits for hits, _ in alone)
        shares = [hits / size for hits, size in alone if size]
        assert_same(exclusive.recall, [np.mean(shares)] if shares else [None])


def test_coverage_counts_distinct_items_at_the_top():
    found = pack([[1, 2, 3], [2, 1, 4], []])
    assert lists.coverage(found, 2, num_items=8) == 2 / 8
    assert lists.coverage(found, 3, num_items=8) == 4 / 8


def test_summaries_say_what_the_measures_say():
    rng = np.random.default_rng(0)
    found = pack([rng.permutation(np.arange(1, 401))[:200].tolist() for _ in range(30)])
    truth = pack([rng.permutation(np.arange(1, 401))[:6].tolist() for _ in range(29)] + [[]])
    price = rng.random(401)
    matches = lists.match(found, truth)
    at = lists.recall_at(found, truth)
    assert at["recall@50"] == metrics.mean(matches.recall(50))
    assert at["se"]["recall@200"] == metrics.standard_error(matches.recall(200))
    slate = lists.slate_quality(found, truth, torch.from_numpy(price))
    assert slate["value"] == metrics.mean(matches.value(price[found.values.numpy()], 10))
    assert slate["coverage@10"] == lists.coverage(found, 10, 400)
    assert slate["ndcg@10"] == metrics.mean(matches.ndcg(10))
    channel = lists.channel_quality({"a": found, "b": truth}, truth, 400)
    assert channel["b"]["recall@10"] == 1.0
    assert channel["a"]["exclusive_hits"] == 0
    assert channel["b"]["items"] == pytest.approx(29 * 6 / 30)


def test_the_error_of_a_difference_is_paired():
    rng = np.random.default_rng(0)
    truth = pack([rng.permutation(50)[:5].tolist() for _ in range(200)])
    slate = pack([rng.permutation(50)[:10].tolist() for _ in range(200)])
    price = np.ones(50)
    assert lists.delta_errors(slate, slate, truth, price) == {
        "recall@10": 0,
        "ndcg@10": 0,
        "value": 0,
    }
    better = slate.with_values(slate.values.clone())
    better.values[:10] = truth.values[:10]
    delta = lists.match(better, truth).recall(10) - lists.match(slate, truth).recall(10)
    got = lists.delta_errors(better, slate, truth, price)["recall@10"]
    assert got == metrics.standard_error(delta)
    assert got < metrics.standard_error(lists.match(slate, truth).recall(10)) / 2
