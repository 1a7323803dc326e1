"""Blends of a stage's word with the one before."""

import pytest
import torch

from headrace.serving.blend import Blend


def world(a, b, c, n=20_000, seed=0):
    """Two words and outcomes drawn by a line of their logits."""
    generator = torch.Generator().manual_seed(seed)
    own, before = torch.randn(2, n, 1, generator=generator).mul(1.5)
    p = (a * own + b * before + c).sigmoid()
    return own.sigmoid(), before.sigmoid(), torch.bernoulli(p, generator=generator), p


def test_finds_the_planted_line():
    own, before, label, p = world(0.7, 0.4, -1.0)
    blend = Blend.fit(own, before, label)
    assert blend.line[0].tolist() == pytest.approx([0.7, 0.4, -1.0], abs=0.08)
    torch.testing.assert_close(blend.apply(own, before), p, atol=0.02, rtol=0)


def test_one_word_of_before_serves_every_task():
    own, before, label, _ = world(1.0, 0.5, 0.0)
    two = Blend.fit(torch.cat([own, before], 1), before, torch.cat([label, label], 1))
    assert two.line.shape == (2, 3)
    assert torch.equal(two.line[0], Blend.fit(own, before, label).line[0])


def test_a_word_against_itself_does_not_count():
    own, before, label, _ = world(1.0, -0.8, 0.0)
    a, b, _ = Blend.fit(own, before, label).line[0].tolist()
    assert a > 0
    assert b == 0


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_too_few_of_either_outcome_leave_the_own_word(outcome):
    own, before, _, _ = world(1, 1, 0, n=1_000)
    label = torch.full_like(own, outcome)
    label[:49] = 1 - outcome
    blend = Blend.fit(own, before, label)
    assert blend.apply(own, before) is own


def test_restored_bit_for_bit_and_finite_at_the_ends():
    own, before, label, _ = world(0.7, 0.4, -1.0)
    blend = Blend.fit(own, before, label)
    again = Blend.from_arrays({name: x.clone() for name, x in blend.arrays().items()})
    ends = torch.tensor([[0.0], [1.0]])
    assert torch.equal(blend.apply(ends, ends), again.apply(ends, ends))
    assert blend.apply(ends, ends).isfinite().all()
