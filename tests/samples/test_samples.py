"""Samples by reference: splits, negatives, labels, weights."""

import numpy as np
import pytest
import torch

from headrace.errors import DataError
from tests import tiny


def test_parts_follow_each_other_and_share_no_moment(tiny_samples):
    times = np.asarray(tiny_samples.log.request("time_ms"))
    parts = [times[tiny_samples.requests(p)] for p in ("train", "valid", "test")]
    assert all(len(p) for p in parts)
    assert parts[0].max() < parts[1].min() <= parts[1].max() < parts[2].min()


def test_a_split_that_leaves_nothing_is_refused(tiny_log):
    with pytest.raises(DataError, match=r"spans 99\.9 days; test_days and valid_days leave none"):
        tiny.samples(tiny_log, test_days=60, valid_days=50)


def test_the_truth_is_what_the_request_took(tiny_samples):
    log = tiny_samples.log
    rows, truth = tiny_samples.first_requests("test")
    users = np.asarray(log.request("user"))[rows]
    assert len(set(users)) == len(users)
    buys = log.event("type") == log.type_code("buy")
    for b in range(0, len(rows), 5):
        items = log.event("item")[(np.asarray(log.event("request")) == rows[b]) & buys]
        assert sorted(set(items)) == sorted(truth[b].tolist())


def test_labels_and_negatives_are_right(tiny_samples):
    log = tiny_samples.log
    rows = tiny_samples.requests("train")[:200]
    drawn = tiny_samples.draw(rows, seed=5)
    offsets, shown = log.exposure("offsets"), log.exposure("item")
    for b in range(0, len(rows), 9):
        group = log.request("group")[rows[b]]
        on_show = set(shown[offsets[group] : offsets[group + 1]].tolist())
        linked = np.asarray(log.event("request")) == rows[b]
        bought = set(
            log.event("item")[linked & (log.event("type") == log.type_code("buy"))].tolist()
        )
        taken = set(log.event("item")[linked].tolist())
        at = slice(int(drawn.item.offsets[b]), int(drawn.item.offsets[b + 1]))
        items = drawn.item[b].tolist()
        assert len(set(items)) == len(items)
        assert {i for i, y in zip(items, drawn.labels["buy"][at], strict=True) if y} == bought
        assert {i for i, y in zip(items, drawn.labels["click"][at], strict=True) if y} == taken
        assert drawn.exposed[at].tolist() == [i in on_show for i in items]
        assert 0 not in items


def test_exposures_are_kept_at_their_rate(tiny_samples):
    """The weights of kept exposures add up to the exposures that there were."""
    rows = tiny_samples.requests("train")
    drawn = tiny_samples.draw(rows, seed=5, exposures_only=True)
    log = tiny_samples.log
    group = np.asarray(log.request("group"))[rows]
    there = np.diff(log.exposure("offsets"))[group].sum()
    assert float(drawn.weight.sum()) == pytest.approx(there, rel=0.05)
    assert drawn.exposed.all()


def test_a_sample_does_not_depend_on_its_batch(tiny_samples):
    rows = tiny_samples.requests("train")[:50]
    whole = tiny_samples.draw(rows, seed=7)
    alone = tiny_samples.draw(rows[20:21], seed=7)
    assert torch.equal(alone.item[0], whole.item[20])
    other = tiny_samples.draw(rows, seed=8)
    assert not torch.equal(other.item.values, whole.item.values)


def test_epochs_are_deterministic_and_can_be_entered_anywhere(tiny_samples):
    batches = tiny_samples.ranking("train", 64)
    assert len(batches) > 3
    full = [b.candidates.item_id.values for b in batches.epoch(1)]
    late = [b.candidates.item_id.values for b in batches.epoch(1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(full[2:], late, strict=True))
    first = next(iter(batches.epoch(0))).candidates.item_id.values
    assert not torch.equal(first, full[0])


def test_batches_gather_the_sequences_asked_for(tiny_samples):
    def gathered(sequences):
        batch = next(iter(tiny_samples.ranking("train", 64, sequences=sequences).epoch(0)))
        return {name.split(".")[0] for name in batch.requests.features if name.endswith(".item")}

    every = set(tiny_samples.space.schema.sequences)
    assert gathered(None) == every
    for name in every:
        assert gathered((name,)) == {name}
    assert gathered(()) == set()


def test_retrieval_batches_hold_positives_and_a_pool(tiny_samples):
    batch = next(iter(tiny_samples.retrieval("train", 32, pool=11).epoch(0)))
    assert len(batch.pool) == 11
    assert (batch.labels["buy"] == 1).all()
    rows = tiny_samples.requests("train")
    assert (batch.candidates.item_id.lengths <= tiny_samples.config.max_positives).all()
    assert len(batch.requests) == 32 <= len(rows)


def test_new_to_user_positives_were_never_touched_before(tiny_log):
    samples = tiny.samples(tiny_log, new_to_user=True)
    rows = samples.requests("train")
    batch = samples.positives_batch(rows, seed=1, pool=0)
    seen = samples.seen(rows)
    for b in range(len(rows)):
        assert not set(batch.candidates.item_id[b].tolist()) & set(seen[b].tolist())


def test_frequency_counts_the_training_period_only(tiny_samples):
    log = tiny_samples.log
    counted = (np.asarray(log.event("time_ms")) < tiny_samples.split.valid_ms) & (
        np.asarray(log.event("type")) == log.type_code("buy")
    )
    want = np.bincount(np.asarray(log.event("item"))[counted], minlength=log.manifest.num_items)
    assert (tiny_samples.frequency == want).all()


def test_frequent_items_are_drawn_more_often(tiny_log):
    wanted = {"keep_exposures": 0.0, "uniform": 0, "frequency": 20, "history": 0}
    samples = tiny.samples(tiny_log, negatives=wanted)
    drawn = samples.draw(samples.requests("train"), seed=1)
    negative = (drawn.labels["click"] == 0).numpy()
    counts = np.bincount(drawn.item.values.numpy()[negative], minlength=tiny.ITEMS + 1)
    assert np.corrcoef(counts[1:], samples.frequency[1:] ** 0.75)[0, 1] > 0.6


def test_history_negatives_are_the_users_own(tiny_log):
    wanted = {"keep_exposures": 0.0, "uniform": 0, "frequency": 0, "history": 5}
    samples = tiny.samples(tiny_log, negatives=wanted)
    rows = samples.requests("train")[-100:]
    drawn = samples.draw(rows, seed=1)
    history = samples.store.latest(
        samples.asked(rows).user, samples.asked(rows).time_ms, 10_000, -1
    )
    for b in range(len(rows)):
        own = set(history.item[history.offsets[b] : history.offsets[b + 1]].tolist())
        at = slice(int(drawn.item.offsets[b]), int(drawn.item.offsets[b + 1]))
        negatives = [
            i
            for i, y in zip(drawn.item[b].tolist(), drawn.labels["click"][at], strict=True)
            if not y
        ]
        assert set(negatives) <= own


def test_rates_are_the_shares_at_which_negatives_are_drawn(tiny_samples):
    """Over many seeds, each negative turns up as often as its rate says."""
    rows = tiny_samples.requests("train")[-30:]
    seen, rate = {}, {}
    seeds = 400
    for seed in range(seeds):
        drawn = tiny_samples.draw(rows, seed=seed)
        row = drawn.item.row.tolist()
        negative = (drawn.labels["click"] == 0).tolist()
        rates = drawn.log_rate.exp().tolist()
        for key, p, is_negative in zip(
            zip(row, drawn.item.values.tolist(), strict=True), rates, negative, strict=True
        ):
            if is_negative:
                seen[key] = seen.get(key, 0) + 1
                rate[key] = p
    often = [k for k in seen if rate[k] > 0.05]
    assert len(often) > 100
    ratio = [seen[k] / seeds / rate[k] for k in often]
    assert abs(np.mean(ratio) - 1) < 0.05
    assert np.mean(np.abs(np.array(ratio) - 1) < 0.5) > 0.95
