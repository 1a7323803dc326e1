"""Events from files, and into the log."""

import numpy as np
import polars as pl
import pytest

from headrace.behavior import EVERY_TYPE, upkeep
from headrace.behavior.stores.local import LocalStore
from headrace.errors import DataError
from headrace.log import Log, write_log
from tests.behavior.conftest import NOW, event, raw_log
from tests.laws.test_behavior_stores import rows

EVENTS = pl.DataFrame(
    {
        "user": ["u1", "n1", "n1"],
        "item": ["a", "b", "c"],
        "type": ["buy", "view", "view"],
        "time_ms": [NOW + 50, NOW + 60, NOW + 61],
    }
)


@pytest.fixture
def opened(tmp_path):
    log = write_log(tmp_path / "log", raw_log(), "test")
    store = LocalStore.Config(map_mb=16).build(log, tmp_path / "events", 200, writable=True)
    yield store, log, tmp_path
    store.close()


def history(store, raw):
    user = np.array([store.user(raw)])
    return rows(store.latest(user, np.array([2**60]), 10**9, EVERY_TYPE))[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_loaded_once(opened, suffix):
    store, log, folder = opened
    path = folder / f"events.{suffix}"
    getattr(EVENTS, f"write_{suffix}")(path)
    told = []
    assert upkeep.load_file(store, log, path, lambda *n: told.append(n)) == (3, 0)
    assert told == [(3, 3)]
    assert upkeep.load_file(store, log, path) == (0, 3)
    assert [e[0] for e in history(store, "n1")] == [NOW + 60, NOW + 61]


def test_ids_that_look_like_numbers_are_text(opened):
    store, log, folder = opened
    EVENTS.with_columns(user=pl.Series(["007", "7", "007"])).write_csv(folder / "events.csv")
    upkeep.load_file(store, log, folder / "events.csv")
    assert [len(history(store, user)) for user in ("007", "7")] == [2, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (EVENTS.rename({"item": "itm"}), r"no column 'item'; did you mean 'itm'\?"),
        (
            EVENTS.with_columns(type=pl.lit("by")),
            r"row 1: no type 'by' in the log; did you mean 'buy'",
        ),
        (
            EVENTS.with_columns(item=pl.Series(["a", "x", "c"])),
            "row 2: no item 'x' in the log; ingest",
        ),
        (EVENTS.with_columns(time_ms=pl.lit("noon")), "time_ms and value must be numbers"),
        (
            EVENTS.with_columns(time_ms=pl.lit(2**50)),
            "row 1: time_ms .* lies in the future; is it in",
        ),
        (EVENTS.with_columns(user=pl.Series(["u", "v", None])), "row 3 has no user"),
        (
            EVENTS.with_columns(value=pl.Series([1.0, float("nan"), 2.0])),
            "row 2: value nan is no finite number",
        ),
    ],
)
def test_a_wrong_file_appends_nothing(opened, wrong, message):
    store, log, folder = opened
    path = folder / "events.csv"
    wrong.write_csv(path)
    with pytest.raises(DataError, match=message) as error:
        upkeep.load_file(store, log, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert store.num_events == 0


def test_a_file_that_is_none(opened):
    store, log, folder = opened
    (folder / "noise.parquet").write_bytes(b"noise")
    for name in ("noise.parquet", "missing.csv"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as"):
            upkeep.load_file(store, log, folder / name)


def test_compaction_changes_no_answer(opened):
    store, log, folder = opened
    store.append(
        [[event(1, "n1", "a"), event(2, "u1", "b", time_ms=NOW + 50), event(3, "n1", "c")]]
    )
    before = history(store, "n1"), history(store, "u1")
    grown, count = upkeep.compact(store, folder / "log", folder / "events")
    assert (count, grown.manifest.num_events) == (3, log.manifest.num_events + 3)
    assert (history(store, "n1"), history(store, "u1")) == before
    assert (store.num_events, store.user("n1")) == (0, 4)
    (archive,) = (folder / "events" / "compacted").iterdir()
    assert pl.read_parquet(archive)["event_id"].to_list() == ["e1", "e2", "e3"]
    assert upkeep.compact(store, folder / "log", folder / "events")[1] == 0


def test_killed_between_log_and_store(opened, monkeypatch):
    """The log has the events, the store still has them too: they count once, and it runs again."""
    store, log, folder = opened
    store.append([[event(1, "n1", "a")]])
    before = history(store, "n1")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(LocalStore, "release", killed)
        with pytest.raises(KeyboardInterrupt):
            upkeep.compact(store, folder / "log", folder / "events")
    store.close()
    grown = Log.open(folder / "log")
    assert grown.manifest.num_events == log.manifest.num_events + 1
    again = LocalStore.Config(map_mb=16).build(grown, folder / "events", 200, writable=True)
    assert history(again, "n1") == before
    assert upkeep.compact(again, folder / "log", folder / "events")[1] == 1
    assert Log.open(folder / "log").manifest.num_events == grown.manifest.num_events
    assert history(again, "n1") == before
    again.close()
