"""Rankers over users of every extreme: nothing, one event, 50,000 of one category, all to come."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from headrace.config import Kinds
from headrace.data import Candidates, Ragged
from headrace.features.build import Asked
from tests import tiny

MANY = 50_000
NEW, ONCE, HEAVY = 40, 41, 42  # users beside those of the tiny log
KINDS = {
    "din": {},
    "dien": {},
    "mimn": {},
    "sim": {},
    "sim soft": {"search": "soft", "long": "lifetime"},
    "twin": {},
    "eta": {},
    "sdim": {},
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    raw = tiny.raw_log()
    last_ms = tiny.START_MS + tiny.DAYS * tiny.DAY_MS
    of_one_category = pl.DataFrame(
        {
            "request": pl.Series([None] * (MANY + 1), dtype=pl.Int64),
            "user": [ONCE] + [HEAVY] * MANY,
            "item": [5] + [8 * (i % 7) for i in range(MANY)],  # of c0, all but the first
            "time_ms": [last_ms - 1_000] + [tiny.START_MS + i * 60_000 for i in range(MANY)],
            "type": "click",
            "value": 1.0,
        }
    )
    users = pl.DataFrame({"user": [NEW, ONCE, HEAVY], "city": ["t0"] * 3})
    raw = replace(
        raw,
        events=pl.concat([raw.events, of_one_category.select(raw.events.columns)]),
        users=pl.concat([raw.users, users]),
    )
    log = tiny.write(tmp_path_factory.mktemp("extreme"), raw)
    schema = {**tiny.SCHEMA, "sequences": {"history": {"length": 20}, "lifetime": {"length": MANY}}}
    return tiny.samples(log, schema=schema)


@pytest.fixture(scope="module")
def asked(samples):
    """A request of each after the log's end, and one of the heavy user before its first event."""
    known = samples.log.users["user"].cast(pl.String).to_list()
    user = np.array([known.index(str(u)) for u in (NEW, ONCE, HEAVY, HEAVY)])
    last_ms = tiny.START_MS + tiny.DAYS * tiny.DAY_MS
    time_ms = np.array([last_ms] * 3 + [tiny.START_MS - 1])
    context = {name: np.ones(4, np.int64) for name in samples.log.manifest.context}
    bare = Asked(user, time_ms, context, np.full(4, -1))
    requests = samples.builder.requests(bare, samples.store)
    items = Ragged.of([torch.tensor([1, 2, 9, 0])] * 4)  # 0 is of no category
    found = samples.builder.candidates(requests, Candidates(items), samples.store, hits=True)
    return requests, found


def test_the_extremes_are_what_they_should_be(asked):
    requests, found = asked
    assert requests.ragged("lifetime.item").lengths.tolist() == [0, 1, MANY, 0]
    lengths_N = found.hits.item.lengths[found.hits.key].view(4, 4)
    assert lengths_N[2].tolist() == [50, 0, 50, 0]  # of its one category, as many as are kept
    assert not lengths_N[[0, 3]].any()


@pytest.mark.parametrize("name", KINDS)
def test_all_are_scored_alone_as_together(name, samples, asked):
    requests, found = asked
    torch.manual_seed(0)
    config = Kinds("headrace.ranking").find(name.split()[0]).Config.model_validate(KINDS[name])
    model = config.build(samples.space, ("click", "buy")).eval()
    model.freeze()
    score_NT = model.score(requests, found)
    assert score_NT.shape == (16, 2)
    assert bool(((score_NT > 0) & (score_NT < 1)).all())
    for b in range(4):
        row = torch.tensor([b])
        alone = samples.builder.candidates(
            requests.take(row), Candidates(Ragged.of([found.item_id[b]])), samples.store, hits=True
        )
        torch.testing.assert_close(
            model.score(requests.take(row), alone), score_NT[4 * b : 4 * b + 4]
        )
