"""The charts of pre-ranking and ranking."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from . import drawing
from .cells import number
from .drawing import COLORS, FULL, HALF, ROW, Chart
from .structure import Bin, Report
from .tables import bins_of_days

WHICH: tuple[Literal["shown"], Literal["taken"]] = ("shown", "taken")


def hit(report: Report) -> Chart | None:
    """The pre-ranker against the ranker."""
    kept = report["preranking"]["hit"] if "preranking" in report else None
    if not kept:
        return None
    figure, (axes,) = drawing.panels(HALF, 2.9)
    cuts, values = [int(m) for m in kept], list(kept.values())
    axes.plot(cuts, drawing.drawable(values), "o-", color=COLORS["deep"], label="of the ten")
    for m, value in zip(cuts, values, strict=True):
        axes.annotate(number(value, 2), (m, value or 0), (4, -12), textcoords="offset points")
    axes.set(ylim=(0, 1.05), xlim=(0, max(cuts) * 1.06), xlabel="m, the pre-ranker's cut")
    agreed = report["preranking"].get("consistency") if "preranking" in report else None
    if agreed:
        lengths = [int(k) for k in agreed["at"]]
        for name, color, line in (
            ("by worth", "warm", [each["worth_hit"] for each in agreed["at"].values()]),
            ("taken", "green", [each["taken_hit"] for each in agreed["at"].values()]),
        ):
            axes.plot(lengths, drawing.drawable(line), "o--", color=COLORS[color], label=name)
        axes.legend(loc="center right", fontsize=8)
    axes.set_ylabel("hit@m")
    said = ", ".join(f"{number(value)} at {m}" for m, value in kept.items())
    return Chart(
        drawing.inline_svg(figure, "hit", f"Line chart of the pre-ranker's hit: {said}."),
        "Does the pre-ranker keep what the ranker wants?",
        "Share of the ranker's ten best candidates among the pre-ranker's m best (0 to 1): read "
        "off the smallest m that loses little. By worth: of their worth; taken: of all that users "
        "then took, whoever found it.",
    )


def calibration(report: Report) -> Chart | None:
    """Predicted and observed probabilities of every ranker."""
    curves = {
        name: [b for b in model["calibration"] if b["p"] is not None and b["y"] is not None]
        for name, model in report.get("ranking", {}).items()
    }
    curves = {name: bins for name, bins in curves.items() if bins}
    if not curves:
        return None
    figure, (left, right) = drawing.panels(FULL, 3.7, 2)
    limits = _calibration_limits(left, [b for bins in curves.values() for b in bins])
    left.plot(limits, limits, "--", color=COLORS["muted"], lw=1, label="perfect")
    right.axhline(1, ls="--", color=COLORS["muted"], lw=1)
    for (name, bins), color in zip(curves.items(), cycle(drawing.SERIES)):
        p, y, se = (np.array(drawing.drawable([b[key] for b in bins])) for key in ("p", "y", "se"))
        drawing.line(left, p, y, se, color, name)
        p[p == 0] = np.nan  # has no ratio
        drawing.line(right, np.arange(1.0, len(p) + 1), y / p, se / p, color, name)
    left.set_title("Predicted and observed probability")
    left.set(xlabel="mean prediction of the bin", ylabel="share of positives")
    left.legend(loc="upper left", fontsize=8)
    right.set_title("Observed over predicted")
    right.set(xlabel="bin, from the lowest predictions to the highest", ylabel="ratio")
    said = ", ".join(f"{n} {number(report.get('ranking', {})[n]['pcoc'])}" for n in curves)
    return Chart(
        drawing.inline_svg(figure, "calibration", f"Calibration curves by bin; PCOC: {said}."),
        "Calibration",
        "Probabilities in at most ten bins of equal weight, whiskers one standard error: on the "
        "dashed line predictions are true, below it they promise too much.",
        wide=True,
    )


def _calibration_limits(axes: Axes, bins: Sequence[Bin]) -> tuple[float, float]:
    """Room for every point, on a log scale when they span decades and none is 0."""
    seen = [v for b in bins for v in (b["p"], b["y"]) if v is not None]
    low, high = min(seen), max(seen)
    if 0 < 20 * low < high:
        drawing.log_scale(axes, both=True)
        low, high = low / 1.5, high * 1.5
    else:
        low, high = 0.0, high * 1.1 or 1.0
    axes.set(xlim=(low, high), ylim=(low, high))
    return low, high


def reach(report: Report) -> Chart | None:
    """How far back two rankers reach: what each shows, and what of it is taken."""
    if "d_category" not in report:
        return None
    part = report["d_category"]
    names = bins_of_days(part)
    figure, panels = drawing.panels(FULL, 0.9 + ROW * 1.3 * len(names), 2, sharey=True)
    models = part["models"]
    step = 0.8 / max(len(models), 1)
    for axes, title, which in zip(panels, ("Ten best", "Of these, taken"), WHICH, strict=True):
        for i, ((name, model), shade) in enumerate(
            zip(models.items(), cycle(("deep", "warm")), strict=False)
        ):
            values, shift = model[which]["share"], step * (i - (len(models) - 1) / 2)
            drawing.bars(axes, names, values, shade, height=0.95 * step, shift=shift, label=name)
        axes.set_title(title)
        axes.set_xlabel("share of items")
    panels[0].set_ylabel("days since")
    panels[1].legend(loc="lower right", fontsize=8)
    said = "; ".join(
        f"{name} shows {number(m['shown']['known'], 2)} with an earlier event, "
        f"{number(m['shown']['days'], 1)} days ago in the mean"
        for name, m in models.items()
    )
    return Chart(
        drawing.inline_svg(figure, "reach", f"Bar chart of d_category by ranker: {said}."),
        "How far back rankers reach",
        "Items by the days since the user's last event in their category (shares of each ranker's "
        "items, 0 to 1): longer bars further down mean interests of longer ago.",
        wide=True,
    )
