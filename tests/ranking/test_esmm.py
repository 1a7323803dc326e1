"""ESMM: a product of towers, and what it is worth where clicks are few."""

import pytest
import torch

from headrace.data import Batch, Candidates
from headrace.evaluation import metrics
from headrace.ranking.esmm import ESMM, both
from headrace.ranking.mlp import MLP
from tests.ranking import toy

USERS, ITEMS = 60, 201
GOOD = torch.randn(ITEMS, generator=torch.Generator().manual_seed(99))  # each item's worth


def impressions(size, seed):
    """A good item is clicked more, and bought more by whoever clicked: the clicked are the better.

    Returns the batch, and who would buy if they clicked: known of all impressions, since planted.
    """
    g = torch.Generator().manual_seed(seed)
    user_B = torch.randint(1, USERS + 1, (size,), generator=g)
    item_BM = torch.randint(1, ITEMS, (size, 10), generator=g)
    click_BM = torch.rand(size, 10, generator=g) < (2 * GOOD[item_BM] - 2.5).sigmoid()
    would_BM = torch.rand(size, 10, generator=g) < (2 * GOOD[item_BM] - 1).sigmoid()
    nothing = [torch.zeros(0, dtype=torch.int64)] * size
    data = toy.batch(toy.requests({"user": user_B}, nothing), item_BM, click_BM)
    buy_N = (click_BM & would_BM).flatten().float()
    labels = {**data.labels, "buy": buy_N}
    whole = Batch(data.requests, data.candidates, labels, data.weight, data.pool)
    return whole, would_BM.flatten().float()


def clicked(data):
    """Only the impressions that were clicked: what a conversion model is usually trained on."""
    at = torch.nonzero(data.labels["click"])[:, 0]
    found = data.candidates.take(at)
    labels = {task: label_N[at] for task, label_N in data.labels.items()}
    return Batch(data.requests, found, labels, data.weight[at], data.pool)


def build(kind, tasks, seed):
    torch.manual_seed(seed)
    space = toy.space({"user": USERS}, {"item": torch.arange(ITEMS)})
    return kind.Config(hidden=(16,)).build(space, tasks)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conversion_over_all_impressions_beats_a_model_of_clicks(seed):
    data, _ = impressions(600, seed)
    later, would_N = impressions(400, seed + 10)
    how = {"epochs": 8, "learning_rate": 5e-3, "table_learning_rate": 0.1}
    entire = toy.train(build(ESMM, ("click", "buy"), seed), data, 50, **how)
    usual = toy.train(build(MLP, ("buy",), seed), clicked(data), 50, **how)
    with torch.no_grad():
        ours_N = entire.links(later.requests, later.candidates)[:, 1]
        theirs_N = usual(later.requests, later.candidates)[:, 0]
    assert metrics.auc(would_N, ours_N) >= metrics.auc(would_N, theirs_N) + 0.02


def test_probabilities_are_products_of_the_towers():
    data, _ = impressions(10, 1)
    model = build(ESMM, ("click", "buy"), 0).eval()
    with torch.no_grad():
        ctr_N, cvr_N = model.links(data.requests, data.candidates).sigmoid().unbind(1)
    score_NT = model.score(data.requests, data.candidates)
    torch.testing.assert_close(score_NT, torch.stack([ctr_N, ctr_N * cvr_N], dim=1))
    assert (score_NT[:, 1] <= score_NT[:, 0]).all()


def test_products_of_logits_are_finite_where_probabilities_are_not():
    a_N, b_N = (
        torch.tensor([0.0, 2.0, -200.0, 200.0, 200.0]),
        torch.tensor([0.0, -1.0, -200.0, 200.0, -3.0]),
    )
    exact_N = a_N.double().sigmoid() * b_N.double().sigmoid()
    torch.testing.assert_close(both(a_N, b_N).double()[[0, 1, 4]], exact_N.logit()[[0, 1, 4]])
    assert both(a_N, b_N)[2] == -400.0
    assert both(a_N, b_N)[3] == pytest.approx(200.0 - torch.tensor(2.0).log().item())


def test_one_task_is_a_tower():
    data, _ = impressions(5, 1)
    model = build(ESMM, ("click",), 0).eval()
    links_NT = model.links(data.requests, data.candidates)
    assert torch.equal(model(data.requests, data.candidates), links_NT)
    none = Candidates(data.candidates.take(torch.zeros(0, dtype=torch.int64)).item_id)
    assert model.score(data.requests, none).shape == (0, 1)
