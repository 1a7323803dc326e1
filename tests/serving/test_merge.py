"""The merge: what it learns, keeps and promises."""

import numpy as np
import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.serving.merge import MAX_PLACES, Merge


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


def test_a_later_place_is_never_worth_more():
    found, truth = planted()
    backwards = {  # a channel that ranks its finds from worst to best
        name: lists(
            *(
                row.tolist()[::-1] if name == "fair" else row.tolist()
                for row in map(c.item_id.__getitem__, range(400))
            )
        )
        for name, c in found.items()
    }
    merge = Merge.fit([(backwards, truth)])
    assert (merge.worth.diff(dim=1) <= 0).all()
    assert merge.worth.isfinite().all()


def test_best_first_and_deterministic():
    found, truth = planted(50)
    merge = Merge.fit([(found, truth), (found, truth)])
    merged, again = (merge.merge(found, torch.full((50,), 60)) for _ in range(2))
    same_row = merged.item_id.row.diff() == 0
    assert (merged.scores["retrieval"][:, 0].diff()[same_row] <= 0).all()
    assert torch.equal(merged.item_id.values, again.item_id.values)


def test_ties_go_to_the_earlier_channel_then_place():
    flat = Merge(torch.zeros(2, MAX_PLACES), torch.tensor(-1.0))
    merged = flat.merge({"a": lists([9, 5]), "b": lists([1, 9])}, quota(3))
    assert items(merged) == [9, 5, 1]


def test_too_little_to_learn_from_leaves_turns():
    found = {"a": lists([1, 2]), "b": lists([3])}
    merge = Merge.fit([(found, Ragged.of([torch.tensor([1])]))])
    assert items(merge.merge(found, quota(3))) == [1, 3, 2]


def test_a_channel_that_never_finds_anything_is_worth_nothing():
    found, truth = planted(100)
    merge = Merge.fit([(found | {"empty": lists(*[[]] * 100)}, truth)])
    assert (merge.worth[3] == 0).all()


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
