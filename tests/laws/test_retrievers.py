"""What every channel must obey. A new file in retrieval/ is tested unasked."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from headrace.config import Kinds
from headrace.data import Ragged
from headrace.log import RawLog
from headrace.training import Trainer
from tests import tiny

KINDS = Kinds("headrace.retrieval")


def fit(kind, samples):
    channel = KINDS.find(kind).Config().build(samples.space)
    return channel, channel.fit(samples, kind, Trainer())


@pytest.fixture(scope="module", params=KINDS.names())
def fitted(request, tiny_samples):
    return request.param, *fit(request.param, tiny_samples)


@pytest.fixture(scope="module")
def requests(tiny_samples):
    return tiny_samples.features(tiny_samples.requests("test")[:30])


def ask(retriever, requests, quota=10):
    return retriever.retrieve(requests, torch.full((len(requests),), quota))


def test_distinct_items_within_quota_best_first(fitted, requests):
    _, _, retriever = fitted
    quota_B = torch.arange(len(requests)) % 12
    found = retriever.retrieve(requests, quota_B)
    assert (found.item_id.lengths <= quota_B).all()
    assert len(found) > 0
    for b in range(len(requests)):
        items = found.item_id[b].tolist()
        assert len(set(items)) == len(items)
        assert 0 not in items
        assert max(items, default=1) <= tiny.ITEMS
    score_N = found.scores["score"][:, 0]
    same_row = found.item_id.row.diff() == 0
    assert (score_N.diff()[same_row] <= 1e-6).all()


def test_excluded_items_never_come(fitted, requests):
    _, _, retriever = fitted
    first = ask(retriever, requests)
    without = replace(requests, exclude=first.item_id)
    second = ask(retriever, without)
    for b in range(len(requests)):
        assert not set(first.item_id[b].tolist()) & set(second.item_id[b].tolist())


def test_exclusion_is_made_up_for(fitted, requests):
    """What is left out makes room: the list is the one without exclusion, minus the excluded."""
    _, _, retriever = fitted
    whole = ask(retriever, requests, quota=tiny.ITEMS).item_id
    first = ask(retriever, requests, quota=3).item_id
    second = ask(retriever, replace(requests, exclude=first), quota=5).item_id
    for b in range(len(requests)):
        left = [i for i in whole[b].tolist() if i not in first[b].tolist()]
        assert second[b].tolist() == left[:5]


def test_the_same_alone_as_in_a_batch(fitted, requests):
    _, _, retriever = fitted
    whole = ask(retriever, requests)
    for b in range(0, len(requests), 6):
        alone = ask(retriever, requests.take(torch.tensor([b])))
        assert alone.item_id.values.tolist() == whole.item_id[b].tolist()
        rows = whole.item_id.row == b
        torch.testing.assert_close(alone.scores["score"], whole.scores["score"][rows])


def test_it_reads_no_sequence_but_those_it_names(fitted, requests):
    _, _, retriever = fitted
    whole = ask(retriever, requests)
    only = ask(retriever, tiny.with_only(requests, retriever.reads_sequences))
    assert torch.equal(only.item_id.values, whole.item_id.values)
    assert torch.equal(only.scores["score"], whole.scores["score"])


def test_restored_arrays_answer_bit_for_bit(fitted, requests, tiny_samples):
    _, channel, retriever = fitted
    arrays = {name: array.clone() for name, array in retriever.arrays().items()}
    again = channel.restore(arrays, tiny_samples.space)
    first, second = ask(retriever, requests), ask(again, requests)
    assert torch.equal(first.item_id.values, second.item_id.values)
    assert torch.equal(first.item_id.offsets, second.item_id.offsets)
    assert torch.equal(first.scores["score"], second.scores["score"])


def test_a_user_without_history_gets_an_answer_or_nothing(fitted, tiny_samples):
    _, _, retriever = fitted
    requests = tiny_samples.features(tiny_samples.requests("train")[:1])
    assert len(requests.ragged("lifetime.item").values) == 0
    found = ask(retriever, requests)
    assert found.scores["score"].isfinite().all()


def test_a_request_finds_what_it_would_alone_whatever_others_want(fitted, requests):
    _, _, retriever = fitted
    quota_B = torch.arange(len(requests)) * 3 % 11
    together = retriever.retrieve(requests, quota_B).item_id
    for b in range(len(requests)):
        alone = retriever.retrieve(requests.take(torch.tensor([b])), quota_B[b : b + 1]).item_id
        assert alone[0].tolist() == together[b].tolist()


def test_no_quota_no_items(fitted, requests):
    _, _, retriever = fitted
    assert len(ask(retriever, requests, quota=0)) == 0


def test_a_request_may_exclude_everything(fitted, requests):
    _, _, retriever = fitted
    size = len(requests)
    everything = Ragged.sized(
        torch.arange(tiny.ITEMS + 1).repeat(size), torch.full((size,), tiny.ITEMS + 1)
    )
    assert len(ask(retriever, replace(requests, exclude=everything))) == 0


def test_the_test_period_changes_nothing(fitted, tiny_samples, requests, tmp_path_factory):
    """Refit on a log whose test period is another: what is learnt stays as it was."""
    kind, _, retriever = fitted
    raw = tiny.raw_log()
    late = pl.col("time_ms") >= tiny_samples.split.test_ms
    last = pl.col("time_ms") == tiny_samples.log.manifest.last_ms  # keeps the split in place
    other = RawLog(
        events=raw.events.with_columns(
            pl.when(late & ~last).then(59 - pl.col("item")).otherwise(pl.col("item")).alias("item")
        ),
        items=raw.items,
        users=raw.users,
        requests=raw.requests,
        exposures=raw.exposures,
        event_types=raw.event_types,
    )
    samples = tiny.samples(tiny.write(tmp_path_factory.mktemp("late"), other))
    assert samples.split == tiny_samples.split
    _, again = fit(kind, samples)
    first, second = retriever.arrays(), again.arrays()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
