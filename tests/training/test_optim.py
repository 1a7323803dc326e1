from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import pytest
import torch
from torch import Tensor, nn

from headrace.errors import ConfigError
from headrace.training import Training
from headrace.training.optim import Optimizer, RowwiseAdagrad

ROWS, WIDTH = 12, 4


class Table(nn.Module):
    """Sums of looked-up rows through a dense layer; the sparse and the dense twin differ in nothing else."""

    def __init__(self, *, sparse: bool, rows: int = ROWS) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(rows, WIDTH, sparse=sparse)
        self.top = nn.Linear(WIDTH, 1)

    def forward(self, id_N: Tensor) -> Tensor:
        return self.top(self.table(id_N)).square().mean() + self.table(id_N[:3]).sum()


class Decayed(Table):
    """Asks for DIN's mini-batch-aware regularisation."""

    def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
        return {"table.weight": (0.3, torch.arange(ROWS))}


class Shrunk(Table):
    """Asks for LS-PLM's penalties."""

    def table_shrinkage(self) -> Mapping[str, tuple[float, float]]:
        return {"table.weight": (0.4, 0.9)}


def ids(step: int) -> Tensor:
    g = torch.Generator().manual_seed(step)
    return torch.randint(0, ROWS - 2, (7,), generator=g)  # repeats; the last two rows never


def train(model: nn.Module, steps: int = 5, **settings: object) -> Optimizer:
    optimizer = Optimizer(model, Training(table_learning_rate=0.1, **settings))
    for step in range(steps):
        model(ids(step)).backward()
        optimizer.sum_rows()
        optimizer.clip(0.0)
        optimizer.step(1.0)
    return optimizer


def table_gradients(model: Table, rule: str) -> None:
    """A dense reference: the same training with whole-table gradients and the rule written out."""
    weight, dense = (
        model.table.weight,
        torch.optim.AdamW(model.top.parameters(), lr=1e-3, weight_decay=0),
    )
    total, first, second = torch.zeros(ROWS), torch.zeros(ROWS, WIDTH), torch.zeros(ROWS, WIDTH)
    for step in range(5):
        model.zero_grad()
        model(ids(step)).backward()
        grad, touched = weight.grad, ids(step).unique()
        with torch.no_grad():
            if rule == "sgd":
                weight -= 0.1 * grad
            elif rule == "rowwise_adagrad":
                total += grad.square().mean(1)
                weight -= 0.1 * grad / (total.sqrt() + 1e-8)[:, None]
            else:
                first[touched] = 0.9 * first[touched] + 0.1 * grad[touched]
                second[touched] = 0.999 * second[touched] + 0.001 * grad[touched].square()
                scale = (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
                weight[touched] -= 0.1 * scale * first[touched] / (second[touched].sqrt() + 1e-8)
        dense.step()


@pytest.mark.parametrize("rule", ["rowwise_adagrad", "sparse_adam", "sgd"])
def test_sparse_updates_equal_a_dense_reference(rule: str):
    ours, reference = Table(sparse=True), Table(sparse=False)
    before = ours.table.weight.detach().clone()
    train(ours, table_optimizer=rule)
    table_gradients(reference, rule)
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(ours.table.weight[-2:], before[-2:])


@pytest.mark.parametrize("rule", ["adamw", "adagrad", "sgd"])
def test_dense_rules_are_those_of_pytorch_and_decay_matrices_only(rule: str):
    ours, reference = Table(sparse=True), Table(sparse=True)
    train(ours, optimizer=rule, learning_rate=0.01, weight_decay=0.5)
    makers = {"adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
    matrix, bias = reference.top.weight, reference.top.bias
    groups = [{"params": [matrix], "weight_decay": 0.5}, {"params": [bias], "weight_decay": 0.0}]
    dense, table = makers[rule](groups, lr=0.01), RowwiseAdagrad([reference.table.weight], lr=0.1)
    for step in range(5):
        reference.zero_grad()
        reference(ids(step)).backward()
        reference.table.weight.grad = reference.table.weight.grad.coalesce()
        dense.step()
        table.step()
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_norm_is_over_dense_and_table_gradients():
    ours, reference = Table(sparse=True), Table(sparse=False)
    ours(ids(0)).backward()
    optimizer = Optimizer(ours, Training())
    ours(ids(0)).backward()
    reference(ids(0)).backward()
    optimizer.sum_rows()
    norm = optimizer.clip(0.25)
    assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(reference.parameters(), 0.25)))
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad.to_dense(), b.grad)


def test_decay_is_dins_formula_on_touched_rows():
    plain, decayed = Table(sparse=True), Decayed(sparse=True)
    before = plain.table.weight.detach().clone()
    for model in (plain, decayed):
        train(model, steps=1, table_optimizer="sgd")
    touched = ids(0).unique()
    expected = plain.table.weight.detach().clone()
    expected[touched] -= 0.1 * 0.3 / touched.clamp(min=1)[:, None] * before[touched]
    torch.testing.assert_close(decayed.table.weight, expected)
    assert torch.equal(decayed.table.weight[-2:], before[-2:])


def test_decay_of_what_is_no_table_is_refused():
    class Wrong(Table):
        def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
            return {"top.weight": (0.3, torch.ones(1))}

    with pytest.raises(ValueError, match=r"top\.weight is not a sparse table"):
        Optimizer(Wrong(sparse=True), Training())


@pytest.mark.parametrize("rule", ["rowwise_adagrad", "sgd"])
def test_shrinkage_is_a_proximal_step_at_each_rows_own_rate(rule: str):
    plain, shrunk = Table(sparse=True), Shrunk(sparse=True)
    before = plain.table.weight.detach().clone()
    for model in (plain, shrunk):
        train(model, steps=1, table_optimizer=rule)
    grad = Table(sparse=False)
    grad(ids(0)).backward()
    rates = {
        "sgd": torch.full((ROWS,), 0.1),
        "rowwise_adagrad": 0.1 / (grad.table.weight.grad.square().mean(1).sqrt() + 1e-8),
    }
    touched, expected = ids(0).unique(), plain.table.weight.detach().clone()
    for j in touched.tolist():
        rate, w = float(rates[rule][j]), expected[j]
        w = w.sign() * (w.abs() - 0.4 * rate).clamp(min=0)
        expected[j] = w * max(0.0, 1 - 0.9 * rate / float(w.norm().clamp(min=1e-12)))
    torch.testing.assert_close(shrunk.table.weight, expected)
    assert torch.equal(shrunk.table.weight[-2:], before[-2:])


def test_shrinkage_of_what_is_no_table_is_refused():
    class Wrong(Table):
        def table_shrinkage(self) -> Mapping[str, tuple[float, float]]:
            return {"top.weight": (0.1, 0.1)}

    with pytest.raises(ValueError, match=r"top\.weight is not a sparse table"):
        Optimizer(Wrong(sparse=True), Training())


def test_shrinkage_under_adam_is_refused():
    with pytest.raises(ConfigError, match=r"training\.table_optimizer: .*rowwise_adagrad"):
        Optimizer(Shrunk(sparse=True), Training(table_optimizer="sparse_adam"))


def test_a_dense_gradient_on_a_sparse_table_is_refused():
    model = Table(sparse=True)
    optimizer = Optimizer(model, Training())
    model.table.weight.square().sum().backward()
    with pytest.raises(ValueError, match=r"table\.weight: dense gradient on a sparse table"):
        optimizer.sum_rows()


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameter to train"):
        Optimizer(nn.ReLU(), Training())


def test_frozen_and_shared_parameters():
    model = Table(sparse=True)
    model.top.requires_grad_(False)
    model.twin = nn.Embedding(ROWS, WIDTH, sparse=True)
    model.twin.weight = model.table.weight
    optimizer = train(model)
    assert list(optimizer.tables) == ["table.weight"] and optimizer.dense == []


def test_state_continues_bit_for_bit():
    straight, halted = Table(sparse=True), Table(sparse=True)
    train(straight)
    optimizer = train(halted, steps=2)
    fresh = Table(sparse=True)
    fresh.load_state_dict(halted.state_dict())
    successor = Optimizer(fresh, Training(table_learning_rate=0.1))
    successor.load_state_dict(optimizer.state_dict())
    for step in range(2, 5):
        fresh(ids(step)).backward()
        successor.sum_rows()
        successor.step(1.0)
    for a, b in zip(straight.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rule", ["rowwise_adagrad", "sparse_adam", "sgd"])
def test_a_step_costs_the_same_whatever_the_height_of_the_table(rule: str):
    """A dense pass would make the tall table's step a hundred times as long."""
    seconds: dict[int, float] = {}
    id_N = torch.randint(0, 10_000, (2_000,))
    for rows in (10_000, 1_000_000):
        model = Table(sparse=True, rows=rows)
        optimizer = Optimizer(model, Training(table_optimizer=rule))
        times: list[float] = []
        for _ in range(12):
            begun = perf_counter()
            model(id_N * (rows // 10_000)).backward()
            optimizer.sum_rows()
            optimizer.clip(1.0)
            optimizer.step(1.0)
            times.append(perf_counter() - begun)
        seconds[rows] = min(times)
    assert seconds[1_000_000] < 8 * seconds[10_000]


def test_rowwise_adagrad_takes_no_closure():
    with pytest.raises(ValueError, match="does not re-evaluate"):
        RowwiseAdagrad([nn.Parameter(torch.zeros(2, 2))], lr=0.1).step(lambda: 0.0)
