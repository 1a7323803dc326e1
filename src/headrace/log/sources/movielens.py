"""MovieLens in RecBole's atomic files, straight out of its wheel: real ratings of 2 MB.

``pip download recbole==1.2.1 --no-deps`` gets the wheel, which carries MovieLens-100K (Harper and
Konstan, The MovieLens Datasets, 2015): 100,000 ratings of 1,682 movies by 943 users. The files are
``NAME.inter``, ``NAME.item`` and ``NAME.user``, tab-separated, with headers like ``user_id:token``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, final

import polars as pl

from ...config import Config as Settings
from ...errors import DataError
from ..raw import RawLog
from ._base import FileSource, check_names, find_files, readable, to_ms

PARTS = (".inter", ".item", ".user")


@final
class Movielens(FileSource):
    """Reads ratings as events of type rate; a movie's category is the first of its genres."""

    class Config(Settings):
        """Where the files are."""

        kind: Literal["movielens"] = "movielens"
        path: Path
        """The wheel file of recbole, or a folder with the three files."""
        name: str = "ml-100k"
        """What the files are called before their endings."""

        def build(self) -> Movielens:
            """Make the source."""
            return Movielens(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def files(self) -> Sequence[Path]:
        path = self.config.path
        if path.is_dir():
            return [file for part in PARTS for file in find_files(path / (self.config.name + part))]
        return find_files(path)

    def read(self) -> RawLog:
        numbers = ("rating", "timestamp")
        ratings = self._table(".inter", ("user_id", "item_id", *numbers), numbers)
        movies = self._table(".item", ("item_id", "movie_title", "class"))
        users = self._table(".user", ("user_id",))
        return RawLog(
            events=ratings.select(
                pl.col("user_id").alias("user"),
                pl.col("item_id").alias("item"),
                to_ms(ratings["timestamp"], "s", "timestamp").alias("time_ms"),
                pl.lit("rate", pl.Categorical).alias("type"),
                pl.col("rating").alias("value"),
            ),
            items=movies.select(
                pl.col("item_id").alias("item"),
                pl.col("class").str.split(" ").list.first().alias("category"),
                pl.col("movie_title").alias("name"),
                pl.col("class").alias("genres"),
                pl.exclude("item_id", "movie_title", "class"),
            ),
            users=users.rename({"user_id": "user"}),
        )

    def _table(
        self, part: str, columns: Sequence[str], numbers: Sequence[str] = ()
    ) -> pl.DataFrame:
        """One of the files, text but for ``numbers``, with its headers freed of types."""
        place = self.config.path / (self.config.name + part)
        with readable(place):
            table = pl.read_csv(
                self._content(part), separator="\t", infer_schema=False, quote_char=None
            )
            table = table.rename(lambda header: header.split(":")[0])
            check_names(place, columns, table.columns)
            return table.with_columns(pl.col(number).cast(pl.Float64) for number in numbers)

    def _content(self, part: str) -> bytes:
        name = self.config.name + part
        if self.config.path.is_dir():
            return (self.config.path / name).read_bytes()
        path = self.files()[0]
        try:
            with zipfile.ZipFile(path) as wheel:
                for inside in wheel.namelist():
                    if PurePosixPath(inside).name == name:
                        return wheel.read(inside)
        except zipfile.BadZipFile:
            raise DataError(f"{path}: neither a folder nor a wheel; give one of them") from None
        raise DataError(
            f"{path}: holds no {name}; get it by `pip download recbole==1.2.1 --no-deps`"
        )
