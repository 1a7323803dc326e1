"""A log of decisions, one JSON line a request: what the estimator is fed with and judged by."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

LARGEST_BYTES = 64_000_000  # then the file becomes DECISIONS.1, in place of an older one
DECISIONS = "decisions.jsonl"
logger = logging.getLogger(__name__)


class DecisionLog:
    """Appends lines in batches; a disk that is full costs lines, never requests."""

    def __init__(self, folder: Path, batch: int = 100) -> None:
        self._path, self._batch = folder / DECISIONS, batch
        self._lines: list[bytes] = []
        self.lost = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows; they are written when there are enough."""
        self._lines += [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]
        if len(self._lines) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Write what is kept."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        size: int | None = None
        try:
            if self._path.exists() and self._path.stat().st_size > LARGEST_BYTES:
                self._path.replace(self._path.with_name(f"{DECISIONS}.1"))
            with self._path.open("ab") as file:
                size = file.tell()
                file.writelines(lines)
        except OSError as error:
            if size is not None:
                with suppress(OSError):
                    os.truncate(self._path, size)  # half a line would spoil the next one
            if not self.lost:
                logger.warning("%s: decisions are not logged (%s)", self._path, error)
            self.lost += len(lines)
