"""A service with an interest center scores as one that runs through the history."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.allocation.policies.fixed import Fixed
from headrace.app import Serving
from headrace.behavior import EVERY_TYPE, MappedLog, RawEvent
from headrace.behavior.intake import Intake, key_of
from headrace.behavior.interest_center import InterestCenter, Step
from headrace.behavior.stores.memory import MemoryStore
from headrace.nn.memory import USER_STATE
from headrace.ranking.mimn import MIMN
from headrace.serving.interests import Interests
from headrace.serving.service import Service
from headrace.serving.wire import Ask, PastEvent
from tests.serving import shop
from tests.serving.shop import DAY_MS, QUOTA, TYPES


@pytest.fixture(scope="module")
def model(log):
    torch.manual_seed(0)
    model = MIMN.Config(long="history").build(shop.cascade(log).builder.space, TYPES)
    model.freeze()
    return model


def service(log, model, interests=None):
    return Service(
        replace(shop.cascade(log), ranker=model),
        Fixed.Config(quota=QUOTA).build(),
        log,
        MemoryStore(log),
        Serving(clock="log", max_k=25, max_history=5),
        "v1",
        tasks=TYPES,
        interests=interests,
    )


@pytest.fixture
def center(log, model, tmp_path):
    """Filled out of the log; a user's sequence numbers are their events' places."""
    encoder = model.encoder()
    center = InterestCenter(tmp_path, [encoder], map_mb=8)
    users = np.arange(1, log.manifest.num_users)
    ever = np.full(len(users), np.iinfo(np.int64).max)
    events = MappedLog(log).latest(users, ever, 10**9, EVERY_TYPE)
    keys = np.array([key_of(raw) for raw in log.users["user"][1:]])
    seq = np.diff(events.offsets)
    again = center.backfill(encoder.version, keys, seq, events.item, events.time_ms, events.offsets)
    assert not len(again)
    center.activate(encoder.version)
    yield center
    center.close()


def test_scores_equal_those_of_the_history(log, model, center):
    interests = Interests(center, model, Intake(log).key)
    with_states, without = service(log, model, interests), service(log, model)
    asks = [Ask(user=f"u{n}", explain=True) for n in range(3)]
    asks.append(Ask(history=[PastEvent(item="i3", type="view")], explain=True))
    asks.append(Ask(user="nobody", explain=True))
    for a, b in zip(with_states.answer(asks), without.answer(asks), strict=True):
        assert [i.item for i in a.items] == [i.item for i in b.items]
        for one, other in zip(a.items, b.items, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-6)
    assert interests.unrolled == {"anonymous": 2, "no state": 0}


def test_an_event_is_seen_by_the_next_request(log, model, center):
    interests = Interests(center, model, Intake(log).key)
    with_states, without = service(log, model, interests), service(log, model)
    now = log.manifest.last_ms + 5
    for some in (with_states, without):
        some.store.append([[RawEvent("e1", "new", "i7", "buy", now, 1.0)]])
    item = with_states.store.items.row("i7")
    center.append([Step(key_of("new"), 1, item, now)])
    answers = [s.recommend(user="new", explain=True) for s in (with_states, without)]
    assert answers[0].items[0].scores == pytest.approx(answers[1].items[0].scores, abs=1e-6)
    assert interests.unrolled == {}


def test_a_request_before_the_last_event_is_answered_as_of_its_time(log, model, center):
    interests = Interests(center, model, Intake(log).key)
    ask = {"user": "u1", "time_ms": log.manifest.last_ms - 5 * DAY_MS, "explain": True}
    answers = [service(log, model, i).recommend(**ask) for i in (interests, None)]
    assert answers[0].items[0].scores == answers[1].items[0].scores
    assert interests.unrolled["no state"] == 1


def test_a_state_is_read_and_no_history_run_through(log, model, center, monkeypatch):
    interests = Interests(center, model, Intake(log).key)
    with_states = service(log, model, interests)
    monkeypatch.setattr(MIMN, "unroll", lambda *_: pytest.fail("ran through a history"))
    requests = with_states.requests(*with_states.reader.read([Ask(user="u1")]))
    assert requests.tensor(USER_STATE).shape == (1, model.sizes.total)
    assert with_states.recommend(user="u1").items
