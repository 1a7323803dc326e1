"""Two steps: whose word cuts, what learns."""

from types import SimpleNamespace

import pytest
import torch

from headrace.data import Candidates
from headrace.preranking.two_step import TwoStep
from headrace.preranking.vector import Vector
from headrace.serving.cascade import Cascade
from tests import tiny

TASKS = ("click", "buy")


@pytest.fixture(params=[None, Vector.Config(dim=8)], ids=["merge", "vector"])
def steps(request, tiny_samples):
    torch.manual_seed(0)
    return TwoStep.Config(coarse=request.param).build(tiny_samples.space, TASKS)


@pytest.fixture
def batch(tiny_samples):
    rows = tiny_samples.requests("train")[-20:]
    return tiny_samples.batch(tiny_samples.draw(rows, seed=1))


def test_only_what_has_weights_learns(steps, batch):
    losses = steps.loss(batch)
    own = {"coarse.click", "coarse.buy"} if steps.coarse is not None else set()
    assert set(losses) == {"click", "buy", "scales"} | own
    torch.stack(list(losses.values())).sum().backward()
    learnt = [n for n, p in steps.named_parameters() if p.grad is not None and p.grad.any()]
    assert {n.split(".")[0] for n in learnt} == {"fine"} | ({"coarse"} if own else set())


def test_the_coarse_word_is_the_merges_or_the_vectors(steps, batch):
    steps.freeze()
    found = batch.candidates.scored("retrieval", torch.rand(len(batch.candidates), 1))
    bare = Candidates(found.item_id, scores=found.scores)  # no feature of candidates exists yet
    coarse_NT = steps.coarse_score(batch.requests, bare)
    assert coarse_NT.shape == (len(found), 2)
    if steps.coarse is None:
        assert torch.equal(coarse_NT, found.scores["retrieval"].expand(-1, 2))
    else:
        assert torch.equal(coarse_NT, steps.coarse.score(batch.requests, bare))
    assert torch.equal(steps.score(batch.requests, found), steps.fine.score(batch.requests, found))


def test_the_cut_is_by_worth_and_keeps_the_order_of_retrieval(steps, batch):
    steps.freeze()
    size = len(batch.candidates)
    found = Candidates(batch.candidates.item_id).scored("retrieval", torch.rand(size, 1))
    price_N = 1 + found.item_id.values % 3

    def worth(score_NT, candidates):
        del candidates
        return score_NT[:, -1] * price_N

    keep_B = torch.full((len(batch.requests),), 5)
    left = Cascade.cut_coarsely(SimpleNamespace(worth=worth), steps, batch.requests, found, keep_B)
    worth_N = worth(steps.coarse_score(batch.requests, found), found)
    for b in range(len(batch.requests)):
        at = slice(int(found.item_id.offsets[b]), int(found.item_id.offsets[b + 1]))
        best = worth_N[at].argsort(descending=True, stable=True)[:5].sort().values
        assert torch.equal(left.item_id[b], found.item_id[b][best])


def test_sequences_are_those_of_all_steps(tiny_log):
    space = tiny.samples(tiny_log).space
    vector = Vector.Config(history="lifetime")
    assert TwoStep.Config().build(space, TASKS).reads_sequences == {"history"}
    both = TwoStep.Config(coarse=vector).build(space, TASKS)
    assert both.reads_sequences == {"history", "lifetime"}
