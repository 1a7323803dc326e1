"""Users' own files: every form that is read, and one clear line for every one that is not."""

from __future__ import annotations

import gzip
import os

import polars as pl
import pytest

from headrace.config import Config, parse
from headrace.errors import ConfigError, DataError
from headrace.log import ingest
from headrace.log.sources.table import Events, Exposures, Items, Requests, Table, Users

CSV = "uid,sku,when,kind,paid\n007,a,1700000000,view,\n007,b,1700000001.5,buy,2.5\n8,a,1700000002,buy,NA\n"
NAMES = {"user": "uid", "item": "sku", "time": "when"}


def table(path, name="events.csv", content: str | bytes = CSV, **more) -> Table:
    """A source with these events; ``more`` are settings of events, or tables beside it."""
    beside = {k: more.pop(k) for k in ("items", "users", "requests", "exposures") if k in more}
    file = path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content)
    return Table(Table.Config(events=Events(path=file, **{**NAMES, **more}), **beside))


def refused(source: Table) -> str:
    with pytest.raises(DataError) as error:
        source.read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_csv_keeps_ids_as_they_are_written(tmp_path):
    raw = table(tmp_path, type="kind", value="paid").read()
    assert raw.events["user"].to_list() == ["007", "007", "8"]
    assert raw.events["time_ms"].to_list() == [1700000000000, 1700000001500, 1700000002000]
    assert raw.events["value"].to_list() == [None, 2.5, None]
    assert raw.events["type"].to_list() == ["view", "buy", "buy"]


def test_what_is_not_named_is_not_read(tmp_path):
    raw = table(tmp_path, type_name="visit").read()
    assert raw.events.columns == ["user", "item", "time_ms", "type"]
    assert raw.events["type"].to_list() == ["visit"] * 3
    assert (raw.items, raw.users, raw.requests, raw.exposures) == (None,) * 4


@pytest.mark.parametrize("name", ["e.csv.gz", "e.tsv", "e.parquet"])
def test_other_files_say_the_same(tmp_path, name):
    if name.endswith("gz"):
        content = gzip.compress(CSV.encode())
    elif name.endswith("tsv"):
        content = CSV.replace(",", "\t").encode()
    else:
        pl.read_csv(CSV.encode(), infer_schema=False).with_columns(
            pl.col("when").cast(pl.Float64)
        ).write_parquet(tmp_path / "p")
        content = (tmp_path / "p").read_bytes()
    raw = table(tmp_path, name, content, type="kind").read()
    want = table(tmp_path, type="kind").read()
    assert raw.events.equals(want.events)


def test_a_folder_is_its_files_by_name(tmp_path):
    folder = tmp_path / "events"
    folder.mkdir()
    for day, user in (("2024-02.csv", "b"), ("2024-01.csv", "a")):
        (folder / day).write_text(f"uid,sku,when\n{user},x,1700000000\n")
    (folder / "README.txt").write_text("not data")
    source = Table(Table.Config(events=Events(path=folder, **NAMES)))
    assert source.read().events["user"].to_list() == ["a", "b"]
    assert [file.name for file in source.files()] == ["2024-01.csv", "2024-02.csv"]


@pytest.mark.parametrize(
    ("unit", "times", "want"),
    [
        ("s", [1700000000, None], [1700000000000, None]),
        ("ms", [1700000000123, None], [1700000000123, None]),
        ("us", [1700000000123456, None], [1700000000123, None]),
        ("s", [1700000000.5, float("nan")], [1700000000500, None]),
        ("datetime", ["2023-11-14T22:13:20Z", None], [1700000000000, None]),
        ("datetime", ["2023-11-14T23:13:20.250+01:00", None], [1700000000250, None]),
        ("datetime", ["2023-11-14 22:13:20", None], [1700000000000, None]),
        ("datetime", ["2023-11-14", None], [1699920000000, None]),
        ("datetime", pl.Series([1700000000123456]).cast(pl.Datetime("us")), [1700000000123]),
        (
            "datetime",
            pl.Series([1700000000123]).cast(pl.Datetime("ms", "Europe/Berlin")),
            [1700000000123],
        ),
        ("datetime", pl.Series([19675]).cast(pl.Date), [1699920000000]),
    ],
)
def test_times_of_all_kinds(tmp_path, unit, times, want):
    file = tmp_path / "e.parquet"
    size = len(want)
    pl.DataFrame({"uid": [1] * size, "sku": [1] * size, "when": times}).write_parquet(file)
    source = Table(Table.Config(events=Events(path=file, time_unit=unit, **NAMES)))
    assert source.read().events["time_ms"].to_list() == want


@pytest.mark.parametrize(
    ("unit", "times", "message"),
    [
        ("s", ["2023-11-14"], "is String, such as '2023-11-14'; set time_unit = \"datetime\""),
        ("datetime", [17], 'holds numbers, such as 17; set time_unit = "s", "ms" or "us"'),
        ("ms", [1700000000], 'ends at 1700000000, which is before 1980 if time_unit = "ms"'),
        ("datetime", ["2023-11-14", "soon"], "'soon' is no time, or of another form than"),
    ],
)
def test_times_of_the_wrong_kind(tmp_path, unit, times, message):
    file = tmp_path / "e.parquet"
    size = len(times)
    pl.DataFrame({"uid": [1] * size, "sku": [1] * size, "when": times}).write_parquet(file)
    source = Table(Table.Config(events=Events(path=file, time_unit=unit, **NAMES)))
    assert f"e.parquet: column 'when' {message}" in refused(source).replace("when': ", "when' ")


def test_a_missing_file(tmp_path):
    source = Table(Table.Config(events=Events(path=tmp_path / "nope.csv")))
    assert refused(source).endswith(
        "nope.csv: no such file or folder; check the paths under [source]"
    )
    with pytest.raises(DataError, match="no such file"):
        source.fingerprint()
    (tmp_path / "folder").mkdir()
    source = Table(Table.Config(events=Events(path=tmp_path / "folder")))
    assert "no file here ends in .parquet, .csv" in refused(source)


def test_a_missing_column(tmp_path):
    message = refused(table(tmp_path, item="skuu"))
    assert message.endswith("events.csv: no column 'skuu'; did you mean 'sku'?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "", "cannot be read (empty CSV)"),
        ("e.csv", "uid,sku,when\n", "empty; there is not one row in it"),
        ("e.csv", "uid,sku,when\n1,2,3\n1,2,3,4\n", "cannot be read (found more fields"),
        ("e.csv", "uid,sku,when\n1,2,soon\n", "column 'when' is String, such as 'soon'"),
        ("e.parquet", "uid,sku,when\n1,2,3\n", "cannot be read (parquet: "),
        ("e.csv", b"uid,sku,when\n\xff\xfe,1,2\n", "cannot be read (invalid utf-8"),
    ],
)
def test_files_that_are_not_what_they_seem(tmp_path, name, content, message):
    assert message in refused(table(tmp_path, name, content))


def test_numbers_that_are_none(tmp_path):
    message = refused(table(tmp_path, content=CSV.replace("2.5", "$2.50"), value="paid"))
    assert "cannot be read (conversion from `str` to `f32` failed" in message
    assert "$2.50" in message


def test_a_wrong_type_is_told_by_the_files_own_names(tmp_path):
    file = tmp_path / "e.parquet"
    pl.DataFrame({"uid": [1.5], "sku": [1], "when": [1], "paid": ["a"]}).write_parquet(file)
    source = Table(Table.Config(events=Events(path=file, **NAMES)))
    assert refused(source).endswith("e.parquet: column 'uid' is Float64, want integers or strings")
    names = {**NAMES, "user": "sku"}
    source = Table(Table.Config(events=Events(path=file, value="paid", **names)))
    assert refused(source).endswith("e.parquet: column 'paid' is String, want numbers")


def everything(path) -> Table:
    """A shop's five tables."""
    (path / "items.csv").write_text("sku,group,price,brand,stock\na,tea,1.5,x,3\nc,,NA,y,4\n")
    (path / "users.csv").write_text("uid,age\n007,40\n")
    (path / "visits.csv").write_text("visit,uid,when,page,device\nv1,007,1700000000,p,app\n")
    (path / "shown.csv").write_text("page,sku,slot\np,a,1\np,c,2\n")
    return table(
        path,
        content="uid,sku,when,visit\n007,a,1700000000,v1\n8,b,1700000000,\n",
        request="visit",
        items=Items(path=path / "items.csv", item="sku", category="group", price="price"),
        users=Users(path=path / "users.csv", user="uid"),
        requests=Requests(
            path=path / "visits.csv",
            request="visit",
            user="uid",
            time="when",
            group="page",
            context=("device",),
        ),
        exposures=Exposures(path=path / "shown.csv", group="page", item="sku"),
    )


def test_all_tables_make_one_log(tmp_path):
    source = everything(tmp_path)
    log, changed = ingest(source, tmp_path / "log")
    assert changed
    assert log.items.to_dict(as_series=False) == {
        "item": ["<unknown>", "a", "c", "b"],
        "category": ["<unknown>", "tea", "<unknown>", "<unknown>"],
        "price": [0.0, 1.5, 0.0, 0.0],
        "brand": [None, "x", "y", None],
        "stock": [None, 3, 4, None],
    }
    assert log.users["age"].to_list() == [None, 40, None]
    assert log.manifest.context == ("device",)
    assert log.manifest.exposure == ("slot",)
    assert log.event("request").tolist() == [0, -1]
    assert log.request("group").tolist() == [0]
    assert log.exposure("item").tolist() == [1, 2]


def test_a_fingerprint_follows_settings_and_files(tmp_path):
    source = everything(tmp_path)
    first = source.fingerprint()
    assert first == Table(source.config).fingerprint()
    assert first.startswith("table-")
    os.utime(tmp_path / "users.csv", ns=(1, 1))
    assert source.fingerprint() != first
    assert table(tmp_path).fingerprint() != table(tmp_path, value="paid").fingerprint()


def test_a_name_that_clashes_is_refused(tmp_path):
    (tmp_path / "items.csv").write_text("sku,price,item\na,1,x\n")
    items = Items(path=tmp_path / "items.csv", item="sku")
    message = refused(table(tmp_path, items=items))
    assert "items.csv: column 'item' clashes with what headrace calls 'sku'; rename it" in message
    kept = Items(path=tmp_path / "items.csv", item="sku", attributes=("price",))
    assert table(tmp_path, items=kept).read().items.columns == ["item", "price"]


class Shop(Config):
    """A file with nothing but a source."""

    source: Table.Config


def test_settings_come_from_toml(tmp_path):
    text = '[source]\nkind = "table"\nevents = { path = "e.csv", time_unit = "ms" }\n'
    assert parse(text, Shop).source.events.time_unit == "ms"
    with pytest.raises(ConfigError, match="time_unit: no such choice 'h'"):
        parse(text.replace('"ms"', '"h"'), Shop)
    with pytest.raises(ConfigError, match="usr: no such setting; did you mean 'user'"):
        parse(text.replace("time_unit", "usr"), Shop)
