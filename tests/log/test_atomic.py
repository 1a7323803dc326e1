"""Whatever happens while a log is written, readers see a whole one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log import Log, RawLog, _draft, write_log

FILES_THAT_FIT = 5


def raw(size: int, start: int = 0) -> RawLog:
    return RawLog(
        events=pl.DataFrame(
            {"user": [i % 7 for i in range(size)], "item": [1] * size}
        ).with_columns(time_ms=pl.Series(range(start, start + size), dtype=pl.Int64))
    )


def versions(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "versions").iterdir())


@pytest.mark.parametrize("append", [False, True])
def test_a_full_disk_leaves_the_old_log_whole(tmp_path, monkeypatch, append):
    old = write_log(tmp_path, raw(50), "a")
    before = versions(tmp_path)
    written = []

    def sync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > FILES_THAT_FIT:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_draft.os, "fsync", sync)
    with pytest.raises(
        DataError, match=r"No space left on device\); the old one is unchanged"
    ) as e:
        write_log(tmp_path, raw(60), "b", append=append)
    assert "\n" not in str(e.value)
    monkeypatch.undo()
    assert versions(tmp_path) == before
    assert Log.open(tmp_path) == old
    assert Log.open(tmp_path).event("time_ms").tolist() == old.event("time_ms").tolist()
    assert write_log(tmp_path, raw(60), "b").manifest.num_events == 60


def test_a_file_size_limit_is_such_a_disk(tmp_path):
    old = write_log(tmp_path, raw(50), "a")
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_atomic import raw
from headrace.errors import DataError
from headrace.log import write_log
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_log(Path({str(tmp_path)!r}), raw(20_000), "b")
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large); the old one is unchanged" in done.stdout
    assert versions(tmp_path) == [old.path.name]
    assert Log.open(tmp_path) == old


def test_a_first_log_that_fails_leaves_nothing_to_open(tmp_path, monkeypatch):
    def sync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_draft.os, "fsync", sync)
    with pytest.raises(DataError):
        write_log(tmp_path, raw(5), "a")
    assert versions(tmp_path) == []
    with pytest.raises(DataError, match="no log here; run `headrace ingest CONFIG` first"):
        Log.open(tmp_path)


def test_a_writer_that_was_killed_leaves_only_a_draft_that_the_next_removes(tmp_path):
    write_log(tmp_path, raw(5), "a")
    (tmp_path / "versions" / ".dead" / "events").mkdir(parents=True)
    write_log(tmp_path, raw(6), "b")
    assert all(not name.startswith(".") for name in versions(tmp_path))


def test_two_writers_do_not_mix(tmp_path):
    write_log(tmp_path, raw(5), "a")
    busy = pytest.raises(DataError, match="another ingest is writing this log")
    with _draft.next_version(tmp_path) as draft, busy:
        write_log(draft.path.parent.parent, raw(6), "b")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot write the log"):
        write_log(tmp_path / "file", raw(5), "a")


def test_damage_is_named(tmp_path):
    log = write_log(tmp_path, raw(50), "a")
    item = log.path / "events" / "item.npy"
    os.truncate(item, 150)
    with pytest.raises(DataError, match=r"item\.npy: damaged .* ingest again"):
        log.event("item")
    item.unlink()
    with pytest.raises(DataError, match=r"item\.npy: the log has no such column"):
        log.event("item")
    manifest = log.path / "manifest.json"
    whole = manifest.read_text()
    for text, message in (
        (whole.replace('"format": 1', '"format": 9'), "log format 9, this program reads 1"),
        (whole.replace('"notes"', '"note"'), "damaged"),
        (whole[:50], "cannot be read"),
    ):
        manifest.write_text(text)
        with pytest.raises(DataError, match=message):
            Log.open(tmp_path)


def test_types_are_asked_for_by_name(tmp_path):
    log = write_log(tmp_path, raw(5), "a")
    assert log.type_code("event") == 0
    with pytest.raises(DataError, match="no event type 'buy'; the log has event"):
        log.type_code("buy")
