"""Events from many threads at once: each batch whole, each caller told the truth."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headrace.behavior import StoreError, newest_ms
from headrace.behavior.stores._lmdb import Environment
from headrace.behavior.stores.local import LocalStore
from headrace.errors import RequestError
from headrace.serving import feedback
from headrace.serving.clock import Clock
from headrace.serving.feedback import Feedback, OverloadError
from headrace.serving.wire import Event
from tests.serving import shop


def event(number, **fields):
    told = {"event_id": f"e{number}", "user": "u1", "item": "i1", "type": "buy", **fields}
    return Event.model_validate(told)


@pytest.fixture
def opened(log, tmp_path):
    store = shop.store_in(log, tmp_path)
    clock = Clock("log", store.last_ms)
    feedback = Feedback(store, log, clock)
    yield feedback, store, clock
    feedback.close()
    store.close()


def test_many_callers_share_writes(opened, tmp_path):
    feedback, store, clock = opened
    start = threading.Barrier(8)
    now = clock.now_ms()

    def send(caller):
        start.wait()
        done = [
            feedback.submit(
                [
                    event(f"{caller}.{n}.{i}", time_ms=now + 1000 * caller + 10 * n + i)
                    for i in range(3)
                ]
            )
            for n in range(20)
        ]
        return [d.result(30) for d in done]

    with ThreadPoolExecutor(8) as pool:
        receipts = [r for many in pool.map(send, range(8)) for r in many]
    assert receipts == [(3, 0)] * 160
    assert store.num_events == 480
    events, calls = store.export()
    assert events.height == 480
    assert calls < 160  # some batches shared a transaction


def test_events_without_a_time_happen_now(opened, tmp_path):
    feedback, store, clock = opened
    before = clock.now_ms()
    feedback.submit([event(1)]).result(30)
    assert before <= newest_ms(store, np.array([store.user("u1")]))[0] <= clock.now_ms()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"item": "gone"}, r"no such item in the log: events\[1\].item 'gone'; none of"),
        ({"type": "by"}, r"events\[1\].type: no type 'by' in the log; did you mean 'buy'"),
        ({"time_ms": 2**51}, r"events\[1\].time_ms: .* more than a day ahead"),
    ],
)
def test_a_batch_with_a_mistake_is_refused_whole(opened, wrong, message):
    feedback, store, _ = opened
    with pytest.raises(RequestError, match=message):
        feedback.submit([event(1), event(2, **wrong)])
    assert store.num_events == 0


def test_many_unknown_items_are_counted(opened):
    with pytest.raises(RequestError, match=r"'x4' and 3 more; none"):
        opened[0].submit([event(n, item=f"x{n}") for n in range(8)])


def test_the_writer_survives_a_full_disk(opened, monkeypatch):
    feedback, store, _ = opened

    def full(self, work):
        raise StoreError("disk full")

    with monkeypatch.context() as m:
        m.setattr(Environment, "write", full)
        with pytest.raises(StoreError, match="disk full"):
            feedback.submit([event(1)]).result(30)
    assert store.num_events == 0
    assert feedback.submit([event(1)]).result(30) == (1, 0)


def test_a_disk_that_does_not_keep_up(opened, log, monkeypatch):
    monkeypatch.setattr(feedback, "WAITING", 1)
    _, store, clock = opened
    stuck, entered = threading.Event(), threading.Event()
    append = LocalStore.append

    def slow(self, batches):
        entered.set()
        stuck.wait(30)
        return append(self, batches)

    monkeypatch.setattr(LocalStore, "append", slow)
    narrow = Feedback(store, log, clock)
    first = narrow.submit([event(1)])
    assert entered.wait(30)
    second = narrow.submit([event(2, item="i2")])
    with pytest.raises(OverloadError, match="faster than the disk"):
        narrow.submit([event(3, item="i3")])
    stuck.set()
    assert [first.result(30), second.result(30)] == [(1, 0), (1, 0)]
    narrow.close()
    with pytest.raises(OverloadError, match="stopping"):
        narrow.submit([event(4)])
