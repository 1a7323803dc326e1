"""The graphs of item_cf and swing, on the tiny shop."""

import numpy as np
import pytest
import torch

from tests import tiny
from tests.retrieval.counting import ask, events, fit


@pytest.mark.parametrize("kind", ["item_cf", "swing"])
@pytest.mark.parametrize("unit", ["user", "request"])
def test_neighbours_are_items_that_share_units(kind, unit, tiny_samples):
    arrays = fit(kind, tiny_samples, unit=unit).arrays()
    holders = {}
    for user, item, _, request in events(tiny_samples, tiny_samples.split.valid_ms):
        holders.setdefault(item, set()).add(user if unit == "user" else request)
    offsets, neighbour = arrays["offsets"].tolist(), arrays["neighbour"].tolist()
    assert len(neighbour) > 0
    for i in range(len(offsets) - 1):
        for j in neighbour[offsets[i] : offsets[i + 1]]:
            assert len(holders[i] & holders[j]) >= 2


def test_item_cf_without_fading_is_the_formula(tiny_samples):
    arrays = fit("item_cf", tiny_samples, together_days=None, least=1).arrays()
    lives = {}
    for user, item, _, _ in events(tiny_samples, tiny_samples.split.valid_ms):
        lives.setdefault(user, set()).add(item)
    offsets, neighbour = arrays["offsets"].tolist(), arrays["neighbour"].tolist()
    for i in (1, 5, 17):
        for k in range(offsets[i], offsets[i + 1]):
            j = neighbour[k]
            n = [sum(x in items for items in lives.values()) for x in (i, j)]
            shared = sum(1 / np.log1p(len(s)) for s in lives.values() if i in s and j in s)
            assert float(arrays["weight"][k]) == pytest.approx(
                shared / np.sqrt(n[0] * n[1]), rel=1e-4
            )


def test_swing_normalised_gives_each_seed_a_best_neighbour_of_1(tiny_samples):
    arrays = fit("swing", tiny_samples).arrays()
    plain = fit("swing", tiny_samples, normalise=False).arrays()
    first = arrays["offsets"][:-1][arrays["offsets"].diff() > 0]
    assert (arrays["weight"][first] == 1).all()
    assert torch.equal(arrays["neighbour"], plain["neighbour"])
    assert (plain["weight"][first] != 1).any()


@pytest.mark.parametrize("kind", ["item_cf", "swing"])
def test_only_the_newest_items_of_a_life_count(kind, tiny_samples):
    few = fit(kind, tiny_samples, max_items=3).arrays()["neighbour"]
    assert 0 < len(few) < len(fit(kind, tiny_samples).arrays()["neighbour"])


@pytest.mark.parametrize("kind", ["item_cf", "swing", "affinity"])
def test_what_another_channel_brings_back_is_skipped(kind, tiny_samples, requests):
    own = ask(fit(kind, tiny_samples, skip="lifetime"), requests, tiny.ITEMS).item_id
    whole = ask(fit(kind, tiny_samples), requests, tiny.ITEMS).item_id
    lifetime = requests.ragged("lifetime.item")
    for b in range(len(requests)):
        had = set(lifetime[b].tolist())
        assert own[b].tolist() == [i for i in whole[b].tolist() if i not in had]
