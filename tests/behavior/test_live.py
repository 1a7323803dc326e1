"""The live store against brute force, and against kill -9."""

import itertools
import signal
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.behavior import (
    EVERY_TYPE,
    LiveStore,
    MappedLog,
    Overlay,
    RawEvent,
    Tail,
    export,
    live,
)
from headrace.behavior.journal import Journal, JournalError
from headrace.log import Log, RawLog, write_log
from tests.behavior.conftest import TYPES, raw_log

NOW = 1_000_000_000_000  # events of the log are in the 20 ms from here
CATEGORY = dict(zip("abcdef", "xxyyzz", strict=True))
FIELDS = ("item", "category", "type", "time_ms", "value")


def event(number, user="u1", item="a", kind="buy", time_ms=NOW + 5, value=1.0):
    return RawEvent(f"e{number}", user, item, kind, time_ms, value)


raw_events = st.builds(
    RawEvent,
    st.integers(0, 40).map(lambda n: f"e{n}"),
    st.sampled_from(["u1", "u2", "n1", "n2"]),
    st.sampled_from("abcdef"),
    st.sampled_from(TYPES),
    st.integers(NOW - 5, NOW + 30),
    st.sampled_from([0.0, 0.5]),
)


def rows(events):
    columns = [getattr(events, f).tolist() for f in FIELDS]
    flat = list(zip(*columns, strict=True))
    ends = events.offsets.tolist()
    return [flat[a:z] for a, z in itertools.pairwise(ends)]


class BruteForce:
    """Lists of events by raw user; first come first in order at equal times."""

    def __init__(self, log):
        self._log, self._ids, self._of = log, set(), {}
        everything = MappedLog(log)
        for number, raw in enumerate(log.users["user"]):
            found = everything.latest(np.array([number]), np.array([2**60]), 2**60, EVERY_TYPE)
            self._of[raw] = rows(found)[0]

    def append(self, batches):
        called = set()  # within one call, an id counts once even if its event was a repeat
        return [self._append_batch(batch, called) for batch in batches]

    def _append_batch(self, events, called):
        accepted = 0
        for e in events:
            item = self._log.items["item"].to_list().index(e.item)
            category = int(self._log.item_category[item])
            kind = self._log.type_code(e.type)
            of_user = self._of.setdefault(e.user, [])
            same = any((o[0], o[2], o[3]) == (item, kind, e.time_ms) for o in of_user)
            fresh = e.event_id not in self._ids | called
            called.add(e.event_id)
            if fresh and not same:
                self._ids.add(e.event_id)
                of_user.append((item, category, kind, e.time_ms, e.value))
                of_user.sort(key=lambda o: o[3])
                accepted += 1
        return accepted

    def latest(self, raw, before, n, mask):
        found = [o for o in self._of.get(raw, []) if o[3] < before and mask >> o[2] & 1]
        return found[max(0, len(found) - n) :]

    def by_category(self, raw, category, before, n):
        found = [o for o in self._of.get(raw, []) if o[3] < before and o[1] == category]
        return found[max(0, len(found) - n) :]


def check_equal(store, brute, users, before, n):
    number = np.array([store.user(u) for u in users], np.int64)
    before_B = np.full(len(users), before)
    for mask in (EVERY_TYPE, 1, 2):
        found = rows(store.latest(number, before_B, n, mask))
        assert found == [brute.latest(u, before, n, mask) for u in users]
    for category in range(5):
        found = rows(store.by_category(number, np.full(len(users), category), before_B, n))
        assert found == [brute.by_category(u, category, before, n) for u in users]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.lists(raw_events, max_size=6), max_size=3), max_size=4),
    st.integers(NOW - 6, NOW + 32),
    st.integers(0, 80),
)
def test_it_reads_like_one_list_a_user(log, tmp_path_factory, appends, before, n):
    path = tmp_path_factory.mktemp("journal") / "events.journal"
    store, brute = LiveStore(log, Journal(path, live.KIND)), BruteForce(log)
    users = ["u1", "n2", "u2", "u3", "n1", "u1"]
    for batches in appends:
        receipts = store.append(batches)
        assert [r.accepted for r in receipts] == brute.append(batches)
        assert [r.accepted + r.duplicates for r in receipts] == [len(b) for b in batches]
        check_equal(store, brute, users, before, n)
    store.close()
    again = LiveStore(log, Journal(path, live.KIND))
    check_equal(again, brute, users, before, n)
    assert again.append([b for batches in appends for b in batches]) == [
        (0, len(b)) for batches in appends for b in batches
    ]
    again.close()


def test_new_users_are_numbered_after_the_log(log):
    store = LiveStore(log)
    assert store.user("n1") == 0
    store.append([[event(1, "n1"), event(2, "n2"), event(3, "n1", "b")]])
    assert [store.user(u) for u in ("u1", "n1", "n2", "n3")] == [1, 4, 5, 0]
    assert store.newest_ms(4) == NOW + 5
    assert store.newest_ms(0) == -1
    assert store.num_events == 3


def test_the_oldest_event_ids_are_forgotten(log, monkeypatch):
    monkeypatch.setattr(live, "REMEMBERED", 2)
    store = LiveStore(log)
    store.append([[event(i, time_ms=NOW + 100 + i) for i in range(3)]])
    later = [event(0, time_ms=NOW + 200), event(2, time_ms=NOW + 201)]
    assert store.append([later]) == [(1, 1)]  # 0 is forgotten, 2 is not
    assert store.append([[event(7, time_ms=NOW + 100)]]) == [
        (0, 1)
    ]  # said before, if by another id


def test_more_ties_than_one_look_finds(log):
    """Many events at one time: whether one is there already is still known exactly."""
    store = LiveStore(log)
    ties = [event(i, "n1", "abcdef"[i % 6], TYPES[i // 6], NOW) for i in range(12)]
    crowd = [event(100 + i, "n1", "a", "view", NOW - 1 - i) for i in range(50)]
    assert store.append([ties, crowd]) == [(12, 0), (50, 0)]
    again = [e._replace(event_id=f"again {e.event_id}") for e in ties]
    assert store.append([again]) == [(0, 12)]


def test_a_refused_write_changes_nothing(log, tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j", live.KIND)
    store = LiveStore(log, journal)
    size = store.journal_bytes

    def full(record):
        raise JournalError("disk full")

    with monkeypatch.context() as m:
        m.setattr(Journal, "append", lambda self, record: full(record))
        with pytest.raises(JournalError):
            store.append([[event(1, "n1")]])
    assert store.user("n1") == 0
    assert store.num_events == 0
    assert store.append([[event(1, "n1")]]) == [(1, 0)]
    assert store.journal_bytes > size
    store.close()


def test_a_grown_log_takes_over(log, tmp_path):
    """What was exported and ingested meanwhile counts once, and new users get their rows."""
    path = tmp_path / "events.journal"
    store = LiveStore(log, Journal(path, live.KIND))
    store.append([[event(1, "n1", "a", "buy", NOW + 50), event(2, "u1", "b", "view", NOW + 51)]])
    store.close()
    exported = export(path)
    assert exported.to_dicts()[0] == {
        "event_id": "e1",
        "user": "n1",
        "item": "a",
        "type": "buy",
        "time_ms": NOW + 50,
        "value": 1.0,
    }
    folder = tmp_path / "log"
    write_log(folder, raw_log(), "first")
    days = RawLog(events=exported.drop("event_id"))
    grown = write_log(folder, days, "second", append=True)
    assert grown.manifest.num_events == log.manifest.num_events + 2
    again = LiveStore(grown, Journal(path, live.KIND))
    assert again.num_events == 0
    assert again.user("n1") == 4
    assert again.append([[event(9, "n2", "a", "buy", NOW + 60)]]) == [(1, 0)]
    assert again.user("n2") == 5
    again.close()
    assert export(tmp_path / "none").height == 0


def test_events_of_another_log_are_left_out(log, tmp_path, caplog):
    journal = Journal(tmp_path / "j", live.KIND)
    journal.append(
        [tuple(e) for e in (event(1, item="gone"), event(2, kind="share"), event(3, "n1"))]
    )
    journal.close()
    store = LiveStore(log, Journal(tmp_path / "j", live.KIND))
    assert store.num_events == 1
    assert "2 journal events name items or types unknown" in caplog.text
    store.close()


def test_an_overlay_answers_for_its_users_only(log):
    base = MappedLog(log)
    ends, visitor = np.array([2**60]), np.array([1 << 40])
    tail = Tail.of(*(np.array(c) for c in ([2, 1], [1, 1], [0, 1], [NOW + 9, NOW], [0.5, 0.25])))
    store = Overlay(base, {int(visitor[0]): tail})
    assert rows(store.latest(visitor, ends, 5, EVERY_TYPE)) == [
        [(1, 1, 1, NOW, 0.25), (2, 1, 0, NOW + 9, 0.5)]
    ]
    assert rows(store.by_category(visitor, np.array([1]), np.array([NOW + 9]), 5)) == [
        [(1, 1, 1, NOW, 0.25)]
    ]
    known = np.array([1])
    assert rows(store.latest(known, ends, 9, EVERY_TYPE)) == rows(
        base.latest(known, ends, 9, EVERY_TYPE)
    )


def test_reading_while_it_grows(log):
    """Readers see every acknowledged event, in order, while a writer appends."""
    store = LiveStore(log)
    done, problems = threading.Event(), []

    def read():
        seen = 0
        while not done.is_set() or seen < 300:
            acknowledged = store.num_events
            found = store.latest(np.array([4]), np.array([2**60]), 10**6, EVERY_TYPE)
            if len(found) < acknowledged or np.any(np.diff(found.time_ms) < 0):
                problems.append((len(found), acknowledged))
            seen = len(found)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(300):
        store.append([[event(i, "n1", "abcdef"[i % 6], "view", NOW + i * 7 % 300)]])
    done.set()
    reader.join()
    assert problems == []


WRITER = """
import sys
from pathlib import Path
from headrace.behavior import LiveStore, RawEvent, live
from headrace.behavior.journal import Journal
from headrace.log import Log

store = LiveStore(Log.open(Path(sys.argv[1])), Journal(Path(sys.argv[2]), live.KIND))
number = 0
while True:
    batch = [RawEvent(f"e{number + i}", "n1", "a", "buy", number + i, 1.0) for i in range(3)]
    assert store.append([batch]) == [(3, 0)]
    number += 3
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_acknowledged(log, tmp_path):
    path = tmp_path / "events.journal"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(log.path), str(path)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.wait()
    events = export(path)
    assert events.height >= acknowledged[-1] >= 120
    assert events["event_id"].to_list() == [f"e{i}" for i in range(events.height)]
    store = LiveStore(Log.open(log.path), Journal(path, live.KIND))
    assert store.num_events == events.height
    assert store.newest_ms(store.user("n1")) == events["time_ms"].max()
    store.close()
    assert isinstance(events, pl.DataFrame)
