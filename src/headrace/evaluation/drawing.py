"""How the report's charts are drawn: the style, the few forms they share, and SVG for a page.

Text stays text (it can be searched, selected and read aloud) and every colour of ``COLORS`` is
written as a CSS variable, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from .cells import number

Floats = NDArray[np.float64]
COLORS = {
    "ink": "#1d2733",
    "muted": "#5c6875",
    "line": "#d8dee4",
    "deep": "#0b5c77",
    "mid": "#3b9ab2",
    "pale": "#a3d3de",
    "warm": "#d9822b",
    "violet": "#7359b6",
    "green": "#4c956c",
}
SERIES = ("deep", "warm", "violet", "green", "mid", "ink")
HALF, FULL = 5.6, 11.6  # inches; the page shows an inch as 100 pixels
ROW = 0.34  # inches a horizontal bar takes


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of the page."""

    svg: str
    title: str
    caption: str  # how to read it, and the unit
    wide: bool = False


def style() -> AbstractContextManager[None]:
    """What all charts look like, while the context is open."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "text.parse_math": False,  # a name may hold a dollar
            "svg.hashsalt": "headrace",  # the same report gives the same bytes
            "font.size": 9,
            "text.color": COLORS["ink"],
            "axes.labelcolor": COLORS["muted"],
            "axes.edgecolor": COLORS["line"],
            "axes.titlecolor": COLORS["ink"],
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": COLORS["line"],
            "grid.linewidth": 0.6,
            "xtick.major.size": 0,
            "xtick.minor.size": 0,
            "ytick.major.size": 0,
            "ytick.minor.size": 0,
            "xtick.color": COLORS["line"],
            "ytick.color": COLORS["line"],
            "xtick.labelcolor": COLORS["muted"],
            "ytick.labelcolor": COLORS["ink"],
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
        }
    )


def panels(
    width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of this many inches and its axes, row by row."""
    figure = Figure((width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).flat)


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float | None],
    color: str,
    *,
    error: Sequence[float | None] | None = None,
    digits: int = 3,
    first: str | None = None,
    height: float = 0.62,
    shift: float = 0.0,
    label: str = "",
) -> None:
    """Horizontal bars from the top down, each with its number; an undefined one has a dash."""
    place = [i + shift for i in range(len(names))]
    colors = [COLORS[first if first and i == 0 else color] for i in range(len(names))]
    width = [value or 0.0 for value in values]
    axes.barh(place, width, height, color=colors, label=label)
    whisker = [e or 0.0 for e in error] if error else [0.0] * len(names)
    if error:
        axes.errorbar(width, place, xerr=whisker, fmt="none", ecolor=COLORS["ink"], elinewidth=1)
    for y, value, end in zip(
        place, values, map(sum, zip(width, whisker, strict=True)), strict=True
    ):
        axes.annotate(
            number(value, digits),
            (end, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8 if height > 0.3 else 6.5,
            color=COLORS["muted"],
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.22 * max(width, default=0), 1e-9))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def line(axes: Axes, x: Floats, y: Floats, error: Floats, color: str, name: str) -> None:
    """Points joined by a line, with whiskers."""
    axes.errorbar(x, y, error, fmt="o-", color=COLORS[color], elinewidth=1, label=name)


def log_scale(axes: Axes, *, both: bool = False) -> None:
    """A log scale, along x or both ways, that is labelled with plain numbers."""
    axes.set_xscale("log")
    if both:
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis) if both else (axes.xaxis,):
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_minor_formatter(NullFormatter())


def plain(axes: Axes) -> None:
    """Take away everything but the labels."""
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def drawable(values: Sequence[float | None]) -> list[float]:
    """Values as Matplotlib takes them: it leaves a gap at NaN."""
    return [float("nan") if value is None else value for value in values]


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """Inline SVG: fluid, labelled, ids unique in the page, colours left to the style sheet."""
    out = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</defs>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;]*;", "", svg)  # the page's own font
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    for color, value in COLORS.items():
        svg = svg.replace(value, f"var(--{color}, {value})")
    root, rest = svg.split(">", 1)
    root = re.sub(r' (width|height|version)="[^"]*"', "", root)
    return f'{root} role="img" aria-label="{html.escape(alt)}">{rest}'
