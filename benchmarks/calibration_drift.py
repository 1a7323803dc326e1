"""How a calibration ages: predicted over observed by day, fixed and refreshed every day.

    python -m benchmarks.calibration_drift [--run runs/complete_journey] [--ranker ranking]

The calibration of a run is fitted on the validation period. Through the test period it is held
against what happened, once as it is, and once with its odds shifted each midnight so that the seven
days before come out right: what an operator who refits nightly would see.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import _common
from headrace.bundle import Bundle
from headrace.errors import HeadraceError
from headrace.evaluation.metrics import pcoc
from headrace.pipeline.learning import exposures, predict
from headrace.run import Run
from headrace.samples.split import DAY_MS

WINDOW_DAYS = 7  # that the daily shift is fitted on


def by_day(run: Run, ranker: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Probability, label and weight of the exposures of each day from validation on."""
    bundle = Bundle.open(run.bundle_path)
    samples = run.samples(bundle.space(run.log()))
    model, calibration = bundle.ranker(ranker, samples.space), bundle.calibration(ranker)
    row_R = np.concatenate([samples.requests("valid"), samples.requests("test")])
    time_R = np.asarray(samples.log.request("time_ms"))[row_R]
    day_R = (time_R - samples.split.valid_ms) // DAY_MS
    days: list[tuple[Tensor, Tensor, Tensor]] = []
    for day in range(int(day_R.max()) + 1):
        if not (day_R == day).any():  # closed
            days.append((torch.zeros(0).double(), torch.zeros(0), torch.zeros(0)))
            continue
        raw_NT, label_NT, _, weight_N = predict(
            model, samples, exposures(samples, row_R[day_R == day])
        )
        days.append((calibration.apply(raw_NT)[:, -1].double(), label_NT[:, -1], weight_N))
    return days


def shift(past: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """What to add to logits so that these days' predictions have the mean of what happened."""
    p_N, label_N, weight_N = (torch.cat(column) for column in zip(*past, strict=True))
    low, high = -5.0, 5.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        below = pcoc(label_N, (p_N.logit() + middle).sigmoid(), weight_N) < 1
        low, high = (middle, high) if below else (low, middle)
    return low


def main() -> None:
    """Judge a run."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument("--ranker", default="ranking")
    given = options.parse_args()
    torch.set_num_threads(2)
    try:
        run = Run.open(given.run)
        days = by_day(run, given.ranker)
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    valid_days = round(run.app.samples.valid_days)
    refreshed: list[tuple[Tensor, Tensor, Tensor]] = []
    table: list[dict[str, Any]] = []
    for day in range(valid_days, len(days)):
        p_N, label_N, weight_N = days[day]
        if not len(p_N):
            continue
        moved_N = (p_N.logit() + shift(days[day - WINDOW_DAYS : day])).sigmoid()
        refreshed.append((moved_N, label_N, weight_N))
        row = {"day": day - valid_days, "bought": int(label_N.sum())}
        row |= {"fixed": pcoc(label_N, p_N, weight_N), "daily": pcoc(label_N, moved_N, weight_N)}
        table.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})

    def overall(parts: list[tuple[Tensor, Tensor, Tensor]]) -> float:
        p_N, label_N, weight_N = (torch.cat(column) for column in zip(*parts, strict=True))
        return round(pcoc(label_N, p_N, weight_N), 4)

    figures = {
        "ranker": given.ranker,
        "valid": overall(days[:valid_days]),
        "fixed": overall(days[valid_days:]),
        "daily": overall(refreshed),
        "by_day": table,
    }
    _common.finish("calibration_drift", figures, save=given.save)


if __name__ == "__main__":
    main()
