"""Counts what becomes of what gets into pre-ranking: what the log of events cannot tell."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from ..behavior.claim import claim
from ..errors import DataError
from ..features import FeatureBuilder
from ..features.delivery import LONGEST_DAYS, Delivery
from ..features.popularity import DAY_MS
from ..log import Log
from ..log.delivery import Counts, DeliveryFiles
from ..ops import popularity
from ..stages import Trace

Array = NDArray[Any]
WRITE_S = 30.0  # between two writes: what a crash can cost
KEPT_DAYS = 400  # older counts are removed
OPEN = b"open"  # what stands in the lock's file while somebody counts
logger = logging.getLogger(__name__)


def tally(count_3I: Array, trace: Trace) -> None:
    """Add what a trace tells to counts of every item: entered pre-ranking, passed it, was shown.

    Requests with fewer candidates than places say nothing of what later stages choose, and are left
    out; so a request that is searched again, wider, counts once.
    """
    parts = [trace.after[stage].item_id for stage in ("retrieval", "preranking", "reranking")]
    chosen_B = parts[0].lengths > trace.plan.quota["reranking"]
    for count_I, part in zip(count_3I, parts, strict=True):
        some = part if bool(chosen_B.all()) else part.take_rows(torch.nonzero(chosen_B)[:, 0])
        popularity.tally(count_I, some.values.numpy())


@final
class DeliveryCounter:
    """Adds traces up, and writes the sums beside the log every ``WRITE_S`` seconds.

    A request costs a few additions to arrays; a thread of its own writes. What was written lasts
    (see log/delivery.py); a crash costs the seconds since, and the next to open says that it may
    have. A disk that is full costs nothing but time: the counts are kept and written later.

    Where features are made of the counts, a finished day enters them within ``WRITE_S``.
    """

    def __init__(self, log: Log, builder: FeatureBuilder, now_ms: Callable[[], int]) -> None:
        """Counts go to the day that ``now_ms`` tells. Raises DataError if another server counts."""
        self._log, self._builder, self._now_ms = log, builder, now_ms
        self._files = DeliveryFiles(log)
        self._size = log.manifest.num_items
        self._claimed = claim(self._files.folder / "writer.lock", self._files.folder)
        if os.pread(self._claimed, len(OPEN), 0) == OPEN:
            logger.warning(
                "%s: the server before was not stopped: up to %d s of its counts are lost",
                self._files.folder,
                WRITE_S,
            )
        os.pwrite(self._claimed, OPEN, 0)
        self._fresh: dict[int, Array] = {}  # day -> (3, I), not written yet
        self._today = self._day()
        self._failing = False
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    def observe(self, trace: Trace) -> None:
        """Count what became of the candidates of a trace."""
        day = self._day()
        with self._lock:
            if day not in self._fresh:
                self._fresh[day] = np.zeros((3, self._size), np.int32)
            tally(self._fresh[day], trace)

    def write(self) -> None:
        """Put what was counted on disk; at the end of a day, renew what features are made of."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        failed: dict[int, Array] = {}
        for day, count_3I in fresh.items():
            try:
                self._files.write(day, self._files.read(day).plus(Counts.of(count_3I)))
            except DataError as error:
                failed[day] = count_3I
                self._complain(error)
        self._take_back(failed)
        self._failing = bool(failed)
        if self._day() != self._today:
            self._today = self._day()
            self._renew()

    def close(self) -> None:
        """Write what is left, and let another server count."""
        self._stop.set()
        self._thread.join()
        self.write()
        os.ftruncate(self._claimed, 0)
        os.close(self._claimed)

    def _run(self) -> None:
        while not self._stop.wait(WRITE_S):
            self.write()

    def _take_back(self, counted: dict[int, Array]) -> None:
        with self._lock:
            for day, count_3I in counted.items():
                self._fresh[day] = count_3I + self._fresh.get(day, 0)

    def _renew(self) -> None:
        """Forget what is too old, and let features see the days that are over."""
        for day in self._files.days():
            if day < self._today - KEPT_DAYS:
                self._files.drop(day)
        if self._builder.delivery is None:
            return
        try:
            since = self._today - LONGEST_DAYS
            self._builder.delivery = Delivery.read(self._log, since_day=since)
        except DataError as error:
            logger.error("%s; features stay as they were yesterday", error)

    def _complain(self, error: DataError) -> None:
        """Once, until all is well again."""
        if not self._failing:
            logger.warning("%s; the counts are kept in memory, to be written later", error)

    def _day(self) -> int:
        return self._now_ms() // DAY_MS
