"""The fused scan of a memory against a plain PyTorch loop, and its laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import memory
from headrace.ops.memory import NONE, SHIFT, USAGE

MODES = [(NONE, False), (USAGE, False), (NONE, True), (SHIFT, True)]
lengths = st.lists(st.integers(0, 70), min_size=1, max_size=6)


def inputs(rows, balance, keys, slots=3, width=5, control=4, channel=6, seed=0):
    """Weights, distinct inputs, events, and states that somebody was in."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape):
        return 0.5 * torch.randn(*shape, generator=g)

    said = 4 * width + (memory.SAID if keys else 0)
    told = {NONE: 0, USAGE: slots, SHIFT: said}[balance]
    w = memory.Weights(
        some(width, 3 * control),
        some(control, 3 * control),
        some(control, said),
        some(1, said),
        some(slots, told),
        some(slots if keys else 0, width),
        some(width, 3 * channel),
        some(channel, 3 * channel),
    )
    offsets = torch.tensor([0, *rows]).cumsum(0)
    x_UG = some(7, 3 * (control + channel))
    place_E = torch.randint(0, 7, (int(offsets[-1]),), generator=g)
    state_NZ = some(len(rows), memory.sizes_of(w).total)
    memory.sizes_of(w).parts(state_NZ)[2].abs_()
    return w, x_UG, place_E, offsets, state_NZ


def with_gradients(scan, balance, top, given):
    *weights, x_UG, state_NZ = (t.clone().requires_grad_() for t in (*given[0], given[1], given[4]))
    leaves = [*weights, x_UG, state_NZ]
    out = scan(balance, top, memory.Weights(*weights), x_UG, *given[2:4], state_NZ, see=True)
    g = torch.Generator().manual_seed(9)
    loss = sum((o * torch.randn(o.shape, generator=g)).sum() for o in out)
    loss = loss + sum(leaf.sum() * 0 for leaf in leaves)  # a graph even where there is no event
    return *out, *torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize(("balance", "keys"), MODES)
@settings(max_examples=8)
@given(rows=lengths, slots=st.integers(1, 4), top=st.integers(1, 2), channel=st.integers(0, 3))
def test_equals_the_plain_loop(balance, keys, rows, slots, top, channel):
    top = min(top, slots)
    given = inputs(rows, balance, keys, slots=slots, channel=channel)
    ours = with_gradients(memory.scan, balance, top, given)
    plain = with_gradients(memory.scan_reference, balance, top, given)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("balance", "keys"), MODES)
def test_event_by_event_is_the_batch(balance, keys):
    w, x_UG, place_E, offsets, state_NZ = inputs([100, 0, 41], balance, keys)
    with torch.no_grad():
        whole, _ = memory.scan(balance, 1, w, x_UG, place_E, offsets, state_NZ)
        for n in range(3):
            row = state_NZ[n : n + 1]
            for e in range(int(offsets[n]), int(offsets[n + 1])):
                one = torch.tensor([0, 1])
                row, _ = memory.scan(balance, 1, w, x_UG, place_E[e : e + 1], one, row)
            torch.testing.assert_close(row[0], whole[n], atol=1e-5, rtol=0)


def test_what_is_looked_at_is_what_a_step_sees():
    w, x_UG, place_E, _, state_NZ = inputs([1, 1], SHIFT, True)
    found = memory.look(SHIFT, w, x_UG[place_E], state_NZ)
    _, seen = memory.scan(SHIFT, 1, w, x_UG, place_E, torch.arange(3), state_NZ, see=True)
    torch.testing.assert_close(torch.cat([found.control_NH, found.read_NW], 1), seen)


def test_the_kernels_tape_does_not_grow_with_the_history():
    """What a state costs to keep: one a segment for the gradient, none without it."""
    given = inputs([320], USAGE, False)
    state_NZ, _ = memory.scan(USAGE, 1, *given[:2], *given[2:4], given[4].requires_grad_())
    kept = state_NZ.grad_fn.saved_tensors[-1]
    assert kept.shape == (10, state_NZ.shape[1])
    with torch.no_grad():
        assert memory.scan(USAGE, 1, *given)[0].grad_fn is None
