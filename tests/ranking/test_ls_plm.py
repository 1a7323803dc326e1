"""LS-PLM finds what no linear model can, with few features, and adds up users once."""

import pytest
import torch

from headrace.evaluation import metrics
from headrace.ranking.lr import LR
from headrace.ranking.ls_plm import LSPLM
from headrace.training import Training
from headrace.training.optim import Optimizer
from tests.ranking import toy

ITEMS = 21
SIDE = torch.arange(ITEMS) % 2 + 1  # the item's field, 1 or 2


def exclusive_or(size, seed, noise=0, candidates=4):
    """The click is likely where user's and item's field differ; further fields say nothing."""
    g = torch.Generator().manual_seed(seed)
    users = {"taste": torch.randint(1, 3, (size,), generator=g)}
    for i in range(noise):
        users[f"noise_{i}"] = torch.randint(1, 11, (size,), generator=g)
    item_BM = torch.randint(1, ITEMS, (size, candidates), generator=g)
    chance_BM = 0.1 + 0.8 * (users["taste"].unsqueeze(1) != SIDE[item_BM])
    label_BM = torch.rand(size, candidates, generator=g) < chance_BM
    nothing = [torch.zeros(0, dtype=torch.int64)] * size
    data = toy.batch(toy.requests(users, nothing), item_BM, label_BM)
    return data, metrics.auc(data.labels["click"], chance_BM.flatten())


def build(kind, noise=0, seed=0, **settings):
    torch.manual_seed(seed)
    users = {"taste": 2, **{f"noise_{i}": 10 for i in range(noise)}}
    return kind.Config(**settings).build(toy.space(users, {"side": SIDE}), ("click",))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exclusive_or(seed):
    data, _ = exclusive_or(1_000, seed)
    later, bayes = exclusive_or(2_000, seed + 10)
    how = {"epochs": 8, "table_learning_rate": 0.1}
    linear = toy.train(build(LR, seed=seed), data, 100, **how)
    pieces = toy.train(build(LSPLM, seed=seed, regions=4), data, 100, **how)
    assert toy.auc(linear, later) <= 0.55
    assert toy.auc(pieces, later) >= bayes - 0.02


def test_noise_is_deleted_and_truth_kept():
    noise = 100  # fields of ten values: 1,000 rows that say nothing
    data, _ = exclusive_or(2_000, 3, noise, candidates=16)
    later, bayes = exclusive_or(1_000, 4, noise)
    model = build(LSPLM, noise, regions=4, l1=2e-4, l21=3e-3)
    toy.train(model, data, 1_000, epochs=80, table_learning_rate=0.05)
    zero = {name: (table.weight[1:] == 0).all(1) for name, table in model.embed.tables.items()}
    true = torch.cat([zero.pop("table_taste"), zero.pop("table_side")])
    assert not true.any()
    assert torch.cat(list(zero.values())).float().mean() >= 0.9
    assert toy.auc(model, later) >= bayes - 0.02


def test_scores_are_the_papers_formula(tiny_samples):
    """From the features of one candidate at a time, nothing added up beforehand."""
    torch.manual_seed(1)
    model = LSPLM.Config(regions=3).build(tiny_samples.space, ("click", "buy")).eval()
    model.bias.data.normal_()
    rows = tiny_samples.requests("train")[-3:]
    batch = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
    split_NT = model.score(batch.requests, batch.candidates)
    items, embed = batch.candidates.item_id, model.embed
    for n in range(0, len(batch.candidates), 5):
        row = items.row[n : n + 1]
        one = batch.candidates.take(torch.tensor([n]))
        parts = [embed.request(batch.requests.take(row)), embed.items(items.values[n : n + 1])]
        theta = torch.cat([*parts, embed.cross(one)], 1).unflatten(1, (-1, 2, 2, 3))[0]
        gate_TM, value_TM = (theta.sum(0) + model.bias.view(2, 2, 3)).unbind(1)
        whole_T = (gate_TM.softmax(1) * value_TM.sigmoid()).sum(1)
        torch.testing.assert_close(split_NT[n], whole_T, atol=1e-6, rtol=0)


def test_one_region_is_logistic_regression(tiny_samples):
    model = LSPLM.Config(regions=1).build(tiny_samples.space, ("click",)).eval()
    rows = tiny_samples.requests("train")[-3:]
    batch = tiny_samples.batch(tiny_samples.draw(rows, seed=3))
    before = model.score(batch.requests, batch.candidates)
    for table in model.embed.tables.values():
        table.weight.data[:, 0] += 1.0  # the gate alone
    torch.testing.assert_close(model.score(batch.requests, batch.candidates), before)


def test_penalties_of_zero_need_no_special_optimizer():
    optimizer = Optimizer(build(LSPLM, l1=0.0, l21=0.0), Training(table_optimizer="sparse_adam"))
    assert optimizer.tables
