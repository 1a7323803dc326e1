"""Complete Journey in miniature: what is dropped, and what becomes what."""

from __future__ import annotations

import importlib.util
from datetime import datetime

import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log import ingest
from headrace.log.sources.complete_journey import CompleteJourney

PRODUCTS = [
    (100, 1, "GROCERY", "National", "FRZN ICE", "ICE", "22 LB"),
    (101, 1, "GROCERY", "Private", "FRZN ICE", "ICE", None),
    (102, 2, "FUEL", "National", "FUEL", "GASOLINE-REG UNLEADED", None),
    (103, 2, "MISCELLANEOUS", "National", "COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED", None),
    (104, 3, "COUPON", "National", "COUPONS", "COUPONS", None),
    (105, 3, "PASTRY", "National", None, None, None),
    (106, 3, "NEVER SEEN", "National", "X", "X", None),
]
WINTER, SUMMER = datetime(2017, 1, 2, 5, 30), datetime(2017, 7, 3, 4, 30)
LINES = [  # household, store, basket, product, quantity, sales, week, time
    (1, 7, 10, 100, 2, 3.0, 2, WINTER),
    (1, 7, 10, 100, 1, 1.0, 2, WINTER),
    (1, 7, 10, 105, 1, 4.0, 2, WINTER),
    (1, 7, 10, 102, 9000, 20.0, 2, WINTER),
    (1, 8, 11, 103, 9000, 20.0, 2, WINTER),
    (1, 8, 11, 104, 1, 1.0, 2, WINTER),
    (1, 8, 11, 100, 0, 0.0, 2, WINTER),
    (2, 7, 12, 999, 1, 5.0, 28, SUMMER),
    (3, 7, 13, 102, 9000, 20.0, 28, SUMMER),
]
PROMOTIONS = [
    (101, 7, "9", "0", 2),
    (100, 7, "0", "A", 2),
    (100, 7, "3", "A", 2),
    (100, 8, "0", "A", 2),
    (100, 7, "0", "A", 3),
]


@pytest.fixture
def folder(tmp_path):
    def put(name: str, columns: str, rows: list) -> None:
        frame = pl.DataFrame(rows, schema=columns.split(), orient="row")
        frame.write_parquet(tmp_path / f"{name}.parquet")

    put(
        "products",
        "product_id manufacturer_id department brand product_category product_type package_size",
        PRODUCTS,
    )
    put(
        "transactions",
        "household_id store_id basket_id product_id quantity sales_value week transaction_timestamp",
        LINES,
    )
    put("promotions", "product_id store_id display_location mailer_location week", PROMOTIONS)
    put("demographics", "household_id age", [(1, "45-54"), (5, "65+")])
    return tmp_path


def test_what_becomes_what(folder):
    source = CompleteJourney(CompleteJourney.Config(folder=folder))
    log, _ = ingest(source, folder / "log")
    assert log.users.to_dict(as_series=False) == {
        "user": ["<unknown>", "1", "2", "3"],  # 3 bought nothing but fuel
        "age": [None, "45-54", None, None],
    }
    items = log.items.select("item", "category", "name", "price").rows()
    assert items[1:] == [
        ("100", "FRZN ICE", "ICE, FRZN ICE, 22 LB", pytest.approx(4 / 3)),
        ("101", "FRZN ICE", "ICE, FRZN ICE", pytest.approx(4 / 3)),  # never bought: as its type
        ("105", "<unknown>", "PRODUCT 105", 4.0),
        ("999", "<unknown>", "PRODUCT 999", 5.0),
    ]
    assert log.event("item").tolist() == [1, 3, 4]
    assert log.event("value").tolist() == [4.0, 4.0, 5.0]
    assert log.event("request").tolist() == [0, 0, 1]
    assert log.manifest.notes == (
        "1 purchase lines without a quantity dropped",
        "4 purchase lines of fuel and coupons dropped",
        "1 purchase lines added to one of the same product",
        "1 items never bought, priced like others of their type",
        "2 items without a category, named <unknown>",
        "1 repeated exposures (same group and item) dropped",
    )


def test_baskets_are_requests_that_saw_the_promotions_there_and_then(folder):
    log, _ = ingest(CompleteJourney(CompleteJourney.Config(folder=folder)), folder / "log")
    assert log.request("time_ms").tolist() == [
        int(datetime.fromisoformat(text).timestamp() * 1000)
        for text in ("2017-01-02T00:30:00+00:00", "2017-07-03T00:30:00+00:00")
    ]
    assert [log.vocab["store"][c] for c in log.request("store")] == ["7", "7"]
    assert log.request("group").tolist() == [0, -1]
    assert log.exposure("offsets").tolist() == [0, 2]
    assert log.exposure("item").tolist() == [1, 2]
    assert [log.vocab["display"][c] for c in log.exposure("display")] == ["0", "9"]
    assert [log.vocab["mailer"][c] for c in log.exposure("mailer")] == ["A", "0"]


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"not installed; run pip install 'headrace\[demo\]'"):
        CompleteJourney(CompleteJourney.Config()).fingerprint()


def test_a_package_without_its_files(tmp_path):
    source = CompleteJourney(CompleteJourney.Config(folder=tmp_path))
    with pytest.raises(DataError, match=r"transactions\.parquet: no such file"):
        source.read()


def test_files_of_another_form(folder):
    pl.DataFrame({"a": [1]}).write_parquet(folder / "transactions.parquet")
    with pytest.raises(DataError, match="cannot be read") as error:
        CompleteJourney(CompleteJourney.Config(folder=folder)).read()
    assert "\n" not in str(error.value)
