"""The cascade cuts by a pre-ranker's coarse step, before it makes features of candidates."""

from dataclasses import replace

import pytest
import torch

from headrace.stages import Narrowing, Plan
from tests.serving import shop


class Steps(shop.ByItem):
    """Coarse: prefers high numbers; fine: low ones, and says how many it was asked about."""

    reads_cross = ("user_item_count",)

    def __init__(self, keep):
        self.keep, self.asked = keep, []

    def coarse_score(self, requests, candidates):
        assert "user_item_count" not in candidates.features
        buy = candidates.item_id.values.float() / 100
        return torch.stack([torch.zeros_like(buy), buy], 1)

    def score(self, requests, candidates):
        assert len(candidates.features["user_item_count"]) == len(candidates)
        self.asked.append(candidates.item_id.lengths.tolist())
        return super().score(requests, candidates)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return shop.asked(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("keep", [1, 5, 100])
def test_the_coarse_best_are_left_in_the_order_of_retrieval(asked, keep):
    cascade, requests, store = asked
    plan = Plan.constant(shop.QUOTA, len(requests))
    whole = cascade.run(requests, plan, store).after["retrieval"].item_id
    model = Steps(keep)
    assert isinstance(model, Narrowing)
    trace = replace(cascade, preranker=model).run(requests, plan, store)
    left = trace.after["retrieval"].item_id
    for b in range(len(requests)):
        best = set(sorted(whole[b].tolist(), reverse=True)[:keep])
        assert left[b].tolist() == [item for item in whole[b].tolist() if item in best]
    assert model.asked == [left.lengths.tolist()]
    assert "coarse" in trace.spent_us


def test_a_scorer_without_steps_sees_all(asked):
    cascade, requests, store = asked
    trace = cascade.run(requests, Plan.constant(shop.QUOTA, len(requests)), store)
    merged = trace.after["retrieval"]
    assert "coarse" not in trace.spent_us
    assert cascade.narrowed(requests, merged) is merged
