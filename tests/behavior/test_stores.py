"""What stores promise beyond the law: new users, ties, overlays, re-categorised items."""

import threading

import numpy as np
import polars as pl
import pytest

from headrace.behavior import EVERY_TYPE, Events, MappedLog, Overlay, intake, newest_ms
from headrace.behavior.intake import NEW
from headrace.behavior.stores.memory import MemoryStore
from headrace.errors import DataError
from headrace.log import RawLog, write_log
from tests.behavior.conftest import NOW, TYPES, event, raw_log
from tests.laws.test_behavior_stores import rows

EVER = np.array([2**60])


def test_new_users_have_numbers_of_their_own(log):
    store = MemoryStore(log)
    assert store.user("n1") == 0
    store.append([[event(1, "n1"), event(2, "n2"), event(3, "n1", "b")]])
    new = store.user("n1")
    assert store.user("u1") == 1
    assert new > NEW and new != store.user("n2")
    assert store.user("n3") == 0
    last = log.event("time_ms")[log.event("user_offsets")[2] - 1]
    assert newest_ms(store, np.array([0, new, 1])).tolist() == [-1, NOW + 5, last]
    assert store.num_events == 3


def test_the_oldest_event_ids_are_forgotten(log, monkeypatch):
    monkeypatch.setattr(intake, "REMEMBERED", 2)
    store = MemoryStore(log)
    store.append([[event(i, time_ms=NOW + 100 + i) for i in range(3)]])
    later = [event(0, time_ms=NOW + 200), event(2, time_ms=NOW + 201)]
    assert store.append([later]) == [(1, 1)]  # 0 is forgotten, 2 is not
    again = [event(7, time_ms=NOW + 100)]
    assert store.append([again]) == [(0, 1)]  # said before, if by another id


def test_many_events_at_one_time(log):
    store = MemoryStore(log)
    ties = [event(i, "n1", "abcdef"[i % 6], TYPES[i // 6], NOW) for i in range(12)]
    crowd = [event(100 + i, "n1", "a", "view", NOW - 1 - i) for i in range(50)]
    assert store.append([ties, crowd]) == [(12, 0), (50, 0)]
    again = [e._replace(event_id=f"again {e.event_id}") for e in ties]
    assert store.append([again]) == [(0, 12)]


def test_an_overlay_answers_for_its_users_only(log):
    base = MappedLog(log)
    visitor = np.array([1 << 40])
    tail = Events.of(*(np.array(c) for c in ([2, 1], [1, 1], [0, 1], [NOW + 9, NOW], [0.5, 0.25])))
    store = Overlay(base, {int(visitor[0]): tail})
    old, new = (NOW, 1, 1, 1, 0.25), (NOW + 9, 2, 0, 1, 0.5)
    assert rows(store.latest(visitor, EVER, 5, EVERY_TYPE)) == [[old, new]]
    assert rows(store.by_category(visitor, np.array([1]), np.array([NOW + 9]), 5)) == [[old]]
    known = np.array([1])
    assert rows(store.latest(known, EVER, 9, EVERY_TYPE)) == rows(
        base.latest(known, EVER, 9, EVERY_TYPE)
    )


def test_reading_while_it_grows(log):
    """Readers see every acknowledged event, in order, while a writer appends."""
    store = MemoryStore(log)
    store.append([[event(-1, "n1", time_ms=NOW + 500)]])
    user = np.array([store.user("n1")])
    done, problems = threading.Event(), []

    def read():
        seen = 0
        while not done.is_set() or seen < 301:
            acknowledged = store.num_events
            found = store.latest(user, EVER, 10**6, EVERY_TYPE)
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


def test_memory_keeps_nothing_to_export(log):
    with pytest.raises(DataError, match=r'kind = "memory" keeps nothing; use "local" or "redis"'):
        MemoryStore(log).export()


@pytest.fixture
def renamed(tmp_path):
    """The log after category x became w for item a and y for b, and f alone left z for y."""
    write_log(tmp_path, raw_log(), "first")
    items = pl.DataFrame({"item": ["a", "b", "f"], "category": ["w", "y", "y"]})
    later = pl.DataFrame(
        {"user": ["u1"], "item": ["f"], "time_ms": [NOW + 50], "type": ["buy"], "value": [1.0]}
    )
    return write_log(tmp_path, RawLog(events=later, items=items), "second", append=True)


@pytest.mark.parametrize("live", [False, True])
def test_events_of_an_empty_category_are_read_with_its_successors(renamed, live):
    code = {name: number for number, name in enumerate(renamed.vocab["category"])}
    base = MappedLog(renamed)
    every = base.latest(np.array([1]), EVER, 10**6, EVERY_TYPE)
    store = MemoryStore(renamed) if live else base

    def found(category):
        events = store.by_category(np.array([1]), np.array([code[category]]), EVER, 10**6)
        return rows(events)[0]

    def happened(*categories):
        wanted = {code[c] for c in categories}
        return [e for e in rows(every)[0] if e[3] in wanted]

    assert found("w") == happened("x", "w")  # renamed, or split
    assert found("y") == happened("x", "y")  # merged
    assert found("z") == happened("z")  # an item that moved leaves its events
    assert found("x") == happened("x")
    newest = store.by_category(np.array([1]), np.array([code["y"]]), EVER, 3)
    assert rows(newest)[0] == happened("x", "y")[-3:]
