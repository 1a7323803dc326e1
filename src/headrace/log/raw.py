"""What an adapter hands over, and what is checked and mended of it before it becomes a log."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import polars as pl

from ..errors import DataError, suggest
from ._ids import UNKNOWN_NAME

DAY_MS = 86_400_000
_AS_IS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """What an adapter hands over. Ids may be integers or strings; every frame may hold more rows.

    events      user, item, time_ms (unix epoch); optional: type (default "event"), value (default
                0), request (a key of ``requests``, which come with the same RawLog)
    items       item; optional: category, price, further attributes
    users       user, further attributes
    requests    user, time_ms; optional: request (the key), group (a key of ``exposures``), and
                context columns. Without it, the events of one user at one time are one request.
    exposures   group, item; optional further columns: what each request of the group was shown
    """

    events: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    requests: pl.DataFrame | None = None
    exposures: pl.DataFrame | None = None
    event_types: tuple[str, ...] = ()  # fixes the order of type codes; others follow
    notes: tuple[str, ...] = ()


@dataclass
class Notes:
    """What was dropped or mended, one line each, for the manifest and the user."""

    lines: list[str] = field(default_factory=list[str])

    def add(self, count: int, what: str) -> None:
        """Keep a note of ``count`` cases, if there are any."""
        if count:
            self.lines.append(f"{count:,} {what}")


def clean(raw: RawLog, notes: Notes) -> RawLog:
    """Check names and types, drop rows without ids or time, and give columns their final types."""
    if raw.events.height == 0:
        raise DataError("events: the log is empty; check the paths and filters of the source")
    return dataclasses.replace(
        raw,
        events=_clean_events(raw.events, notes),
        items=raw.items if raw.items is None else _clean_items(raw.items),
        users=raw.users if raw.users is None else check_ids(raw.users, "users", ("user",)),
        requests=raw.requests if raw.requests is None else _clean_requests(raw.requests, notes),
        exposures=raw.exposures if raw.exposures is None else _clean_shown(raw.exposures, notes),
    )


def mend_items(items: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Give every item a category name, and a price that can be multiplied."""
    if "category" not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias("category"))
    if "price" not in items.columns:
        items = items.with_columns(pl.lit(0.0, pl.Float32).alias("price"))
    category, price = items["category"], items["price"]
    usable = ((price >= 0) & price.is_finite()).fill_null(value=False)
    notes.add(category[1:].null_count(), f"items without a category, named {UNKNOWN_NAME}")
    notes.add(int((~usable[1:]).sum()), "item prices missing, negative or not finite, set to 0")
    return items.with_columns(
        category.fill_null(UNKNOWN_NAME),
        pl.when(usable).then(price).otherwise(0.0).cast(pl.Float32).alias("price"),
    )


def _clean_events(events: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    if "type" not in events.columns:
        events = events.with_columns(pl.lit("event", pl.Categorical).alias("type"))
    if "value" not in events.columns:
        events = events.with_columns(pl.lit(0.0, pl.Float32).alias("value"))
    keys = ("user", "item", "type", *(["request"] if "request" in events.columns else []))
    _column(events, "events", "time_ms")
    events = check_ids(events, "events", keys).select(*keys, "time_ms", "value")
    whole = _with_times(events, "events", ["user", "item", "time_ms", "type"], notes)
    if whole.height == 0:
        raise DataError("events: none is left after dropping rows without user, item or time")
    value = check_numbers(whole, "events", ["value"])["value"]
    bad = ~value.is_finite().fill_null(value=False)
    notes.add(int(bad.sum()), "event values missing or not finite, set to 0")
    return whole.with_columns(value.set(bad, 0.0) if bad.any() else value)


def _clean_items(items: pl.DataFrame) -> pl.DataFrame:
    items = check_ids(items, "items", ("item",))
    if "category" in items.columns:
        items = check_ids(items, "items", ("category",)).with_columns(
            pl.col("category").cast(pl.String)
        )
    if "price" in items.columns:
        items = check_numbers(items, "items", ["price"])
    return items


def _clean_requests(requests: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    keys = ("user", *(c for c in ("request", "group") if c in requests.columns))
    requests = check_ids(requests, "requests", keys)
    return _with_times(requests, "requests", ["user", "time_ms"], notes)


def _clean_shown(exposures: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    exposures = check_ids(exposures, "exposures", ("group", "item"))
    return _drop_nulls(exposures, "exposures", ["group", "item"], notes)


def check_ids(
    frame: pl.DataFrame, name: str, columns: Sequence[str], called: Mapping[str, str] = _AS_IS
) -> pl.DataFrame:
    """Check that id columns are there and are integers or strings: 1.0 is not the id 1.

    Errors speak of the frame as ``name`` and of a column as ``called`` in the user's data.
    """
    for column in columns:
        dtype = _column(frame, name, column).dtype
        text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
        if isinstance(dtype, pl.Null):  # nothing in it: any type will do
            frame = frame.with_columns(pl.col(column).cast(pl.String))
        elif not (text or dtype.is_integer()):
            _wrong_type(name, called.get(column, column), dtype, "integers or strings")
    return frame


def check_numbers(
    frame: pl.DataFrame, name: str, columns: Sequence[str], called: Mapping[str, str] = _AS_IS
) -> pl.DataFrame:
    """Check that columns hold numbers, and narrow them to float32."""
    for column in columns:
        dtype = frame[column].dtype
        if not (dtype.is_numeric() or isinstance(dtype, pl.Null | pl.Boolean)):
            _wrong_type(name, called.get(column, column), dtype, "numbers")
    return frame.with_columns(pl.col(c).cast(pl.Float32) for c in columns)


def _with_times(frame: pl.DataFrame, name: str, columns: list[str], notes: Notes) -> pl.DataFrame:
    """Drop rows without ids or time; refuse times that have not come yet."""
    dtype = _column(frame, name, "time_ms").dtype
    if dtype != pl.Int64:
        _wrong_type(name, "time_ms", dtype, "int64, milliseconds since 1970")
    frame = _drop_nulls(frame, name, columns, notes)
    late = frame["time_ms"].filter(frame["time_ms"] > int(time.time() * 1000) + DAY_MS)
    if late.len():
        raise DataError(
            f"{name}: {late.len():,} lie in the future, the first at time_ms={late[0]}; "
            "is the time unit right?"
        )
    return frame


def _drop_nulls(frame: pl.DataFrame, name: str, columns: list[str], notes: Notes) -> pl.DataFrame:
    if not any(frame[c].null_count() for c in columns):
        return frame
    whole = frame.drop_nulls(columns)
    notes.add(frame.height - whole.height, f"{name} without {' or '.join(columns)} dropped")
    return whole


def _column(frame: pl.DataFrame, name: str, column: str) -> pl.Series:
    if column not in frame.columns:
        raise DataError(f"{name}: no column {column!r}; {suggest(column, frame.columns)}")
    return frame[column]


def _wrong_type(name: str, column: str, dtype: pl.DataType, wanted: str) -> NoReturn:
    raise DataError(f"{name}: column {column!r} is {dtype}, want {wanted}")
