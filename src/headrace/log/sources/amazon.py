"""Amazon reviews with their products' metadata, as JSON lines of 2014, 2018 or 2023.

Ni et al., Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained Aspects
(EMNLP 2019) and Hou et al., Bridging Language and Items for Retrieval and Recommendation (2024)
describe them. Field names of all three publications are known; a file may be gzipped. The metadata
of 2014 were published as Python literals: turn them into JSON first (``ast.literal_eval``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import polars as pl
from pydantic import Field

from ...config import Config as Settings
from ...errors import DataError
from ..raw import RawLog
from ._base import FileSource, find_files, readable

SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
REVIEW = {  # the first of 2023, the second of 2014 and 2018
    "parent_asin": pl.String(),
    "asin": pl.String(),
    "user_id": pl.String(),
    "reviewerID": pl.String(),
    "timestamp": pl.Int64(),  # ms
    "unixReviewTime": pl.Int64(),  # s
    "rating": pl.Float32(),
    "overall": pl.Float32(),
}
PRODUCT = {
    "parent_asin": pl.String(),
    "asin": pl.String(),
    "title": pl.String(),
    "price": pl.String(),  # 12.99, "$12.99", "$1,299.00 - $2,000.00", "" or markup that was scraped
    "store": pl.String(),
    "brand": pl.String(),
    "main_category": pl.String(),
    "main_cat": pl.String(),
    "categories": pl.List(pl.String()),  # of 2014: lists in a list, read as JSON text
    "category": pl.List(pl.String()),
}


@final
class Amazon(FileSource):
    """Reads reviews as events of type rate, their value the stars given."""

    class Config(Settings):
        """Where the files are."""

        kind: Literal["amazon"] = "amazon"
        reviews: Path
        """Reviews as JSON lines, .gz or not, or a folder of such files."""
        metadata: Path | None = None
        """The products of the reviews, likewise."""
        category_level: int = Field(default=1, ge=0, le=20)
        """Which of a product's categories, from coarse to fine, is its category here; the first,
        0, is the same for most products of a file. Products with fewer have their finest."""

        def build(self) -> Amazon:
            """Make the source."""
            return Amazon(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def files(self) -> Sequence[Path]:
        paths = (self.config.reviews, self.config.metadata)
        return [file for path in paths if path is not None for file in find_files(path, SUFFIXES)]

    def read(self) -> RawLog:
        metadata = self.config.metadata
        return RawLog(
            events=_reviews(self.config.reviews),
            items=_products(metadata, self.config.category_level) if metadata else None,
        )


def _reviews(path: Path) -> pl.DataFrame:
    lines = _json_lines(path, REVIEW)
    return lines.select(
        pl.coalesce("user_id", "reviewerID").alias("user"),
        pl.coalesce("parent_asin", "asin").alias("item"),
        pl.coalesce("timestamp", pl.col("unixReviewTime") * 1000).alias("time_ms"),
        pl.lit("rate", pl.Categorical).alias("type"),
        pl.coalesce("rating", "overall").alias("value"),
    )


def _products(path: Path, level: int) -> pl.DataFrame:
    lines = _json_lines(path, PRODUCT)
    first = pl.col("categories").list.first()
    nested = pl.when(first.str.starts_with("[")).then(first).str.json_decode(pl.List(pl.String))
    levels = pl.coalesce(nested, "categories", "category")
    at = pl.min_horizontal(pl.lit(level), levels.list.len().cast(pl.Int64) - 1)
    amount = pl.col("price").str.extract(r"^\s*\$?\s*([\d,]*\.?\d+)")
    return lines.select(
        pl.coalesce("parent_asin", "asin").alias("item"),
        levels.list.get(at, null_on_oob=True).alias("category"),
        amount.str.replace_all(",", "").cast(pl.Float32).alias("price"),
        pl.col("title").alias("name"),
        pl.coalesce("store", "brand").alias("brand"),
        pl.coalesce("main_category", "main_cat").alias("department"),
    )


def _json_lines(path: Path, fields: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Read the wanted fields of each line; fields that a publication lacks are null."""
    files = find_files(path, SUFFIXES)
    with readable(path):
        lines = pl.scan_ndjson(files, schema=fields).collect()
    if lines.select(pl.coalesce("parent_asin", "asin").null_count()).item() == lines.height:
        raise DataError(f"{path}: no line has an asin; are these Amazon reviews or metadata?")
    return lines
