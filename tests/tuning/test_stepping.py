"""How much of the fine step's hit two steps keep."""

from types import SimpleNamespace

import pytest
import torch

from headrace.data import Candidates, Ragged
from headrace.errors import ConfigError
from headrace.tuning.stepping import publish, stepped_hit
from headrace.tuning.yardstick import Asked


class Model:
    """A coarse word that favours high numbers up to an item, a fine one that is the ranker."""

    keep = 1

    def __init__(self, blind=()):
        self.blind = blind

    def score(self, requests, candidates):
        return candidates.item_id.values.float().unsqueeze(1)

    def coarse_score(self, requests, candidates):
        score = self.score(requests, candidates)
        return score.masked_fill(torch.isin(score, torch.tensor(self.blind).float()), 0.0)


def asked(size=100):
    item = Ragged.of([torch.arange(1, size + 1)])
    cascade = SimpleNamespace(worth=lambda score_NT, found: score_NT[:, 0])
    return Asked(cascade, torch.zeros(1), Candidates(item), item.values.float())


@pytest.mark.parametrize(("keep", "hit"), [(1, 0.1), (5, 0.5), (10, 1.0), (99, 1.0), (500, 1.0)])
def test_favourites_must_be_left_by_the_coarse_step(keep, hit):
    assert stepped_hit(asked(), Model(), keep)[0] == pytest.approx(hit)


def test_what_the_coarse_step_does_not_see_is_lost():
    lists = asked()
    blind = Model([99, 98])
    assert stepped_hit(lists, blind, 50)[0] == pytest.approx(0.8)
    assert lists.hit(blind)[0] == 1


@pytest.mark.parametrize("target", [0.0, -1.0, 1.01])
def test_a_target_is_a_share(target):
    with pytest.raises(ConfigError, match="a share of the hit, above 0 and at most 1"):
        publish(None, target, None, None)
