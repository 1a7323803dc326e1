"""What every adapter is, and how all of them read files: one clear line for whatever is wrong."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import polars as pl

from ...config import Config
from ...errors import DataError, suggest
from ..raw import RawLog, check_ids, check_numbers

TimeUnit = Literal["s", "ms", "us", "datetime"]

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
PEEK = 10_000  # rows that tell a type
OLDEST_MS = 315_532_800_000  # 1980: no log is older, but a wrong time unit makes it look so
_NONE: Mapping[str, str | None] = {}
NO_NUMBER = ["", "NA", "NaN", "nan", "NULL", "null", "None", "\\N"]


class FileSource(ABC):
    """A source that reads files. Built from a ``Config``; reads nothing until asked."""

    def __init__(self, config: Config) -> None:
        self._settings = config

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """The files it reads; DataError when one is missing."""

    @abstractmethod
    def read(self) -> RawLog:
        """Everything in them; DataError when they are not what the settings say."""

    def fingerprint(self) -> str:
        """Tell states of the data apart: by settings, and names, sizes and times of the files."""
        told = [self._settings.model_dump_json()]
        for file in self.files():
            state = file.stat()
            told.append(f"{file.name} {state.st_size} {state.st_mtime_ns}")
        kind = type(self).__module__.rsplit(".", 1)[-1]
        return f"{kind}-{hashlib.blake2b('|'.join(told).encode(), digest_size=8).hexdigest()}"


def find_files(path: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The file at ``path``, or the files of a folder with one of these endings, by name."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.endswith(tuple(suffixes)))
        if not found:
            raise DataError(f"{path}: no file here ends in {', '.join(suffixes)}")
        return found
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the paths under [source]")
    return [path]


@contextmanager
def readable(place: Path) -> Generator[None, None, None]:
    """Turn what a reader complains of into one line that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise DataError(f"{place}: cannot be read ({reason})") from None


def read_table(
    path: Path,
    *,
    ids: Mapping[str, str | None],
    names: Mapping[str, str | None] = _NONE,
    numbers: Mapping[str, str | None] = _NONE,
    time: str | None = None,
    time_unit: TimeUnit = "s",
    others: Sequence[str] | None = (),
    peek: int | None = None,
) -> pl.DataFrame:
    """Read the columns a role needs under our names, and ``others`` (None: all) under their own.

    ``ids``, ``names`` (ids of which there are few) and ``numbers`` say which of their columns is
    which of ours; those of value None are left out. Ids and names in CSV are text, so that 007
    stays 007. The column ``time`` becomes ``time_ms``. Types of others in CSV are guessed from the
    first ``peek`` rows (None: from all).
    """
    id_of, name_of, number_of = map(_given, (ids, names, numbers))
    column_of = {**id_of, **name_of, **number_of, **_given({"time_ms": time})}
    files = find_files(path)
    with readable(path):
        text = [*id_of.values(), *name_of.values(), *number_of.values()]
        frame = open_table(files, text, peek)
        there = frame.collect_schema()
        others = [c for c in there if c not in column_of.values()] if others is None else others
        check_names(path, [*column_of.values(), *others], there.names())
        _check_clash(path, column_of, others)
        chosen = {ours: pl.col(c) for ours, c in column_of.items()}
        for ours, column in name_of.items():
            if isinstance(there[column], pl.String):  # 4 bytes a row, not 16
                chosen[ours] = pl.col(column).cast(pl.Categorical)
        if not _is_parquet(files):
            chosen |= {ours: _parsed(column) for ours, column in number_of.items()}
        table = frame.select(*(c.alias(ours) for ours, c in chosen.items()), *others).collect()
    if table.height == 0:
        raise DataError(f"{path}: empty; there is not one row in it")
    table = check_ids(table, str(path), [*id_of, *name_of], {**id_of, **name_of})
    table = check_numbers(table, str(path), list(number_of), number_of)
    if time is not None:
        table = table.with_columns(to_ms(table["time_ms"], time_unit, f"{path}: column {time!r}"))
    return table


def _given(columns: Mapping[str, str | None]) -> dict[str, str]:
    return {ours: column for ours, column in columns.items() if column is not None}


def _is_parquet(files: Sequence[Path]) -> bool:
    return files[0].suffix == ".parquet"


def open_table(
    files: Sequence[Path], text: Sequence[str] = (), peek: int | None = PEEK
) -> pl.LazyFrame:
    """Open Parquet or CSV files of one shape; ``text`` are CSV columns left as they are."""
    if _is_parquet(files):
        return pl.scan_parquet(list(files))
    return pl.scan_csv(
        list(files),
        separator="\t" if ".tsv" in files[0].suffixes else ",",
        schema_overrides=dict.fromkeys(text, pl.String()),
        infer_schema_length=peek,
    )


def _parsed(column: str) -> pl.Expr:
    """Numbers out of CSV text, whatever the writer put where there was none."""
    value = pl.col(column)
    return pl.when(value.is_in(NO_NUMBER)).then(None).otherwise(value).cast(pl.Float32)


def _check_clash(path: Path, column_of: Mapping[str, str], others: Sequence[str]) -> None:
    for name in sorted(column_of.keys() & set(others)):
        raise DataError(
            f"{path}: column {name!r} clashes with what headrace calls {column_of[name]!r}; "
            "rename it, or list the columns to keep without it"
        )


def check_names(place: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Refuse a file that lacks a column."""
    for column in wanted:
        if column not in there:
            raise DataError(f"{place}: no column {column!r}; {suggest(column, there)}")


def to_ms(time: pl.Series, unit: TimeUnit, place: str) -> pl.Series:
    """Milliseconds since 1970, ``int64``, null where there is no time; a time of no zone is UTC."""
    if unit == "datetime":
        return _datetime_ms(time, place)
    if not time.dtype.is_numeric():
        raise DataError(
            f"{place} is {time.dtype}, such as {_first(time)}; "
            'set time_unit = "datetime" for dates and text'
        )
    if time.dtype.is_float():
        time = time.fill_nan(None)
        ms = (time * (1000 / PER_SECOND[unit])).round().cast(pl.Int64, strict=False)
    else:
        ms = time.cast(pl.Int64) * 1000 // PER_SECOND[unit]
    last = ms.max()
    if isinstance(last, int) and last < OLDEST_MS:
        raise DataError(
            f"{place} ends at {_first(time.filter(ms == last))}, "
            f'which is before 1980 if time_unit = "{unit}"; choose another unit'
        )
    return ms


def local_ms(utc: pl.Expr, zone: str) -> pl.Expr:
    """The wall clock of a time zone as if it were UTC, in ms.

    For data of one zone: hours, weekdays and days then are those that people there lived by.
    """
    return (
        utc.dt.replace_time_zone("UTC")
        .dt.convert_time_zone(zone)
        .dt.replace_time_zone(None)
        .dt.epoch("ms")
    )


def _datetime_ms(time: pl.Series, place: str) -> pl.Series:
    if time.dtype.is_numeric():
        raise DataError(
            f'{place} holds numbers, such as {_first(time)}; set time_unit = "s", "ms" or "us"'
        )
    if isinstance(time.dtype, pl.String):
        parsed = time.str.strip_suffix(" UTC").str.to_datetime(
            time_zone="UTC", time_unit="ms", strict=False
        )
        wrong = time.filter(parsed.is_null() & time.is_not_null())
        if wrong.len():
            raise DataError(
                f"{place}: {_first(wrong)} is no time, or of another form than {_first(time)}; "
                "write all times alike, as in 2024-12-31T23:59:59Z"
            )
        time = parsed
    return time.cast(
        pl.Datetime("ms", time.dtype.time_zone if isinstance(time.dtype, pl.Datetime) else None)
    ).dt.epoch("ms")


def _first(values: pl.Series) -> str:
    whole = values.drop_nulls()
    return repr(whole[0]) if whole.len() else "null"
