"""SIM: what its search finds, what it leaves out, and what it learns from."""

from dataclasses import replace

import pytest
import torch

from headrace.config import Kinds
from headrace.data import Ragged, Requests
from headrace.errors import ConfigError
from headrace.ranking.sim import SIM
from headrace.training import Training
from headrace.training.optim import Optimizer
from tests.ranking import toy

TASKS = ("click", "buy")


def build(samples, seed=0, **settings):
    torch.manual_seed(seed)
    return SIM.Config(**settings).build(samples.space, TASKS)


def test_hits_are_the_users_events_in_the_category_before_the_request(tiny_samples, batch):
    log, hits = tiny_samples.log, batch.candidates.hits
    category_I = tiny_samples.space.catalogue.category
    offsets = log.event("user_offsets")
    for n in range(0, len(batch.candidates), 37):
        b = int(batch.candidates.item_id.row[n])
        user, now = int(batch.requests.user[b]), int(batch.requests.time_ms[b])
        own = slice(int(offsets[user]), int(offsets[user + 1]))
        item = torch.from_numpy(log.event("item")[own].astype("int64"))
        age = now - torch.from_numpy(log.event("time_ms")[own].astype("int64"))
        wanted = category_I[batch.candidates.item_id.values[n]]
        kept = (category_I[item] == wanted) & (age > 0)
        key = int(hits.key[n])
        most = tiny_samples.space.schema.key_events
        assert hits.item[key].tolist() == item[kept][-most:].tolist()
        assert hits.age_ms[key].tolist() == age[kept][-most:].tolist()


def test_it_needs_its_hits(tiny_samples, batch):
    bare = replace(batch.candidates, hits=None)
    with pytest.raises(ValueError, match="hits=True"):
        build(tiny_samples).score(batch.requests, bare)
    assert build(tiny_samples).reads_hits
    assert build(tiny_samples).reads_sequences == ("history",)  # of a lifetime, the hits alone
    assert not build(tiny_samples, search="soft").reads_hits


def test_another_key_finds_what_shares_it(tiny_samples, batch):
    model = build(tiny_samples, key="brand", hits=7)
    assert not model.reads_hits and "lifetime" in model.reads_sequences
    key_I = model.embed.item_ids[:, model.embed.names["item"].index("brand")]
    item_E, age_E, rows = model._sharing(batch.requests, batch.candidates)
    item, time_ms = (batch.requests.ragged(f"lifetime.{c}") for c in ("item", "time_ms"))
    oldest, found = model.oldest(batch.requests), 0
    for n, (start, length) in enumerate(zip(rows.start_N, rows.length_N, strict=True)):
        b = int(batch.candidates.item_id.row[n])
        age = batch.requests.time_ms[b] - time_ms[b]
        wanted = key_I[batch.candidates.item_id.values[n]]
        same = (key_I[item[b]] == wanted) & (wanted > 0) & (age > oldest[b])
        assert item_E[start : start + length].tolist() == item[b][same].tolist()
        assert age_E[start : start + length].tolist() == age[same].tolist()
        found += int(length)
    assert found
    assert model.score(batch.requests, replace(batch.candidates, hits=None)).isfinite().all()


def test_an_unknown_key_is_named(tiny_samples):
    with pytest.raises(ConfigError, match="key: no item feature 'brnd'; did you mean 'brand'"):
        build(tiny_samples, key="brnd")


@pytest.mark.parametrize("search", ["hard", "soft"])
def test_what_the_recent_sequence_has_is_left_out(tiny_samples, batch, search):
    """Forgetting recent events of the searched history alone changes nothing."""
    model = build(tiny_samples, search=search).eval()
    before = model.score(batch.requests, batch.candidates)
    recent = batch.requests.ragged("history.item").lengths
    if search == "soft":
        cut = {
            name: tail_cut(batch.requests.ragged(name), recent)
            for name in ("lifetime.item", "lifetime.time_ms", "lifetime.type", "lifetime.value")
        }
        requests = replace(batch.requests, features={**batch.requests.features, **cut})
        after = model.score(requests, batch.candidates)
    else:
        hits = batch.candidates.hits
        oldest = model.oldest(batch.requests)
        row = torch.zeros(len(hits.item), dtype=torch.int64)
        row[hits.key] = batch.candidates.item_id.row
        late = hits.age_ms.values <= hits.age_ms.spread(oldest[row])
        assert late.any()
        other = torch.where(late, 1, hits.item.values)
        changed = replace(hits, item=hits.item.with_values(other))
        after = model.score(batch.requests, replace(batch.candidates, hits=changed))
    torch.testing.assert_close(after, before)


def tail_cut(column, less):
    kept = column.lengths - torch.minimum(less, column.lengths)
    parts = [column[b][: int(n)] for b, n in enumerate(kept)]
    return Ragged.of(parts)


def test_soft_search_learns_from_its_own_loss_alone(tiny_samples, batch):
    model = build(tiny_samples, search="soft")
    losses = model.loss(batch)
    assert set(losses) == {"click", "buy", "search_click", "search_buy", "search_next"}
    (losses["click"] + losses["buy"]).backward()
    assert all(p.grad is None for p in model.soft.parameters())
    sum(model.loss(batch).values()).backward()
    assert all(p.grad is not None for p in model.soft.parameters())


def test_frozen_soft_scores_equal_unfrozen_and_alone(tiny_samples, batch):
    model = build(tiny_samples, search="soft").eval()
    before = model.score(batch.requests, batch.candidates)
    model.freeze()
    torch.testing.assert_close(model.score(batch.requests, batch.candidates), before)
    row = torch.tensor([5])
    alone = model.score(batch.requests.take(row), batch.candidates.take_rows(row))
    torch.testing.assert_close(alone, before[batch.candidates.item_id.row == 5])


def test_a_sequence_that_does_not_exist_is_named(tiny_samples):
    with pytest.raises(ConfigError, match=r"long: no sequence 'life'; did you mean"):
        build(tiny_samples, search="soft", long="life")


def test_it_is_found_by_its_kind():
    assert Kinds("headrace.ranking").find("sim") is SIM


@pytest.mark.parametrize("kind", ["sim", "twin", "eta"])
def test_like_finds_like_before_anything_is_learned(kind):
    """A candidate's own category comes first among 60, from the first step on."""
    settings = {"attend": ("category",)} | ({"search": "soft"} if kind == "sim" else {})
    torch.manual_seed(0)
    model = Kinds("headrace.ranking").find(kind).Config(**settings).build(planted(), ("click",))
    item = torch.arange(1, 61)
    if kind == "sim":
        query, key = model.soft.queries(item), model.soft.keys(item)
    elif kind == "twin":
        query, key = model.unit.query(model.events(item)), model.unit.keys(model.events(item))
    else:
        query = key = model.codes(item)
    assert ((query @ key.T).argmax(1) == item - 1).float().mean() >= 0.95


def test_soft_search_finds_planted_substitutes():
    """Categories 2k and 2k + 1 follow each other; no label says so."""
    torch.manual_seed(0)
    model = SIM.Config(search="soft", attend=("category",)).build(planted(), ("click",))
    optimizer = Optimizer(model.soft, Training(table_learning_rate=0.05))
    for _ in range(40):
        first = torch.randint(0, 60, (8, 100))
        walk = 1 + torch.stack([first, first ^ 1], dim=2).flatten(1)
        lifetime = {"lifetime.item": Ragged.of(list(walk))}
        none = Ragged.of([torch.zeros(0, dtype=torch.int64)] * 8)
        requests = Requests(torch.ones(8), torch.ones(8), lifetime, torch.ones(8), none)
        model.soft.next_loss(requests).backward()
        optimizer.sum_rows()
        optimizer.step(1.0)
    item = torch.arange(60)
    near = model.soft.queries(item + 1) @ model.soft.keys(item + 1).T
    near.fill_diagonal_(-torch.inf)
    assert (near.argmax(1) == item ^ 1).float().mean() >= 0.9


def planted():
    """60 items, each a category of its own."""
    made = toy.space({}, {"category": torch.arange(61)}, dim=32)
    sequences = {"history": {"length": 5}, "lifetime": {"length": 200}}
    given = made.schema.model_dump() | {"sequences": sequences}
    return replace(made, schema=type(made.schema).model_validate(given))
