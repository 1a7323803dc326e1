"""Batches with candidates of which a teacher alone speaks, and logs of what teachers said."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import headrace
from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError, DataError
from headrace.nn.embedder import Embedder
from headrace.samples.taught import (
    TEACHER,
    UNLABELLED,
    Lists,
    TaughtBatches,
    read_scores,
    write_scores,
)
from tests import tiny

TASKS = ("click", "buy")


@pytest.fixture(scope="module")
def lists(tiny_samples):
    """Lists of every other training request, the same item never twice, with scores."""
    rows = np.sort(tiny_samples.requests("train"))[::2]
    made = torch.Generator().manual_seed(1)
    items = [1 + torch.randperm(tiny.ITEMS, generator=made)[: int(r) % 7] for r in rows]
    item = Ragged.of(items)
    return Lists(rows, item, torch.rand(len(item.values), 2, generator=made))


def batches(samples, lists, each=3):
    rows = samples.requests("train")
    return TaughtBatches(samples, rows, 32, lists, each, hits=False, sequences=("history",))


def test_lists_of_some_requests(lists):
    asked = np.array([int(lists.request[3]), int(lists.request[3]) + 1, int(lists.request[8])])
    asked[1] = -1 if asked[1] in lists.request else asked[1]
    item, score_NT = lists.of(asked)
    assert torch.equal(item[0], lists.item[3])
    assert len(item[1]) == 0
    assert torch.equal(item[2], lists.item[8])
    first = int(lists.item.offsets[3])
    assert torch.equal(score_NT[: len(item[0])], lists.score_NT[first : first + len(item[0])])


def test_labelled_rows_are_those_of_the_ranker(tiny_samples, lists):
    plain = tiny_samples.ranking("train", 32, hits=False, sequences=("history",)).epoch(0)
    pairs = zip(batches(tiny_samples, lists).epoch(0), plain, strict=True)
    for step, (ours, theirs) in enumerate(pairs):
        added_N = ours.candidates.features[UNLABELLED]
        kept = ours.candidates.take(torch.nonzero(~added_N)[:, 0])
        assert torch.equal(kept.item_id.values, theirs.candidates.item_id.values)
        assert torch.equal(kept.item_id.offsets, theirs.candidates.item_id.offsets)
        for task in TASKS:
            assert torch.equal(ours.labels[task][~added_N], theirs.labels[task])
        assert torch.equal(ours.log_rate[~added_N], theirs.log_rate)
        share = ours.weight[~added_N].sum() / len(ours.weight)  # a mean over those with labels
        torch.testing.assert_close(share, torch.tensor(1.0))
        assert step or added_N.any()
        assert int(torch.bincount(ours.candidates.item_id.row[added_N]).max()) <= 3
        again = ours.candidates.take(torch.nonzero(added_N)[:, 0]).item_id
        assert not again.within(kept.item_id).any()


def test_scores_stand_beside_their_candidates(tiny_samples, lists):
    request = tiny_samples.requests("train")
    for b, batch in zip(range(3), batches(tiny_samples, lists).epoch(0), strict=False):
        said_NT = batch.candidates.scores[TEACHER]
        added_N = batch.candidates.features[UNLABELLED]
        assert not said_NT[added_N].isnan().any()
        known = {
            (int(lists.request[r]), int(i)): lists.score_NT[at]
            for at, (r, i) in enumerate(zip(lists.item.row, lists.item.values, strict=True))
        }
        seed = tiny_samples.seed * 1_000_003
        order = np.random.default_rng(seed).permutation(len(request))
        rows = np.sort(request[order[b * 32 : (b + 1) * 32]])
        item = batch.candidates.item_id
        for n, (r, i) in enumerate(zip(item.row, item.values, strict=True)):
            wanted = known.get((int(rows[r]), int(i)))
            assert said_NT[n].isnan().all() if wanted is None else torch.equal(said_NT[n], wanted)


def test_without_lists_they_are_the_batches_of_the_ranker(tiny_samples):
    ours = next(iter(batches(tiny_samples, None).epoch(0)))
    theirs = next(iter(tiny_samples.ranking("train", 32, hits=False).epoch(0)))
    assert torch.equal(ours.weight, theirs.weight)
    assert UNLABELLED not in ours.candidates.features


def test_logged_scores_are_read_as_written(tiny_samples, lists, tmp_path):
    path = tmp_path / "scores.parquet"
    write_scores(path, tiny_samples.log, lists, TASKS)
    found = read_scores(path, tiny_samples.log, np.sort(tiny_samples.requests("train")), TASKS)
    filled = [r for r in range(len(lists.request)) if len(lists.item[r])]
    times = np.asarray(tiny_samples.log.request("time_ms"))[lists.request]
    users = np.asarray(tiny_samples.log.request("user"))[lists.request]
    assert len(set(zip(times, users, strict=True))) == len(times)  # else rows could be confused
    assert found.request.tolist() == lists.request[filled].tolist()
    for r, place in zip(filled, range(len(filled)), strict=True):
        assert torch.equal(found.item[place], lists.item[r])
    assert torch.equal(found.score_NT, lists.score_NT)


def test_logs_that_cannot_teach(tiny_samples, lists, tmp_path):
    path, rows = tmp_path / "scores.parquet", tiny_samples.requests("train")
    with pytest.raises(DataError, match=r"scores\.parquet: no teacher scores there"):
        read_scores(path, tiny_samples.log, rows, TASKS)
    with pytest.raises(DataError, match="no teacher scores to write"):
        write_scores(path, tiny_samples.log, Lists(lists.request, lists.item), TASKS)
    write_scores(path, tiny_samples.log, lists, TASKS)
    with pytest.raises(DataError, match="no column 'p_cart'; "):
        read_scores(path, tiny_samples.log, rows, ("cart",))
    late = tiny_samples.requests("test")
    with pytest.raises(DataError, match=f"no teacher scores for any of {len(late)} training"):
        read_scores(path, tiny_samples.log, late, TASKS)
    pl.read_parquet(path).with_columns(pl.col("p_buy") * 3).write_parquet(path)
    with pytest.raises(DataError, match="p_click, p_buy must hold probabilities"):
        read_scores(path, tiny_samples.log, np.sort(rows), TASKS)


@pytest.fixture(scope="module")
def privileged(tiny_log):
    """The tiny shop with two features of a pair too dear to serve, and one that comes too late."""
    features = {
        **tiny.SCHEMA["features"],
        "paid": {"of": "privileged", "column": "buy"},
        "bought": {"of": "privileged", "column": "user_item_count"},
        "seen_on": {"of": "privileged", "column": "shelf"},
    }
    return tiny.samples(tiny_log, schema={**tiny.SCHEMA, "features": features})


def test_privileged_crosses_are_made_as_crosses_are(privileged):
    rows = privileged.requests("train")[-30:]
    found = privileged.batch(privileged.draw(rows, seed=1)).candidates.features
    assert torch.equal(found["bought"], found["user_item_count"])
    assert torch.equal(found["seen_on"], found["shelf"])
    assert found["seen_on"].unique().numel() > 1


@pytest.mark.parametrize("name", ["paid", "bought", "seen_on"])
def test_serving_cannot_read_a_privileged_feature(name, privileged):
    rows = privileged.requests("train")[:5]
    truth = privileged.truth(rows)
    requests, store = privileged.features(rows), privileged.store
    made = privileged.builder.candidates(requests, Candidates(truth), store)
    assert name not in made.features
    with pytest.raises(ConfigError, match=f"features: '{name}' is privileged, there in training"):
        privileged.builder.candidates(requests, Candidates(truth), store, names=["shelf", name])
    with pytest.raises(ConfigError, match="privileged features have no tables in what serves"):
        Embedder(privileged.space, ("item", "privileged"))


def test_only_what_is_privileged_is_revealed(privileged):
    space = privileged.space.revealed(["paid"])
    assert space.schema.names("privileged") == []
    assert "paid" in space.schema.names("cross")
    assert "bought" not in space.schema.features
    with pytest.raises(ConfigError, match="no privileged feature 'shelf'; known: bought, paid"):
        privileged.space.revealed(["shelf"])


def test_nothing_that_serves_knows_the_door_of_training():
    root = Path(headrace.__file__).parent
    doors = [p for p in root.rglob("*.py") if ".in_training(" in p.read_text()]
    assert [str(p.relative_to(root)) for p in doors] == ["samples/samples.py"]
