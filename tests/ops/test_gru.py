"""The fused scan against a plain PyTorch loop, and its laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headrace.data import Ragged
from headrace.ops import gru

MODES = [gru.PLAIN, gru.AUGRU, gru.AIGRU, gru.AGRU]
rows = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=12)


def inputs(shape, width=5, seed=0, dtype=torch.float32):
    """A request is (events, candidates); every candidate scans its request's events."""
    g = torch.Generator().manual_seed(seed)
    events = Ragged.sized(torch.zeros(0), torch.tensor([e for e, _ in shape]))
    count_B = torch.tensor([n for _, n in shape])
    start_N = events.offsets[:-1].repeat_interleave(count_B)
    length_N = events.lengths.repeat_interleave(count_B)
    size, longest = int(events.offsets[-1]), max(e for e, _ in shape)
    x_EG = torch.randn(size, 3 * width, generator=g, dtype=dtype)
    weight_HG = torch.randn(width, 3 * width, generator=g, dtype=dtype)
    bias_G = torch.randn(3 * width, generator=g, dtype=dtype)
    attention_NL = torch.rand(len(start_N), longest, generator=g, dtype=dtype)
    return x_EG, weight_HG, bias_G, attention_NL, start_N, length_N


def with_gradients(scan, mode, given):
    leaves = [t.clone().requires_grad_() for t in given[:4]]
    state_PH, last_NH = scan(mode, *leaves, *given[4:])
    g = torch.Generator().manual_seed(9)
    loss = (state_PH * torch.randn(state_PH.shape, generator=g, dtype=state_PH.dtype)).sum()
    loss = loss + (last_NH * torch.randn(last_NH.shape, generator=g, dtype=last_NH.dtype)).sum()
    loss = loss + sum(leaf.sum() * 0 for leaf in leaves)  # a graph even where there is no event
    grads = torch.autograd.grad(loss, leaves)
    return state_PH, last_NH, *grads


def assert_equal_to_the_loop(mode, given, atol):
    ours = with_gradients(gru.scan, mode, given)
    plain = with_gradients(gru.scan_reference, mode, given)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@given(shape=rows, width=st.integers(1, 9))
def test_equals_the_plain_loop(mode, shape, width):
    assert_equal_to_the_loop(mode, inputs(shape, width), atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_more_rows_than_a_block_at_a_wide_state(mode):
    given = inputs([(30, 20), (7, 15), (0, 3), (31, 2)], width=36)
    given[1].mul_(36**-0.5)
    assert_equal_to_the_loop(mode, given, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_derivatives(mode):
    given = inputs([(3, 2), (0, 1), (4, 1)], width=3, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in given[:4]]
    for part in range(2):
        assert torch.autograd.gradcheck(
            lambda *x, part=part: gru.scan(mode, *x, *given[4:])[part], leaves, atol=1e-5
        )


@pytest.mark.parametrize("part", [0, 1])
def test_a_gradient_of_one_output_alone(part):
    given = inputs([(4, 3), (2, 2)])
    grads = []
    for scan in (gru.scan, gru.scan_reference):
        weight_HG = given[1].clone().requires_grad_()
        scan(gru.AUGRU, given[0], weight_HG, *given[2:])[part].sum().backward()
        grads.append(weight_HG.grad)
    torch.testing.assert_close(*grads)


def test_attention_of_nothing_leaves_the_state_bit_for_bit():
    given = inputs([(9, 4)])
    attention_NL = given[3].clone()
    attention_NL[:, 4:] = 0
    for mode in (gru.AUGRU, gru.AGRU):
        state_PH, last_NH = gru.scan(mode, *given[:3], attention_NL.requires_grad_(), *given[4:])
        state_NLH = state_PH.unflatten(0, (4, 9))
        assert torch.equal(state_NLH[:, 4:], state_NLH[:, 3:4].expand(-1, 5, -1))
        assert torch.equal(last_NH, state_NLH[:, 3])


def test_under_aigru_a_weightless_input_still_moves_the_state():
    """The paper's reason to gate the update instead (section 4.3)."""
    given = inputs([(9, 4)])
    state_PH, _ = gru.scan(
        gru.AIGRU, *given[:3], torch.zeros_like(given[3]).requires_grad_(), *given[4:]
    )
    assert not torch.equal(state_PH[0], state_PH[1])


@pytest.mark.parametrize("mode", [gru.AUGRU, gru.AIGRU])
def test_attention_of_one_is_a_plain_gru(mode):
    given = inputs([(9, 1), (0, 1), (5, 1)])
    ones_NL = torch.ones_like(given[3])
    with torch.no_grad():
        led = gru.scan(mode, *given[:3], ones_NL, *given[4:])[1]
        plain = gru.scan(gru.PLAIN, *given)[1]
    assert torch.equal(led, plain)


def test_the_plain_scan_is_pytorchs_gru():
    """PyTorch blends by the update gate's complement and has its gates in another order."""
    _, weight_HG, bias_G, *_ = inputs([(6, 1), (6, 1)], width=4)
    other = nn.GRU(4, 4, batch_first=True)
    u, r, h = weight_HG.chunk(3, 1)
    bu, br, bh = bias_G.chunk(3)
    g = torch.Generator().manual_seed(5)
    event_ED, project_DG = torch.randn(12, 4, generator=g), torch.randn(4, 12, generator=g)
    pu, pr, ph = project_DG.chunk(3, 1)
    with torch.no_grad():
        other.weight_ih_l0.copy_(torch.cat([pr, -pu, ph], 1).T)
        other.weight_hh_l0.copy_(torch.cat([r, -u, h], 1).T)
        other.bias_ih_l0.copy_(torch.cat([br, -bu, bh]))
        other.bias_hh_l0.zero_()
        expected, _ = other(event_ED.unflatten(0, (2, 6)))
    offsets = torch.tensor([0, 6, 12])
    ours = gru.gru(event_ED @ project_DG, weight_HG, bias_G, offsets)
    torch.testing.assert_close(ours, expected.flatten(0, 1), atol=2e-6, rtol=1e-5)


def test_rows_do_not_know_each_other():
    given = inputs([(9, 7), (3, 12), (6, 5)], width=8)
    together = gru.attention_gru("augru", *given)
    for n in (0, 6, 7, 18, 23):
        one = slice(n, n + 1)
        alone = gru.attention_gru("augru", *given[:3], *(t[one] for t in given[3:]))
        assert torch.equal(alone[0], together[n])


def test_what_is_not_a_number_is_not_hidden():
    given = inputs([(4, 2)])
    given[0][1] = torch.nan
    assert gru.attention_gru("augru", *given).isnan().all()


def test_saturated_gates():
    given = inputs([(5, 2)])
    given[0].mul_(1e4)
    ours, plain = (scan(gru.AUGRU, *given)[1] for scan in (gru.scan, gru.scan_reference))
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=0)


def test_elsewhere_than_on_cpu_or_in_low_precision_pytorch_does_it():
    given = inputs([(3, 2)])
    low = [t.bfloat16() for t in given[:4]]
    assert gru.attention_gru("augru", *low, *given[4:]).dtype == torch.bfloat16
