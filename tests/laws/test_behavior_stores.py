"""Every behaviour store answers as filtering a list of all events would."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.behavior import EVERY_TYPE, MappedLog, RawEvent
from headrace.behavior.stores.local import LocalStore
from headrace.behavior.stores.memory import MemoryStore
from tests.behavior.conftest import NOW, TYPES, small_log

KINDS = ("memory", "local")
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


class Opened:
    """Stores of one kind, each opened afresh and later opened again."""

    def __init__(self, kind, log, tmp_path_factory):
        self.kind, self._log, self._folder = kind, log, tmp_path_factory.mktemp("stores")
        self._number = itertools.count()

    def fresh(self):
        self._path = self._folder / str(next(self._number))

    def open(self, keep=KEEP, log=None):
        log = log or self._log
        if self.kind == "local":
            return LocalStore(LocalStore.Config(map_mb=1), log, self._path, keep)
        return MemoryStore(log)

    @property
    def reader_arguments(self):
        return [self.kind, str(self._log.path), str(self._path)]


@pytest.fixture(scope="module", params=KINDS)
def opened(request, log, tmp_path_factory):
    return Opened(request.param, log, tmp_path_factory)


@settings(max_examples=25)
@given(calls, st.integers(NOW - 6, NOW + 32), st.integers(0, 80))
def test_it_reads_like_one_list_a_user(opened, log, appends, before, n):
    opened.fresh()
    store, brute = opened.open(), BruteForce(log)
    check_equal(store, brute, before, n)
    for batches in appends:
        receipts = store.append(batches)
        told = brute.append(batches)
        assert [r.accepted for r in receipts] == told
        assert [r.accepted + r.duplicates for r in receipts] == [len(b) for b in batches]
        check_equal(store, brute, before, n)
    if opened.kind != "memory":
        store.close()
        store = opened.open()
        check_equal(store, brute, before, n)
    everything = [b for batches in appends for b in batches]
    assert store.append(everything) == [(0, len(b)) for b in everything]
    check_equal(store, brute, before, n)
    store.close()


@settings(max_examples=15)
@given(calls, st.integers(1, 3), st.integers(0, 3))
def test_it_may_forget_only_beyond_the_newest(opened, log, appends, keep, less):
    """As of now, the newest ``keep`` of a key are exact however much has been appended."""
    opened.fresh()
    store, brute = opened.open(keep), BruteForce(log)
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
from tests.laws.test_behavior_stores import reader, rows

store = reader(*sys.argv[1:])
for line in sys.stdin:
    users, before, n = json.loads(line)
    number = np.array([store.user(u) for u in users], np.int64)
    print(json.dumps(rows(store.latest(number, np.full(len(users), before), n, -1))), flush=True)
"""


def reader(kind, log, path):
    """A store as another process opens it."""
    from pathlib import Path

    from headrace.log import Log

    assert kind == "local"
    config = LocalStore.Config()
    return LocalStore(config, Log.open(Path(log)), Path(path), KEEP, writable=False)


def test_other_processes_see_what_was_acknowledged(opened, log):
    if opened.kind == "memory":
        assert not hasattr(opened.open(), "path")  # it is of one process, and says so
        return
    opened.fresh()
    store, brute = opened.open(), BruteForce(log)
    store.append([[RawEvent("first", "n1", "a", "buy", NOW, 1.0)]])
    brute.append([[RawEvent("first", "n1", "a", "buy", NOW, 1.0)]])
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, *opened.reader_arguments],
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
