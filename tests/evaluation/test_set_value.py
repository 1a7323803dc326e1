"""The set evaluator: what is delivered, what is told of a set, and that it is judged unseen."""

import numpy as np
import pytest
import torch

from headrace.allocation.logged import STATISTICS
from headrace.data import Candidates, Ragged
from headrace.evaluation import set_value as part
from headrace.evaluation.set_value import Sets, set_value


def candidates(rows, found_by=1):
    item = Ragged.of([torch.arange(1, n + 1) for n in rows])
    return Candidates(item, {"found_by": torch.full((sum(rows),), found_by)})


def world(requests=400, seed=0, follows=True):
    """The ranker's worth is the pre-ranker's, but for what the second channel found: half of it."""
    made = torch.Generator().manual_seed(seed)
    merged = candidates([120] * requests)
    share_B = torch.rand(requests, generator=made)
    second_N = torch.rand(len(merged), generator=made) < merged.item_id.spread(share_B)
    merged = Candidates(merged.item_id, {"found_by": 1 + 2 * second_N.long()})
    level_B = 1 + torch.rand(requests, generator=made)
    rough_N = torch.rand(len(merged), generator=made) * merged.item_id.spread(level_B)
    fine_N = rough_N * torch.where(second_N, 0.5, 1.0)
    if not follows:
        fine_N = torch.rand(len(merged), generator=made)
    return Sets.of(rough_N, fine_N, merged, channels=2)


def test_a_set_is_the_first_of_one_order_and_worth_the_best_of_the_other():
    rough_N, fine_N = torch.arange(30.0), torch.tensor([*range(15), *range(15)]).float()
    merged = candidates([30, 0], found_by=2)
    sets = Sets.of(rough_N, fine_N, merged, channels=2)
    assert sets.delivered[10].tolist() == [sum(range(5, 15)), 0]  # the last ten
    assert sets.delivered[20].tolist() == [2 * (14 + 13 + 12 + 11 + 10), 0]
    told = dict(zip((*STATISTICS, "first", "second"), sets.told[20][0], strict=True))
    assert told["candidates"] == 20
    assert told["best_10"] == sum(range(20, 30))
    assert (told["worth_1"], told["worth_20"]) == (29, 10)
    assert (told["first"], told["second"]) == (0, 1)
    assert (sets.told[20][1] == 0).all()


def test_it_tells_what_channels_tell_and_a_sum_cannot():
    for each in set_value(world()).values():
        assert each["error"] < 0.8 * each["error_of_sum"]
        assert each["predicted"] == pytest.approx(each["real"], rel=0.05)


def test_where_nothing_can_be_told_it_does_not_seem_to():
    """Errors are of requests not fitted on: noise gives no error below that of the mean."""
    sets = world(follows=False)
    true_B = sets.delivered[50]
    of_mean = np.abs(true_B - true_B.mean()).mean() / true_B.mean()
    assert set_value(sets)["50"]["error"] > 0.98 * of_mean


def test_too_few_requests_are_no_fit():
    assert set_value(world(requests=part.FEWEST - 1)) is None


def test_joined_is_as_whole():
    one, two = world(requests=30), world(requests=20, seed=1)
    whole = Sets.join([one, two])
    assert whole.told[50].shape == (50, len(STATISTICS) + 2)
    assert np.array_equal(whole.delivered[20][30:], two.delivered[20])


def test_negative_worth_delivers_nothing():
    merged = candidates([12])
    sets = Sets.of(torch.arange(12.0), -torch.ones(12), merged, channels=1)
    assert sets.delivered[10].tolist() == [0]
