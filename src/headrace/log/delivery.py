"""How often items got into pre-ranking, on to the ranker and into slates: a Parquet file a day.

``delivery/2024-05-01.parquet``, beside a log's versions, has a row for each item that got into
pre-ranking on that day (UTC): ``item``, its raw id, and how many requests it ``entered``, in how
many it was ``passed`` to the ranker, in how many ``shown``. A log tells what was shown and what
came of it; this is what else was thought of. The server writes it (``serving/delivery.py``), as
does ``headrace prerank delivery``; so may any other program that knows.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError
from ..files import sync_folder
from .format import Log

Array = NDArray[Any]
FOLDER = "delivery"
ENTERED, PASSED, SHOWN = COLUMNS = ("entered", "passed", "shown")
SUFFIX = ".parquet"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the items that got into pre-ranking on one day."""

    item: Array  # (n,) int64, ascending numbers of the log's items
    count_3n: Array  # int64: entered, passed, shown

    @classmethod
    def of(cls, count_3I: Array) -> Counts:
        """Out of counts of every item."""
        item = np.flatnonzero(count_3I[0])
        return cls(item, count_3I[:, item].astype(np.int64))

    def plus(self, more: Counts) -> Counts:
        """Both together."""
        item, at = np.unique(np.concatenate([self.item, more.item]), return_inverse=True)
        count_3n = np.zeros((3, len(item)), np.int64)
        np.add.at(count_3n.T, at, np.concatenate([self.count_3n, more.count_3n], axis=1).T)
        return Counts(item, count_3n)


class DeliveryFiles:
    """The days' files of one log. A day is a number of days since 1970, as ``time_ms // DAY_MS``.

    A file is complete and on disk before it takes an old one's place.
    """

    def __init__(self, log: Log) -> None:
        self.folder = log.folder / FOLDER
        self._ids = log.items["item"].cast(pl.String)
        numbers = pl.Series("number", np.arange(len(self._ids)))
        self._rows = pl.DataFrame([self._ids, numbers])[1:]

    def days(self) -> list[int]:
        """The days that have counts, in order."""
        return sorted(
            (date.fromisoformat(path.stem) - EPOCH).days
            for path in self.folder.glob(f"????-??-??{SUFFIX}")
        )

    def read(self, day: int) -> Counts:
        """A day's counts, none if there is no file. Items that the log does not have are left out.

        Raises DataError if the file is damaged, or tells of more slates than requests.
        """
        path = self._path(day)
        if not path.exists():
            return Counts(np.zeros(0, np.int64), np.zeros((3, 0), np.int64))
        columns = [pl.col("item").cast(pl.String), *(pl.col(c).cast(pl.Int64) for c in COLUMNS)]
        try:
            table = pl.read_parquet(path).select(columns)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unusable(path, str(error).splitlines()[0]) from None
        ordered = (pl.col(SHOWN) >= 0) & (pl.col(SHOWN) <= pl.col(PASSED))
        if not table.select(
            (ordered & (pl.col(PASSED) <= pl.col(ENTERED))).fill_null(False).all()
        ).item():
            raise _unusable(path, "want 0 <= shown <= passed <= entered everywhere")
        known = (
            table.join(self._rows, on="item").drop("item").group_by("number").sum().sort("number")
        )
        return Counts(
            known["number"].to_numpy(), known.select(COLUMNS).to_numpy().T.astype(np.int64)
        )

    def write(self, day: int, counts: Counts) -> None:
        """Replace a day's counts. Raises DataError if they cannot be written."""
        path = self._path(day)
        draft = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        columns = zip(COLUMNS, counts.count_3n, strict=True)
        table = pl.DataFrame({"item": self._ids.gather(counts.item), **dict(columns)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                table.write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            sync_folder(self.folder)
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise DataError(f"{path}: cannot be written ({reason})") from None
        finally:
            draft.unlink(missing_ok=True)

    def drop(self, day: int) -> None:
        """Forget a day."""
        self._path(day).unlink(missing_ok=True)

    def _path(self, day: int) -> Path:
        return self.folder / f"{EPOCH + timedelta(days=day)}{SUFFIX}"


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: damaged ({why}); remove it, or count that day again with "
        "`headrace prerank delivery RUN`"
    )
