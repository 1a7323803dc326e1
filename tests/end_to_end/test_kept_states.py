"""A trained memory ranker behind the real server: each accepted event is one step of a state."""

from contextlib import nullcontext

import numpy as np
import pytest

from headrace.behavior import RawEvent, StoreError
from headrace.behavior.intake import key_of
from headrace.behavior.interest_center import NEVER, InterestCenter
from headrace.pipeline.train import save, train
from headrace.run import Run
from headrace.serving.service import Service
from headrace.serving.wire import Ask
from headrace.training import Trainer
from tests.end_to_end.conftest import Shop
from tests.serving.conftest import ready, served

EVER = np.iinfo(np.int64).max
RANKER = '[ranking]\nkind = "din"\nhidden = [16]\n[compare.lr]\nkind = "lr"'
MEMORY = (
    "[prerank_training.training]\nepochs = 1\n[rank_training.training]\nepochs = 1\n"
    '[ranking]\nkind = "mimn"\nhidden = [16]\n'
    "slots = 4\nslot_dim = 4\ncontroller = 8\nchannel_dim = 4\n"
    '[compare.lr]\nkind = "lr"'
)
GONE = [
    (f'[retrieval.{name}]\nkind = "{name}"\n', "")
    for name in ("repurchase", "item_cf", "two_tower")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("memory"))
    quotas = [(f"{name} = 30\n", "") for name in ("repurchase", "item_cf", "two_tower")]
    shop.write((RANKER, MEMORY), *GONE, *quotas)
    run, trainer = Run.of(shop.config), Trainer()
    run.ingest()
    save(run, trainer, train(run, trainer, lambda name: nullcontext()), {})
    return shop.run


@pytest.fixture
def run(trained, tmp_path):
    """The run with no events yet."""
    for part in ("log", "bundle"):
        (tmp_path / part).symlink_to(trained / part)
    return tmp_path


def event(number, **fields):
    return {"event_id": f"e{number}", "user": 5, "item": 7, "type": "buy", **fields}


def kept(service, user="5"):
    """A user's sequence number and state."""
    center = service.interests._center
    found = center.look_up(np.array([key_of(user)]), np.array([EVER]))
    return (int(found.seq_B[0]), found.state_BZ[0].tolist()) if found.real_B[0] else (NEVER, None)


def scores(service, user="5"):
    answer = service.recommend(user=user, explain=True)
    return {item.item: item.scores["ranking"] for item in answer.items}


def unrolled(client):
    """Users whose history was run through, by reason."""
    lines = client.get("/metrics").text.splitlines()
    told = [line for line in lines if line.startswith("headrace_interests_unrolled_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in told}


def without_states(service):
    """What another reader of the same store answers, who runs through histories."""
    cascade, settings = service.shelf.cascade, service.settings
    other = Service(
        cascade,
        service.steering.allocator,
        service.log,
        service.store,
        settings,
        "v1",
        tasks=("click", "buy"),
    )
    other.clock = service.clock
    return other


def test_an_event_is_a_step_that_the_very_next_request_sees(run):
    service = Service.open(run, writable=True)
    with served(service) as client:
        ready(client)
        assert client.post("/v1/events", json=event(1)).json()["accepted"] == 1
        first, before = kept(service), unrolled(client)["no state"]
        assert client.post("/v1/events", json=event(2, item=8)).json()["accepted"] == 1
        second = kept(service)
        assert second[0] > first[0] > NEVER
        assert second[1] != first[1]
        assert scores(service) == pytest.approx(scores(without_states(service)), abs=1e-5)
        assert client.post("/v1/events", json=event(2, item=8)).json()["duplicates"] == 1
        assert client.post("/v1/events", json=event(3, item=8, type="buy", user=6)).is_success
        assert kept(service) == second
        assert client.post("/v1/recommend", json={"user": 5}).is_success
        assert unrolled(client) == {
            "anonymous": unrolled(client)["anonymous"],
            "no state": before,
            "behind": 0,
        }


def test_the_long_sequence_is_gathered_for_those_without_a_state_alone(run):
    with Service.open(run, writable=True) as service:
        reader = service.reader
        service.store.append([[RawEvent("e1", "5", "7", "buy", service.clock.now_ms(), 1.0)]])
        service.interests.follow()
        requests = service.requests(*reader.read([Ask(user="5")]))
        assert "lifetime.item" not in requests.features
        assert "history.item" in requests.features
        assert service.interests.unrolled == {}
        assert scores(service) == pytest.approx(scores(without_states(service)), abs=1e-5)


def test_a_new_user_and_one_who_only_asks(run):
    with Service.open(run, writable=True) as service:
        assert scores(service, "9")
        assert service.interests.unrolled["no state"] == 1
        service.store.append([[RawEvent("e1", "new", "7", "buy", service.clock.now_ms(), 1.0)]])
        service.interests.follow()
        for user in ("9", "new"):
            assert scores(service, user) == pytest.approx(
                scores(without_states(service), user), abs=1e-5
            )
        assert service.interests.unrolled["no state"] == 1


def test_what_a_crash_kept_from_the_center_is_made_up_for(run):
    with Service.open(run, writable=True) as service:
        now = service.clock.now_ms()
        service.store.append([[RawEvent("e1", "5", "7", "buy", now, 1.0)]])
        service.interests.follow()
        before = kept(service)
        service.store.append([[RawEvent("e2", "5", "8", "click", now + 1, 1.0)]])  # and no more
    with Service.open(run, writable=True) as service:
        after = kept(service)
        assert after[0] > before[0]
        assert scores(service) == pytest.approx(scores(without_states(service)), abs=1e-5)
        assert service.interests.unrolled == {}
    with Service.open(run, writable=True) as service:  # the journal is sent again
        assert kept(service) == after


def test_a_center_that_cannot_be_written_is_not_read(run, monkeypatch):
    service = Service.open(run, writable=True)
    with served(service) as client:
        ready(client)
        client.post("/v1/events", json=event(1))

        def full(self, steps):
            raise StoreError("disk full")

        with monkeypatch.context() as m:
            m.setattr(InterestCenter, "append", full)
            assert client.post("/v1/events", json=event(2, item=8)).json()["accepted"] == 1
            assert scores(service) == pytest.approx(scores(without_states(service)), abs=1e-5)
            assert unrolled(client)["behind"] == 1
        client.post("/v1/events", json=event(3, item=9))
        assert scores(service) == pytest.approx(scores(without_states(service)), abs=1e-5)
        assert unrolled(client)["behind"] == 1


def test_states_of_another_log_are_forgotten(run):
    with Service.open(run, writable=True) as service:
        encoder = service.shelf.cascade.ranker.encoder()
        version = service.interests._center._serving
    center = InterestCenter(run / "events" / "interests", [encoder], map_mb=1)
    assert set(center.versions) == {version, encoder.version}
    center.close()
    with Service.open(run, writable=True) as service:
        assert set(service.interests._center.versions) == {version}


def test_only_one_who_writes_keeps_states(run):
    with Service.open(run) as service:
        assert service.interests is None
        assert scores(service)
