"""Delivery rates of days that nobody counted: logged requests through a trained cascade."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..behavior import MappedLog
from ..bundle import Bundle
from ..errors import DataError
from ..features.delivery import LONGEST_DAYS, Delivery
from ..features.popularity import DAY_MS
from ..log.delivery import Counts, DeliveryFiles
from ..run import Run
from ..samples import Samples
from ..samples.split import Split
from ..serving.cascade import Cascade
from ..serving.delivery import tally
from ..stages import Plan
from .learning import some

Array = NDArray[Any]
CHUNK = 64  # requests a pass of the cascade


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay has counted."""

    days: int
    requests: int
    kept: int  # days that had counts already
    entered: int  # requests in which an item got into pre-ranking, summed over items
    passed: int
    shown: int
    trained: int  # days of these that the cascade was trained on


def replay(
    run: Run,
    most: int,
    days: int | None = None,
    *,
    again: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Replayed:
    """Run the cascade of a run's bundle over logged requests and count beside its log.

    ``days``: so many up to the log's last, by default those that rankers are trained on and what
    their features look back on, with all that came after. Of their requests ``most`` are drawn.
    Days that have counts keep them, unless ``again``. Days go in order: where the cascade itself
    reads delivery rates, it sees those of the days before. Raises DataError without a request.
    """
    bundle, log = Bundle.open(run.bundle_path), run.log()
    app, files = bundle.app, DeliveryFiles(log)
    torch.set_num_threads(app.threads)
    cascade = bundle.assemble(log, Delivery.none(log.manifest.num_items))
    split, store = Split.of(app.samples, log), MappedLog(log)
    samples = Samples(app.samples, log, split, cascade.builder, store, app.seed)
    there = files.days()
    rows = _fresh(samples, days, [] if again else there)
    rows = some(rows, most, app.seed)
    day_R = log.request("time_ms")[rows] // DAY_MS
    asked, done = np.unique(day_R), 0
    sum_3 = np.zeros(3, np.int64)
    for day in asked.tolist():
        if cascade.builder.delivery is not None:
            cascade.builder.delivery = Delivery.read(log, since_day=day - LONGEST_DAYS)
        of_day = rows[day_R == day]
        counts = _counts(cascade, samples, of_day, app.allocation.quota)
        files.write(day, counts)
        sum_3 += counts.count_3n.sum(axis=1)
        done += len(of_day)
        progress(done, len(rows))
    low, high = (ms // DAY_MS for ms in bundle.manifest.interval_ms["train"])
    entered, passed, shown = sum_3.tolist()
    trained = int(np.count_nonzero((asked >= low) & (asked < high)))
    kept = 0 if again else len(there)
    return Replayed(len(asked), len(rows), kept, entered, passed, shown, trained)


def _fresh(samples: Samples, days: int | None, there: Sequence[int]) -> Array:
    """Requests of the days to be counted, by row of the log."""
    log, split = samples.log, samples.split
    day_R = np.asarray(log.request("time_ms")) // DAY_MS
    if days is None:
        ranking = samples.config.ranking_days
        first_ms = split.train_ms if ranking is None else split.valid_ms - ranking * DAY_MS
        first = int(max(first_ms, split.train_ms)) // DAY_MS - LONGEST_DAYS
    else:
        first = log.manifest.last_ms // DAY_MS - days + 1
    rows = np.flatnonzero((day_R >= first) & ~np.isin(day_R, there))
    if not len(rows):
        raise DataError(
            f"{log.folder}: no request on a day to be counted; {len(there)} days have counts "
            "already: give more --days, or --again to count them anew"
        )
    return rows


def _counts(cascade: Cascade, samples: Samples, rows: Array, quota: Mapping[str, int]) -> Counts:
    """What becomes of the candidates of some logged requests."""
    count_3I = np.zeros((3, samples.log.manifest.num_items), np.int32)
    for at in range(0, len(rows), CHUNK):
        requests = samples.features(rows[at : at + CHUNK], cascade.reads_sequences)
        with torch.inference_mode():
            trace = cascade.run(requests, Plan.constant(quota, len(requests)), samples.store)
        tally(count_3I, trace)
    return Counts.of(count_3I)
