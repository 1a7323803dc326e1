"""LambdaMART: what it reads, that it orders as the library's trees do, and what it leaves behind."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save

from benchmarks import _auction
from headrace.data import Ragged
from headrace.features.encoders import Bucket
from headrace.ops import ragged
from headrace.ops.grades import grades
from headrace.pipeline.alignment import ListBatches, Ranked
from headrace.preranking._ranked import BID, FOUND, GRADE, RANKED, WORTH
from headrace.preranking.lambda_cascade import LambdaCascade
from tests.tiny import graded

TASKS = ("click", "buy")


def build(samples, **settings):
    return LambdaCascade.Config(**settings).build(samples.space, TASKS)


@pytest.fixture(scope="module")
def lists(tiny_samples):
    """Lists ordered by a feature of the pair, and of the item where that is equal."""
    batch = graded(tiny_samples, requests=200)
    found = batch.candidates
    item_N = found.item_id.values
    price_N = tiny_samples.space.catalogue.features["price"][item_N]
    worth_N = 10.0 * found.features["user_item_count"] - price_N
    grade_N = grades(worth_N, found.item_id.offsets, (2, 5)).float()
    scores = {WORTH: worth_N.unsqueeze(1), GRADE: grade_N.unsqueeze(1)}
    return replace(batch, candidates=replace(found, scores={**found.scores, **scores}))


def without(batch, *names):
    found = batch.candidates
    scores = {name: score for name, score in found.scores.items() if name not in names}
    return replace(batch, candidates=replace(found, scores=scores))


def pairs_in_order(model, batch):
    """Share of pairs of a list with different grades that the model puts in order."""
    found = batch.candidates
    logit_N = model.score(batch.requests, found)[:, -1].logit()
    score_N = (logit_N + found.scores[BID][:, 0].log()).numpy()
    grade_N, row_N = found.scores[GRADE][:, 0].numpy(), found.item_id.row.numpy()
    better = (grade_N[:, None] > grade_N) & (row_N[:, None] == row_N)
    return (score_N[:, None] > score_N)[better].mean()


def test_it_learns_the_order_of_lists(tiny_samples, lists):
    model = build(tiny_samples)
    assert pairs_in_order(model, lists) == 0.0  # bare: all alike
    model.grow([without(lists, FOUND)])
    assert pairs_in_order(model, lists) > 0.95


def test_bids_are_not_learnt_but_added(tiny_samples, lists):
    """Where the bid alone makes the order there is little for the trees to say."""
    worth_N = lists.candidates.scores[WORTH][:, 0]
    found = lists.candidates.scored(BID, (5 * worth_N).double().exp().unsqueeze(1))
    flat, free = build(tiny_samples), build(tiny_samples)
    flat.grow([replace(lists, candidates=found)])
    free.grow([lists])
    sums = [model.sums(lists.requests, lists.candidates).std() for model in (flat, free)]
    assert sums[0] < 0.5 * sums[1]


def test_trees_are_those_of_the_library(tiny_samples, lists, monkeypatch):
    made = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a: made.append(train(*a)) or made[-1])
    model = build(tiny_samples, trees=20)
    model.grow([lists])
    theirs = made[0].predict(model.inputs(lists.requests, lists.candidates))
    ours = model.sums(lists.requests, lists.candidates).numpy()
    assert np.ptp(ours) > 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_probabilities_have_the_rankers_mean(tiny_samples, lists):
    model = build(tiny_samples)
    model.grow([lists])
    p_NT = model.score(lists.requests, lists.candidates)
    wanted_T = lists.candidates.scores[RANKED].mean(0)
    torch.testing.assert_close(p_NT.mean(0), wanted_T, rtol=1e-2, atol=1e-3)


def test_it_grows_alike_whatever_the_batches(tiny_samples, lists):
    whole, parts = build(tiny_samples), build(tiny_samples)
    whole.grow([lists])
    rows = torch.arange(len(lists.requests)).split(60)
    parts.grow([_auction.some(lists, part) for part in rows])
    for name, array in whole.state_dict().items():
        assert torch.equal(array, parts.state_dict()[name])


def test_it_is_arrays_that_a_bundle_holds(tiny_samples, lists):
    model, bare = build(tiny_samples, trees=7), build(tiny_samples, trees=7)
    model.grow([lists])
    bare.load_state_dict(load(save(model.state_dict())))
    told = [m.score(lists.requests, lists.candidates) for m in (model, bare)]
    assert torch.equal(*told)


def test_fewer_trees_than_room(tiny_samples, lists):
    """Lists without any order leave nothing to split."""
    none = lists.candidates.scored(GRADE, torch.zeros(len(lists.candidates), 1))
    model = build(tiny_samples)
    model.grow([lists])
    model.grow([replace(lists, candidates=none)])
    assert (model.sums(lists.requests, lists.candidates) == 0).all()


def test_it_reads_what_stands_in_an_order_or_is_few(tiny_samples):
    space = tiny_samples.space
    counters = {n for n in space.schema.names("cross") if isinstance(space.encoders[n], Bucket)}
    assert set(build(tiny_samples, few=0).reads_cross) == counters
    assert set(build(tiny_samples).reads_cross) == {*counters, "exposed", "shelf"}
    assert build(tiny_samples, few=0).item_IF.shape[1] == 1  # price, not item or category
    assert build(tiny_samples, few=10).item_IF.shape[1] == 3  # and category, brand


def test_candidates_that_retrieval_said_nothing_of(tiny_samples, lists):
    """All as the middle candidate of the lists: the score decides nothing between them."""
    model = build(tiny_samples)
    model.grow([graded(tiny_samples, requests=200)])  # only retrieval tells the order
    bare = without(lists, FOUND)
    middle = graded(tiny_samples, requests=200).candidates.scores[FOUND].double().median()
    middle_N1 = torch.full((len(bare.candidates), 1), float(middle))
    told_N = model.sums(bare.requests, bare.candidates.scored(FOUND, middle_N1))
    near = (model.sums(bare.requests, bare.candidates) - told_N).abs() < 1e-5
    assert near.float().mean() > 0.95  # the median is a value of float64, the score of float32


def test_every_list_is_seen_once(tiny_samples):
    rows = tiny_samples.requests("train")[-7:]
    item = Ragged.of([torch.arange(1, n) for n in (1, 3, 60, 60, 5, 2, 60)])
    worth_N = torch.rand(len(item.values), 1)
    ranked = Ranked(
        rows, item, {WORTH: worth_N, GRADE: grades(worth_N[:, 0], item.offsets)[:, None]}
    )
    model = build(tiny_samples, each=5)
    batches = list(ListBatches(tiny_samples, ranked, model.config, model, 3).every())
    assert [len(batch.requests) for batch in batches] == [3, 3, 1]
    lengths = torch.cat([batch.candidates.item_id.lengths for batch in batches])
    assert lengths.tolist() == [0, 2, 15, 15, 4, 1, 15]  # five of each of three grades
    joined = Ragged.join([batch.candidates.item_id for batch in batches])
    assert len(ragged.rows_of(joined.offsets, len(joined.values))) == int(lengths.sum())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trees": 0}, "greater than or equal to 1"),
        ({"leaves": 1}, "greater than or equal to 2"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"distill": {"scheme": "md"}}, "is learnt from it already"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValidationError, match=message):
        LambdaCascade.Config(**settings)
