"""Requests of one pass under plans of their own: each is served as its own plan says."""

from dataclasses import replace

import pytest
import torch

from headrace.stages import Plan
from tests.serving import shop

PLANS = (  # one a request
    {**shop.QUOTA, "ranking": 1},
    {**shop.QUOTA, "ranking": 0},
    {**shop.QUOTA, "own": 0, "ranking": 1},
    {**shop.QUOTA, "popular": 3, "retrieval": 9, "preranking": 4, "ranking": 0},
    {**shop.QUOTA, "own": 5, "preranking": 6, "reranking": 2, "ranking": 1},
    {**shop.QUOTA, "own": 0, "popular": 0, "ranking": 1},
)


class Counting(shop.ByEverything):
    """A ranker that remembers whom it was asked about, and how many features it found there."""

    def __init__(self):
        self.users, self.counted = [], []

    def score(self, requests, candidates):
        self.users += requests.user.tolist()
        self.counted.append(len(candidates.features["user_item_count"]))
        return super().score(requests, candidates)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return shop.asked(tmp_path_factory.mktemp("shop"))


def together(plans):
    return Plan({name: torch.tensor([plan[name] for plan in plans]) for name in plans[0]})


def test_in_a_group_as_alone(asked):
    cascade, requests, store = asked
    group = cascade.run(requests, together(PLANS), store)
    for b, plan in enumerate(PLANS):
        one = cascade.run(requests.take(torch.tensor([b])), together([plan]), store)
        for name, found in one.found.items():
            assert torch.equal(group.found[name].item_id[b], found.item_id.values)
        for stage, left in one.after.items():
            rows = group.after[stage].take_rows(torch.tensor([b]))
            assert torch.equal(rows.item_id.values, left.item_id.values)
            for name, score in left.scores.items():
                assert torch.allclose(rows.scores[name], score, rtol=1e-6)


def test_the_ranker_sees_only_whom_it_is_wanted_for(asked):
    cascade, requests, store = asked
    ranker = Counting()
    trace = replace(cascade, ranker=ranker).run(requests, together(PLANS), store)
    wanted = torch.tensor([plan["ranking"] > 0 for plan in PLANS])
    assert ranker.users == requests.user[wanted].tolist()
    assert ranker.counted == [int(trace.after["preranking"].item_id.lengths[wanted].sum())]


def test_a_channel_is_not_asked_for_those_who_are_to_get_nothing(asked, monkeypatch):
    cascade, requests, store = asked
    seen, retrieve = [], shop.Own.retrieve
    monkeypatch.setattr(
        shop.Own,
        "retrieve",
        lambda self, r, q: seen.append(r.user.tolist()) or retrieve(self, r, q),
    )
    found = cascade.run(requests, together(PLANS), store).found["own"].item_id
    wanted = torch.tensor([plan["own"] > 0 for plan in PLANS])
    assert seen == [requests.user[wanted].tolist()]
    assert (found.lengths[~wanted] == 0).all() and (found.lengths[wanted] > 0).all()
