"""Inner products of requests and candidates: the fast way against the plain one."""

import pytest
import torch

from headrace.data import Ragged
from headrace.ops.pair_products import pair_products, pair_products_reference


@pytest.mark.parametrize("width", [1, 16, 35])
@pytest.mark.parametrize("lengths", [[], [0], [3, 0, 5], [40]])
def test_it_is_the_gathered_product(width, lengths):
    made = torch.Generator().manual_seed(width)
    user_BTX = torch.randn(len(lengths), 2, width, generator=made)
    item_IX = torch.randn(9, width, generator=made)
    row = Ragged.of([torch.randint(0, 9, (n,), generator=made) for n in lengths])
    inputs = user_BTX, item_IX, row.values, row.offsets
    torch.testing.assert_close(pair_products(*inputs), pair_products_reference(*inputs))


def test_gradients_go_the_plain_way():
    user_BTX, item_IX = torch.randn(1, 1, 4, requires_grad=True), torch.randn(3, 4)
    pair_products(user_BTX, item_IX, torch.tensor([2, 0]), torch.tensor([0, 2])).sum().backward()
    torch.testing.assert_close(user_BTX.grad[0, 0], item_IX[2] + item_IX[0])
