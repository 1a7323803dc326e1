"""What the repurchase channel counts, on the tiny shop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.samples.split import DAY_MS
from tests import tiny
from tests.retrieval.counting import ask, events, fit


def test_repurchase_sums_decays_of_own_events(tiny_samples, requests):
    found = ask(fit("repurchase", tiny_samples, tau_days=[15], repeat_power=[0]), requests)
    own = events(tiny_samples, tiny_samples.split.end_ms)
    for b in range(len(requests)):
        want = {}
        for user, item, time_ms, _ in own:
            now = int(requests.time_ms[b])
            if user == int(requests.user[b]) and time_ms < now:
                want[item] = want.get(item, 0) + np.exp((time_ms - now) / DAY_MS / 15)
        got = found.item_id[b].tolist()
        scores = found.scores["score"][found.item_id.row == b][:, 0].tolist()
        assert scores == pytest.approx(sorted(want.values(), reverse=True)[:10], rel=1e-4)
        assert scores == pytest.approx([want[i] for i in got], rel=1e-4)


def test_repurchase_reads_the_events_it_is_told_to(tiny_samples, requests):
    buys = ask(fit("repurchase", tiny_samples), requests, 50).item_id
    clicks = ask(fit("repurchase", tiny_samples, events=["click"]), requests, 50).item_id
    assert len(clicks.values) > len(buys.values)


def test_repurchase_finds_nothing_new_and_nothing_excluded(tiny_samples):
    rows, _ = tiny_samples.first_requests("test")
    requests = replace(tiny_samples.features(rows), exclude=tiny_samples.seen(rows))
    assert len(ask(fit("repurchase", tiny_samples), requests, 50)) == 0


def test_repeat_rates_of_items_raise_what_is_taken_again(tiny_samples):
    flat = fit("repurchase", tiny_samples, repeat_power=[0]).arrays()
    assert flat["repeat_power"] == 0
    rate = flat["rate"]
    pairs = [(u, i) for u, i, _, _ in events(tiny_samples, tiny_samples.split.valid_ms)]
    repeats, users = np.zeros(tiny.ITEMS + 1), np.zeros(tiny.ITEMS + 1)
    for _, item in set(pairs):
        users[item] += 1
    for _, item in pairs:
        repeats[item] += 1
    repeats -= users
    mean = repeats.sum() / users.sum()
    want = (repeats + 10 * mean) / (users + 10) / mean
    torch.testing.assert_close(rate.double(), torch.from_numpy(want), rtol=1e-5, atol=0)
