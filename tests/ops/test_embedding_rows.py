from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops.embedding_rows import (
    rowwise_adagrad,
    rowwise_adagrad_reference,
    shrink_rows,
    shrink_rows_reference,
    slots,
    sum_rows,
    sum_rows_reference,
    take_columns,
    take_rows,
)

ROWS = 9
compiles = settings(deadline=None, max_examples=50)  # the first call does
lookups = st.lists(st.integers(0, ROWS - 1), max_size=40)


def values(count: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(count + width).normal(size=(count, width))).to(
        dtype
    )


@compiles
@given(first=lookups, second=lookups, width=st.integers(1, 5))
def test_sums_equal_the_reference_and_leave_the_slots_clean(
    first: list[int], second: list[int], width: int
):
    slot_R = slots(ROWS)
    for rows in (first, second):
        row_N, value_ND = torch.tensor(rows, dtype=torch.int64), values(len(rows), width)
        row_K, sum_KD = sum_rows(row_N, value_ND, slot_R)
        expected_K, expected_KD = sum_rows_reference(row_N, value_ND)
        order = row_K.argsort()
        assert torch.equal(row_K[order], expected_K)
        torch.testing.assert_close(sum_KD[order], expected_KD)
        assert torch.equal(slot_R, slots(ROWS))


@compiles
@given(first=lookups, second=lookups, width=st.integers(1, 5))
def test_taken_rows_and_their_gradient_equal_indexing(
    first: list[int], second: list[int], width: int
):
    value_RD = values(ROWS, width).requires_grad_()
    row = [torch.tensor(rows, dtype=torch.int64) for rows in (first, second)]
    weight = [values(len(rows), width) for rows in row]
    taken, indexed = take_columns(value_RD, row), [value_RD[rows] for rows in row]
    for t, i in zip(taken, indexed, strict=True):
        assert torch.equal(t, i)
    got, expected = (
        torch.autograd.grad((x[0] * weight[0]).sum() + (x[1] * weight[1]).sum(), value_RD)
        for x in (taken, indexed)
    )
    torch.testing.assert_close(got, expected)


def test_a_column_that_leads_nowhere_gives_no_gradient():
    value_RD = values(ROWS, 2).requires_grad_()
    first, _ = take_columns(value_RD, [torch.tensor([1]), torch.tensor([2])])
    [of_RD] = torch.autograd.grad(take_rows(first, torch.tensor([0, 0])).sum(), value_RD)
    assert of_RD.nonzero()[:, 0].unique().tolist() == [1]


def test_values_may_be_views():
    row_N = torch.tensor([[2, 5], [2, 6]])[:, 0]
    expanded_ND = torch.ones(1, 3).expand(2, 3)
    row_K, sum_KD = sum_rows(row_N, expanded_ND, slots(ROWS))
    assert row_K.tolist() == [2] and sum_KD.tolist() == [[2.0, 2.0, 2.0]]


@compiles
@given(rows=st.sets(st.integers(0, ROWS - 1)), width=st.integers(1, 5), steps=st.integers(1, 3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adagrad_equals_the_reference(dtype: torch.dtype, rows: set[int], width: int, steps: int):
    row_K = torch.tensor(sorted(rows), dtype=torch.int64)
    ours, reference = values(ROWS, width, dtype), values(ROWS, width, dtype)
    total, reference_total = torch.zeros(ROWS, dtype=dtype), torch.zeros(ROWS, dtype=dtype)
    for step in range(steps):
        grad_KD = values(len(rows), width, dtype) * (step + 1)
        rowwise_adagrad(ours, total, row_K, grad_KD, 0.1, 1e-8)
        rowwise_adagrad_reference(reference, reference_total, row_K, grad_KD, 0.1, 1e-8)
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(total, reference_total)


@compiles
@given(
    rows=st.sets(st.integers(0, ROWS - 1)),
    width=st.integers(1, 5),
    l1=st.sampled_from([0.0, 0.3, 9.0]),
    l21=st.sampled_from([0.0, 0.5, 9.0]),
)
def test_shrinking_equals_the_reference(rows: set[int], width: int, l1: float, l21: float):
    row_K = torch.tensor(sorted(rows), dtype=torch.int64)
    rate_K = torch.linspace(0.1, 2.0, len(rows))
    ours, reference = values(ROWS, width), values(ROWS, width)
    ours[3] = reference[3] = 0.0
    shrink_rows(ours, row_K, rate_K, l1, l21)
    shrink_rows_reference(reference, row_K, rate_K, l1, l21)
    torch.testing.assert_close(ours, reference)
    assert torch.equal(ours == 0, reference == 0)


def test_shrinking_is_the_proximal_point():
    """No nearby row has a smaller ``‖v - w‖² / 2 rate + l1 ‖v‖₁ + l21 ‖v‖₂``."""
    before_D = torch.tensor([0.9, -0.4, 0.05, 0.3])
    weight_RD = before_D.clone().unsqueeze(0)
    shrink_rows(weight_RD, torch.tensor([0]), torch.tensor([0.5]), 0.2, 0.6)

    def cost(v_D: torch.Tensor) -> torch.Tensor:
        return (v_D - before_D).square().sum() + 0.2 * v_D.abs().sum() + 0.6 * v_D.norm()

    best = cost(weight_RD[0])
    assert weight_RD[0, 2] == 0
    for step in 0.01 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1)):
        assert cost(weight_RD[0] + step) > best


def test_elsewhere_than_on_cpu_pytorch_does_it():
    weight_RD, grad_KD = torch.zeros(ROWS, 3, device="meta"), torch.zeros(2, 3, device="meta")
    total_R, row_K = torch.zeros(ROWS, device="meta"), torch.arange(2, device="meta")
    rowwise_adagrad(weight_RD, total_R, row_K, grad_KD, 0.1, 1e-8)
    assert (weight_RD.device.type, weight_RD.shape) == ("meta", (ROWS, 3))
