"""Ingesting is done once for one state of the data."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log import Log, RawLog, ingest


@dataclasses.dataclass
class Days:
    """A source that counts how often it is read."""

    name: str
    time_ms: int = 1
    reads: int = 0

    def fingerprint(self) -> str:
        return self.name

    def read(self) -> RawLog:
        self.reads += 1
        events = {"user": [1, 2], "item": [1, 1], "time_ms": [self.time_ms] * 2}
        return RawLog(events=pl.DataFrame(events))


def test_ingesting_twice_reads_once(tmp_path):
    source = Days("a")
    log, changed = ingest(source, tmp_path / "deep" / "log")
    assert changed
    assert log.manifest.sources == ("a",)
    again, changed = ingest(source, tmp_path / "deep" / "log")
    assert (changed, again.path, source.reads) == (False, log.path, 1)
    forced, changed = ingest(source, tmp_path / "deep" / "log", force=True)
    assert (changed, forced.path, source.reads) == (True, log.path, 2)


def test_another_source_replaces_or_joins(tmp_path):
    ingest(Days("a"), tmp_path)
    log, changed = ingest(Days("b", 2), tmp_path, append=True)
    assert changed
    assert log.event("time_ms").tolist() == [1, 2, 1, 2]
    for day in ("a", "b"):
        same, changed = ingest(Days(day), tmp_path, append=True)
        assert (changed, same.path) == (False, log.path)
    log, _ = ingest(Days("c", 3), tmp_path)
    assert log.event("time_ms").tolist() == [3, 3]


def test_append_and_force_exclude_each_other(tmp_path):
    with pytest.raises(DataError, match="choose one"):
        ingest(Days("a"), tmp_path, append=True, force=True)


def test_a_damaged_log_is_rebuilt_but_not_extended(tmp_path):
    log, _ = ingest(Days("a"), tmp_path)
    (log.path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        ingest(Days("b"), tmp_path, append=True)
    rebuilt, changed = ingest(Days("a", 5), tmp_path)
    assert changed
    assert Log.open(tmp_path) == rebuilt
    assert rebuilt.event("time_ms").tolist() == [5, 5]
