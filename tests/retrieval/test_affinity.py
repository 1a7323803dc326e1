"""What the affinity channel knows of users, on the tiny shop."""

from dataclasses import replace

import pytest
import torch

from tests.retrieval.counting import ask, fit


def test_affinity_knows_the_users_taste(tiny_samples):
    """Users of the tiny shop take items of one group of 15; kinds cut across popularity."""
    rows, _ = tiny_samples.first_requests("test")
    requests = tiny_samples.features(rows)
    liked = torch.tensor(
        [int(u) % 4 if u != "<unknown>" else -1 for u in tiny_samples.log.users["user"]]
    )
    item_group = torch.tensor(
        [int(i) % 4 if i != "<unknown>" else -1 for i in tiny_samples.log.items["item"]]
    )

    def share(kind, **settings):
        found = ask(fit(kind, tiny_samples, **settings), requests).item_id
        return (item_group[found.values] == found.spread(liked[requests.user])).float().mean()

    assert share("affinity", attributes=[["category"]]) > 2 * share("popular")


def test_affinity_crosses_attributes(tiny_samples, requests):
    crossed = fit("affinity", tiny_samples, attributes=[["category", "brand"], ["category"]])
    features = tiny_samples.space.catalogue.features
    pairs = set(zip(features["category"].tolist(), features["brand"].tolist(), strict=True))
    arrays = crossed.arrays()
    assert len(arrays["value.0"]) == sum(c > 0 and b > 0 for c, b in pairs)
    assert float(arrays["value_share.1"].sum()) == pytest.approx(1)
    assert len(ask(crossed, requests)) > 0


def test_affinity_raises_what_is_on_show(tiny_samples, requests):
    shown = fit("affinity", tiny_samples, on_show=True)
    assert float(shown.arrays()["lift"]) > 0  # the tiny shop's users take only what they are shown
    here = ask(shown, requests, 5).item_id
    nowhere = ask(shown, replace(requests, group=torch.full((20,), -1)), 5).item_id
    offsets, item = (tiny_samples.log.exposure(c) for c in ("offsets", "item"))

    def on_show(found):
        sets = [set(item[offsets[g] : offsets[g + 1]].tolist()) for g in requests.group.tolist()]
        return sum(len(set(found[b].tolist()) & sets[b]) for b in range(20))

    assert on_show(here) > on_show(nowhere)


def test_affinity_looks_at_its_pool_only(tiny_samples, requests):
    found = ask(fit("affinity", tiny_samples, pool=7), requests, 50).item_id
    assert (found.lengths == 7).all()
