"""The log that is written equals one made by hand, in one go or day by day."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.log import Log, RawLog, _draft, write_log

SLOW = settings(max_examples=25, deadline=None, derandomize=True)
CATEGORY = {10: "tea", 11: "tea", 12: "pots", 13: None}
Event = tuple[int, int, int, str]  # user, item, time, type


@pytest.fixture(autouse=True, scope="module")
def _no_sync():
    """Spare the disk: these logs are many and small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_draft.os, "fsync", lambda _: None)
        yield


events_of = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from(sorted(CATEGORY)),
        st.integers(0, 6),
        st.sampled_from(["view", "buy"]),
    ),
    max_size=30,
)


def value_of(event: Event) -> float:
    return float(event[0] * 100 + event[2])


def raw_log(events: Iterable[Event], **more: pl.DataFrame) -> RawLog:
    rows = list(events)
    columns = {
        name: [row[i] for row in rows] for i, name in enumerate(("user", "item", "time_ms", "type"))
    }
    items = pl.DataFrame({"item": [*CATEGORY], "category": [*CATEGORY.values()]})
    frame = pl.DataFrame(columns).with_columns(
        value=pl.Series([value_of(row) for row in rows], dtype=pl.Float32)
    )
    return RawLog(events=frame, items=more.pop("items", items), **more)


def decoded(log: Log) -> list[Event]:
    """The events of a log under their raw ids, in the order of the log."""
    users, items = log.users["user"].to_list(), log.items["item"].to_list()
    return [
        (int(users[u]), int(items[i]), int(t), log.manifest.event_types[k])
        for u, i, t, k in zip(
            log.event_user, log.event("item"), log.event("time_ms"), log.event("type"), strict=True
        )
    ]


def check_whole(log: Log, events: Iterable[Event]) -> None:
    """Compare every part of a log with what the events say."""
    rows = decoded(log)
    assert sorted(rows) == sorted(set(events))
    assert [value_of(row) for row in rows] == log.event("value").tolist()
    user = log.event_user.tolist()
    time = log.event("time_ms").tolist()
    assert list(zip(user, time, strict=True)) == sorted(zip(user, time, strict=True))
    names = log.vocab["category"]
    kept = [names[c] for c in log.event("category")]
    assert kept == [CATEGORY[item] or "<unknown>" for _, item, _, _ in rows]
    check_requests(log, {(row[0], row[2]) for row in rows})
    check_second_order(log)
    assert (log.manifest.num_events, log.manifest.num_users) == (len(rows), log.users.height)
    assert (log.manifest.first_ms, log.manifest.last_ms) == (min(time), max(time))


def check_requests(log: Log, visits: set[tuple[int, int]]) -> None:
    users = log.users["user"].to_list()
    owner, time = log.request("user"), log.request("time_ms")
    found = [(int(users[u]), int(t)) for u, t in zip(owner, time, strict=True)]
    assert sorted(found) == sorted(visits)
    assert np.all(np.lexsort((time, owner)) == np.arange(len(owner)))
    link = log.event("request")
    assert np.array_equal(owner[link], log.event_user)
    assert np.array_equal(time[link], log.event("time_ms"))


def check_second_order(log: Log) -> None:
    category, user = log.event("category"), log.event_user
    positions = np.arange(len(user))
    order = log.by_category("order")
    assert np.array_equal(order, np.lexsort((positions, category, user)))
    keys = sorted(set(zip(user.tolist(), category.tolist(), strict=True)))
    offsets, start = log.by_category("key_offsets"), log.by_category("key_start")
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found = zip(owner.tolist(), log.by_category("key_category").tolist(), strict=True)
    assert list(found) == keys
    assert start[-1] == len(user)


@given(events_of.filter(bool))
@SLOW
def test_a_log_holds_its_events_sorted_and_linked(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_whole(write_log(Path(folder), raw_log(events), "a"), events)


@given(events_of.filter(bool), events_of.filter(bool), events_of.filter(bool))
@SLOW
def test_appending_gives_the_same_log_as_one_go(a: list, b: list, c: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        first = write_log(path, raw_log(a), "a")
        ids = first.users["user"].to_list(), first.items["item"].to_list()
        for day, source in ((b, "b"), (c, "c")):
            log = write_log(path, raw_log(day), source, append=True)
        check_whole(log, [*a, *b, *c])
        assert log.users["user"].to_list()[: len(ids[0])] == ids[0]
        assert log.items["item"].to_list()[: len(ids[1])] == ids[1]
        assert log.manifest.sources == ("a", "b", "c")
        twice = write_log(path, raw_log(c), "c", append=True)
        assert twice.path == log.path


def test_a_large_log_is_shared_among_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = 600_000
    frame = pl.DataFrame(
        {
            "user": rng.integers(0, 2_000, size),
            "item": rng.integers(0, 500, size),
            "time_ms": rng.integers(0, 200, size),
        }
    )
    items = pl.DataFrame({"item": np.arange(500), "category": [str(i % 7) for i in range(500)]})
    log = write_log(tmp_path, RawLog(events=frame, items=items), "a")
    want = frame.unique().sort("user", "time_ms", "item")
    users, ids = log.users["user"][1:].cast(pl.Int64), log.items["item"][1:].cast(pl.Int64)
    assert np.array_equal(users.to_numpy()[log.event_user - 1], want["user"])
    assert np.array_equal(log.event("time_ms"), want["time_ms"])
    assert np.array_equal(ids.to_numpy()[log.event("item") - 1], want["item"])
    check_second_order(log)
    assert any("repeated events" in note for note in log.manifest.notes)


def test_a_user_with_one_event_is_there(tmp_path: Path) -> None:
    log = write_log(tmp_path, raw_log([(1, 10, 5, "buy")]), "a")
    assert log.event("user_offsets").tolist() == [0, 0, 1]
    assert log.request("time_ms").tolist() == [5]
    assert log.manifest.num_groups == 0
    assert log.request("group").tolist() == [-1]


def test_requests_with_keys_keep_context_and_groups(tmp_path: Path) -> None:
    requests = pl.DataFrame(
        {
            "request": ["r2", "r1", "r3", "r1"],
            "user": [1, 1, 2, 9],
            "time_ms": [5, 5, 3, 9],
            "group": ["late", "early", "none", "late"],
            "store": ["s1", "s2", None, "s9"],
        }
    )
    shown = pl.DataFrame(
        {
            "group": ["early", "late", "late", "late"],
            "item": [12, 11, 10, 11],
            "place": ["top", "end", None, "top"],
        }
    )
    raw = raw_log([(1, 10, 5, "buy"), (1, 11, 5, "buy"), (2, 10, 4, "buy"), (2, 11, 4, "view")])
    keys = pl.Series("request", ["r2", "r1", "r3", "r9"])
    raw = RawLog(
        events=raw.events.with_columns(keys), items=raw.items, requests=requests, exposures=shown
    )
    log = write_log(tmp_path, raw, "a")
    assert log.request("user").tolist() == [1, 1, 2]
    stores = [log.vocab["store"][c] for c in log.request("store")]
    assert stores == ["s1", "s2", "<unknown>"]  # r2 before r1: the order of the source
    assert log.request("group").tolist() == [1, 0, -1]
    assert log.event("request").tolist() == [0, 1, 2, -1]
    assert log.exposure("offsets").tolist() == [0, 1, 3]
    names = log.items["item"].to_list()
    assert [names[i] for i in log.exposure("item")] == ["12", "10", "11"]
    assert [log.vocab["place"][c] for c in log.exposure("place")] == ["top", "<unknown>", "end"]
    assert set(log.manifest.notes) == {
        "1 items without a category, named <unknown>",
        "1 repeated request keys dropped",
        "1 repeated exposures (same group and item) dropped",
    }
    assert log.manifest.context == ("store",)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False, None], ["true", "false", "<unknown>"]),
        ([0.5, -1.25, None], ["0.5", "-1.25", "<unknown>"]),
        ([2**40, -(2**40), None], [str(2**40), str(-(2**40)), "<unknown>"]),
        ([7, None, 9], ["7", "<unknown>", "9"]),
        (pl.Series(["b", "a", "b"], dtype=pl.Categorical), ["b", "a", "b"]),
        (pl.Series([0, 1, 2]).cast(pl.Date), ["1970-01-01", "1970-01-02", "1970-01-03"]),
    ],
)
def test_context_of_any_type_is_coded_by_name(tmp_path: Path, values: object, names: list) -> None:
    requests = pl.DataFrame({"user": [1, 2, 3], "time_ms": [5] * 3, "where": values})
    log = write_log(tmp_path, raw_log([(1, 10, 5, "buy")], requests=requests), "a")
    assert [log.vocab["where"][c] for c in log.request("where")] == names


def test_appended_requests_and_exposures_follow_the_old_ones(tmp_path: Path) -> None:
    def day(user: int, time: int, item: int, **more: str) -> RawLog:
        return raw_log(
            [(user, item, time, "buy")],
            requests=pl.DataFrame({"user": [user], "time_ms": [time], "group": ["g"], **more}),
            exposures=pl.DataFrame({"group": ["g"], "item": [item], "place": ["end"]}),
        )

    write_log(tmp_path, day(1, 5, 10, store="a"), "a")
    write_log(tmp_path, day(1, 3, 11, device="phone"), "b", append=True)
    log = write_log(tmp_path, raw_log([(1, 12, 5, "buy"), (1, 12, 9, "buy")]), "c", append=True)
    assert log.request("time_ms").tolist() == [3, 5, 9]
    assert log.request("group").tolist() == [1, 0, -1]
    assert [log.vocab["store"][c] for c in log.request("store")] == ["<unknown>", "a", "<unknown>"]
    assert log.vocab["device"][log.request("device")[0]] == "phone"
    assert log.event("time_ms").tolist() == [3, 5, 5, 9]
    assert log.event("request").tolist() == [0, 1, 1, 2]
    assert log.exposure("offsets").tolist() == [0, 1, 2]
    names = log.items["item"].to_list()
    assert [names[i] for i in log.exposure("item")] == ["10", "11"]
    assert log.exposure("place").tolist() == [1, 1]


def test_a_later_day_may_learn_of_items_but_events_keep_their_category(tmp_path: Path) -> None:
    def items(category: str | None, brand: str | None) -> pl.DataFrame:
        return pl.DataFrame(
            {"item": [10], "category": [category], "brand": [brand]},
            schema_overrides={"category": pl.String, "brand": pl.String},
        )

    write_log(tmp_path, raw_log([(1, 10, 5, "buy")], items=items("tea", "x")), "a")
    log = write_log(
        tmp_path, raw_log([(1, 10, 6, "buy")], items=items("pots", None)), "b", append=True
    )
    assert [log.vocab["category"][c] for c in log.event("category")] == ["tea", "pots"]
    assert log.items["category"].to_list() == ["<unknown>", "pots"]
    assert log.items["brand"].to_list() == [None, "x"]  # silence does not erase
    assert log.vocab["category"][log.item_category[1]] == "pots"


def test_event_types_keep_their_codes(tmp_path: Path) -> None:
    write_log(tmp_path, raw_log([(1, 10, 5, "view")]), "a")
    log = write_log(tmp_path, raw_log([(1, 10, 6, "buy")]), "b", append=True)
    assert log.manifest.event_types == ("view", "buy")
    assert log.event("type").tolist() == [0, 1]


def test_a_version_is_named_by_what_it_holds(tmp_path: Path) -> None:
    paths = [write_log(tmp_path / x, raw_log([(1, 10, 5, "view")]), "a").path for x in "ab"]
    assert paths[0].name == paths[1].name
    again = write_log(tmp_path / "a", raw_log([(1, 10, 5, "view")]), "a").path
    assert again == paths[0]
    other = write_log(tmp_path / "a", raw_log([(1, 10, 6, "view")]), "a").path
    assert other != again
    assert again.exists()  # readers may still map the version that was replaced
    write_log(tmp_path / "a", raw_log([(1, 10, 7, "view")]), "a")
    assert not again.exists()
