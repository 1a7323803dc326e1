"""Target attention by its kernels against plain PyTorch over all pairs."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import target_attention
from headrace.ops.target_attention import LANES, Layer, Rows, attend, attend_reference

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
    threads=st.integers(1, 3),
)
def test_equals_the_reference_with_its_gradients(norm, prelu, shape, hidden, side, threads):
    arguments, learning = inputs(shape, tuple(hidden), side, prelu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_attention, "SHARE", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        got = attend(*arguments, norm)
        got_gradients = gradients(got, learning)
    expected = attend_reference(*arguments, norm)
    torch.testing.assert_close(got, expected)
    for a, b in zip(got_gradients, gradients(expected, learning), strict=True):
        torch.testing.assert_close(a, b)


def test_equals_the_reference_in_float32_with_wide_layers():
    """Wide enough for tiles of every shape."""
    arguments, learning = inputs([(3, 700), (40, 90)], (64, 32), 8, dtype=torch.float32, dim=32)
    got, expected = attend(*arguments, "sqrt"), attend_reference(*arguments, "sqrt")
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    both = gradients(got, learning), gradients(expected, learning)
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3 * float(b.abs().max()), rtol=1e-3)


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

    assert kept(20) - kept(1) == 19 * 2 * LANES  # of widths padded to whole tiles


def test_threads_share_no_event():
    """Candidates of one request stay together; so do those whose events overlap."""
    rows = Rows(torch.tensor([0, 0, 5, 9, 7, 12]), torch.tensor([5, 5, 4, 0, 5, 3]))
    for threads in range(1, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target_attention, "SHARE", 1)
            spans = target_attention._spans(rows, threads)
        assert [a for a, _ in spans] == [0, *(z for _, z in spans[:-1])]
        assert spans[-1][1] == 6
        assert {a for a, _ in spans} <= {0, 2, 3, 5}
