"""A log of decisions, one JSON line a request: what the estimator is fed with and judged by."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from ..stages import Trace
from .actions import Actions

FORMAT = 2  # of a line; others are not read
LARGEST_BYTES = 64_000_000  # then the file becomes DECISIONS.1, in place of an older one
DECISIONS = "decisions.jsonl"
LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
logger = logging.getLogger(__name__)


class DecisionLog:
    """Appends lines in batches; a disk that is full costs lines, never requests."""

    def __init__(self, folder: Path, batch: int = 100) -> None:
        self._path, self._batch = folder / DECISIONS, batch
        self._lines: list[bytes] = []
        self.lost = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows; they are written when there are enough."""
        self._lines += [orjson.dumps(row, option=LINE) for row in rows]
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


def rows(
    trace: Trace, actions: Actions, version: str, shared: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """A line a request of the trace: what was known, what was decided, and what was shown.

    Plans go by their keys, so that lines outlive a new profile. What users did with the slate is
    not here: events tell, later, by user, item and time. ``shared`` is alike for all lines.
    """
    note, slate, key_J = trace.plan.note, trace.slate, actions.keys
    value_B = slate_value(trace)
    names = ("user", "time_ms", "action", "propensity", "share", "explored")
    columns = [note[name].tolist() for name in names]
    feature_BF = note["features"].numpy().astype(np.float32)
    first_B = note["first"].tolist()
    return [
        {
            "format": FORMAT,
            "version": version,
            **dict(zip(names, values, strict=True)),
            "plan": key_J[values[2]],
            "first": key_J[first_B[at]],
            "widest": key_J[-1],
            "features": feature_BF[at],
            "items": slate.item_id[at].tolist(),
            "value": value_B[at],
            **shared,
        }
        for at, values in enumerate(zip(*columns, strict=True))
    ]


def slate_value(trace: Trace) -> list[float]:
    """The value of each request's slate, as foretold."""
    slate = trace.slate
    if "value" not in slate.scores:
        return [0.0] * len(slate.item_id)
    total = torch.zeros(len(slate.item_id), dtype=torch.float64)
    total.index_add_(0, slate.item_id.row, slate.scores["value"][:, 0].double())
    return total.tolist()
