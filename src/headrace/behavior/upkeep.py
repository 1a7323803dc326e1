"""What an operator does with a store: load events, make them part of the log."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from ..errors import DataError, suggest
from ..log import Log, RawLog, write_log
from .base import EventStore, RawEvent, Receipt

BATCH = 1_000
DAY_MS = 86_400_000
TEXT = ("event_id", "user", "item", "type")
NEEDED = ("user", "item", "type", "time_ms")
COMPACTED = "compacted"  # in the run's events/


def load_file(
    store: EventStore, log: Log, path: Path, tell: Callable[[int, int], None] | None = None
) -> Receipt:
    """Append the events of a Parquet or CSV file: user, item, type, time_ms; value, event_id.

    Events without an id have one that follows from what they say, so that loading twice adds
    nothing. Raises DataError on a file that cannot be read, and on items, types or values that the
    log does not take, before anything is appended.
    """
    table = _checked(_read(path), store, log, path)
    accepted, duplicates = 0, 0
    for start in range(0, table.height, BATCH):
        batch = [RawEvent(*row) for row in table[start : start + BATCH].rows()]
        (receipt,) = store.append([batch])
        accepted, duplicates = accepted + receipt.accepted, duplicates + receipt.duplicates
        if tell is not None:
            tell(start + len(batch), table.height)
    return Receipt(accepted, duplicates)


def compact(store: EventStore, log_path: Path, folder: Path) -> tuple[Log, int]:
    """Make what has been appended a later day of the log, and let the store go of it.

    The events are also kept as a Parquet file below ``folder``, since a log that is rebuilt from
    its source lacks them. Killed at any moment, it loses nothing and may be run again. Returns the
    log and the number of events.
    """
    events, mark = store.export()
    if events.height == 0:
        return Log.open(log_path), 0
    name = hashlib.blake2b(events.write_csv().encode(), digest_size=8).hexdigest()
    archive = folder / COMPACTED / f"{int(events['time_ms'].to_numpy().max())}-{name}.parquet"
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft = archive.with_suffix(".draft")
        events.write_parquet(draft)
        draft.replace(archive)
    except OSError as error:
        raise DataError(f"{archive}: cannot be written ({error}); nothing was compacted") from None
    raw = RawLog(events=events.drop("event_id"))
    log = write_log(log_path, raw, f"store {name}", append=True)
    store.release(mark, log)
    return log, events.height


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        # ids that look like numbers are text all the same: 007 is not 7
        return pl.read_csv(path, schema_overrides=dict.fromkeys(TEXT, pl.String))
    except (OSError, pl.exceptions.PolarsError) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as {path.suffix or 'CSV'} ({told})") from None


def _checked(table: pl.DataFrame, store: EventStore, log: Log, path: Path) -> pl.DataFrame:
    """The file's events as RawEvent rows."""
    for column in NEEDED:
        if column not in table.columns:
            near = suggest(column, table.columns)
            raise DataError(f"{path}: no column {column!r}; {near}")
    defaults = {"value": pl.lit(0.0), "event_id": pl.lit(None, pl.String)}
    table = table.with_columns(e.alias(n) for n, e in defaults.items() if n not in table.columns)
    try:
        table = table.select(
            *(pl.col(name).cast(pl.String) for name in TEXT),
            pl.col("time_ms").cast(pl.Int64),
            pl.col("value").cast(pl.Float64).fill_null(0.0),
        )
    except pl.exceptions.PolarsError as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{path}: time_ms and value must be numbers ({told})") from None
    for column in NEEDED:
        if table[column].null_count():
            row = int(table[column].is_null().arg_max() or 0)
            raise DataError(f"{path}: row {row + 1} has no {column}")
    endless = ~table["value"].is_finite()
    if endless.any():
        row = int(endless.arg_max() or 0)
        raise DataError(f"{path}: row {row + 1}: value {table['value'][row]} is no finite number")
    ahead = table["time_ms"] > time.time_ns() // 1_000_000 + DAY_MS
    if ahead.any():
        row = int(ahead.arg_max() or 0)
        raise DataError(
            f"{path}: row {row + 1}: time_ms {table['time_ms'][row]} lies in the future; is it in "
            "milliseconds?"
        )
    for row, kind in enumerate(table["type"]):
        if kind not in log.manifest.event_types:
            near = suggest(kind, log.manifest.event_types)
            raise DataError(f"{path}: row {row + 1}: no type {kind!r} in the log; {near}")
    unknown = store.items.rows(table["item"].to_list()) == 0
    if unknown.any():
        row = int(unknown.argmax())
        raise DataError(
            f"{path}: row {row + 1}: no item {table['item'][row]!r} in the log; ingest it first"
        )
    said = pl.concat_str(pl.lit("said"), "user", "item", "type", "time_ms", separator="\x1f")
    return table.with_columns(pl.coalesce("event_id", said).alias("event_id"))
