"""Taobao UserBehavior: 100 M views, carts, favourites and buys of a million users in nine days.

The data set of Zhu et al., Learning Tree-based Deep Model for Recommender Systems (KDD 2018), as
published on Tianchi: a CSV without header, ``user,item,category,behavior,timestamp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Literal, final

import polars as pl

from ...config import Config as Settings
from ..raw import RawLog
from ._base import FileSource, find_files, local_ms, readable

BEHAVIORS = ("pv", "cart", "fav", "buy")
COLUMNS = {
    "user": pl.Int32(),
    "item": pl.Int32(),
    "category": pl.Int32(),
    "type": pl.Enum(BEHAVIORS),
    "time": pl.Int64(),
}


@final
class Taobao(FileSource):
    """Reads UserBehavior.csv; event types are pv (view), cart, fav (favourite) and buy."""

    class Config(Settings):
        """Where the file is, and which days of it to keep."""

        kind: Literal["taobao"] = "taobao"
        path: Path
        """UserBehavior.csv, or a folder of CSV files like it."""
        first_day: date = date(2017, 11, 25)
        """Earlier events are dropped: the file holds some with stamps that cannot be."""
        last_day: date = date(2017, 12, 3)
        """Later events are dropped."""

        def build(self) -> Taobao:
            """Make the source."""
            return Taobao(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def files(self) -> Sequence[Path]:
        return find_files(self.config.path, (".csv", ".csv.gz"))

    def read(self) -> RawLog:
        """Times become the wall clock of Shanghai, which the nine days are counted in."""
        c = self.config
        stamp = pl.from_epoch("time", time_unit="s")
        with readable(c.path):
            rows = pl.scan_csv(list(self.files()), has_header=False, schema=COLUMNS)
            events = rows.with_columns(local_ms(stamp, "Asia/Shanghai").alias("time_ms")).drop(
                "time"
            )
            day = pl.from_epoch("time_ms", time_unit="ms").dt.date()
            events = events.with_columns(day.is_between(c.first_day, c.last_day).alias("usable"))
            table = events.collect()
        usable = table["usable"].fill_null(value=False)
        dropped = table.height - int(usable.sum())
        note = f"{dropped:,} events outside {c.first_day} to {c.last_day} dropped"
        table = table.filter(usable).drop("usable") if dropped else table.drop("usable")
        return RawLog(
            events=table.drop("category"),
            items=table.select("item", "category").unique("item", keep="first").sort("item"),
            event_types=BEHAVIORS,
            notes=(note,) if dropped else (),
        )
