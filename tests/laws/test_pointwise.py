"""What every ranker and pre-ranker must obey. A new file in either folder is tested unasked."""

import pytest
import torch

from headrace.config import Kinds
from headrace.data import Batch, Candidates
from tests.learning import overfit
from tests.tiny import graded, with_only

STAGES = ("headrace.ranking", "headrace.preranking")
KINDS = [f"{stage}.{kind}" for stage in STAGES for kind in Kinds(stage).names()]
GROWN = [kind for kind in KINDS if hasattr(Kinds(STAGES[0]).find(kind), "grow")]
TASKS = ("click", "buy")


def build(kind, samples, seed=0):
    torch.manual_seed(seed)
    model = Kinds(STAGES[0]).find(kind).Config().build(samples.space, TASKS)
    if kind in GROWN:  # bare until then, and all laws would hold
        model.grow([graded(samples, seed)])
    return model


@pytest.mark.parametrize("kind", KINDS)
class TestEveryModel:
    def test_a_probability_for_every_candidate_and_task(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        p_NT = model.score(batch.requests, batch.candidates)
        assert p_NT.shape == (len(batch.candidates), 2)
        assert ((p_NT > 0) & (p_NT < 1)).all()

    def test_the_same_alone_as_in_a_batch(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        whole_NT = model.score(batch.requests, batch.candidates)
        for b in range(0, len(batch.requests), 7):
            row = torch.tensor([b])
            alone_NT = model.score(batch.requests.take(row), batch.candidates.take_rows(row))
            together_NT = whole_NT[batch.candidates.item_id.row == b]
            torch.testing.assert_close(alone_NT, together_NT, atol=1e-6, rtol=1e-5)

    def test_it_reads_no_sequence_but_those_it_names(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        assert model.reads_sequences is not None
        only = with_only(batch.requests, model.reads_sequences)
        all_NT = model.score(batch.requests, batch.candidates)
        assert torch.equal(model.score(only, batch.candidates), all_NT)

    def test_frozen_scores_equal_unfrozen(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        before_NT = model.score(batch.requests, batch.candidates)
        model.freeze()
        after_NT = model.score(batch.requests, batch.candidates)
        torch.testing.assert_close(after_NT, before_NT, atol=1e-6, rtol=1e-5)

    def test_weights_restore_bit_for_bit(self, kind, tiny_samples, batch):
        model, other = build(kind, tiny_samples), build(kind, tiny_samples, seed=1)
        other.load_state_dict(model.state_dict())
        model.freeze()
        other.freeze()
        scores = [m.score(batch.requests, batch.candidates) for m in (model, other)]
        assert torch.equal(*scores)

    def test_no_candidates_no_scores(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        none = batch.candidates.take(torch.zeros(0, dtype=torch.int64))
        assert model.score(batch.requests, none).shape == (0, 2)

    def test_a_user_without_history_is_scored(self, kind, tiny_samples):
        rows = tiny_samples.requests("train")[:1]  # the very first request of the log
        one = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
        assert len(one.requests.ragged("history.item").values) == 0
        model = build(kind, tiny_samples).eval()
        assert model.score(one.requests, one.candidates).isfinite().all()

    def test_weights_of_the_batch_weigh(self, kind, tiny_samples, batch):
        model = build(kind, tiny_samples).eval()
        first = batch.candidates.take_rows(torch.arange(10))
        size = len(first)
        labels = {t: y[:size] for t, y in batch.labels.items()}
        alone = Batch(
            batch.requests.take(torch.arange(10)), first, labels, torch.ones(size), batch.pool
        )
        weight_N = torch.cat([torch.ones(size), torch.zeros(len(batch.candidates) - size)])
        masked = Batch(batch.requests, batch.candidates, batch.labels, weight_N, batch.pool)
        for task in TASKS:  # a mean over candidates, linear in their weights
            share = size / len(batch.candidates)
            torch.testing.assert_close(model.loss(masked)[task], model.loss(alone)[task] * share)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in GROWN])
def test_overfits_a_tiny_set(kind, tiny_samples):
    rows = tiny_samples.requests("train")[-4:]
    tiny = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
    model = build(kind, tiny_samples)
    losses = overfit(model, lambda: model.loss(tiny))
    assert losses[-1] < 0.2 * losses[0]


def test_candidates_can_be_empty_for_some_requests(tiny_samples, batch):
    model = build("headrace.ranking.din", tiny_samples).eval()
    rows = torch.tensor([0, 2])
    some = batch.candidates.take_rows(rows)
    gap = Candidates(
        type(some.item_id).sized(
            some.item_id.values,
            torch.tensor([int(some.item_id.lengths[0]), 0, int(some.item_id.lengths[1])]),
        ),
        some.features,
    )
    with_gap = model.score(batch.requests.take(torch.tensor([0, 1, 2])), gap)
    torch.testing.assert_close(with_gap, model.score(batch.requests.take(rows), some))
