"""What the service adds to the cascade, and that it adds nothing else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.allocation.policies.fixed import Fixed
from headrace.behavior import MappedLog, RawEvent, Receipt, StoreError
from headrace.behavior.ahead import Ahead
from headrace.errors import RequestError
from headrace.features.build import Asked
from headrace.log.format import NO_GROUP
from headrace.serving.warm import warm_up
from headrace.serving.wire import Ask, Filters, PastEvent
from tests.serving import shop
from tests.serving.shop import DAY_MS, ITEMS, QUOTA


def shown(answer):
    return [item.item for item in answer.items]


def number(item):
    return int(item.removeprefix("i")) + 1


def asked(log, user, time_ms):
    """A logged user's request as evaluation makes it: codes and group of their last visit."""
    row = np.flatnonzero(log.request("user") == log.users["user"].to_list().index(user))[-1]
    return Asked(
        np.array([log.request("user")[row]], np.int64),
        np.array([time_ms]),
        {"store": log.request("store")[row : row + 1]},
        np.array([log.request("group")[row]], np.int64),
    )


@pytest.mark.parametrize("user", ["u0", "u3", "u5"])
def test_scores_equal_those_of_the_cascade_offline(log, service, user):
    answer = service.recommend(user=user, explain=True)
    offline, store = shop.cascade(log), MappedLog(log)
    requests = offline.builder.requests(asked(log, user, answer.time_ms), store)
    trace = offline.run(requests, Fixed.Config(quota=QUOTA).build().plan(requests), store)
    slate = trace.slate
    assert [number(i) for i in shown(answer)] == slate.item_id.values.tolist()
    for at, item in enumerate(answer.items):
        assert item.value == slate.scores["value"][at, 0].item()
        assert item.scores == {
            "retrieval": slate.scores["retrieval"][at, 0].item(),
            "preranking": slate.scores["preranking"][at, 0].item(),
            "ranking": slate.scores["ranking"][at, 1].item(),
            "value": slate.scores["value"][at, 0].item(),
            "p_view": slate.scores["ranking"][at, 0].item(),
            "p_buy": slate.scores["ranking"][at, 1].item(),
        }
        for channel, found in item.found_by.items():
            assert trace.found[channel].item_id.values[found.rank - 1] == number(item.item)
    assert any("own" in item.found_by for item in answer.items)


def test_sequences_that_nobody_reads_are_not_gathered(log, service):
    """Offline, where all are gathered, the scores are the same: see above."""
    requests = service.requests(*service.reader.read([Ask(user="u1")]))
    columns = {name.split(".")[0] for name in requests.features if "." in name}
    assert columns == {"history"}
    everything = service.shelf.cascade.builder.requests(asked(log, "u1", 1), MappedLog(log))
    assert "unread.item" in everything.features


class Remote(MappedLog):
    """A store that takes its time; ``seen`` tells what happened in which order."""

    def __init__(self, log):
        super().__init__(log)
        self.thread, self.seen, self.go = ThreadPoolExecutor(1), [], threading.Event()

    def by_category(self, *asked):
        self.seen.append("begun")
        assert self.go.wait(30)
        return super().by_category(*asked)

    def ahead(self, *asked):
        return Ahead(self, self.thread.submit(self.by_category, *asked), *asked)


def test_a_store_far_away_is_asked_while_others_work(log):
    """The look-up is held up until the pre-ranker is done: in turn, it would never be."""
    near, far = MappedLog(log), Remote(log)
    cascade = shop.cascade(log)

    class Preranker(shop.ByItem):
        def score(self, requests, candidates):
            far.seen.append("preranking")
            far.go.set()
            return super().score(requests, candidates)

    last = log.manifest.last_ms
    requests = cascade.builder.requests(asked(log, "u1", last), near)
    plan = Fixed.Config(quota=QUOTA).build().plan(requests)
    expected = cascade.run(requests, plan, near)
    trace = replace(cascade, preranker=Preranker()).run(requests, plan, far)
    assert sorted(far.seen) == ["begun", "preranking"]
    ranked, wanted = trace.after["ranking"], expected.after["ranking"]
    assert torch.equal(ranked.item_id.values, wanted.item_id.values)
    assert torch.equal(ranked.scores["value"], wanted.scores["value"])
    assert (wanted.features["user_item_count"] > 0).any()
    far.thread.shutdown()


def test_a_batch_answers_as_one_by_one(service):
    asks = [
        Ask(user="u1", k=3),
        Ask(history=[PastEvent(item="i7", type="buy")], filters=Filters(categories=["c1"])),
        Ask(user="nobody", explain=True),
        Ask(history=[PastEvent(item="i9", type="view")], k=7),
        Ask(user="u4", filters=Filters(categories=["c1"]), k=2),
    ]
    now = service.clock.now_ms()
    asks = [ask.model_copy(update={"time_ms": now}) for ask in asks]
    together = service.answer(asks)
    assert together == [service.answer([ask])[0] for ask in asks]
    assert [len(a.items) for a in together] == [3, 4, 4, 7, 2]


def test_items_are_described(service):
    item = service.recommend(user="u0", k=1).items[0]
    n = number(item.item) - 1
    assert (item.name, item.category, item.price) == (f"Item {n}", f"c{n % 3}", 1.0 + n)
    assert item.found_by == {}


@pytest.mark.parametrize("k", [1, 4, 8, 9, 21, 25])
def test_k_raises_what_stands_in_its_way(service, k):
    answer = service.recommend(user="u2", k=k)
    assert len(set(shown(answer))) == k
    assert answer.warnings == []


def test_k_within_the_quotas_changes_no_other(service):
    requests = service.requests(*service.reader.read([Ask(user="u0")]))
    plan = service.plan(requests, torch.tensor([8]))
    assert {n: int(q) for n, q in plan.quota.items()} == {**QUOTA, "reranking": 8}


def test_all_there_is_with_a_warning(service):
    hidden = [f"i{n}" for n in range(ITEMS - 3)]
    answer = service.answer([Ask(user="u0", k=5, filters=Filters(exclude=hidden))])[0]
    assert sorted(shown(answer)) == ["i27", "i28", "i29"]
    assert answer.warnings == ["3 of 5 items: no more were found"]


def test_unknown_users_get_a_slate(service):
    for ask in (Ask(), Ask(user="nobody"), Ask(user="<unknown>"), Ask(history=[])):
        answer = service.answer([ask])[0]
        assert len(answer.items) == 4
        assert not answer.user_known
    assert service.recommend(user="u0").user_known


def test_an_inline_history_counts(service):
    history = [PastEvent(item="i29", type="buy"), PastEvent(item="i28", type="view")]
    ask = Ask(history=history, k=20, explain=True)
    items = {i.item: i for i in service.answer([ask])[0].items}
    assert items["i28"].found_by["own"].rank == 1  # the last one is the newest
    assert items["i29"].found_by["own"].rank == 2
    past = [e.model_copy(update={"time_ms": 50 - i}) for i, e in enumerate(history)]
    items = {i.item: i for i in service.answer([ask.model_copy(update={"history": past})])[0].items}
    assert items["i29"].found_by["own"].rank == 1  # by the times given


def test_an_inline_history_equals_the_same_as_events(log):
    service = shop.service(log)
    now = service.clock.now_ms()
    times = [now - 5_000, now - 3_000, now - 1_000]
    events = [RawEvent(f"e{t}", "n", f"i{t % 7}", "buy", t, 1.0) for t in times]
    service.store.append([events])
    history = [
        PastEvent(item=e.item, type=e.type, time_ms=e.time_ms, value=e.value) for e in events
    ]
    a, b = service.answer([Ask(user="n", time_ms=now), Ask(history=history, time_ms=now)])
    assert a.items == b.items
    assert (a.user_known, b.user_known) == (True, False)


def test_unknown_items_of_a_history_are_left_out(service):
    history = [PastEvent(item="gone", type="buy"), PastEvent(item="i5", type="buy")]
    answer = service.answer([Ask(history=history)])[0]
    assert answer.warnings == ["history: 1 items unknown and left out: 'gone'"]
    answer = service.answer([Ask(history=history[:1])])[0]
    assert len(answer.items) == 4


def test_an_event_is_visible_to_the_next_request(log):
    service = shop.service(log)
    ahead = service.clock.now_ms() + DAY_MS // 2
    service.store.append([[RawEvent("e1", "u1", "i29", "buy", ahead, 1.0)]])
    answer = service.recommend(user="u1", k=25, explain=True)
    assert answer.time_ms == ahead + 1
    assert {i.item: i for i in answer.items}["i29"].found_by["own"].rank == 1
    before = service.recommend(user="u1", k=25, explain=True, time_ms=ahead)
    assert "i29" not in {i.item for i in before.items if "own" in i.found_by}


def test_new_to_user_leaves_out_what_was_bought(log, service):
    store = MappedLog(log)
    for user in ("u0", "u4"):
        row = log.users["user"].to_list().index(user)
        had = store.latest(np.array([row]), np.array([2**60]), 10**6, 1 << TYPE["buy"]).item
        ask = Ask(user=user, k=10, filters=Filters(new_to_user=True))
        items = {number(i) for i in shown(service.answer([ask])[0])}
        assert len(items) == 10
        assert not items & set(had.tolist())
    history = [PastEvent(item="i0", type="buy"), PastEvent(item="i1", type="view")]
    ask = Ask(history=history, filters=Filters(new_to_user=True))
    items = shown(service.answer([ask])[0])
    assert "i0" not in items
    assert "i1" in items  # seen, not bought


TYPE = {name: code for code, name in enumerate(shop.TYPES)}


def test_filters_widen_the_search_until_enough_is_found(service):
    for filters in (
        Filters(categories=["c2"]),
        Filters(not_categories=["c0", "c1"]),
        Filters(categories=["c2", "c1"], not_categories=["c1"]),
    ):
        items = shown(service.answer([Ask(user="u0", k=10, filters=filters)])[0])
        assert sorted(items) == sorted(f"i{n}" for n in range(2, ITEMS, 3))
    cheap = service.answer([Ask(k=9, filters=Filters(price_max=4.0))])[0]
    assert sorted(shown(cheap)) == ["i0", "i1", "i2", "i3"]
    assert cheap.warnings == ["4 of 9 items: no more were found"]


def test_only_short_rows_are_searched_again(log):
    service = shop.service(log)
    sizes = []
    service.add_observer(lambda trace: sizes.append(len(trace.slate.item_id)))
    hidden = [f"i{n}" for n in range(ITEMS - 2)]
    service.answer([Ask(user="u0"), Ask(user="u1", filters=Filters(exclude=hidden)), Ask()])
    assert sizes == [3, 1, 1]


def test_a_warm_up_keeps_no_event(log, tmp_path, monkeypatch):
    service = shop.service(log, tmp_path)
    append, told = service.store.append, []
    monkeypatch.setattr(service.store, "append", lambda batches: told.extend(append(batches)))
    warm_up(service)
    assert told == [Receipt(accepted=0, duplicates=1)]
    assert service.store.num_events == 0

    def broken(_):
        raise StoreError("disk full")

    monkeypatch.setattr(service.store, "append", broken)
    warm_up(service)
    service.close()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (Ask(k=26), "k: 26 is too long a slate; at most 25"),
        (Ask(user="u0", history=[PastEvent(item="i0")]), "history: for anonymous visitors only"),
        (Ask(history=[PastEvent(item="i0", type="buy")] * 6), "history: 6 events; at most 5"),
        (Ask(history=[PastEvent(item="i0")]), "history.type: needed, one of view, buy"),
        (Ask(history=[PastEvent(item="i0", type="bye")]), "did you mean 'buy'"),
        (Ask(context={"stor": "s1"}), "context.stor: no context column.*did you mean 'store'"),
        (Ask(filters=Filters(categories=["c9"])), "filters.categories: no category 'c9'"),
        (Ask(filters=Filters(not_categories=["xyz"])), "no category 'xyz'; see the categories"),
        (Ask(time_ms=2**50), "time_ms: .* lies more than a day ahead"),
        (Ask(history=[PastEvent(item="i0", type="buy", time_ms=2**50)]), "more than a day ahead"),
    ],
)
def test_what_cannot_be_answered(service, ask, message):
    with pytest.raises(RequestError, match=message):
        service.answer([ask])
    with pytest.raises(RequestError, match=r"^requests\[1\]\."):
        service.answer([Ask(), ask])


def test_context_is_completed_and_encoded(service, log):
    warnings = []

    def read(ask):
        return service.reader.read([ask])[0][0]

    store = {name: code for code, name in enumerate(log.vocab["store"])}
    newest = {"s0": 2, "s1": 5}  # the third week's groups, in the order of their keys
    for name in ("s0", "s1"):
        situation = read(Ask(context={"store": name})).situation
        assert situation.codes == (store[name],)
        assert situation.group == newest[name]
    assert read(Ask(user="u1")).situation == read(Ask(context={"store": "s1"})).situation
    assert read(Ask(user="u1", context={"store": "s0"})).situation.codes == (store["s0"],)
    for ask in (Ask(), Ask(user="nobody")):
        assert (read(ask).situation.codes, read(ask).situation.group) == ((0,), NO_GROUP)
    reading = read(Ask(context={"store": 17}))
    assert reading.situation.codes == (0,)
    assert reading.warnings == ["context.store: '17' is unknown to the log; taken as unknown"]
    assert warnings == []


def test_lists_shown_to_single_requests_are_no_groups(tmp_path):
    service = shop.service(shop.write(tmp_path, groups="request"))
    readings, _ = service.reader.read([Ask(user="u1")])
    assert readings[0].situation.group == NO_GROUP


def test_clocks(log):
    last = log.manifest.last_ms
    service = shop.service(log)
    assert last < service.clock.now_ms() < last + 60_000
    service.store.append([[RawEvent("e1", "u1", "i29", "buy", last + 5_000, 1.0)]])
    assert shop.service(log, clock="wall").clock.now_ms() > last + 365 * DAY_MS
