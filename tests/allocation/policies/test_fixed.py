"""Constant quotas, and how mistakes in them are answered."""

import pytest
import torch
from pydantic import ValidationError

from headrace.allocation.policies.fixed import Fixed
from headrace.config import Config, parse
from headrace.data import Candidates, Ragged, Requests
from headrace.errors import ConfigError
from headrace.stages import Trace

QUOTA = {"popular": 100, "swing": 50, "retrieval": 200, "preranking": 100, "reranking": 10}
CHANNELS = ["popular", "swing"]


def requests(size):
    zero = torch.zeros(size, dtype=torch.int64)
    return Requests(zero, zero, {}, zero, Ragged(zero[:0], torch.zeros(size + 1).long()))


def test_every_request_gets_the_same():
    allocator = Fixed.Config(quota=QUOTA).build()
    plan = allocator.plan(requests(3))
    assert {name: quota.tolist() for name, quota in plan.quota.items()} == {
        name: [n] * 3 for name, n in QUOTA.items()
    }
    assert all(quota.dtype == torch.int64 for quota in plan.quota.values())
    assert all(len(quota) == 0 for quota in allocator.plan(requests(0)).quota.values())


def test_it_learns_nothing():
    allocator = Fixed.Config(quota=QUOTA).build()
    plan = allocator.plan(requests(1))
    none = Candidates(Ragged.of([torch.zeros(0, dtype=torch.int64)]))
    allocator.observe(Trace(plan, {}, {}, {"reranking": none}))
    assert {k: v.tolist() for k, v in allocator.plan(requests(1)).quota.items()} == {
        k: v.tolist() for k, v in plan.quota.items()
    }


def test_a_channel_can_be_switched_off():
    Fixed.Config(quota={**QUOTA, "swing": 0}).check(CHANNELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"swng": 5}, "allocation.quota: no such stage or channel 'swng'; did you mean 'swing'?"),
        ({"preranker": 5}, "did you mean 'preranking'?"),
        ({"swing": None}, "allocation.quota.swing: required, but missing; 0 switches"),
        ({"reranking": None}, "allocation.quota.reranking: required, but missing"),
        ({"preranking": 0}, "allocation.quota.preranking: must be at least 1, got 0"),
        ({"swing": 0, "popular": 0}, "every channel is at 0"),
    ],
)
def test_quotas_are_checked_against_the_cascade(change, message):
    quota = {k: v for k, v in {**QUOTA, **change}.items() if v is not None}
    with pytest.raises(ConfigError) as error:
        Fixed.Config(quota=quota).check(CHANNELS)
    assert message in str(error.value)


def test_a_channel_may_not_be_called_like_a_stage():
    with pytest.raises(ConfigError, match="'retrieval', which is a stage"):
        Fixed.Config(quota=QUOTA).check([*CHANNELS, "retrieval"])


@pytest.mark.parametrize("wrong", [-1, 10_001, 1.5, "10", True])
def test_a_quota_is_a_number_of_items(wrong):
    with pytest.raises(ValidationError, match=r"quota\.reranking"):
        Fixed.Config(quota={**QUOTA, "reranking": wrong})


def test_a_mistake_in_a_file_names_its_line():
    class File(Config):
        allocation: Fixed.Config

    text = '[allocation]\nkind = "fixed"\n[allocation.quota]\nretrieval = 200\nreranking = -3\n'
    with pytest.raises(ConfigError, match=r"shop.toml:5: allocation.quota.reranking: .* got -3"):
        parse(text, File, "shop.toml")
