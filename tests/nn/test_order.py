import math

import pytest
import torch

from headrace.nn.order import pairwise_logistic, places, swap_weights

SCORE = torch.tensor([[0.2, 1.5, -0.3, 9.0]])
GAIN = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
REAL = torch.tensor([[True, True, True, False]])


def test_padding_stands_last_and_ties_keep_their_order():
    assert places(SCORE, REAL).tolist() == [[1, 0, 2, 3]]
    assert places(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)).tolist() == [[0, 1, 2]]


def test_a_weight_is_what_exchanging_two_does_to_ndcg():
    place = places(SCORE, REAL)
    weight = swap_weights(GAIN, place, REAL)[0]

    def ndcg(at):
        return sum(GAIN[0, m].item() / math.log2(at[m] + 2) for m in range(3)) / best

    best = 3 / math.log2(2) + 1 / math.log2(3)
    for i in range(3):
        for j in range(3):
            at = place[0].tolist()
            before = ndcg(at)
            at[i], at[j] = at[j], at[i]
            assert weight[i, j] == pytest.approx(abs(ndcg(at) - before), abs=1e-6)
    assert not weight[3].any()
    assert not weight[:, 3].any()


def test_the_gradient_is_lambda():
    score = SCORE.clone().requires_grad_()
    weight = swap_weights(GAIN, places(SCORE, REAL), REAL)
    pairwise_logistic(score, GAIN, weight, torch.ones(1, 4)).backward()
    want = torch.zeros(4)
    for i in range(3):
        for j in range(3):
            if GAIN[0, i] > GAIN[0, j]:
                push = weight[0, i, j] / (1 + (SCORE[0, i] - SCORE[0, j]).exp())
                want[i] -= push
                want[j] += push
    torch.testing.assert_close(score.grad[0], want)


def test_equal_gains_and_single_candidates_cost_nothing():
    for gain, real in ((torch.ones(1, 3), [True] * 3), (torch.ones(1, 3), [True, False, False])):
        real = torch.tensor([real])
        weight = swap_weights(gain, places(torch.zeros(1, 3), real), real)
        assert pairwise_logistic(torch.randn(1, 3), gain * real, weight, torch.ones(1, 3)) == 0
