"""The server and its allocator: who serves when it fails, what it is told, what it tells."""

import time

import pytest
import torch

from headrace.allocation.controller import Controller
from headrace.allocation.policies.dcaf import Dcaf
from headrace.serving import api, steering
from headrace.serving.metrics import Metrics
from headrace.serving.steering import Pulse, Steering
from headrace.serving.warm import warm_up
from headrace.serving.wire import Ask
from headrace.stages import Plan, Status
from tests.allocation.planted import Hand
from tests.serving import shop
from tests.serving.conftest import ready, served


class Moody:
    """Plans a slate of two; fails when told to; looks again after pre-ranking."""

    reads_sequences = ()

    def __init__(self):
        self.fail, self.statuses, self.traces, self.worths, self.closed = set(), [], [], [], False
        self.ranked = 1

    def _may(self, what):
        if what in self.fail:
            raise RuntimeError(f"no {what} today")

    def plan(self, requests):
        self._may("plan")
        quota = {**shop.QUOTA, "reranking": 2, "ranking": self.ranked}
        return Plan(
            Plan.constant(quota, len(requests)).quota, {"mine": torch.arange(len(requests))}
        )

    def revise(self, plan, statistics):
        self._may("revise")
        self.worths.append(statistics.worth)
        return Plan({**plan.quota, "preranking": plan.quota["preranking"] * 0 + 3}, plan.note)

    def observe(self, trace):
        self._may("observe")
        self.traces.append(trace)

    def steer(self, status):
        self._may("steer")
        self.statuses.append(status)

    def state(self):
        self._may("state")
        return {"price": 0.5, "mix": {"0": 1.0}}

    def forget(self):
        self.worths = []

    def restore(self, folder, channels):
        raise AssertionError("nothing to restore")

    def close(self):
        self.closed = True


@pytest.fixture
def moody(log):
    allocator = Moody()
    return allocator, shop.service(log, allocator=allocator, fallback=shop.QUOTA)


def test_its_plan_its_second_look_and_its_note(moody):
    allocator, service = moody
    answer = service.answer([Ask(user="u1")])[0]
    assert len(answer.items) == 2
    trace = allocator.traces[-1]
    assert trace.after["preranking"].item_id.lengths.tolist() == [3]
    assert trace.plan.note["mine"].tolist() == [0]
    worth = allocator.worths[-1]
    assert len(worth.values) == len(trace.after["retrieval"])
    assert (worth.values.diff() <= 0).all()
    assert len(service.answer([Ask(user="u1", k=5)])[0].items) == 5  # a wish goes before a plan


def test_without_a_ranker_the_prerankers_word_is_the_last(moody):
    allocator, service = moody
    allocator.ranked = 0
    items = service.answer([Ask(user="u1", k=3)])[0].items
    trace = allocator.traces[-1]
    assert "ranking" not in trace.spent_us
    value = trace.slate.scores["value"][:, 0]
    assert torch.equal(trace.slate.scores["ranking"], trace.slate.scores["preranking"])
    assert (value.diff() <= 0).all() and len(items) == 3


def test_when_it_fails_the_fixed_plan_serves(moody, caplog):
    allocator, service = moody
    allocator.fail = {"plan", "observe", "revise", "steer", "state"}
    assert len(service.answer([Ask(user="u1")])[0].items) == shop.QUOTA["reranking"]
    service.steering.steer(Status())
    failures = service.steering.state()["failures"]
    assert failures == {"plan": 1, "revise": 1, "observe": 1, "steer": 1, "state": 1}
    assert len([r for r in caplog.records if "the fixed plan serves" in r.message]) == 1
    service.close()
    assert allocator.closed


def test_of_a_warm_up_it_learns_nothing(moody):
    allocator, service = moody
    warm_up(service)
    assert not allocator.traces and not allocator.worths  # it was not told, and forgot
    with service.steering.rehearsal():
        service.answer([Ask(user="u1")])
        assert allocator.worths  # but planned
    service.answer([Ask(user="u1")])
    assert len(allocator.traces) == 1


def test_without_a_fallback_a_failure_is_heard():
    allocator = Moody()
    allocator.fail = {"plan", "steer"}
    steering = Steering(allocator)
    with pytest.raises(RuntimeError, match="no plan today"):
        steering.plan(None)
    with pytest.raises(RuntimeError, match="no steer today"):
        steering.steer(Status())


def test_a_fixed_allocator_has_nothing_to_tell(service):
    assert service.steering.revise is None
    service.steering.steer(Status())
    assert service.steering.state() == {"failures": {}}


def test_over_http(moody, monkeypatch):
    allocator, service = moody
    monkeypatch.setattr(api, "STEER_S", 0.02)
    with served(service) as client:
        ready(client)
        assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 200
        told = client.get("/v1/allocation").json()
        assert told == {"price": 0.5, "mix": {"0": 1.0}, "failures": {}}
        text = client.get("/metrics").text
        assert "headrace_allocation_price 0.5" in text
        assert 'headrace_allocation_mix{plan="0"} 1.0' in text
        deadline = time.time() + 10
        while not any(s.p99_ms for s in allocator.statuses) and time.time() < deadline:
            time.sleep(0.02)
    assert any(s.p99_ms and s.errors == 0 and s.waiting == 0 for s in allocator.statuses)


def test_the_pulse(monkeypatch):
    pulse = Pulse()
    silent = pulse.status()
    assert (silent.p99_ms, silent.errors, silent.waiting) == (None, None, 0)
    for at in range(100):
        pulse.answered(503 if at % 4 == 0 else 200, 0.001 * at)
    status = pulse.status()
    assert 90 < status.p99_ms < 100
    assert status.errors == 0.25
    assert status.cpu is not None and status.cpu >= 0
    monkeypatch.setattr(steering, "RECENT_S", -1.0)
    silent = pulse.status()
    assert (silent.p99_ms, silent.errors) == (None, None)


def test_the_pulse_tells_how_many_waited_on_average(monkeypatch):
    clock = Hand()
    monkeypatch.setattr(steering.time, "monotonic", clock)
    pulse = Pulse()
    for count, seconds in ((0, 1.0), (8, 0.5), (2, 2.5)):
        pulse.waits(count)
        clock.now += seconds
    assert pulse.status().waiting == pytest.approx((8 * 0.5 + 2 * 2.5) / 4)
    assert pulse.status().waiting == 2  # no time has passed
    clock.now += 1.0
    assert pulse.status().waiting == pytest.approx(2)


def test_a_server_that_cannot_be_measured_steers_blind_and_sees_again(log, monkeypatch, caplog):
    # client and server share a process here, which is never idle by the clock
    control = Controller.Config(blind_s=0.2, up_per_s=5, cpu=9, p99_ms=9_000)
    config = Dcaf.Config(quota=shop.QUOTA, controller=control)
    service = shop.service(log, allocator=Dcaf(config), fallback=shop.QUOTA)
    monkeypatch.setattr(api, "STEER_S", 0.02)
    with served(service) as client:

        def power():
            return client.get("/v1/allocation").json()["max_power"]

        def wait(until):
            deadline = time.time() + 10
            while not until(power()) and time.time() < deadline:
                time.sleep(0.02)
            return until(power())

        ready(client)
        with monkeypatch.context() as broken:
            broken.setattr(Pulse, "status", lambda *_: 1 / 0)
            assert wait(lambda p: p == 0.5)
            assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 200
            assert client.get("/v1/allocation").json()["failures"]["measure"] > 5
        assert wait(lambda p: p == 1)  # idle, which is no blindness
    assert len([r for r in caplog.records if "steers blind" in r.message]) == 1


def test_the_time_to_make_requests_is_part_of_what_they_took(moody, monkeypatch):
    """As it is of what plans were profiled at; of a second, wider search it is no part."""
    allocator, service = moody
    builder, slow_s = type(service.shelf.cascade.builder), 0.05
    make = builder.requests
    monkeypatch.setattr(builder, "requests", lambda *a: time.sleep(slow_s) or make(*a))
    begun = time.perf_counter()
    service.answer([Ask(user="u1", k=25)])
    took_us = 1e6 * (time.perf_counter() - begun)
    first, *wider = allocator.traces
    assert 1e6 * slow_s <= first.spent_us["requests"] <= took_us
    assert sum(sum(trace.spent_us.values()) for trace in allocator.traces) <= took_us
    assert wider and all("requests" not in trace.spent_us for trace in wider)
    assert {"allocation", "slates"} <= first.spent_us.keys()
    assert all("allocation" not in trace.spent_us for trace in wider)  # it plans once


def test_a_channel_that_is_off_is_not_asked(moody, monkeypatch):
    allocator, service = moody
    quota = {**shop.QUOTA, "own": 0}
    monkeypatch.setattr(allocator, "plan", lambda r: Plan.constant(quota, len(r)))
    asked = []
    monkeypatch.setattr(shop.Own, "retrieve", lambda *a: asked.append(a))
    assert service.answer([Ask(user="u1")])[0].items
    assert not asked and len(allocator.traces[-1].found["own"]) == 0


def test_who_is_found_too_little_gets_the_channels_that_the_plan_left_out(moody, monkeypatch):
    """A stranger has nothing of their own; the allocator is asked once, and told of both passes."""
    allocator, service = moody
    asked, quota = [], {**shop.QUOTA, "popular": 0, "effort.popular": 0}

    def plan(requests):
        asked.append(len(requests))
        return Plan(Plan.constant(quota, len(requests)).quota, {"mine": torch.arange(2)})

    monkeypatch.setattr(allocator, "plan", plan)
    own, stranger = service.answer([Ask(user="u1"), Ask()])
    assert len(own.items) == len(stranger.items) == shop.QUOTA["reranking"]
    assert not own.warnings and not stranger.warnings
    assert asked == [2]
    first, second = allocator.traces
    assert first.plan.quota["popular"].tolist() == [0, 0]
    assert second.plan.note["mine"].tolist() == [1]  # the stranger's own
    told = {name: second.plan.quota[name].tolist() for name in ("popular", "own", "effort.popular")}
    assert told == {"popular": [12], "own": [shop.ITEMS + 1], "effort.popular": [100]}


def test_what_is_told_by_resource_is_labelled_so(tmp_path):
    class Budgeted(Moody):
        def state(self):
            return {"prices": {"cpu_ms": 0.5, "ranked": 0.0}, "mix": {"0": 1.0}}

    service = shop.service(shop.write(tmp_path))
    told = Steering(Budgeted(), shop.QUOTA)
    text = Metrics("v1", service.store, steering=told).text().decode()
    assert 'headrace_allocation_prices{resource="ranked"} 0.0' in text
    assert 'headrace_allocation_prices{resource="cpu_ms"} 0.5' in text
    assert 'headrace_allocation_mix{plan="0"} 1.0' in text
