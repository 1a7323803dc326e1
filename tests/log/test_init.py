"""The starting file is TOML that the program takes, and says what the table holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from pydantic import Field

from headrace.config import Config, Kinds, parse
from headrace.errors import DataError
from headrace.log import ingest
from headrace.log.init import starter
from headrace.samples import SamplesConfig
from headrace.schema import Schema
from headrace.value import Value

SIZE = 4_000


class Start(Config):
    """What can be said without the models."""

    name: str
    seed: int
    source: Annotated[Any, Kinds("headrace.log.sources")]
    schema_: Schema = Field(alias="schema")
    samples: SamplesConfig
    value: Value.Config
    retrieval: Any
    preranking: Any
    ranking: Any
    reranking: Any
    allocation: Any


@pytest.fixture
def table() -> pl.DataFrame:
    """A shop's events with everything in one table, as many shops have them."""
    rng = np.random.default_rng(0)
    item, user = rng.integers(0, 300, SIZE), rng.integers(0, 200, SIZE)
    kind = pl.Series(["view", "add_to_cart", "purchase"])
    return pl.DataFrame(
        {
            "event_time": pl.Series(1_600_000_000 + np.sort(rng.integers(0, 100 * 86_400, SIZE))),
            "event_type": kind.gather(rng.choice(3, SIZE, p=[0.9, 0.07, 0.03])),
            "product_id": item * 10,
            "category_code": pl.Series([f"c{i % 9}" for i in item]),
            "title": pl.Series([f"product {i}" for i in item]),
            "weight.kg": item / 7,
            "brand_id": item % 40,
            "price": (item % 50) * 1.25,
            "user_id": pl.Series([f"u{u:03}" for u in user]),
            "age": user % 60,
            "city": pl.Series([f"city {u % 5}" for u in user]),
            "device": pl.Series(["app", "web"]).gather(rng.integers(0, 2, SIZE)),
            "session": pl.Series([f"s{i}" for i in range(SIZE)]),
            "seen_at": pl.Series([None] * SIZE, dtype=pl.Datetime),
        }
    )


@pytest.mark.parametrize("name", ["my shop.parquet", "shop.csv"])
def test_the_file_is_taken_and_the_table_ingested(tmp_path, table, name):
    path = tmp_path / name
    table.write_parquet(path) if name.endswith("parquet") else table.write_csv(path)
    app = parse(starter(path), Start)
    source = app.source
    assert app.name == name.split(".")[0].replace(" ", "_")
    assert source.events.model_dump(exclude={"path"}) == {
        "user": "user_id",
        "item": "product_id",
        "time": "event_time",
        "time_unit": "s",
        "type": "event_type",
        "type_name": "event",
        "value": "price",
        "request": None,
    }
    assert (source.items.category, source.items.price) == ("category_code", "price")
    assert source.items.attributes == ("title", "weight.kg", "brand_id")
    assert source.users.attributes == ("age", "city")
    assert source.requests.context == ("device", "session")
    assert app.samples.tasks == ("purchase",)
    assert (app.samples.test_days, app.samples.valid_days) == (7, 3.5)
    assert app.value.formula == "p_purchase * price"
    log, _ = ingest(source.build(), tmp_path / "log")
    assert log.manifest.num_events == SIZE - sum(
        int(note.split()[0].replace(",", ""))
        for note in log.manifest.notes
        if "repeated events" in note
    )
    for feature in app.schema_.features.values():
        if feature.of in {"item", "user"} and feature.column:
            assert feature.column in (log.items if feature.of == "item" else log.users).columns
    assert log.manifest.context == ("device", "session")


def test_features_fit_the_columns(tmp_path, table):
    table.write_parquet(tmp_path / "t.parquet")
    text = starter(tmp_path / "t.parquet")
    features = parse(text, Start).schema_.features
    assert {n: f.encode for n, f in features.items() if f.of == "item"} == {
        "item": "id",
        "category": "vocabulary",
        "price": "bucket",
        "title": "vocabulary",
        "weight_kg": "bucket",
        "brand_id": "vocabulary",
    }
    assert features["weight_kg"].column == "weight.kg"
    assert {n: f.encode for n, f in features.items() if f.of == "user"} == {
        "user": "id",
        "age": "bucket",
        "city": "vocabulary",
    }
    assert '# session = { of = "context" }    # nearly every value is another' in text
    assert "session" not in features
    assert "# left out: seen_at" in text


@pytest.mark.parametrize(
    ("first", "unit"),
    [(1_700_000_000, "s"), (1_700_000_000_000, "ms"), (1_700_000_000_000_000, "us")],
)
def test_units_of_time_are_told_by_their_size(tmp_path, first, unit):
    file = tmp_path / "t.parquet"
    pl.DataFrame({"uid": [1, 2], "sku": [1, 1], "ts": [first, first + 1]}).write_parquet(file)
    app = parse(starter(file), Start)
    assert (app.source.events.time_unit, app.samples.tasks) == (unit, ("event",))


def test_dates_and_text_are_times_too(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("uid,sku,ts\n1,2,2019-10-01 00:00:00 UTC\n1,3,2019-10-09 00:00:00 UTC\n")
    app = parse(starter(file), Start)
    assert app.source.events.time_unit == "datetime"
    assert app.samples.test_days == 1
    assert app.source.build().read().events["time_ms"][0] == 1_569_888_000_000


def test_what_cannot_be_guessed_is_asked_for(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("who,what,ts\n1,2,1600000000\n")
    with pytest.raises(DataError, match=r"no column looks like the user; .* --user COLUMN"):
        starter(file)
    with pytest.raises(DataError, match=r"looks like the item; .* \(there are who, what, ts\)"):
        starter(file, user="who")
    with pytest.raises(DataError, match=r"no column 'whom'; did you mean 'who'"):
        starter(file, user="whom", item="what")
    app = parse(starter(file, user="who", item="what"), Start)
    assert (app.source.events.user, app.source.events.item) == ("who", "what")


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "header.csv").write_text("user,item,time\n")
    (tmp_path / "no.parquet").write_text("user,item,time\n")
    for name, message in (
        ("header.csv", "empty; there is not one row in it"),
        ("no.parquet", "cannot be read"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(DataError, match=message) as error:
            starter(Path(tmp_path / name))
        assert "\n" not in str(error.value)
