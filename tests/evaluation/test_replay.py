"""A replay says of every plan what running it would have said."""

from dataclasses import replace as changed

import numpy as np
import pytest
import torch

from headrace.allocation.actions import Actions, grid
from headrace.data import Candidates, Ragged
from headrace.errors import DataError
from headrace.evaluation import replay
from headrace.stages import Plan
from tests.serving import shop
from tests.serving import test_plan_dimensions as dimensions

WIDE = {**shop.QUOTA, "own": 25, "popular": 25, "retrieval": 25, "preranking": 25, "ranking": 1}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return shop.asked(tmp_path_factory.mktemp("shop"))


def plans():
    yield from grid({**WIDE, "preranking": 10}, {"own": 1.0, "popular": 0.1})
    yield {**WIDE, "own": 3, "popular": 7, "retrieval": 9, "preranking": 4, "reranking": 2}
    yield {**WIDE, "own": 0, "ranking": 0, "preranking": 8}


@pytest.mark.parametrize("quota", list(plans()), ids=str)
def test_as_the_cascade_itself(asked, quota):
    cascade, requests, store = asked
    size = len(requests)
    truth = Ragged.of([torch.tensor([1, 3, 5])] * size)
    wide = replay.widest(cascade, requests, WIDE, store)
    family = replay.narrow(cascade, wide, quota, truth)
    told = family(quota)
    trace = cascade.run(requests, Plan.constant(quota, size), store)
    worth = {
        (row, item): value
        for row, item, value in zip(
            wide.merged.item_id.row.tolist(),
            wide.merged.item_id.values.tolist(),
            wide.value_N.tolist(),
            strict=True,
        )
    }
    price_I = cascade.catalogue.columns["price"]
    for row in range(size):
        items = trace.slate.item_id[row].tolist()
        assert told.gain_B[row] == pytest.approx(sum(worth[row, item] for item in items), rel=1e-5)
        taken = sum(float(price_I[item]) for item in items if item in (1, 3, 5))
        assert told.real_B[row] == pytest.approx(taken)
    assert family.statistics_BS[:, 0].tolist() == trace.after["retrieval"].item_id.lengths.tolist()
    assert np.isfinite(family.statistics_BS).all()


class Hasty(shop.Own):
    """Of less than ten items it finds other ones than of more."""

    effort_quota = 10

    def retrieve(self, requests, quota_B):
        found = super().retrieve(requests, torch.full_like(quota_B, shop.ITEMS))
        rows = [found.item_id[b][int(q < 10) :][:q] for b, q in enumerate(quota_B.tolist())]
        score = torch.arange(sum(map(len, rows)), 0, -1).float().unsqueeze(1)
        return Candidates(Ragged.of(rows), scores={"score": score})


def test_a_channel_that_works_less_for_less_is_asked_again(asked):
    cascade, requests, store = asked
    cascade = changed(cascade, channels={**cascade.channels, "own": Hasty()})
    size = len(requests)
    truth = Ragged.of([torch.zeros(0, dtype=torch.int64)] * size)
    wide = replay.widest(cascade, requests, WIDE, store)
    for own in (3, 0, 12):
        quota = {**WIDE, "own": own, "popular": 2, "retrieval": 9, "reranking": 4}
        trace = cascade.run(requests, Plan.constant(quota, size), store)
        merged = replay.narrow(cascade, wide, quota, truth).merged.item_id
        assert merged.values.tolist() == trace.after["retrieval"].item_id.values.tolist()


def test_no_requests_are_said_to_be_none(asked):
    cascade, _, _ = asked
    actions = Actions.of([WIDE], [1.0], [1.0])
    with pytest.raises(DataError, match="nothing to replay"):
        replay.replay(cascade, None, np.zeros(0, np.int64), actions, None)


def test_more_work_is_never_worse(asked):
    cascade, requests, store = asked
    truth = Ragged.of([torch.zeros(0, dtype=torch.int64)] * len(requests))
    wide = replay.widest(cascade, requests, WIDE, store)
    gains = [
        replay.narrow(cascade, wide, WIDE, truth)({**WIDE, "preranking": count}).gain_B
        for count in (4, 8, 16, 25)
    ]
    assert (np.diff(np.stack(gains), axis=0) >= -1e-9).all()


@pytest.mark.parametrize("quota", dimensions.PLANS, ids=str)
def test_other_rankers_skipped_stages_and_efforts_as_the_cascade_itself(asked, quota):
    cascade, requests, store = asked
    cascade, _ = dimensions.dimensioned(cascade)
    size = len(requests)
    truth = Ragged.of([torch.tensor([1, 3, 5])] * size)
    wide = replay.widest(cascade, requests, {**dimensions.FULL, **WIDE}, store, ("light", "odd"))
    told = replay.narrow(cascade, wide, quota, truth)(quota)
    trace = cascade.run(requests, Plan.constant(quota, size), store)
    price_I = cascade.catalogue.columns["price"]
    rows = zip(wide.merged.item_id.row.tolist(), wide.merged.item_id.values.tolist(), strict=True)
    worth = dict(zip(rows, wide.value_N.tolist(), strict=True))  # by the ranker, whoever ranked
    more = 1.05 if quota["reranker"] else 1.0
    for row in range(size):
        items = trace.slate.item_id[row].tolist()
        gain = more * sum(worth[row, item] for item in items)
        assert told.gain_B[row] == pytest.approx(gain, rel=1e-5)
        taken = sum(float(price_I[item]) for item in items if item in (1, 3, 5))
        assert told.real_B[row] == pytest.approx(taken)


def test_tiers_are_scored_only_where_a_plan_names_them(asked):
    cascade, requests, store = asked
    cascade, light = dimensions.dimensioned(cascade)
    made = Actions.of([dimensions.FULL], [1.0], [1.0])
    assert made.tiers == ()
    replay.widest(cascade, requests, made.widest, store, made.tiers)
    assert light.users == []


def test_a_share_of_requests_leaves_out_what_its_user_had(tiny_samples):
    rows = tiny_samples.requests("train")
    seen = tiny_samples.seen(rows)
    had = [b for b in range(len(rows)) if len(seen[b])]
    for share, low, high in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.6), (1.0, 1.0, 1.0)):
        left_out = replay.asked(tiny_samples, rows, share).exclude
        new = [b for b in had if left_out[b].tolist() == seen[b].tolist()]
        assert left_out.lengths.sum() == seen.lengths[new].sum()
        assert low <= len(new) / len(had) <= high
        alone = replay.asked(tiny_samples, rows[7:8], share).exclude
        assert torch.equal(alone[0], left_out[7])
