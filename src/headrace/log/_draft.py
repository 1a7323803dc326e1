"""A version of a log while it is being written: nobody sees it before it is whole and on disk."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError
from ..files import swap

Array = NDArray[Any]
BLOCK_BYTES = 1 << 22


class Draft:
    """Files of the next version, hashed as they are written.

    One file is written behind the caller's back while the caller prepares the next, never more,
    so that memory stays bounded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, str] = {}
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        path.mkdir(parents=True)

    def array(self, group: str, name: str, column: Array) -> None:
        """Write a column as ``group/name.npy``."""
        column = np.ascontiguousarray(column)
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(column))
        self._write(f"{group}/{name}.npy", head.getvalue(), column.reshape(-1).view(np.uint8))

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """Write a frame as ``name.parquet``."""
        content = io.BytesIO()
        frame.write_parquet(content)
        self._write(f"{name}.parquet", content.getbuffer())

    def json(self, name: str, content: Any) -> None:
        """Write plain data as ``name.json``."""
        self._write(f"{name}.json", json.dumps(content, indent=1).encode())

    def finish(self) -> str:
        """Wait until all is on disk; name the version by what it holds."""
        self._wait()
        return hashlib.blake2b(
            json.dumps(sorted(self._digests.items())).encode(), digest_size=8
        ).hexdigest()

    def close(self) -> None:
        """Stop writing and remove what is not yet a version."""
        self._writer.shutdown()
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, *parts: Any) -> None:
        self._wait()
        self._pending = self._writer.submit(self._write_now, name, parts)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _write_now(self, name: str, parts: tuple[Any, ...]) -> None:
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256()  # the fastest of hashlib where the processor helps
        with file.open("wb") as stream:
            for part in parts:
                _copy(memoryview(part), stream, digest)
            stream.flush()
            os.fsync(stream.fileno())
        self._digests[name] = digest.hexdigest()


def _copy(content: memoryview, stream: BinaryIO, digest: Any) -> None:
    for start in range(0, len(content), BLOCK_BYTES):
        block = content[start : start + BLOCK_BYTES]
        digest.update(block)
        stream.write(block)


@contextmanager
def next_version(path: Path) -> Generator[Draft, None, None]:
    """Give a draft to fill; on success it becomes the current version of the log at ``path``.

    Whatever fails, a full disk included, leaves the current version whole and removes the draft.
    """
    try:
        with _lock(path):
            draft = Draft(path / "versions" / f".{uuid.uuid4().hex[:12]}")
            try:
                yield draft
                final = path / "versions" / draft.finish()
                if not final.exists():
                    draft.path.rename(final)
                swap(path, final)
            finally:
                draft.close()
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the log ({error.strerror or error}); the old one is unchanged"
        ) from None


@contextmanager
def _lock(path: Path) -> Generator[None, None, None]:
    """Keep a second writer out; the system drops the lock when a writer dies."""
    (path / "versions").mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{path}: another ingest is writing this log; wait until it is done"
            ) from None
        yield
