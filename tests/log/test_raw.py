"""Every mistake in raw data is answered with one clear line, or mended with a note."""

from __future__ import annotations

import time

import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log import RawLog, write_log

EVENTS = {"user": [1, 1, 2], "item": [5, 6, 5], "time_ms": [30, 10, 20]}
ROWS = list(range(3))


def refused(tmp_path, events=EVENTS, **frames) -> str:
    frames = {name: pl.DataFrame(columns) for name, columns in frames.items()}
    with pytest.raises(DataError) as error:
        write_log(tmp_path, RawLog(events=pl.DataFrame(events), **frames), "a")
    assert "\n" not in str(error.value)
    return str(error.value)


def written(tmp_path, events=EVENTS, **frames):
    frames = {name: pl.DataFrame(columns) for name, columns in frames.items()}
    return write_log(tmp_path, RawLog(events=pl.DataFrame(events), **frames), "a")


def test_an_empty_log(tmp_path):
    message = refused(tmp_path, {name: [] for name in EVENTS})
    assert message == "events: the log is empty; check the paths and filters of the source"
    assert "none is left" in refused(tmp_path, {**EVENTS, "user": [None] * 3})


@pytest.mark.parametrize("column", sorted(EVENTS))
def test_a_missing_column(tmp_path, column):
    there = {k: v for k, v in EVENTS.items() if k != column}
    assert refused(tmp_path, there).startswith(f"events: no column {column!r}; known: ")


def test_missing_columns_of_other_frames(tmp_path):
    assert "items: no column 'item'" in refused(tmp_path, items={"price": [1.0]})
    assert "users: no column 'user'" in refused(tmp_path, users={"uesr": [1]})
    assert "did you mean 'uesr'?" in refused(tmp_path, users={"uesr": [1]})
    assert "requests: no column 'time_ms'" in refused(tmp_path, requests={"user": [1]})
    assert "exposures: no column 'group'" in refused(tmp_path, exposures={"item": [1]})


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (
            "events",
            {"user": [1.0] * 3},
            "events: column 'user' is Float64, want integers or string",
        ),
        ("events", {"item": [[1]] * 3}, "events: column 'item' is List(Int64), want integers or"),
        ("events", {"time_ms": ["x"] * 3}, "events: column 'time_ms' is String, want int64"),
        ("events", {"type": [1.5] * 3}, "events: column 'type' is Float64, want integers or"),
        ("events", {"value": ["1"] * 3}, "events: column 'value' is String, want numbers"),
        ("items", {"item": [5], "price": ["1"]}, "items: column 'price' is String, want numbers"),
        ("items", {"item": [5], "category": [0.5]}, "items: column 'category' is Float64"),
        ("exposures", {"group": [0.5], "item": [1]}, "exposures: column 'group' is Float64"),
    ],
)
def test_a_wrong_type(tmp_path, frame, columns, message):
    if frame == "events":
        assert refused(tmp_path, {**EVENTS, **columns}).startswith(message)
    else:
        assert refused(tmp_path, **{frame: columns}).startswith(message)


def test_times_that_have_not_come(tmp_path):
    late = int(time.time() * 1000) + 3 * 86_400_000
    message = refused(tmp_path, {**EVENTS, "time_ms": [1, late, late]})
    assert message.startswith(f"events: 2 lie in the future, the first at time_ms={late}")
    assert message.endswith("is the time unit right?")
    message = refused(tmp_path, requests={"user": [1], "time_ms": [late]})
    assert message.startswith("requests: 1 lie in the future")


def test_too_many_types(tmp_path):
    events = {"user": [1] * 64, "item": [1] * 64, "time_ms": [1] * 64, "type": list(range(64))}
    assert "64 types, at most 63; is type the right column?" in refused(tmp_path, events)


def test_too_many_values_of_an_exposure(tmp_path):
    size = 2**16
    shown = {"group": [1] * size, "item": range(size), "url": [f"{i}" for i in range(size)]}
    message = refused(tmp_path, exposures=shown)
    assert message.startswith("exposures: column 'url' has 65,537 values, at most 65,536")


def test_a_later_day_of_another_type(tmp_path):
    written(tmp_path, users={"user": [1], "age": [30]})
    users = pl.DataFrame({"user": [1], "age": ["thirty"]})
    with pytest.raises(DataError, match="users: column 'age' is String, in the log Int64"):
        write_log(tmp_path, RawLog(events=pl.DataFrame(EVENTS), users=users), "b", append=True)


def test_unordered_events_are_sorted(tmp_path):
    log = written(tmp_path)
    assert log.event("time_ms").tolist() == [10, 30, 20]
    assert [log.items["item"][i] for i in log.event("item").tolist()] == ["6", "5", "5"]


def test_rows_without_ids_or_time_are_dropped_with_a_note(tmp_path):
    log = written(tmp_path, {"user": [1, None, 2], "item": [5, 6, None], "time_ms": [1, 2, 3]})
    assert log.manifest.num_events == 1
    assert "2 events without user or item or time_ms or type dropped" in log.manifest.notes


def test_repeated_events_count_once_and_the_first_is_kept(tmp_path):
    log = written(
        tmp_path, {**{k: [v[0]] * 3 for k, v in EVENTS.items()}, "value": [1.0, 2.0, 3.0]}
    )
    assert log.event("value").tolist() == [1.0]
    assert "2 repeated events (same user, time, item and type) dropped" in log.manifest.notes


def test_values_that_are_no_numbers_become_zero(tmp_path):
    log = written(tmp_path, {**EVENTS, "value": [float("nan"), None, float("inf")]})
    assert log.event("value").tolist() == [0.0, 0.0, 0.0]
    assert "3 event values missing or not finite, set to 0" in log.manifest.notes


def test_prices_that_cannot_be_become_zero(tmp_path):
    prices = [float("nan"), -1.0, 2.5]
    log = written(tmp_path, items={"item": [5, 6, 7], "price": prices, "category": ["a"] * 3})
    assert log.items["price"].to_list() == [0.0, 0.0, 0.0, 2.5]
    assert "2 item prices missing, negative or not finite, set to 0" in log.manifest.notes


def test_an_item_of_no_category_has_the_unknown_one(tmp_path):
    log = written(tmp_path, items={"item": [5, 6], "category": ["tea", None]})
    assert log.vocab["category"] == ["<unknown>", "tea"]
    assert log.items["category"].to_list() == ["<unknown>", "tea", "<unknown>"]
    assert log.event("category").tolist() == [0, 1, 1]  # item 6, then 5


@pytest.mark.parametrize(
    "user",
    [
        pl.Series([1, 1, 2], dtype=pl.UInt8),
        pl.Series([-(2**60), -(2**60), 2**60]),
        pl.Series(["1", "1", "ü"]),
        pl.Series(["a", "a", "b"], dtype=pl.Categorical),
        pl.Series(["a", "a", "b"], dtype=pl.Enum(["b", "a"])),
    ],
)
def test_ids_may_be_integers_or_text_and_mix(tmp_path, user):
    users = {"user": user.cast(pl.String).unique().to_list(), "age": [1, 2]}
    log = written(tmp_path, {**EVENTS, "user": user}, users=users)
    names = log.users["user"].to_list()
    want = {(u, t) for u, t in zip(user.cast(pl.String), EVENTS["time_ms"], strict=True)}
    got = zip(log.event_user.tolist(), log.event("time_ms").tolist(), strict=True)
    assert {(names[u], t) for u, t in got} == want
    assert log.users["age"].null_count() == 1
    assert log.users.height == 3
