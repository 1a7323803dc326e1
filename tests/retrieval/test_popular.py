"""What the popular channel counts and lists, on the tiny shop."""

from dataclasses import replace

import numpy as np
import torch

from headrace.samples.split import DAY_MS
from tests import tiny
from tests.retrieval.counting import ask, events, fit


def test_popular_counts_with_a_half_life(tiny_samples, requests):
    until_ms = tiny_samples.split.valid_ms
    found = ask(fit("popular", tiny_samples, half_life_days=[20]), requests, quota=tiny.ITEMS)
    want = np.zeros(tiny.ITEMS + 1)
    for _, item, time_ms, _ in events(tiny_samples, until_ms):
        want[item] += 0.5 ** ((until_ms - time_ms) / DAY_MS / 20)
    want /= want.sum()
    row = found.item_id[0].numpy()
    assert row.tolist() == np.argsort(-want, kind="stable")[: len(row)].tolist()
    torch.testing.assert_close(
        found.scores["score"][: len(row), 0].double(),
        torch.from_numpy(want[row]),
        rtol=1e-5,
        atol=0,
    )


def test_popular_by_store_is_drawn_to_the_common_list(tiny_samples, requests):
    common = ask(fit("popular", tiny_samples, half_life_days=[20]), requests).item_id
    own = ask(
        fit("popular", tiny_samples, half_life_days=[20], context="store", pull=0.01), requests
    ).item_id
    firm = ask(
        fit("popular", tiny_samples, half_life_days=[20], context="store", pull=1e9), requests
    ).item_id
    assert torch.equal(firm.values, common.values)
    store = requests.tensor("store")
    a, b = (int(torch.nonzero(store == s)[0]) for s in (1, 2))
    assert own[a].tolist() != own[b].tolist()
    counts = np.zeros((3, tiny.ITEMS + 1))
    codes = (
        tiny_samples.builder.requests(
            tiny_samples.asked(np.arange(tiny_samples.log.manifest.num_requests)),
            tiny_samples.store,
        )
        .tensor("store")
        .numpy()
    )
    until_ms = tiny_samples.split.valid_ms
    for _, item, time_ms, request in events(tiny_samples, until_ms):
        counts[codes[request], item] += 0.5 ** ((until_ms - time_ms) / DAY_MS / 20)
    assert own[a][:3].tolist() == np.argsort(-counts[1], kind="stable")[:3].tolist()


def test_popular_where_the_context_is_unknown_is_the_common_list(tiny_samples, requests):
    common = ask(fit("popular", tiny_samples, half_life_days=[20]), requests).item_id
    nowhere = replace(requests, features={**requests.features, "store": torch.zeros(20).long()})
    own = ask(fit("popular", tiny_samples, half_life_days=[20], context="store"), nowhere).item_id
    assert torch.equal(own.values, common.values)


def test_popular_on_show_returns_only_what_is_on_show(tiny_samples, requests):
    found = ask(fit("popular", tiny_samples, on_show=True), requests).item_id
    offsets, item = (tiny_samples.log.exposure(c) for c in ("offsets", "item"))
    assert len(found.values) > 0
    for b, g in enumerate(requests.group.tolist()):
        assert set(found[b].tolist()) <= set(item[offsets[g] : offsets[g + 1]].tolist())
    nowhere = replace(requests, group=torch.full((20,), -1))
    assert len(ask(fit("popular", tiny_samples, on_show=True), nowhere)) == 0


def test_popular_keeps_so_many(tiny_samples, requests):
    assert (ask(fit("popular", tiny_samples, keep=4), requests).item_id.lengths == 4).all()
