"""Numbers for raw ids and codes for names: what was numbered once keeps its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError

Array = NDArray[Any]
UNKNOWN_NAME = "<unknown>"
DENSE = 4  # a table over all integers in the ids' range pays up to so many times their number
MIN_SPAN = 1 << 16


def number(
    key: str,
    table: pl.DataFrame | None,
    mentions: Sequence[pl.DataFrame | None],
    known: pl.DataFrame | None,
) -> pl.DataFrame:
    """One row an id, the unknown one first, known ones in their old rows; attributes joined.

    New ids follow in the order of ``table``, then those only mentioned, ascending. What ``table``
    says of an id replaces what was known of it, except where it says nothing (null).
    """
    ids = [pl.Series(key, [UNKNOWN_NAME])] if known is None else [known[key]]
    if table is not None:
        table = _text_key(table, key)
        ids.append(table[key])
    for frame in mentions:
        if frame is not None:
            ids.append(frame[key].unique().drop_nulls().sort().cast(pl.String))
    numbered = pl.concat([s.to_frame() for s in ids]).unique(maintain_order=True)
    for about in (known, table):
        numbered = numbered if about is None else _update(numbered, about, key)
    return numbered


def _text_key(table: pl.DataFrame, key: str) -> pl.DataFrame:
    return (
        table.drop_nulls(key)
        .with_columns(pl.col(key).cast(pl.String))
        .unique(key, keep="first", maintain_order=True)
    )


def _update(numbered: pl.DataFrame, about: pl.DataFrame, key: str) -> pl.DataFrame:
    joined = numbered.join(about, on=key, how="left", maintain_order="left", suffix=":new")
    both = [c for c in about.columns if f"{c}:new" in joined.columns]
    for column in both:
        if joined[column].dtype != joined[f"{column}:new"].dtype:
            joined = _agree(joined, column, key)
    return joined.with_columns(pl.coalesce(f"{c}:new", c).alias(c) for c in both).drop(
        f"{c}:new" for c in both
    )


def _agree(joined: pl.DataFrame, column: str, key: str) -> pl.DataFrame:
    """Cast a later day's attribute to the type that the log has for it."""
    new, dtype = f"{column}:new", joined[column].dtype
    try:
        return joined.with_columns(pl.col(new).cast(dtype))
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{key}s: column {column!r} is {joined[new].dtype}, in the log {dtype}; "
            "give it the same type, or ingest all anew"
        ) from None


def codes(ids: pl.Series, table: pl.DataFrame, key: str) -> Array:  # (N,) int32
    """Replace raw ids by the rows of their table; null becomes 0, the unknown."""
    distinct = ids.unique().drop_nulls()
    rows = table.select(pl.col(key).alias("name")).with_row_index("row")
    mapping = (
        pl.DataFrame({"id": distinct, "name": distinct.cast(pl.String)})
        .join(rows, on="name", how="left")
        .select("id", pl.col("row").cast(pl.Int32).fill_null(0))
    )
    whole = ids.dtype.is_integer() or isinstance(ids.dtype, pl.Categorical | pl.Enum)
    if whole and mapping.height:
        key_of, lowest, span = _dense(mapping["id"])
        if span <= max(DENSE * len(ids), MIN_SPAN):
            look_up = np.zeros(span + 1, np.int32)  # the last is for null
            look_up[key_of - lowest] = mapping["row"]
            place = (ids.to_physical() - lowest).fill_null(span)
            return pl.Series(look_up).gather(place).to_numpy()
    coded = ids.alias("id").to_frame().join(mapping, on="id", how="left", maintain_order="left")
    return coded["row"].fill_null(0).to_numpy()


def _dense(distinct: pl.Series) -> tuple[Array, int, int]:
    """Ids as the integers they are stored as, with the lowest and the span of them."""
    stored = distinct.to_physical().to_numpy()
    lowest, highest = int(stored.min()), int(stored.max())
    return stored, lowest, highest - lowest + 1


def vocabulary(values: pl.Series, name: str, vocab: dict[str, list[str]]) -> Array:
    """Code a column of names, ``(N,) int32``, extending ``vocab[name]``; code 0 is the unknown."""
    names = vocab.setdefault(name, [UNKNOWN_NAME])
    known = set(names)
    found = values.unique().drop_nulls().cast(pl.String).unique().sort().to_list()
    names += [v for v in found if v not in known]
    return codes(values, pl.DataFrame({name: names}), name)
