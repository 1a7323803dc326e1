"""The trade-off of a pre-ranker: what quality costs, a point a size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

from . import drawing
from .drawing import COLORS, FULL


class Point(Protocol):
    """One model, measured."""

    @property
    def name(self) -> str: ...
    @property
    def gauc(self) -> float: ...
    @property
    def hit(self) -> float: ...
    @property
    def ms(self) -> float: ...


def trade_off(trials: Sequence[Point], best: Point) -> Figure:
    """GAUC and hit over the time a request takes; the chosen point is marked."""
    with drawing.style():
        figure, panels = drawing.panels(FULL, 3.2, 2)
        ms = [t.ms for t in trials]
        for axes, label, value, chosen in (
            (panels[0], "GAUC", [t.gauc for t in trials], best.gauc),
            (panels[1], "hit, first 10 in 50", [t.hit for t in trials], best.hit),
        ):
            axes.plot(ms, value, "o", color=COLORS["deep"])
            axes.plot([best.ms], [chosen], "o", color=COLORS["warm"], markersize=9)
            for trial, x, y in zip(trials, ms, value, strict=True):
                axes.annotate(trial.name, (x, y), (4, 4), textcoords="offset points", fontsize=8)
            if max(ms) > 10 * min(ms):
                drawing.log_scale(axes)
            axes.set_xlabel("ms a request of 2,000 candidates")
            axes.set_title(label)
    return figure
