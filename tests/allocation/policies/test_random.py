"""Lots: their share, their likelihoods, and what serves before there are plans."""

import numpy as np
import pytest
import torch

from headrace.allocation.actions import Actions
from headrace.allocation.policies.random import Random
from headrace.data import Ragged, Requests
from headrace.errors import DataError

QUOTA = {"popular": 40, "retrieval": 60, "preranking": 20, "reranking": 5}


def requests(size):
    zero = torch.zeros(size, dtype=torch.int64)
    return Requests(zero, zero, {}, zero, Ragged(zero[:0], torch.zeros(size + 1).long()))


def test_lots(tmp_path):
    allocator = Random.Config(quota=QUOTA, share=0.25).build()
    assert allocator.plan(requests(2)).quota["preranking"].tolist() == [20, 20]
    with pytest.raises(DataError, match="allocate profile"):
        allocator.restore(tmp_path, ["popular"])
    plans = [{**QUOTA, "preranking": 5}, {**QUOTA, "preranking": 60}]
    Actions.of(plans, [1, 2], [1, 2]).write(tmp_path / "allocation" / "actions.json")
    allocator.restore(tmp_path, ["popular"])
    plan = allocator.plan(requests(4000))
    wide = plan.quota["preranking"] == 60
    assert 0.22 < wide.double().mean() < 0.28
    assert np.array_equal(plan.note["propensity"][wide], [0.25] * int(wide.sum()))
    assert torch.equal(plan.note["action"] == 1, wide)
