"""A journal keeps what was acknowledged, whatever happens to process, power and disk."""

import errno
import os
import resource
import zlib

import pytest

from headrace.behavior import StoreError
from headrace.behavior.journal import Journal
from headrace.errors import DataError

RECORDS = [["a", 1.5], {"b": "a line\nbreak"}, ["ü" * 50]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "events.journal"


def write(path, records=RECORDS):
    journal = Journal(path, "events")
    for record in records:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def read(path):
    journal = Journal(path, "events")
    journal.close()
    return journal.records


def test_records_come_back(path):
    whole = write(path)
    assert read(path) == RECORDS
    journal = Journal(path, "events")
    assert journal.size_bytes == len(whole) == path.stat().st_size
    journal.append("more")
    journal.close()
    assert read(path) == [*RECORDS, "more"]


def test_torn_anywhere_in_the_last_record(path, caplog):
    whole = write(path)
    last = whole.rindex(b"\n", 0, -1) + 1
    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        caplog.clear()
        assert read(path) == RECORDS[:-1]
        assert path.stat().st_size == last
        assert f"{size - last} bytes of a torn last record" in caplog.text


def test_torn_into_zeros_and_into_noise(path):
    whole = write(path)
    for torn in (b"\0" * 5000, b"deadbeef [1]", b"deadbeef [1]\n", b"x\ny\n\n"):
        path.write_bytes(whole + torn)
        assert read(path) == RECORDS
        assert path.read_bytes() == whole


def test_torn_in_the_first_record(path):
    head = write(path, [])
    for size in range(len(head)):
        path.write_bytes(head[:size] + b"\0" * (len(head) - size))
        assert read(path) == []
        assert path.read_bytes() == head


def test_damage_in_the_middle_names_the_place(path):
    whole = write(path)
    at = whole.index(b"1.5")
    path.write_bytes(whole.replace(b"1.5", b"1.6"))
    start = whole.rindex(b"\n", 0, at) + 1
    with pytest.raises(DataError, match=rf"damaged at byte {start}, .*truncate -s {start} "):
        read(path)
    assert path.read_bytes() == whole.replace(b"1.5", b"1.6")  # nothing was mended away


def test_a_file_of_another_kind_is_left_alone(path):
    path.parent.mkdir()
    for content in (b"diary\n", b"no line end", b"%08x [1]\n" % zlib.crc32(b"[1]")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no journal of events"):
            read(path)
        assert path.read_bytes() == content
    path.unlink()
    Journal(path, "catalogue").close()
    with pytest.raises(DataError, match="no journal of events"):
        read(path)


def test_one_writer_many_readers(path):
    writer = Journal(path, "events")
    with pytest.raises(DataError, match="another server is writing"):
        Journal(path, "events")
    writer.append(1)
    reader = Journal(path, "events", writable=False)
    assert reader.records == [1]
    with pytest.raises(StoreError, match="reading only"):
        reader.append(2)
    writer.close()


def test_a_disk_without_locks(path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("headrace.behavior.claim.fcntl.flock", flock)
    with pytest.raises(DataError, match="cannot be locked"):
        Journal(path, "test")
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_creates_nothing(path):
    assert Journal(path, "events", writable=False).records == []
    assert not path.exists()


def test_a_file_that_may_not_grow(path):
    """A real short write: the system stops the file at a limit in the middle of a record."""
    whole = write(path)
    journal = Journal(path, "events")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written \(File too large\)"):
            journal.append("x" * 1000)
        assert path.read_bytes() == whole
        journal.append("fits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.close()
    assert read(path) == [*RECORDS, "fits"]


def test_a_full_disk_found_at_the_sync(path, monkeypatch):
    write(path)
    journal = Journal(path, "events")

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"No space left on device.*make room"):
            journal.append("lost")
    assert read_only(path) == RECORDS
    journal.append("kept")
    assert read_only(path) == [*RECORDS, "kept"]
    journal.close()


def test_a_disk_too_broken_to_clean_up(path, monkeypatch):
    """What a failed write left is removed by the next one, or taken for torn when opened."""
    write(path)
    journal = Journal(path, "events")

    def broken(*_):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", broken)
        m.setattr(journal, "_cut", lambda: None)
        with pytest.raises(StoreError, match="broken"):
            journal.append("half")
    journal.append("kept")
    journal.close()
    assert read(path) == [*RECORDS, "kept"]


def read_only(path):
    return Journal(path, "events", writable=False).records


def test_what_is_no_file(tmp_path):
    for writable in (True, False):
        with pytest.raises(DataError, match="Is a directory"):
            Journal(tmp_path, "events", writable=writable)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be opened \(File exists|Not a directory"):
        Journal(tmp_path / "file" / "journal", "events")
