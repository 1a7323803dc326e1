"""Every behaviour store answers as filtering a list of all events would."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.behavior import EVERY_TYPE, MappedLog, RawEvent
from headrace.behavior.stores import local
from headrace.behavior.stores.local import LocalStore
from headrace.behavior.stores.memory import MemoryStore
from headrace.behavior.stores.redis import RedisStore
from tests.behavior import resp
from tests.behavior.conftest import NOW, TYPES, small_log

SHARED = ("local", "redis", "redis_fake")  # by several processes, and there again when reopened
KINDS = ("memory", *SHARED)
KEEP = 500  # more than a test appends: nothing is forgotten
FIELDS = ("time_ms", "item", "type", "category", "value")
USERS = ["u1", "n2", "u2", "u3", "n1", "u1", "nobody"]

raw_events = st.builds(
    RawEvent,
    st.integers(0, 40).map(lambda n: f"e{n}"),
    st.sampled_from(["u1", "u2", "n1", "n2"]),
    st.sampled_from("abcdef"),
    st.sampled_from(TYPES),
    st.integers(NOW - 5, NOW + 30),
    st.sampled_from([0.0, 0.5]),
)
calls = st.lists(st.lists(st.lists(raw_events, max_size=6), max_size=3), max_size=4)


def rows(events):
    flat = list(zip(*(getattr(events, f).tolist() for f in FIELDS), strict=True))
    return [flat[a:z] for a, z in itertools.pairwise(events.offsets.tolist())]


class BruteForce:
    """A sorted list of events by raw user."""

    def __init__(self, log):
        self._log, self._ids, self._of = log, set(), {}
        for number, raw in enumerate(log.users["user"]):
            found = MappedLog(log).latest(np.array([number]), np.array([2**60]), 2**60, EVERY_TYPE)
            self._of[raw] = rows(found)[0]

    def append(self, batches):
        """How many events of each batch are new."""
        called = set()  # within one call, an id counts once even if its event was a repeat
        return [sum([self._add(event, called) for event in batch]) for batch in batches]

    def _add(self, e, called):
        item = self._log.items["item"].to_list().index(e.item)
        event = (e.time_ms, item, self._log.type_code(e.type))
        of_user = self._of.setdefault(e.user, [])
        fresh = e.event_id not in self._ids | called
        called.add(e.event_id)
        if not fresh or any(old[:3] == event for old in of_user):
            return False
        self._ids.add(e.event_id)
        of_user.append((*event, int(self._log.item_category[item]), e.value))
        of_user.sort()
        return True

    def latest(self, raw, before, n, mask):
        found = [e for e in self._of.get(raw, []) if e[0] < before and mask >> e[2] & 1]
        return found[max(0, len(found) - n) :]

    def by_category(self, raw, category, before, n):
        found = [e for e in self._of.get(raw, []) if e[0] < before and e[3] == category]
        return found[max(0, len(found) - n) :]


def check_equal(store, brute, before, n, masks=(EVERY_TYPE, 1, 2)):
    number = np.array([store.user(u) for u in USERS], np.int64)
    for mask in masks:
        found = store.latest(number, np.full(len(USERS), before), n, mask)
        assert rows(found) == [brute.latest(u, before, n, mask) for u in USERS]
    pairs = [(u, c) for u in range(len(USERS)) for c in range(5)]
    user_P, category_P = (np.array(column) for column in zip(*pairs, strict=True))
    found = store.by_category(number[user_P], category_P, np.full(len(pairs), before), n)
    assert rows(found) == [brute.by_category(USERS[u], c, before, n) for u, c in pairs]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return small_log(tmp_path_factory.mktemp("log"))


def open_store(kind, log, place, keep=KEEP, *, writable=True):
    """A store at a place: a folder, or a Redis and the prefix of its keys."""
    if kind == "memory":
        return MemoryStore(log)
    if kind == "local":
        config = LocalStore.Config(map_mb=1)
        return config.build(log, Path(place), keep, writable=writable)
    url, prefix = place.split("#")
    config = RedisStore.Config(url=url, prefix=prefix, deadline_ms=5_000)
    return config.build(log, Path(), keep, writable=writable)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(local, "FRESH", 2)  # so that a few events reach the tail


@pytest.fixture(scope="module")
def places(kind, tmp_path_factory):
    """Places where nothing has been kept so far."""
    folder, numbers = tmp_path_factory.mktemp("stores"), itertools.count()
    if not kind.startswith("redis"):
        yield (str(folder / str(number)) for number in numbers)
    elif kind == "redis":
        with resp.any_redis() as url:
            yield (f"{url}#{number}" for number in numbers)
    else:
        with resp.fake() as server:
            yield (f"{server.url}#{number}" for number in numbers)


@settings(max_examples=25)
@given(calls, st.integers(NOW - 6, NOW + 32), st.integers(0, 80))
def test_it_reads_like_one_list_a_user(kind, places, log, appends, before, n):
    place = next(places)
    store, brute = open_store(kind, log, place), BruteForce(log)
    check_equal(store, brute, before, n)
    for batches in appends:
        receipts = store.append(batches)
        told = brute.append(batches)
        if not kind.startswith("redis"):  # which knows an event by its id alone until it is read
            assert [r.accepted for r in receipts] == told
        assert [r.accepted + r.duplicates for r in receipts] == [len(b) for b in batches]
        check_equal(store, brute, before, n)
    if kind in SHARED:
        store.close()
        store = open_store(kind, log, place)
        check_equal(store, brute, before, n)
    everything = [b for batches in appends for b in batches]
    again = store.append(everything)
    if not kind.startswith("redis"):
        assert again == [(0, len(b)) for b in everything]
    check_equal(store, brute, before, n)
    store.close()


@settings(max_examples=15)
@given(calls, st.integers(1, 3), st.integers(0, 3))
def test_it_may_forget_only_beyond_the_newest(kind, places, log, appends, keep, less):
    """As of now, the newest ``keep`` of a key are exact however much has been appended."""
    store, brute = open_store(kind, log, next(places), keep), BruteForce(log)
    for batches in appends:
        store.append(batches)
        brute.append(batches)
        check_equal(store, brute, NOW + 100, max(0, keep - less), masks=(EVERY_TYPE,))
    store.close()


READER = """
import json, sys
from pathlib import Path
import numpy as np
from headrace.log import Log
from tests.laws.test_behavior_stores import open_store, rows

kind, log, place = sys.argv[1:]
store = open_store(kind, Log.open(Path(log)), place, writable=False)
for line in sys.stdin:
    users, before, n = json.loads(line)
    number = np.array([store.user(u) for u in users], np.int64)
    print(json.dumps(rows(store.latest(number, np.full(len(users), before), n, -1))), flush=True)
"""


@pytest.mark.parametrize("kind", SHARED, indirect=True, scope="module")
def test_other_processes_see_what_was_acknowledged(kind, places, log):
    place = next(places)
    store, brute = open_store(kind, log, place), BruteForce(log)
    store.append([[RawEvent("first", "n1", "a", "buy", NOW, 1.0)]])
    brute.append([[RawEvent("first", "n1", "a", "buy", NOW, 1.0)]])
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, kind, str(log.path), place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    rng = np.random.default_rng(1)
    for number in range(15):
        batch = [
            RawEvent(f"{number}.{i}", f"n{i % 3}", "abcdef"[i % 6], TYPES[i % 2], NOW + int(t), 0.5)
            for i, t in enumerate(rng.integers(0, 1000, 40))
        ]
        store.append([batch])
        brute.append([batch])
        for process in readers:
            process.stdin.write(json.dumps([["n1", "u1", "n2"], NOW + 700, 100]) + "\n")
            process.stdin.flush()
            found = [[tuple(e) for e in row] for row in json.loads(process.stdout.readline())]
            assert found == [brute.latest(u, NOW + 700, 100, -1) for u in ("n1", "u1", "n2")]
    for process in readers:
        process.communicate()
    store.close()


def test_a_snapshot_stays_as_it_was(kind, places, log):
    store = open_store(kind, log, next(places))
    store.append([[RawEvent("1", "u1", "a", "view", NOW + 40, 0.5)]])
    users = np.array([store.user("u1"), store.user("nobody"), store.user("u1")])
    before = np.full(len(users), NOW + 100)
    snapshot = store.snapshot(users)
    then = rows(snapshot.latest(users, before, 9, EVERY_TYPE))
    store.append([[RawEvent("2", "u1", "b", "view", NOW + 50, 0.5)]])
    assert rows(snapshot.latest(users, before, 9, EVERY_TYPE)) == then
    assert [len(row) for row in rows(store.latest(users, before, 99, EVERY_TYPE))] == [
        len(row) + 1 if row else 0 for row in rows(snapshot.latest(users, before, 99, EVERY_TYPE))
    ]
    store.close()
