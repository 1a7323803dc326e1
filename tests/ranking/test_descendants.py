"""TWIN, ETA and SDIM: the checks of their papers."""

import math

import pytest
import torch
from torch.nn import functional as F

from headrace.config import Kinds
from headrace.data import Ragged
from headrace.nn.search import nearest, sim_hash
from headrace.ranking.sdim import HashBuckets
from headrace.ranking.twin import TargetBehaviourAttention

LIFELONG = ("twin", "eta", "sdim", "sim")
TASKS = ("click", "buy")


def build(kind, samples, **settings):
    torch.manual_seed(0)
    return Kinds("headrace.ranking").find(kind).Config(**settings).build(samples.space, TASKS)


@pytest.mark.parametrize("kind", ["twin", "eta", "sdim"])
def test_all_of_a_history_searched_or_not_at_all(kind, tiny_samples, batch):
    """Hits as long as the history change nothing; another history changes scores."""
    model = build(kind, tiny_samples, apart=False).eval()
    before = model.score(batch.requests, batch.candidates)
    longest = int(batch.requests.ragged("lifetime.item").lengths.max())
    if kind != "sdim":
        whole = build(kind, tiny_samples, apart=False, hits=longest).eval()
        more = build(kind, tiny_samples, apart=False, hits=10 * longest).eval()
        scores = [m.score(batch.requests, batch.candidates) for m in (whole, more)]
        torch.testing.assert_close(*scores)
    features = dict(batch.requests.features)
    item = batch.requests.ragged("lifetime.item")
    features["lifetime.item"] = item.with_values(item.values.flip(0))
    other = batch.requests.__class__(
        batch.requests.user,
        batch.requests.time_ms,
        features,
        batch.requests.group,
        batch.requests.exclude,
    )
    assert not torch.allclose(model.score(other, batch.candidates), before)


@pytest.mark.parametrize("kind", LIFELONG)
def test_a_lifetime_that_is_all_recent_leaves_nothing_to_search(kind, tiny_samples, batch):
    model = build(kind, tiny_samples, history="lifetime").eval()
    p = model.score(batch.requests, batch.candidates)
    assert p.isfinite().all()


def clustered(num_items, dim, clusters=20, seed=0):
    """Unit vectors around a few centres, as trained embeddings lie."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(clusters, dim, generator=generator)
    pick = torch.randint(0, clusters, (num_items,), generator=generator)
    noise = 0.6 * torch.randn(num_items, dim, generator=generator)
    return F.normalize(centre[pick] + noise, dim=1)


def test_twin_searches_by_the_logits_that_it_attends_by():
    """Recall of its first stage against exact attention is 1: it is the same metric."""
    torch.manual_seed(0)
    unit = TargetBehaviourAttention(16, heads=4, head_dim=8)
    target, event = clustered(50, 16), clustered(2_000, 16, seed=1)
    age = torch.randint(0, 26, (2_000,))
    unit.eval().age.data.normal_()
    query, key, bias = unit.query(target), unit.keys(event), unit.age.sum(1)[age]
    items = Ragged(torch.arange(50), torch.tensor([0, 50]))
    events = Ragged(torch.arange(2_000), torch.tensor([0, 2_000]))
    at, _, real = nearest(query, items, key, events, 100, events.offsets[1:], bias)
    q = F.normalize(unit.target(target).view(50, 4, 8), dim=-1)
    k = F.normalize(unit.event(event).view(2_000, 4, 8), dim=-1)
    alpha = unit.sharpness * (torch.einsum("nhd,ehd->nhe", q, k) - 1) + unit.age[age].T
    exact = alpha.sum(1).topk(100).indices
    assert real.all()
    shared = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(at, exact, strict=True)]
    assert min(shared) >= 99  # but for ties


def test_eta_finds_what_exact_attention_looks_at():
    target, event = clustered(100, 32), clustered(2_000, 32, seed=0)
    plane = torch.randn(32, 256, generator=torch.Generator().manual_seed(0))
    items = Ragged(torch.arange(100), torch.tensor([0, 100]))
    events = Ragged(torch.arange(2_000), torch.tensor([0, 2_000]))
    at, _, _ = nearest(
        sim_hash(target, plane), items, sim_hash(event, plane), events, 200, events.offsets[1:]
    )
    exact = (target @ event.T).topk(50).indices
    found = [len(set(e.tolist()) & set(a.tolist())) / 50 for e, a in zip(exact, at, strict=True)]
    assert sum(found) / len(found) >= 0.9


def test_sdim_weights_follow_the_closed_form():
    """How often an event shares the candidate's bucket is (1 - arccos(cos θ) / π)^τ."""
    torch.manual_seed(0)
    unit = HashBuckets(16, groups=16, group_bits=3)
    target, event = clustered(1, 16), clustered(400, 16, seed=0)
    tau, weight = 3, torch.zeros(400)
    for seed in range(20):
        torch.manual_seed(seed)
        unit.planes.copy_(torch.randn_like(unit.planes))
        weight += (unit.signatures(event) == unit.signatures(target)).float().mean(1) / 20
    angle = (event @ target[0]).clamp(-1, 1).arccos()
    wanted = (1 - angle / math.pi) ** tau
    correlation = torch.corrcoef(torch.stack([weight, wanted]))[0, 1]
    assert correlation >= 0.95


def test_sdim_reads_sums_of_what_collides():
    torch.manual_seed(0)
    unit = HashBuckets(4, groups=5, group_bits=2)
    event, target = torch.randn(7, 4), torch.randn(3, 4)
    events = Ragged(torch.arange(7), torch.tensor([0, 4, 4, 7]))
    items = Ragged(torch.arange(3), torch.tensor([0, 1, 2, 3]))
    found = unit(target, items, unit.sums(event, events))
    mine, theirs = unit.signatures(target), unit.signatures(event)
    for n in range(3):
        rows = range(int(events.offsets[n]), int(events.offsets[n + 1]))
        parts = [
            F.normalize(
                sum((event[e] for e in rows if theirs[e, g] == mine[n, g]), torch.zeros(4)), dim=0
            )
            for g in range(5)
        ]
        torch.testing.assert_close(found[n], torch.stack(parts).mean(0))
