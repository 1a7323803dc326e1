from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops.embedding_rows import slots
from headrace.ops.look_up import Column, look_up, look_up_reference

ITEMS, ROWS = 7, (5, 3)  # of the catalogue, of both tables
compiles = settings(deadline=None, max_examples=50)  # the first call does
items = st.lists(st.integers(0, ITEMS - 1), max_size=30)


def catalogue() -> torch.Tensor:
    return torch.stack([torch.arange(ITEMS) % rows for rows in ROWS], dim=1)


def columns(*widths: int, shared: bool = False) -> list[Column]:
    """Of both tables, the second first; or twice of the smaller one."""
    torch.manual_seed(sum(widths))
    tables = [
        torch.randn(rows, width, requires_grad=True)
        for rows, width in zip(ROWS, widths, strict=True)
    ]
    if shared:
        return [Column(f, tables[1], slots(ROWS[1])) for f in (1, 1)]
    return [Column(f, tables[f], slots(ROWS[f])) for f in (1, 0)]


@compiles
@given(first=items, second=items, widths=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_features_and_gradients_equal_the_reference(first, second, widths):
    every = columns(*widths)
    for numbers in (first, second):
        item_N = torch.tensor(numbers, dtype=torch.int64)
        got, expected = (f(catalogue(), every, item_N) for f in (look_up, look_up_reference))
        assert torch.equal(got, expected)
        weight, tables = torch.randn_like(expected), [column.weight_RD for column in every]
        gradients = [torch.autograd.grad((x * weight).sum(), tables) for x in (got, expected)]
        for g, e in zip(*gradients, strict=True):
            torch.testing.assert_close(g.to_dense(), e.to_dense())
        for column in every:
            assert torch.equal(column.slot_R, slots(len(column.slot_R)))


def test_a_gradient_has_each_row_once():
    every = columns(2, 2)
    out = look_up(catalogue(), every, torch.tensor([0, 5, 0, 6]))
    gradients = torch.autograd.grad(out.sum(), [column.weight_RD for column in every])
    assert [sorted(x._indices()[0].tolist()) for x in gradients] == [[0, 2], [0, 1]]


def test_features_may_share_a_table():
    every = columns(2, 2, shared=True)
    out = look_up(catalogue(), every, torch.tensor([1, 4]))
    out.sum().backward()
    assert every[0].weight_RD.grad.to_dense().tolist() == [[0, 0], [4, 4], [0, 0]]


@pytest.mark.parametrize("item", [-1, ITEMS])
def test_an_item_that_is_not_there_is_refused(item):
    with pytest.raises(IndexError, match="item beyond the catalogue"):
        look_up(catalogue(), columns(2, 2), torch.tensor([item]))


def test_an_id_that_is_not_there_is_refused():
    ids_IF = catalogue()
    ids_IF[3, 0] = ROWS[0]
    with pytest.raises(IndexError, match="id beyond its table"):
        look_up(ids_IF, columns(2, 2), torch.tensor([3]))


def test_without_gradients_no_scratch_is_needed():
    every = [column._replace(slot_R=None) for column in columns(2, 3)]
    with torch.inference_mode():
        out = look_up(catalogue(), every, torch.tensor([2, 2]))
    assert out.shape == (2, 5)
