"""Target attention by blocks against plain PyTorch over all pairs."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import target_attention
from headrace.ops.target_attention import Layer, Rows, attend, attend_reference, times

DIM = 5
rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=5)


def inputs(shape, hidden=(6, 4), side=2, prelu=True, dtype=torch.float64, dim=DIM):
    """A layer's inputs for requests of (candidates, events), and those of them that learn."""
    g = torch.Generator().manual_seed(len(shape))

    def draw(*size):
        return torch.randn(size, generator=g, dtype=dtype).requires_grad_()

    count_B, length_B = (torch.tensor(column) for column in zip(*shape, strict=True))
    first_B = length_B.cumsum(0) - length_B
    num, size = int(count_B.sum()), int(length_B.sum())
    widths = (*hidden, 1)
    layers = tuple(
        Layer(draw(a) if prelu else None, draw(b, a), draw(b)) for a, b in pairwise(widths)
    )
    columns = draw(num, dim), draw(num, hidden[0]), draw(size, dim), draw(size, side)
    matrices = draw(hidden[0], dim + side), draw(dim, hidden[0])
    of_rows = Rows(first_B.repeat_interleave(count_B), length_B.repeat_interleave(count_B))
    learning = [*columns, *matrices, *(x for layer in layers for x in layer if x is not None)]
    return (*columns, *matrices, layers, of_rows), learning


def gradients(out, learning):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(out.shape, generator=g, dtype=out.dtype)
    found = torch.autograd.grad((out * weight).sum(), learning, allow_unused=True)
    return [torch.zeros_like(x) if f is None else f for x, f in zip(learning, found, strict=True)]


@pytest.mark.parametrize("norm", ["none", "sqrt", "softmax"])
@pytest.mark.parametrize("prelu", [True, False])
@settings(deadline=None, max_examples=25)
@given(
    shape=rows,
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    side=st.integers(0, 2),
    block=st.integers(1, 40),
)
def test_equals_the_reference_with_its_gradients(norm, prelu, shape, hidden, side, block):
    arguments, learning = inputs(shape, tuple(hidden), side, prelu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_attention, "BLOCK", block)
        got = attend(*arguments, norm)
        got_gradients = gradients(got, learning)
    expected = attend_reference(*arguments, norm)
    torch.testing.assert_close(got, expected)
    for a, b in zip(got_gradients, gradients(expected, learning), strict=True):
        torch.testing.assert_close(a, b)


def test_equals_the_reference_in_float32_with_wide_layers():
    """Wide enough for the kernels of oneDNN."""
    arguments, learning = inputs([(3, 700), (40, 90)], (64, 32), 8, dtype=torch.float32, dim=32)
    got, expected = attend(*arguments, "sqrt"), attend_reference(*arguments, "sqrt")
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    both = gradients(got, learning), gradients(expected, learning)
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 * float(b.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 16, 255, 256, 1000])
def test_products_of_all_sizes(size):
    x_PK, weight_HK, bias_H = torch.randn(size, 32), torch.randn(24, 32), torch.randn(24)
    torch.testing.assert_close(times(x_PK, weight_HK), x_PK @ weight_HK.T, atol=1e-4, rtol=1e-4)
    expected = x_PK @ weight_HK.T + bias_H
    torch.testing.assert_close(times(x_PK, weight_HK, bias_H), expected, atol=1e-4, rtol=1e-4)


def test_what_is_kept_for_backward_does_not_grow_with_pairs():
    """Twenty candidates of 1,000 events each keep what one keeps, and themselves."""

    def kept(candidates):
        arguments, _ = inputs([(candidates, 1000)], dtype=torch.float32)
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        )
        with hooks:
            attend(*arguments, "none")
        return sum(sizes)

    assert kept(20) - kept(1) == 19 * (DIM + 6)


def test_a_long_history_is_worked_on_in_blocks():
    """Ten candidates of 1,000 events: no block holds more than two candidates' pairs."""
    arguments, _ = inputs([(10, 1000)], dtype=torch.float32)
    sizes = []
    kernel = target_attention.kernels.multiply

    def spy(*given):
        sizes.append(len(given[-1]))
        kernel(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_attention, "BLOCK", 2048)
        patch.setattr(target_attention.kernels, "multiply", spy)
        got = attend(*arguments, "none")
    assert sizes == [2000] * 5
    torch.testing.assert_close(got, attend_reference(*arguments, "none"), atol=1e-3, rtol=1e-3)
