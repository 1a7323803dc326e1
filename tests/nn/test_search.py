"""Search of long histories and the exact search unit, against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from headrace.data import Ragged
from headrace.nn.search import ExactSearchUnit, nearest
from headrace.ops.target_attention import Rows


def rows(lengths, dim=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (sum(lengths), dim) if dim else (sum(lengths),)
    return Ragged.sized(torch.randn(size, generator=generator), torch.tensor(lengths))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)), min_size=1),
    st.integers(1, 8),
)
def test_nearest_is_the_top_of_each_request(sizes, most):
    items = rows([n for n, _, _ in sizes], 4)
    events = rows([e for _, e, _ in sizes], 4, seed=1)
    length_B = torch.tensor([min(e, cut) for _, e, cut in sizes])
    end_B = events.offsets[:-1] + length_B
    row = events.with_values(torch.randint(0, 5, (len(events.values),)))
    key_UD, bias_E = rows([5], 4, seed=2).values, rows([len(row.values)], seed=3).values
    at_NK, near_NK, real_NK = nearest(items.values, items, key_UD, row, most, end_B, bias_E)
    product_EN = key_UD[row.values] @ items.values.T + bias_E.unsqueeze(1)
    for n, b in enumerate(items.row.tolist()):
        start, size = int(events.offsets[b]), int(length_B[b])
        score = product_EN[start : start + size, n]
        wanted = (start + score.argsort(descending=True)[:most]).tolist()
        assert at_NK[n][real_NK[n]].tolist() == wanted
        torch.testing.assert_close(near_NK[n][real_NK[n]], product_EN[wanted, n])


def unit(age_dim=3, seed=0):
    torch.manual_seed(seed)
    made = ExactSearchUnit(dim=4, age_dim=age_dim, heads=2, head_dim=5)
    made.nothing.data.uniform_()
    made.age_bias.data.normal_()
    made.centre.mean.normal_()
    return made.eval()


def by_hand(made, target_D, event_KD, age_K):
    z_KZ = torch.cat([event_KD, made.age[age_K]], dim=1)
    centred_KZ = z_KZ - F.pad(made.centre.mean, (0, z_KZ.shape[1] - 4))
    query_HD = made.target(target_D - made.centre.mean).view(2, 5)
    key_KHD = made.event(centred_KZ).view(-1, 2, 5)
    heads = []
    for h in range(2):
        cosine_K = F.cosine_similarity(key_KHD[:, h], query_HD[h], dim=1)
        logit_K = made.sharpness[h] * (cosine_K - 1)
        logit_K = logit_K + (made.age_bias[age_K, h] if made.age_bias.shape[1] else 0)
        heads += [torch.softmax(logit_K, dim=0) @ z_KZ, logit_K.exp().sum().log()[None]]
    return torch.cat(heads)


@pytest.mark.parametrize("age_dim", [0, 3])
def test_the_unit_is_its_formula_and_padding_counts_for_nothing(age_dim):
    made = unit(age_dim)
    target, event = torch.randn(3, 4), torch.randn(3, 6, 4)
    age = torch.randint(0, 26, (3, 6))
    real = torch.arange(6) < torch.tensor([[6], [2], [1]])
    # what is no event may hold anything
    found = made(target, torch.where(real.unsqueeze(2), event, 1e6), age, real)
    for n, size in enumerate((6, 2, 1)):
        wanted = by_hand(made, target[n], event[n, :size], age[n, :size])
        torch.testing.assert_close(found[n], wanted)


def test_nothing_found_has_a_vector_of_its_own_and_finite_gradients():
    made = unit()
    real = torch.tensor([[True, False], [False, False]])
    event = torch.randn(2, 2, 4, requires_grad=True)
    out = made(torch.randn(2, 4), event, torch.zeros(2, 2, dtype=torch.int64), real)
    assert torch.equal(out[1], made.nothing)
    out.sum().backward()
    assert event.grad.isfinite().all()
    assert (event.grad[1] == 0).all()


def test_no_events_at_all():
    made = unit()
    none = torch.zeros(2, 0, dtype=torch.int64)
    out = made(torch.randn(2, 4), torch.zeros(2, 0, 4), none, none.bool())
    assert torch.equal(out, made.nothing.expand(2, -1))


@pytest.mark.parametrize("age_dim", [0, 3])
def test_packed_rows_are_the_padded_ones(age_dim):
    made = unit(age_dim)
    start, length = torch.tensor([2, 0, 2, 5, 7]), torch.tensor([3, 2, 3, 0, 1])
    event, age = torch.randn(8, 4, requires_grad=True), torch.randint(0, 26, (8,))
    target = torch.randn(5, 4)
    real = torch.arange(3) < length.unsqueeze(1)
    at = (start.unsqueeze(1) + torch.arange(3)).clamp(max=7)
    padded = made(target, event[at], age[at], real)
    packed = made.packed(target, event, age, Rows(start, length))
    torch.testing.assert_close(packed, padded)
    with torch.inference_mode():
        fused = made.packed(target, event, age, Rows(start, length))
    torch.testing.assert_close(fused, padded.detach())
    grads = [torch.autograd.grad(out.square().sum(), event)[0] for out in (packed, padded)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_packed_without_any_event():
    made, none = unit(), torch.zeros(2, dtype=torch.int64)
    nothing = torch.randn(2, 4), torch.zeros(0, 4), none[:0], Rows(none, none)
    with torch.inference_mode():
        fused = made.packed(*nothing)
    torch.testing.assert_close(fused, made.nothing.detach().expand_as(fused))
    out = made.packed(*nothing)
    assert torch.equal(out, made.nothing.expand(2, -1))
