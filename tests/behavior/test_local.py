"""The local store against kill -9, full disks, grown and rebuilt logs, and other programs."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import orjson
import pytest

from headrace.behavior import EVERY_TYPE, StoreError, newest_ms
from headrace.behavior.intake import NEW
from headrace.behavior.stores.local import LocalStore
from headrace.errors import DataError
from headrace.log import Log, RawLog, write_log
from tests.behavior.conftest import NOW, event, raw_log
from tests.laws.test_behavior_stores import rows

EVER = np.array([2**60])
CONFIG = LocalStore.Config(map_mb=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events" / "store"


def opened(log, path, keep=200, **how):
    return LocalStore(CONFIG, log, path, keep, **how)


def history(store, raw):
    return rows(store.latest(np.array([store.user(raw)]), EVER, 10**9, EVERY_TYPE))[0]


def test_one_writer(log, path):
    store = opened(log, path)
    command = "import sys; from tests.behavior.test_local import second_writer; second_writer(*sys.argv[1:])"
    other = subprocess.run(
        [sys.executable, "-c", command, str(log.path), str(path)], capture_output=True, text=True
    )
    assert "store: another server is writing it; stop that one first" in other.stdout
    store.close()
    opened(log, path).close()
    reader = opened(log, path, writable=False)
    for refused in (lambda: reader.append([[event(1)]]), lambda: reader.release(1, log)):
        with pytest.raises(StoreError, match="open for reading only"):
            refused()
    reader.close()


def second_writer(log, path):
    try:
        opened(Log.open(Path(log)), Path(path))
    except DataError as error:
        print(error)


def test_reading_creates_nothing(log, path):
    store = opened(log, path, writable=False)
    assert (store.num_events, store.size_bytes, store.user("n1")) == (0, 0, 0)
    assert store.last_ms == log.manifest.last_ms
    assert len(history(store, "u1")) > 0
    assert store.export()[0].height == 0
    assert not path.exists()


def test_the_map_grows_while_it_is_read(log, path):
    """A megabyte is soon full; other processes follow."""
    store = opened(log, path, keep=10**6)
    number = 0
    while store.stats()["map_bytes"] == 1 << 20:
        size = 2_000
        batch = [
            event(number + i, f"n{i % 7}", "abcdef"[i % 6], "buy", number + i) for i in range(size)
        ]
        assert store.append([batch]) == [(size, 0)]
        number += size
    assert store.num_events == number
    assert sum(len(history(store, f"n{i}")) for i in range(7)) == number
    store.close()


def test_ids_are_known_after_a_restart_and_a_compaction(log, path):
    store = opened(log, path)
    store.append([[event(1), event(2, "n1")]])
    store.close()
    store = opened(log, path)
    assert store.append([[event(1, time_ms=NOW + 77)]]) == [(0, 1)]
    store.release(store.export()[1], log)
    assert store.append([[event(1, time_ms=NOW + 78), event(3, time_ms=NOW + 79)]]) == [(1, 1)]
    store.close()


def test_a_tail_forgets_and_the_journal_does_not(log, path):
    store = opened(log, path, keep=5)
    for number in range(100):
        store.append([[event(number, "n1", "ac"[number % 2], "view", NOW + number)]])
    assert 10 <= len(history(store, "n1")) < 90
    assert [e[0] for e in history(store, "n1")][-10:] == [NOW + 90 + i for i in range(10)]
    assert store.export()[0].height == store.num_events == 100
    store.close()


def test_a_grown_log_takes_over(log, path, tmp_path):
    """What was exported and ingested counts once, and new users get their rows."""
    store = opened(log, path)
    store.append([[event(1, "n1", "a", "buy", NOW + 50), event(2, "u1", "b", "view", NOW + 51)]])
    events, mark = store.export()
    assert events.row(0) == ("e1", "n1", "a", "buy", NOW + 50, 1.0)
    before = history(store, "n1"), history(store, "u1")
    folder = tmp_path / "log"
    write_log(folder, raw_log(), "first")
    grown = write_log(folder, RawLog(events=events.drop("event_id")), "second", append=True)
    assert grown.manifest.num_events == log.manifest.num_events + 2
    store.close()
    store = opened(grown, path)
    assert store.num_events == 0
    assert store.user("n1") == 4
    assert (history(store, "n1"), history(store, "u1")) == before
    assert store.append([[event(9, "n2", "a", "buy", NOW + 60)]]) == [(1, 0)]
    assert store.user("n2") > NEW
    store.release(mark, grown)
    assert store.export()[0]["event_id"].to_list() == ["e9"]
    assert (history(store, "n1"), len(history(store, "n2"))) == (before[0], 1)
    store.close()


def test_readers_follow_to_the_next_log(log, path, tmp_path):
    folder = tmp_path / "log"
    writer = opened(write_log(folder, raw_log(), "first"), path)
    writer.append([[event(1, "n1", time_ms=NOW + 50)]])
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from tests.behavior.test_local import follow; follow()",
            str(folder),
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout.readline() == f"{NEW > 0} 1\n"
        events, mark = writer.export()
        grown = write_log(folder, RawLog(events=events.drop("event_id")), "second", append=True)
        writer.release(mark, grown)
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "False 1\n"
    writer.close()


def follow():
    store = opened(Log.open(Path(sys.argv[1])), Path(sys.argv[2]), writable=False)
    print(store.user("n1") >= NEW, len(history(store, "n1")), flush=True)
    sys.stdin.readline()
    history(store, "u1")  # sees that the log is another
    print(store.user("n1") >= NEW, len(history(store, "n1")), flush=True)


def test_events_of_another_log_are_left_out(log, path, tmp_path, caplog):
    store = opened(log, path)
    store.append(
        [[event(1, "n1", "a"), event(2, "n1", "f"), event(3, "u2", "f", "view", NOW + 70)]]
    )
    store.close()
    raw = raw_log()
    other = raw.events.filter(raw.events["item"] != "a", raw.events["type"] == "buy")
    rebuilt = write_log(tmp_path / "other", RawLog(events=other), "other")
    reader = opened(rebuilt, path, writable=False)
    assert "of another log" in caplog.text
    assert reader.user("n1") == 0
    reader.close()
    store = opened(rebuilt, path)
    assert "2 events name items or types unknown to the log" in caplog.text
    assert [len(history(store, "n1")), store.num_events] == [1, 1]
    assert store.export()[0].height == 3
    store.close()


def test_a_file_that_may_not_grow(log, path):
    """A real failure of the disk: the old data stay whole, reads go on, and it heals."""
    store = opened(log, path)
    store.append([[event(1, "n1")]])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (path / "data.mdb").stat().st_size
    many = [event(10 + i, f"n{i}", "b", "buy", NOW + i) for i in range(2_000)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, limits[1]))
    try:
        with pytest.raises(
            StoreError, match=r"store: cannot be written \(mdb_txn_commit: .*make room"
        ):
            store.append([many])
        assert len(history(store, "n1")) == 1
        assert store.num_events == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.append([many]) == [(2_000, 0)]
    store.close()
    store = opened(log, path)
    assert store.num_events == 2_001
    store.close()


def test_a_newer_format_is_named(log, path):
    opened(log, path).close()
    env = lmdb.open(str(path), max_dbs=8)
    with env.begin(write=True) as txn:
        txn.put(b"format", orjson.dumps(2), db=env.open_db(b"meta", txn=txn))
    env.close()
    for writable in (True, False):
        with pytest.raises(
            DataError, match="store format 2, this program reads 1; use the headrace"
        ):
            opened(log, path, writable=writable)


def test_what_is_no_store(log, path, tmp_path):
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(b"diary" * 5_000)
    for writable in (True, False):
        with pytest.raises(DataError, match=r"store: cannot be opened as a store \(.*move it away"):
            opened(log, path, writable=writable)
    assert (path / "data.mdb").read_bytes() == b"diary" * 5_000
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be opened \(Not a directory\)"):
        opened(log, tmp_path / "file" / "store")


def test_a_disk_that_cannot_be_read(log, path, monkeypatch):
    """The log answers alone, and it is counted."""
    store = opened(log, path)
    store.append([[event(1, time_ms=NOW + 50)]])
    whole = history(store, "u1")

    def broken(*_):
        raise lmdb.Error("mdb_get: Input/output error")

    with monkeypatch.context() as m:
        m.setattr("headrace.behavior.stores._lmdb.Environment.events", broken)
        assert history(store, "u1") == whole[:-1]
    assert store.degraded == {"disk": 1}
    assert history(store, "u1") == whole
    store.close()


def test_edges_of_time_and_length(log, path):
    """Before 1970, far ahead, one event, one category with many."""
    store = opened(log, path, keep=100_000)
    times = [-(2**50), -1, 0, 2**51]
    store.append([[event(i, "n1", "a", "buy", t) for i, t in enumerate(times)]])
    assert [e[0] for e in history(store, "n1")] == times
    many = [event(100 + i, "n2", "a", "view", NOW + i) for i in range(50_000)]
    assert store.append([many]) == [(50_000, 0)]
    user, category = np.array([store.user("n2")]), np.array([log.item_category[1]])
    found = store.by_category(user, category, EVER, 200)
    assert found.time_ms.tolist() == [NOW + 50_000 - 200 + i for i in range(200)]
    assert len(store.by_category(user, category, np.array([NOW]), 200)) == 0
    assert len(store.by_category(user, category + 99, EVER, 200)) == 0
    store.close()


WRITER = """
import sys
from pathlib import Path
from headrace.behavior import RawEvent
from headrace.log import Log
from tests.behavior.test_local import opened

store = opened(Log.open(Path(sys.argv[1])), Path(sys.argv[2]))
number = store.num_events
print(number, flush=True)
while True:
    batch = [RawEvent(f"e{number + i}", "n1", "a", "buy", number + i, 1.0) for i in range(3)]
    assert store.append([batch]) == [(3, 0)]
    number += 3
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_acknowledged(log, path):
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(log.path), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        store = opened(log, path)
        events = store.export()[0]
        assert store.num_events == events.height >= acknowledged[-1]
        assert events["event_id"].to_list() == [f"e{i}" for i in range(events.height)]
        assert len(history(store, "n1")) >= min(events.height, 200)
        assert newest_ms(store, np.array([store.user("n1")])) == events.height - 1
        store.close()


def test_a_killed_reader_is_cleared_at_the_next_start(log, path):
    opened(log, path).close()
    script = (
        "import sys, os, lmdb; e = lmdb.open(sys.argv[1], max_dbs=8, readonly=True);"
        "t = e.begin(); print('in', flush=True); sys.stdin.read()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reader.stdout.readline() == b"in\n"
    os.kill(reader.pid, signal.SIGKILL)
    reader.communicate()
    store = opened(log, path)
    assert store.stats()["readers"] <= 1
    store.close()
