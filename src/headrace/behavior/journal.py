"""A file of records that survives kill -9, power cuts and full disks.

A record is a line: CRC-32 of what follows in 8 hex digits, a space, JSON. The first one names the
kind and the format. What was appended is on disk when ``append`` returns, and a record is there
as a whole or not at all: whatever stood in one call is one record.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, final

import orjson

from ..errors import DataError
from ..files import sync_folder
from .base import StoreError
from .claim import claim

FORMAT = 1
_CRC_CHARS = 8
logger = logging.getLogger(__name__)


@final
class Journal:
    """One journal, open for one writer, or for reading only."""

    def __init__(self, path: Path, kind: str, *, writable: bool = True) -> None:
        """Open or create the journal at ``path`` and read what is in it.

        A torn last record, which nobody was told is safe, is cut off; one that is damaged further
        ahead raises DataError with its offset, as does a second writer.
        """
        self.path = path
        self._file = claim(path, path) if writable else None
        try:
            self.records, self._size, torn = _read(path, kind) if path.exists() else ([], 0, 0)
            if self._file is not None:
                self._mend(kind, torn)
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """What is safely in it."""
        return self._size

    def append(self, record: Any) -> None:
        """Write a record and wait until it is on disk.

        Raises StoreError when it cannot be written, as when the disk is full; the journal then
        is as it was.
        """
        if self._file is None:
            raise StoreError(f"{self.path}: open for reading only")
        line = memoryview(_line(record))
        try:
            os.ftruncate(self._file, self._size)  # in case an earlier failure could not clean up
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._size + written)
            os.fsync(self._file)
        except OSError as error:
            self._cut()
            raise StoreError(
                f"{self.path}: cannot be written ({error.strerror or error}); "
                "nothing of this was kept, make room and send it again"
            ) from None
        self._size += len(line)

    def close(self) -> None:
        """Let another writer in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _mend(self, kind: str, torn: int) -> None:
        """Leave whole records only, the first of which names the kind."""
        if torn:
            logger.warning("%s: %d bytes of a torn last record cut off", self.path, torn)
            self._cut()
        if self._size == 0:
            self.append(_head(kind))
            sync_folder(self.path.parent)

    def _cut(self) -> None:
        """Take back what a failed write left, as well as the disk allows."""
        if self._file is not None:
            try:
                os.ftruncate(self._file, self._size)
            except OSError as error:
                logger.error("%s: a failed write stays until the next (%s)", self.path, error)


def _read(path: Path, kind: str) -> tuple[list[Any], int, int]:
    """The records after the first, where the last whole one ends, and how many bytes are torn."""
    records: list[Any] = []
    good, at, bad = 0, 0, -1
    with _lines(path) as lines:
        for line in lines:
            record = _parse(line)
            if record is None:
                bad = at if bad < 0 else bad
            elif bad >= 0:
                raise DataError(
                    f"{path}: damaged at byte {bad}, with whole records behind it; restore it, "
                    f"or give up what follows with `truncate -s {bad} {path}`"
                )
            else:
                records.append(record)
                good = at + len(line)
            at += len(line)
    if records[:1] != [_head(kind)] and not (good == 0 and _is_begun(path, kind)):
        raise DataError(f"{path}: no journal of {kind} in format {FORMAT}; move it away")
    return records[1:], good, at - good


def _head(kind: str) -> dict[str, Any]:
    return {"kind": kind, "format": FORMAT}


def _is_begun(path: Path, kind: str) -> bool:
    """Whether the file is what a crash can leave of a journal's first record."""
    return _line(_head(kind)).startswith(path.read_bytes().rstrip(b"\0"))


def _line(record: Any) -> bytes:
    payload = orjson.dumps(record)
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _lines(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(line: bytes) -> Any:
    """The record in a line; None where it is not whole."""
    crc, payload = line[:_CRC_CHARS], line[_CRC_CHARS + 1 : -1]
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(payload):
        return None
    return orjson.loads(payload)
