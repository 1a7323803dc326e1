from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headrace.data import Batch, Candidates, Ragged, Requests
from headrace.errors import DataError
from headrace.nn.losses import (
    gather_rows,
    mixed_log_q,
    sampled_softmax,
    sum_processes,
    task_losses,
    weighted_bce,
)

TAU = 0.3


def vectors(count: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def brute_force(
    user: Tensor,
    item: Tensor,
    positive: Tensor,
    item_id: Tensor,
    log_q: Tensor,
    weight: Tensor,
) -> float:
    total = 0.0
    for b in range(len(user)):
        logits = {
            j: float(user[b] @ item[j]) / TAU - float(log_q[j])
            for j in range(len(item))
            if j == positive[b] or item_id[j] != item_id[positive[b]]
        }
        top = max(logits.values())
        log_sum = top + math.log(sum(math.exp(x - top) for x in logits.values()))
        total += float(weight[b]) * (log_sum - logits[int(positive[b])])
    return total / len(user)


@given(
    item_id=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    picks=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_softmax_equals_brute_force(item_id: list[int], picks: list[int], seed: int):
    positive = torch.tensor([p % len(item_id) for p in picks])
    user, item = vectors(len(picks), seed=seed), vectors(len(item_id), seed=seed + 100)
    ids, log_q = torch.tensor(item_id), vectors(len(item_id), 1, seed + 200)[:, 0]
    weight = vectors(len(picks), 1, seed + 300)[:, 0].abs()
    loss = sampled_softmax(user, item, positive, ids, log_q, TAU, ids[positive], weight)
    assert float(loss) == pytest.approx(
        brute_force(user, item, positive, ids, log_q, weight), rel=1e-4, abs=1e-5
    )


def full_softmax(user: Tensor, item: Tensor, positive: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(user @ item.T / TAU, positive)


def gradients(loss: Tensor, *of: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, of)])


def test_every_item_once_is_the_full_softmax():
    user, item = vectors(4).requires_grad_(), vectors(6, seed=1).requires_grad_()
    positive, every = torch.tensor([0, 5, 2, 2]), torch.arange(6)
    log_q = torch.full((6,), -math.log(6))
    loss = sampled_softmax(user, item, positive, every, log_q, TAU, positive)
    full = full_softmax(user, item, positive)
    torch.testing.assert_close(gradients(loss, user, item), gradients(full, user, item))


def test_the_correction_undoes_how_often_an_item_is_in_the_sample():
    """Items in proportion to q: with the correction, exactly the full softmax; without, not."""
    user, item = vectors(2).requires_grad_(), vectors(4, seed=1).requires_grad_()
    times = torch.tensor([1, 1, 5, 20])  # positives once: their other copies would be left out
    sample = torch.arange(4).repeat_interleave(times)
    log_q = (times / times.sum()).log()[sample]
    positive = torch.tensor([0, 1])
    full = gradients(full_softmax(user, item, positive), user, item)
    corrected, plain = (
        gradients(
            sampled_softmax(user, item[sample], positive, sample, q, TAU, positive), user, item
        )
        for q in (log_q, torch.zeros(len(sample)))
    )
    torch.testing.assert_close(corrected, full)
    assert (plain - full).norm() > 0.3 * full.norm()


def test_the_expected_gradient_is_that_of_the_full_softmax():
    """Random samples from a skewed mixture; positives in front, as in a batch."""
    generator = torch.Generator().manual_seed(7)
    count = torch.tensor([0, 1, 4, 15, 80])
    user, item = vectors(1).requires_grad_(), vectors(5, seed=1).requires_grad_()
    positive = torch.tensor([1])
    log_q_I, draws = mixed_log_q(count, 100, 5, 60, 40), 600
    mean = {"corrected": torch.zeros(18), "plain": torch.zeros(18)}
    for _ in range(200):
        drawn = torch.multinomial(log_q_I.exp(), draws, replacement=True, generator=generator)
        drawn = drawn[drawn != 1]  # accidental hits are left out in any case
        ids = torch.cat([positive, drawn])
        log_q = log_q_I[ids] + math.log(draws)  # of how many copies are expected
        log_q[0] = 0.0  # the positive is there once, for certain
        for name, correction in (("corrected", log_q), ("plain", torch.zeros(len(ids)))):
            loss = sampled_softmax(
                user, item[ids], torch.tensor([0]), ids, correction, TAU, positive
            )
            mean[name] += gradients(loss, user, item) / 200
    full = gradients(full_softmax(user, item, positive), user, item)
    assert (mean["corrected"] - full).norm() < 0.05 * full.norm()
    assert (mean["plain"] - full).norm() > 0.2 * full.norm()


def test_the_mixture_is_one_proposal_for_both_sources():
    log_q = mixed_log_q(torch.tensor([0, 10, 90]), 100, 50, 30, 10)
    expected = [(30 * max(c, 1) / 100 + 10 / 50) / 40 for c in (0, 10, 90)]
    torch.testing.assert_close(log_q.exp(), torch.tensor(expected))
    assert log_q.dtype == torch.float32


def test_an_item_never_trained_on_has_a_finite_correction():
    assert bool(mixed_log_q(torch.tensor([0]), 100, 50, 30, 0).isfinite().all())


def test_rewards_of_one_are_no_rewards_bit_for_bit():
    user, item, rows = vectors(4), vectors(4, seed=1), torch.arange(4)
    loss = sampled_softmax(user, item, rows, rows, torch.zeros(4), TAU, rows)
    ones = sampled_softmax(user, item, rows, rows, torch.zeros(4), TAU, rows, torch.ones(4))
    assert torch.equal(loss, ones)


def test_no_positives_cost_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    loss = sampled_softmax(vectors(0), vectors(3), none, torch.arange(3), torch.zeros(3), TAU, none)
    assert float(loss) == 0.0


def labelled(labels: dict[str, Tensor], weight: Tensor) -> Batch:
    rows = torch.zeros(1, dtype=torch.int64)
    empty = Ragged.of([rows[:0]])
    item = Ragged.of([torch.arange(len(weight))])
    requests = Requests(rows, rows, {}, rows, empty)
    return Batch(requests, Candidates(item), labels, weight, rows[:0])


def test_task_losses_equal_brute_force():
    logit, weight = vectors(5, 2), vectors(5, 1, 1)[:, 0].abs()
    labels = {"click": torch.tensor([1.0, 0, 0, 1, 1]), "buy": torch.tensor([0.0, 0, 0, 1, 0])}
    losses = task_losses(logit, labelled(labels, weight), {"click": 1.0, "buy": 3.0})
    for t, (task, factor) in enumerate((("click", 1.0), ("buy", 3.0))):
        p = logit[:, t].sigmoid()
        y = labels[task]
        expected = -factor * (weight * (y * p.log() + (1 - y) * (1 - p).log())).sum() / 5
        torch.testing.assert_close(losses[task], expected)


def test_weights_scale_the_loss():
    logit, label, weight = vectors(5, 1)[:, 0], torch.ones(5), torch.rand(5)
    loss = weighted_bce(logit, label, weight)
    torch.testing.assert_close(weighted_bce(logit, label, 2 * weight), 2 * loss)


def test_no_candidates_cost_nothing():
    assert float(weighted_bce(torch.zeros(0), torch.zeros(0), torch.zeros(0))) == 0.0


def test_a_task_without_labels_is_named():
    batch = labelled({"click": torch.ones(2)}, torch.ones(2))
    with pytest.raises(DataError, match="no labels for task 'clik'; did you mean 'click'"):
        task_losses(torch.zeros(2, 1), batch, {"clik": 1.0})


def test_one_process_gathers_itself():
    rows = vectors(3)
    assert gather_rows(rows) == (rows, 0)
    assert sum_processes(rows) is rows
