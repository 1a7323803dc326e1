"""The merge: what it learns, keeps and promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.serving.merge import Merge
from headrace.stages import Plan
from headrace.value import Value
from tests.serving import shop


def lists(*rows):
    item = Ragged.of([torch.tensor(row, dtype=torch.int64) for row in rows])
    return Candidates(item).scored("score", torch.zeros(len(item.values), 1))


def quota(*numbers):
    return torch.tensor(numbers)


def items(merged, b=0):
    return merged.item_id[b].tolist()


def planted(requests=400, items=500, depth=40, seed=0):
    """Three channels: places of "good" are taken at .4 / (1 + place), of "fair" at a quarter of
    that, of "noise" never; both passes the same.
    """
    rng = np.random.default_rng(seed)
    rows = {name: [] for name in ("noise", "fair", "good")}
    truth = []
    for _ in range(requests):
        taken = set()
        for name, top in (("noise", 0.0), ("fair", 0.1), ("good", 0.4)):
            row = rng.permutation(np.arange(1, items))[:depth].tolist()
            rows[name].append(row)
            taken |= {i for p, i in enumerate(row) if rng.random() < top / (1 + p)}
        truth.append(torch.tensor(sorted(taken), dtype=torch.int64))
    return {name: lists(*r) for name, r in rows.items()}, Ragged.of(truth)


def test_unfitted_it_takes_turns_and_drops_repeats():
    found = {"a": lists([1, 2, 3], []), "b": lists([2, 4], [7, 8])}
    merged = Merge.interleave(2).merge(found, quota(10, 1))
    assert items(merged) == [1, 2, 4, 3]
    assert items(merged, 1) == [7]
    assert merged.features["found_by"].tolist() == [1, 3, 2, 1, 2]
    score = merged.scores["retrieval"][:4, 0]
    assert (score.diff() < 0).all()


def test_quota_holds_for_each_request():
    found = {"a": lists([1, 2, 3], [4, 5], [6])}
    merged = Merge.interleave(1).merge(found, quota(0, 1, 5))
    assert merged.item_id.lengths.tolist() == [0, 1, 1]


def test_no_candidates_at_all():
    merged = Merge.interleave(2).merge({"a": lists([], []), "b": lists([], [])}, quota(5, 5))
    assert merged.item_id.lengths.tolist() == [0, 0]
    assert merged.scores["retrieval"].shape == (0, 1)


def test_good_channels_come_first_and_noise_last():
    found, truth = planted()
    merge = Merge.fit([(found, truth)])
    merged = merge.merge(
        {"noise": lists([1, 2]), "fair": lists([3, 4]), "good": lists([5, 6])}, quota(6)
    )
    order = items(merged)
    assert order[0] == 5
    assert order.index(3) < order.index(1)
    assert set(order[-2:]) == {1, 2}


def test_what_is_worth_more_is_kept_before_what_is_likelier():
    found, truth = planted()
    here = {"noise": lists([1, 2]), "fair": lists([3, 4]), "good": lists([5, 6])}

    def dear(candidates):
        return candidates.scores["retrieval"][:, 0] * (1 + 999 * (candidates.item_id.values == 2))

    fitted, turns = Merge.fit([(found, truth)]), Merge.interleave(3)
    assert items(fitted.merge(here, quota(2))) == [5, 6]
    merged = fitted.merge(here, quota(2), dear)
    assert items(merged) == [2, 5]
    probability = fitted.merge(here, quota(6)).scores["retrieval"]
    assert merged.scores["retrieval"][0] == probability.min()
    assert items(turns.merge(here, quota(2), dear)) == [1, 3]  # turns are not probabilities
    free = fitted.merge(here, quota(2), lambda candidates: torch.zeros(len(candidates)))
    assert items(free) == [5, 6]  # worth nothing, any of them: the likeliest


def test_a_new_bid_brings_an_item_through_a_narrow_merge(tmp_path):
    cascade, requests, store = shop.asked(tmp_path)
    columns = tuple(cascade.catalogue.columns)
    cascade = replace(
        cascade,
        merge=Merge(torch.zeros(5, 5, dtype=torch.float64)),  # to which all are alike
        value=Value(Value.Config(formula="p_buy * bid"), shop.TYPES, columns),
    )
    quota = {**shop.QUOTA, "own": 0, "retrieval": 2}
    dear = cascade.catalogue.reprice("bid", torch.tensor([9]), torch.tensor([0.6]))
    for catalogue, kept in ((cascade.catalogue, [1, 2]), (dear, [9, 1])):
        cascade = cascade.with_catalogue(catalogue)
        trace = cascade.run(requests, Plan.constant(quota, len(requests)), store)
        for merged in (trace.after["retrieval"], cascade.retrieved(quota, requests)):
            assert items(merged) == kept


def test_agreement_adds_up():
    found, truth = planted()
    merge = Merge.fit([(found, truth)])
    both = {"noise": lists([]), "fair": lists([3, 4]), "good": lists([5, 4])}
    alone = {"noise": lists([]), "fair": lists([3, 9]), "good": lists([5, 4])}
    p = {
        name: dict(zip(items(m), m.scores["retrieval"][:, 0].tolist(), strict=True))
        for name, m in (
            ("both", merge.merge(both, quota(9))),
            ("alone", merge.merge(alone, quota(9))),
        )
    }
    assert p["both"][4] > p["alone"][4]


def test_scores_are_probabilities():
    found, truth = planted()
    merge = Merge.fit([(found, truth)])
    later, taken = planted(seed=1)
    merged = merge.merge(later, torch.full((400,), 120))
    p = merged.scores["retrieval"][:, 0].double()
    size = 1000
    hit = torch.isin(
        merged.item_id.row * size + merged.item_id.values, taken.row * size + taken.values
    ).double()
    assert float(p.sum() / hit.sum()) == pytest.approx(1, abs=0.12)
    for low, high in ((0.0, 0.01), (0.03, 0.2), (0.2, 1.0)):
        part = (p >= low) & (p < high)
        assert float(p[part].mean()) == pytest.approx(float(hit[part].mean()), rel=0.35, abs=0.004)


def test_a_place_means_one_thing_beside_another_channel_and_another_alone():
    """Planted: what "fair" finds is taken where "old" found it too, at any place; else never."""
    rng = np.random.default_rng(3)
    old, fair, truth = [], [], []
    for _ in range(500):
        mine = rng.choice(np.arange(1, 100), 30, replace=False)
        other = rng.choice(np.arange(1, 100), 30, replace=False)
        old.append(mine.tolist())
        fair.append(other.tolist())
        truth.append(torch.from_numpy(np.intersect1d(mine, other)[::2]))
    merge = Merge.fit([({"old": lists(*old), "fair": lists(*fair)}, Ragged.of(truth))])
    merged = merge.merge({"old": lists([1, 2, 3]), "fair": lists([9, 8, 3])}, quota(5))
    p = dict(zip(items(merged), merged.scores["retrieval"][:, 0].tolist(), strict=True))
    assert items(merged)[0] == 3
    assert p[3] > 0.3
    assert max(p[1], p[2], p[8], p[9]) < 0.05


def test_a_sample_of_what_was_not_taken_gives_the_same_probabilities(monkeypatch):
    found, truth = planted()
    whole = Merge.fit([(found, truth)])
    monkeypatch.setattr("headrace.serving.merge.MAX_UNTAKEN", 10_000)
    part = Merge.fit([(found, truth)])
    later, _ = planted(seed=1)
    a, b = (m.merge(later, torch.full((400,), 120)).scores["retrieval"] for m in (whole, part))
    assert float(b.sum() / a.sum()) == pytest.approx(1, abs=0.05)


def test_channels_that_find_the_same_are_no_obstacle():
    found, truth = planted(100)
    merge = Merge.fit([(found | {"twin": found["good"]}, truth)])
    assert merge.weight.isfinite().all()


def test_best_first_and_deterministic():
    found, truth = planted(50)
    merge = Merge.fit([(found, truth), (found, truth)])
    merged, again = (merge.merge(found, torch.full((50,), 60)) for _ in range(2))
    same_row = merged.item_id.row.diff() == 0
    assert (merged.scores["retrieval"][:, 0].diff()[same_row] <= 0).all()
    assert torch.equal(merged.item_id.values, again.item_id.values)


def test_ties_go_to_the_earlier_channel_then_place():
    flat = Merge(torch.zeros(5, 5, dtype=torch.float64))
    merged = flat.merge({"a": lists([9, 5]), "b": lists([1, 9])}, quota(3))
    assert items(merged) == [9, 5, 1]


def test_too_little_to_learn_from_leaves_turns():
    found = {"a": lists([1, 2]), "b": lists([3])}
    merge = Merge.fit([(found, Ragged.of([torch.tensor([1])]))])
    assert items(merge.merge(found, quota(3))) == [1, 3, 2]


def test_a_channel_that_never_finds_anything_is_worth_nothing():
    found, truth = planted(100)
    merge = Merge.fit([(found | {"empty": lists(*[[]] * 100)}, truth)])
    assert (merge.weight[7:] == 0).all()
    assert (merge.weight[:, 7:] == 0).all()


def test_restored_arrays_merge_bit_for_bit():
    found, truth = planted(60)
    for merge in (Merge.fit([(found, truth)]), Merge.interleave(3)):
        again = Merge.from_arrays({k: v.clone() for k, v in merge.arrays().items()})
        first, second = (m.merge(found, torch.full((60,), 30)) for m in (merge, again))
        assert torch.equal(first.item_id.values, second.item_id.values)
        assert torch.equal(first.scores["retrieval"], second.scores["retrieval"])


def test_lists_longer_than_the_known_places():
    merge = Merge.interleave(1)
    merged = merge.merge({"a": lists(list(range(1, 2_001)))}, quota(1_500))
    assert items(merged) == list(range(1, 1_501))
