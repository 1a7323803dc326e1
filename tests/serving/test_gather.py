"""Requests that wait together: who is answered with whom, and that nobody can tell."""

import asyncio
import json
import logging
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from headrace.errors import RequestError
from headrace.serving import api
from headrace.serving.api import Api
from headrace.serving.feedback import OverloadError
from headrace.serving.gather import Gather
from headrace.serving.metrics import Metrics
from headrace.serving.wire import Ask, Filters, PastEvent
from tests.serving import shop

WRONG, BROKEN = "wrong", "broken"  # users that cannot be answered, and that a bug lies in wait for
CHEAP = Filters(price_max=9.0)


class Echo:
    """Answers a user's name. Its first pass, of the user "first", ends when it is told to."""

    def __init__(self):
        self.groups, self.entered, self.go = [], threading.Event(), threading.Event()

    def answer_each(self, asks):
        users = [ask.user for ask in asks]
        self.groups.append(users)
        if users == ["first"]:
            self.entered.set()
            assert self.go.wait(30)
        if BROKEN in users:
            raise KeyError("secret")
        return [RequestError("no") if user == WRONG else f"slate of {user}" for user in users]


class Desk:
    """A gather whose thread is held up until ``open`` is called."""

    def __init__(self, most=16):
        self.echo, self.sizes = Echo(), []
        self.thread = ThreadPoolExecutor(1)
        self.gather = Gather(self.echo, self.thread, most, self.sizes.append)
        self.first = self.gather.submit(Ask(user="first"))
        assert self.echo.entered.wait(30)

    def submit(self, *users, **fields):
        return [self.gather.submit(Ask(user=user, **fields)) for user in users]

    def open(self):
        self.echo.go.set()
        self.thread.shutdown()
        return self.echo.groups[1:]


def slates(futures):
    return [future.result(30) for future in futures]


def test_who_comes_to_a_free_thread_is_answered_at_once_and_alone():
    echo, sizes = Echo(), []
    with ThreadPoolExecutor(1) as thread:
        gather = Gather(echo, thread, 16, sizes.append)
        for user in ("a", "b"):
            assert gather.submit(Ask(user=user)).result(30) == f"slate of {user}"
    assert (echo.groups, sizes) == ([["a"], ["b"]], [1, 1])


def test_all_that_wait_are_answered_together_in_their_order():
    desk = Desk()
    waiting = desk.submit("a", "b", "c")
    assert desk.open() == [["a", "b", "c"]]
    assert slates([desk.first, *waiting]) == [f"slate of {u}" for u in ("first", "a", "b", "c")]
    assert desk.sizes == [1, 3]


@pytest.mark.parametrize(("most", "groups"), [(1, [["a"], ["b"], ["c"]]), (2, [["a", "b"], ["c"]])])
def test_no_more_than_may_be(most, groups):
    desk = Desk(most)
    desk.submit("a", "b", "c")
    assert desk.open() == groups


def test_filters_that_show_other_items_wait_for_a_pass_of_their_own():
    """In the order of who has waited longest; what one leaves out does not matter."""
    desk = Desk()
    waiting = desk.submit("a") + desk.submit("b", "c", filters=CHEAP) + desk.submit("d")
    waiting += desk.submit("e", filters=Filters(exclude=["i1"], new_to_user=True))
    assert desk.open() == [["a", "d", "e"], ["b", "c"]]
    assert slates(waiting) == [f"slate of {user}" for user in "abcde"]


def test_a_mistake_is_told_to_who_made_it():
    desk = Desk()
    a, wrong, b = desk.submit("a", WRONG, "b")
    assert desk.open() == [["a", WRONG, "b"]]
    assert slates([a, b]) == ["slate of a", "slate of b"]
    with pytest.raises(RequestError, match="no"):
        wrong.result(30)


def test_a_bug_takes_nobody_else_along(caplog):
    desk = Desk()
    a, broken, b = desk.submit("a", BROKEN, "b")
    with caplog.at_level(logging.ERROR):
        assert desk.open() == [["a", BROKEN, "b"], ["a"], [BROKEN], ["b"]]
    assert slates([a, b]) == ["slate of a", "slate of b"]
    with pytest.raises(KeyError, match="secret"):
        broken.result(30)
    assert "3 requests failed together" in caplog.text


def test_who_goes_away_is_not_computed_and_disturbs_nobody():
    desk = Desk()
    a, gone, b = desk.submit("a", "gone", "b")
    assert gone.cancel()
    assert not desk.first.cancel()  # it has begun
    assert desk.open() == [["a", "b"]]
    assert slates([desk.first, a, b]) == ["slate of first", "slate of a", "slate of b"]
    with pytest.raises(CancelledError):
        gone.result(30)


def test_from_many_threads_everyone_gets_their_own_once():
    desk = Desk(most=7)
    with ThreadPoolExecutor(8) as pool:
        users = [f"u{n}" for n in range(200)]
        sent = list(pool.map(lambda user: desk.submit(user)[0], users))
    groups = desk.open()
    assert slates(sent) == [f"slate of {user}" for user in users]
    assert sorted(user for group in groups for user in group) == sorted(users)
    assert max(len(group) for group in groups) == 7


class Held:
    """A server's handlers around a real service, whose compute thread is held up on demand."""

    def __init__(self, service):
        metrics = Metrics(service.version, service.store)
        self.service, self.metrics = service, metrics
        self.api, self.go = Api(service, metrics), threading.Event()

    async def __aenter__(self):
        await self.api.__aenter__()
        await self.api._warming
        self.api._thread.submit(self.go.wait, 30)
        return self

    async def __aexit__(self, *error):
        self.go.set()
        await self.api.__aexit__(*error)

    async def asking(self, *asks):
        """Tasks of requests that all wait for the compute thread."""
        tasks = [asyncio.create_task(self.api.recommend(ask)) for ask in asks]
        await asyncio.sleep(0)
        return tasks

    def count(self, line):
        """A number of the metrics page."""
        lines = self.metrics.text().decode().splitlines()
        return float(next(x for x in lines if x.startswith(line + " ")).split()[1])


def outline(answer):
    """All of an answer but what models say, which depends on the batch in the last digit."""
    items = [(i["item"], i["category"], i["price"], i["found_by"]) for i in answer["items"]]
    return {**answer, "items": items}


def numbers(answer):
    return [number for item in answer["items"] for number in item["scores"].values()]


def test_slates_are_those_of_requests_alone(log):
    service = shop.service(log)
    now = service.clock.now_ms() + 60_000
    asks = [
        Ask(user="u1", k=3, time_ms=now),
        Ask(history=[PastEvent(item="i7", type="buy")], time_ms=now - 5),
        Ask(user="nobody", explain=True, time_ms=now),
        Ask(user="u4", k=2, time_ms=shop.START_MS + 5 * shop.DAY_MS),
        Ask(user="u1", k=9, filters=Filters(exclude=["i3"]), time_ms=now),
        Ask(time_ms=now, context={"store": "s1"}),
        Ask(user="u2", k=5, filters=CHEAP, time_ms=now),
        Ask(history=[PastEvent(item="i9", type="view")], filters=CHEAP, k=7, time_ms=now),
    ]

    async def ask():
        async with Held(service) as held:
            tasks = await held.asking(*asks)
            held.go.set()
            together = [json.loads((await task).body) for task in tasks]
            assert held.count("headrace_group_count") == 2
            assert held.count("headrace_group_sum") == len(asks)
            assert held.count("headrace_waiting") == 0
            alone = [json.loads((await held.api.recommend(ask)).body) for ask in asks]
        for one, other in zip(together, alone, strict=True):
            assert outline(one) == outline(other)
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-6)

    asyncio.run(ask())


def test_a_mistake_is_told_as_if_it_had_come_alone(log):
    mistakes = [
        (Ask(user="u1", k=99), "^k: 99 is too long"),
        (Ask(context={"shop": "s1"}), "^context.shop: no context"),
        (Ask(filters=Filters(categories=["c7"])), "^filters.categories: no category"),
        (Ask(filters=Filters(categories=["c7"]), k=2), "^filters.categories: no category"),
    ]

    async def ask():
        async with Held(shop.service(log)) as held:
            well = await held.asking(Ask(user="u1"), Ask(user="u2"))
            wrong = await held.asking(*(mistake for mistake, _ in mistakes))
            held.go.set()
            assert [(await task).status_code for task in well] == [200, 200]
            for task, (_, message) in zip(wrong, mistakes, strict=True):
                with pytest.raises(RequestError, match=message):
                    await task

    asyncio.run(ask())


def test_a_caller_who_goes_away_disturbs_nobody(log):
    async def ask():
        async with Held(shop.service(log)) as held:
            a, gone, b = await held.asking(*(Ask(user=f"u{n}") for n in range(3)))
            gone.cancel()
            await asyncio.wait([gone])
            assert held.count("headrace_waiting") == 2
            held.go.set()
            assert [(await task).status_code for task in (a, b)] == [200, 200]
            assert held.count("headrace_group_sum") == 2

    asyncio.run(ask())


def test_what_waits_is_answered_before_it_stops(log):
    async def ask():
        async with Held(shop.service(log)) as held:
            tasks = await held.asking(*(Ask(user=f"u{n}") for n in range(3)))
        return [(await task).status_code for task in tasks]

    assert asyncio.run(ask()) == [200, 200, 200]


def test_too_many_are_refused(log, monkeypatch):
    monkeypatch.setattr(api, "WAITING", 2)

    async def ask():
        async with Held(shop.service(log)) as held:
            first, second, third = await held.asking(*(Ask(user=f"u{n}") for n in range(3)))
            with pytest.raises(OverloadError, match="2 requests wait already"):
                await third
            held.go.set()
            assert [(await task).status_code for task in (first, second)] == [200, 200]

    asyncio.run(ask())


def test_events_sent_before_are_seen_by_a_group(log, tmp_path):
    async def ask():
        async with Held(shop.service(log, tmp_path)) as held:
            event = api.wire.Event(event_id="e1", user="new", item="i20", type="view")
            await held.api.events(event)
            new, old = await held.asking(Ask(user="new"), Ask(user="u1"))
            held.go.set()
            assert b'"user_known":true' in (await new).body
            assert (await old).status_code == 200
            assert held.count("headrace_group_count") == 1

    asyncio.run(ask())
