"""The factored activation unit against the plain one of the paper."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.data import Ragged
from headrace.nn.target_attention import TargetAttention, chunks

rows = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 7)), min_size=1, max_size=4)


def plain(model, q_ND, items, k_ED, side_ES, events):
    """Concatenate [q, k, side, q - k, q * k] for every pair, as the paper draws it."""
    D = q_ND.shape[1]
    A, B, C = model.target.weight.T, model.event.weight.T, model.product
    zero = torch.zeros_like(C)
    first = torch.cat([A, B[:D], B[D:], zero, C])  # the difference's part is folded into A and B
    out = []
    for n, row in enumerate(items.row.tolist()):
        k = k_ED[events.offsets[row] : events.offsets[row + 1]]
        s = side_ES[events.offsets[row] : events.offsets[row + 1]]
        q = q_ND[n].expand(len(k), -1)
        unit = torch.cat([q, k, s, q - k, q * k], dim=1) @ first + model.target.bias
        logit = model.rest(unit)[:, 0]
        if model.norm == "softmax":
            weight = (logit / q_ND.shape[1] ** 0.5).softmax(0)
        else:
            weight = logit / (len(k) ** 0.5 if model.norm == "sqrt" and len(k) else 1)
        out.append((weight.unsqueeze(1) * k).sum(0))
    return torch.stack(out) if out else q_ND


def inputs(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    items = Ragged.sized(torch.zeros(0), torch.tensor([n for n, _ in shape]))
    events = Ragged.sized(torch.zeros(0), torch.tensor([e for _, e in shape]))
    N, E = int(items.offsets[-1]), int(events.offsets[-1])
    q, k = torch.randn(N, 5, generator=g), torch.randn(E, 5, generator=g)
    return q, items.with_values(q), k, torch.randn(E, 2, generator=g), events.with_values(k)


@pytest.mark.parametrize("norm", ["none", "sqrt", "softmax"])
@given(shape=rows)
def test_equals_the_plain_unit(norm, shape):
    torch.manual_seed(1)
    model = TargetAttention(5, (6, 4), norm=norm, side_dim=2)
    q, items, k, side, events = inputs(shape)
    got = model(q, items, k, side, events)
    torch.testing.assert_close(got, plain(model, q, items, k, side, events), atol=1e-5, rtol=1e-4)


def test_order_of_events_does_not_matter():
    torch.manual_seed(1)
    model = TargetAttention(5, norm="none", side_dim=2)
    q, items, k, side, events = inputs([(3, 6)])
    order = torch.randperm(6)
    shuffled = model(q, items, k[order], side[order], events)
    torch.testing.assert_close(shuffled, model(q, items, k, side, events), atol=1e-6, rtol=1e-5)


def test_intensity_survives_without_softmax_only():
    """DIN 4.3: twice the matching behaviour is twice the interest, unless weights are normalised."""
    q, items, k, side, events = inputs([(1, 4)])
    double = Ragged.sized(events.values, torch.tensor([8]))
    for norm, grows in (("none", True), ("softmax", False)):
        torch.manual_seed(1)
        model = TargetAttention(5, norm=norm, side_dim=2)
        once = model(q, items, k, side, events).norm()
        twice = model(q, items, torch.cat([k, k]), torch.cat([side, side]), double).norm()
        torch.testing.assert_close(twice / once, torch.tensor(2.0 if grows else 1.0))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 20))
def test_chunks_hold_every_value_once(lengths, most):
    offsets = Ragged.sized(torch.zeros(0), torch.tensor(lengths)).offsets
    row_C, at_CM, place_N = chunks(offsets, most)
    assert at_CM.shape[1] <= most
    assert at_CM.flatten()[place_N].tolist() == list(range(sum(lengths)))
    for row, at in zip(row_C.tolist(), at_CM.tolist(), strict=True):
        assert all(offsets[row] <= a < offsets[row + 1] for a in at)
