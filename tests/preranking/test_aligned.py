"""Pre-rankers that learn the ranker's order: what a list costs, and which candidates are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchmarks import _auction
from headrace.config import Kinds
from headrace.data import Ragged
from headrace.errors import DataError
from headrace.pipeline.alignment import Alternating, ListBatches, Ranked, draw
from headrace.preranking._ranked import BID, FOUND, GRADE, RANKED, WORTH
from headrace.preranking.cold import Cold
from headrace.preranking.copr import Copr
from headrace.preranking.listwise import Listwise
from headrace.preranking.vector import Vector
from headrace.training.distributed import shard
from tests.learning import overfit

TASKS = ("click", "buy")
KINDS = [Copr.Config(chunks=5), Listwise.Config(each=2), Copr.Config(model=Vector.Config())]


@pytest.fixture(scope="module")
def ranked(tiny_samples):
    """Lists of 1 to 30 items for 30 requests, and an empty one; bids rise as probability falls."""
    rows = tiny_samples.requests("train")[-31:]
    made = torch.Generator().manual_seed(1)
    lengths = torch.tensor([*range(1, 31), 0])
    items = [1 + torch.randperm(59, generator=made)[: int(n)] for n in lengths]
    size = int(lengths.sum())
    worth_N = torch.cat([torch.arange(int(n), 0, -1) for n in lengths]).float()
    bid_N = torch.rand(size, generator=made) + 0.5
    grade_N = (worth_N > 3).float()
    columns = {WORTH: worth_N, BID: bid_N, GRADE: grade_N, FOUND: bid_N / 2}
    scores = {name: column_N.unsqueeze(1) for name, column_N in columns.items()}
    return Ranked(rows, Ragged.of(items), {**scores, RANKED: (worth_N / bid_N / 99).repeat(2, 1).T})


def build(config, samples):
    torch.manual_seed(0)
    return config.build(samples.space, TASKS)


def batches(config, ranked, samples, size=31):
    model = build(config, samples)
    return model, ListBatches(samples, ranked, config, model, size)


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.kind} {c.model.kind}")
class TestAligned:
    def test_it_learns_the_order_of_lists(self, config, ranked, tiny_samples):
        model, lists = batches(config, ranked, tiny_samples)
        batch = lists.batch(0, 1)
        losses = overfit(model, lambda: model.loss(batch))
        assert losses[-1] < 0.3 * losses[0]

    def test_its_loss_is_linear_in_weights_and_can_be_dealt_out(self, config, ranked, tiny_samples):
        model, lists = batches(config, ranked, tiny_samples)
        model.eval()
        batch = lists.batch(0, 1)
        whole = model.loss(batch)["order"]
        parts = [model.loss(shard(batch, rank, 3))["order"] for rank in range(3)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)

    def test_without_lists_it_is_the_model_inside(self, config, ranked, tiny_samples):
        model = build(config, tiny_samples)
        rows = tiny_samples.requests("train")[-8:]
        batch = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
        for task, loss in model.inner.loss(batch).items():
            torch.testing.assert_close(model.loss(batch)[task], loss)


def test_what_is_ordered_is_probability_times_bid(ranked, tiny_samples):
    model, lists = batches(Copr.Config(chunks=5), ranked, tiny_samples)
    model.eval()
    batch = lists.batch(0, 1)
    found = batch.candidates
    p_N1 = model.score(batch.requests, found)[:, -1:]

    def cost(worth_N1):
        """With bids that make the model's worth this."""
        scored = replace(found, scores={**found.scores, BID: worth_N1 / p_N1})
        return model.loss(replace(batch, candidates=scored))["order"].item()

    worth_N1 = found.scores[WORTH]
    right, far, wrong = cost(worth_N1), cost(worth_N1**20), cost(1 / worth_N1)
    assert far < 1e-3 < right < wrong


def test_one_of_each_chunk_and_a_few_of_each_grade():
    lists = Ragged.of([torch.arange(3), torch.arange(40), torch.arange(0), torch.arange(200)])
    rng = np.random.default_rng(0)
    picked = draw(Copr.Config(chunks=8), lists, rng)
    row, place = lists.row[picked], lists.values[picked]
    assert torch.bincount(row, minlength=4).tolist() == [3, 8, 0, 8]
    assert (place[row == 3] // 25).tolist() == list(range(8))
    picked = draw(Listwise.Config(each=10), lists, rng)
    row, place = lists.row[picked], lists.values[picked]
    assert torch.bincount(row, minlength=4).tolist() == [3, 20, 0, 40]
    assert (place[row == 3] < 10).sum() == 10
    again = draw(Listwise.Config(each=10), lists, np.random.default_rng(5))
    assert not torch.equal(picked, again)


def test_batches_alternate_and_can_start_anywhere(ranked, tiny_samples):
    model, lists = batches(Copr.Config(), ranked, tiny_samples, size=8)
    labelled = tiny_samples.ranking("train", 100, sequences=model.reads_sequences)
    both = Alternating(labelled, lists)
    every = list(both.epoch(1))
    assert len(every) == len(both) == 2 * len(labelled)
    assert [bool(b.labels) for b in every[:4]] == [True, False, True, False]
    for start in (1, 4):
        rest = list(both.epoch(1, start))
        assert len(rest) == len(every) - start
        for a, b in zip(rest, every[start:], strict=True):
            assert torch.equal(a.candidates.item_id.values, b.candidates.item_id.values)
    assert set(every[1].candidates.scores) == {WORTH, BID, GRADE, FOUND, RANKED}


def test_order_beats_scores_where_rare_clicks_are_dear():
    hits = _auction.hits(seed=3, requests=1_000, epochs=4)
    for kind in ("copr", "listwise"):
        assert hits[kind]["worth_hit"] >= hits["mse"]["worth_hit"] + 0.02


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("copr", {"chunks": 1}, "greater than or equal to 2"),
        ("copr", {"weight": 0.0}, "greater than 0"),
        ("listwise", {"each": 0}, "greater than or equal to 1"),
        ("listwise", {"distill": {"scheme": "md"}}, "is learnt from it already"),
        ("copr", {"model": {"kind": "copr"}}, "expected tags: 'vector', 'cold'"),
    ],
)
def test_settings_out_of_range(kind, settings, message):
    with pytest.raises(ValidationError, match=message):
        Kinds("headrace.preranking").find(kind).Config(**settings)


def test_nothing_retrieved_is_one_line(tiny_samples):
    with pytest.raises(DataError, match="retrieval found no item for any training request"):
        Ranked.by(None, tiny_samples, np.zeros(0, np.int64), {"retrieval": 5})


def test_a_cold_inside_keeps_its_own_settings(tiny_samples):
    model = build(Copr.Config(model=Cold.Config(groups=("exposed", "item"), keep=1)), tiny_samples)
    assert list(model.reads_cross) == ["exposed"]
    assert model.reads_sequences == ()
