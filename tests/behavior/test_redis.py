"""The Redis store where Redis is away, slow, full, or somebody else's."""

import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from headrace.behavior import EVERY_TYPE, MappedLog, StoreError
from headrace.behavior.stores import _redis
from headrace.behavior.stores import redis as module
from headrace.behavior.stores.redis import RedisStore
from headrace.errors import ConfigError, DataError
from headrace.log import RawLog, write_log
from tests.behavior import resp
from tests.behavior.conftest import NOW, event, raw_log
from tests.laws.test_behavior_stores import KEEP, BruteForce, check_equal, rows

EVER = np.array([2**60])


@pytest.fixture
def server():
    with resp.fake() as server:
        yield server


def opened(log, server, keep=KEEP, **settings):
    config = RedisStore.Config(url=server.url, **{"retry_ms": 0, **settings})
    return config.build(log, Path(), keep, writable=True)


def history(store, raw):
    return rows(store.latest(np.array([store.user(raw)]), EVER, 10**9, EVERY_TYPE))[0]


def alone(log, user):
    """What the log says."""
    return rows(MappedLog(log).latest(np.array([user]), EVER, 10**9, EVERY_TYPE))[0]


def test_one_round_trip_a_look_up(log, server):
    store = opened(log, server)
    store.append([[event(1), event(2, "u2", "c")]])
    client_calls = []
    trip = _redis._trip
    _redis._trip = lambda *a, **k: client_calls.append(len(a[1])) or trip(*a, **k)
    try:
        users, categories = np.repeat([1, 2, 3], 4), np.tile(np.arange(4), 3)
        store.by_category(users, categories, np.full(12, 2**60), 100)
        store.latest(np.array([1, 2, 3, 0, 1 << 40]), np.full(5, 2**60), 100, EVERY_TYPE)
    finally:
        _redis._trip = trip
    assert client_calls == [12, 3]  # nobody is not asked for
    store.close()


def test_the_newest_time_never_falls_and_costs_no_trip(log, server, monkeypatch):
    store = opened(log, server, retry_ms=600_000)
    store.append([[event(1, time_ms=NOW + 1_000)]])
    server.fail = True
    assert store.last_ms < NOW + 1_000  # now the log answers alone, for ten minutes
    server.fail = False
    trips, trip = [], _redis._trip
    monkeypatch.setattr(_redis, "_trip", lambda *a, **k: trips.append(a) or trip(*a, **k))
    store.append([[event(2, time_ms=NOW + 500)]])
    assert len(trips) == 2
    other = opened(log, server)
    assert other.last_ms == NOW + 1_000
    other.close()
    store.close()


def test_a_look_up_ahead_answers_any_of_its_keys(log, server):
    store = opened(log, server, look_ahead=True)
    store.append([[event(1), event(2, "u2", "c")]])
    users, categories = np.repeat([1, 2, 3], 4), np.tile(np.arange(4), 3)
    before = np.full(12, 2**60)
    snapshot, some = store.snapshot(users), np.array([7, 0, 6, 9])
    expected = rows(store.by_category(users[some], categories[some], before[some], 100))
    more = rows(store.by_category(users, categories, before, 3))
    ahead = snapshot.ahead(users, categories, before, 100)
    found = ahead.by_category(users[some], categories[some], before[some], 100)
    assert rows(found) == expected
    assert rows(ahead.by_category(users, categories, before, 3)) == more  # is asked anew
    elsewhere = np.array([1]), np.array([2]), np.array([NOW])
    assert rows(ahead.by_category(*elsewhere, 100)) == rows(store.by_category(*elsewhere, 100))
    latest = np.array([1]), EVER, 10, EVERY_TYPE
    assert rows(ahead.latest(*latest)) == rows(snapshot.latest(*latest))
    store.close()


def test_a_failed_look_up_ahead_leaves_the_log(log, server):
    store = opened(log, server, look_ahead=True)
    store.append([[event(1)]])
    asked = np.array([1]), np.array([1]), EVER, 100
    server.fail = True
    found = store.snapshot(np.array([1])).ahead(*asked).by_category(*asked)
    assert rows(found) == rows(MappedLog(log).by_category(*asked))
    assert store.degraded["connection"] > 0
    store.close()


def test_keys_carry_the_user_as_hash_tag(log, server):
    store = opened(log, server, prefix="shop")
    store.append([[event(1, "n1", "a"), event(2, "n1", "c")]])
    key = store.user("n1") - (1 << 62)
    category = log.item_category
    names = {
        f"shop:{{{key:x}}}:{w}".encode() for w in ("u", "i", f"c{category[1]}", f"c{category[3]}")
    }
    assert names == {name for name in server.strings if b"{" in name}
    assert len(server.strings[f"shop:{{{key:x}}}:u".encode()]) == 2 * 24
    store.close()


@pytest.mark.parametrize(("trouble", "reason"), [("slow", "timeout"), ("dropped", "connection")])
def test_the_log_answers_alone(log, server, trouble, reason, caplog):
    store = opened(log, server, deadline_ms=30, write_deadline_ms=60)
    store.append([[event(1, time_ms=NOW + 50), event(2, "n1")]])
    whole, new = history(store, "u1"), store.user("n1")
    assert len(whole) == len(alone(log, 1)) + 1
    server.delay_s, server.fail = (0.5, False) if trouble == "slow" else (0.0, True)
    start = time.perf_counter()
    assert history(store, "u1") == alone(log, 1)
    found = store.by_category(np.array([1, new]), np.array([1, 1]), np.full(2, 2**60), 9)
    assert rows(found)[1] == []
    assert time.perf_counter() - start < 0.4
    assert store.user("n1") == 0
    assert (store.num_events, store.last_ms) == (0, log.manifest.last_ms)
    assert store.degraded == {reason: 5}
    assert "the log answers alone" in caplog.text
    with pytest.raises(StoreError, match=r"redis 127.0.0.1:\d+: does not answer \(.*send it again"):
        store.append([[event(3, time_ms=NOW + 60)]])
    with pytest.raises(StoreError, match=r"redis 127.0.0.1:\d+: does not answer \("):
        store.stats()
    server.delay_s, server.fail = 0.0, False
    assert history(store, "u1")[: len(whole)] == whole
    store.append([[event(3, time_ms=NOW + 60)]])  # whether it was kept or not
    assert [e[0] for e in history(store, "u1")[-2:]] == [NOW + 50, NOW + 60]
    store.close()


def test_after_a_failure_it_is_left_alone_for_a_while(log, server):
    store = opened(log, server, retry_ms=60_000)
    server.fail = True
    history(store, "u1")
    server.fail = False
    history(store, "u1")
    assert store.degraded == {"connection": 1, "resting": 1}
    store.close()


def test_nobody_there_at_the_start(log):
    with resp.fake() as server:
        url = server.url
    store = RedisStore.Config(url=url, retry_ms=0).build(log, Path(), KEEP, writable=True)
    assert history(store, "u1") == alone(log, 1)
    with pytest.raises(StoreError, match="does not answer"):
        store.append([[event(1)]])
    store.close()


def test_strings_are_cut_above_twice_their_cap(log, server, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 4)
    store, brute = opened(log, server, keep=5, user_events=10), BruteForce(log)
    for n in range(60):  # every third comes late
        batch = [event(n, "n1", "ac"[n % 2], "view", NOW + 100 + n - 50 * (n % 3 == 0))]
        store.append([batch])
        brute.append([batch])
        check_equal(store, brute, NOW + 1000, 5, masks=(EVERY_TYPE,))
    sizes = {
        name.rpartition(b":")[2][:1]: len(s) for name, s in server.strings.items() if b"{" in name
    }
    assert sizes[b"u"] <= 20 * 24
    assert sizes[b"c"] <= 10 * 24
    assert sizes[b"i"] <= 8 * 8
    assert store.append([[event(59, "n1", time_ms=NOW + 900)]]) == [(0, 1)]
    assert store.export()[0].height == store.num_events == 60
    store.close()


def test_a_string_that_others_write_is_not_cut(log, server, monkeypatch):
    store = opened(log, server, keep=1)
    other = opened(log, server, keep=1000)
    get = resp.FakeRedis.do_get

    def meanwhile(self, key):
        found = get(self, key)
        if b"{" in key:
            self.do_append(key, found[:24])
        return found

    monkeypatch.setattr(resp.FakeRedis, "do_get", meanwhile)
    batch = [event(n, "n1", "a", "view", NOW + n) for n in range(5)]
    store.append([batch])
    assert len(history(other, "n1")) == 5
    store.close()
    other.close()


def test_the_log_can_be_loaded(log, server):
    """Then somebody with none of the log's events sees them."""
    store = opened(log, server)
    store.append([[event(1, time_ms=NOW + 50)]])
    assert store.load() == 3 + len(log.by_category("key_category"))
    brute = BruteForce(log)
    brute.append([[event(1, time_ms=NOW + 50)]])
    check_equal(store, brute, NOW + 100, 50)
    monkey = rows(store._tails([store._of_user(1, "u")]))[0]
    assert monkey == brute.latest("u1", NOW + 100, 10**6, EVERY_TYPE)
    store.close()


def test_what_became_part_of_the_log_is_released(log, server, tmp_path):
    store = opened(log, server)
    store.append([[event(1, "n1", time_ms=NOW + 50)]])
    events, mark = store.export()
    store.append([[event(2, "n1", time_ms=NOW + 60)]])
    folder = tmp_path / "log"
    write_log(folder, raw_log(), "test")
    grown = write_log(folder, RawLog(events=events.drop("event_id")), "second", append=True)
    before = history(store, "n1")
    store.release(mark, grown)
    assert store.user("n1") == 4
    assert history(store, "n1") == before
    assert store.export()[0]["event_id"].to_list() == ["e2"]
    assert store.num_events == 1
    old = opened(log, server)  # a server that has not been restarted
    assert history(old, "n1") == before
    assert store.stats()["journal_calls"] == 1
    old.close()
    store.close()


def test_what_is_not_ours(log, server, tmp_path):
    opened(log, server).close()
    other = write_log(tmp_path, raw_log(), "another")
    with pytest.raises(
        DataError, match="headrace:meta holds events of another log; choose another"
    ):
        opened(other, server)
    opened(other, server, prefix="other").close()
    server.strings[b"headrace:meta"] = orjson.dumps({"format": 2, "sources": []})
    with pytest.raises(DataError, match="in store format 2, this program has 1; choose another"):
        opened(log, server)


def test_an_url_that_is_none(log):
    with pytest.raises(ConfigError, match=r"serving.store.url: .*redis://"):
        RedisStore.Config(url="localhost").build(log, Path(), 1, writable=True)


def test_items_of_a_newer_log_are_not_shown(log, server, tmp_path):
    folder = tmp_path / "log"
    raw = raw_log()
    write_log(folder, raw, "test")
    later = RawLog(events=raw.events.head(1).with_columns(item=raw.events["item"].head(1) + "2"))
    newer = opened(write_log(folder, later, "later", append=True), server)
    item = newer._intake.log.items["item"][-1]
    newer.append([[event(1, "n1", item), event(2, "n1", "a", time_ms=NOW + 9)]])
    older = opened(log, server)
    assert [len(history(s, "n1")) for s in (newer, older)] == [2, 1]
    newer.close()
    older.close()
