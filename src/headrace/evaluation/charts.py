"""Which charts a report has, and the sentence that says how to read each."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from . import charts_ranking, drawing
from .cells import number
from .drawing import COLORS, FULL, HALF, ROW, Chart
from .structure import Report
from .tables import strongest_first


def charts(report: Report) -> dict[str, Chart]:
    """All charts by name, in reading order; parts that the report lacks are left out."""
    with drawing.style():
        built = {
            "standings": _standings(report),
            "funnel": _funnel(report),
            "latency": _latency(report),
            "channels": _channels(report),
            "overlap": _overlap(report),
            "exclusive": _exclusive(report),
            "hit": charts_ranking.hit(report),
            "calibration": charts_ranking.calibration(report),
            "reach": charts_ranking.reach(report),
            "training": _training(report),
        }
    return {name: chart for name, chart in built.items() if chart is not None}


def _standings(report: Report) -> Chart | None:
    if "cascade" not in report:
        return None
    systems = {"cascade": report["cascade"], **strongest_first(report)}
    figure, panels = drawing.panels(HALF, 0.95 + ROW * 1.3 * len(systems), 2, sharey=True)
    fresh = {name: s.get("new_to_user") for name, s in systems.items()}
    for axes, title, found in zip(
        panels, ("All items", "New to the user"), (systems, fresh), strict=True
    ):
        value = [s["recall@10"] if s else None for s in found.values()]
        error = [s.get("se", {}).get("recall@10") if s else None for s in found.values()]
        drawing.bars(axes, list(systems), value, "mid", error=error, first="deep")
        axes.set_title(title)
        axes.set_xlabel("recall@10")
    said = ", ".join(f"{name} {number(s['recall@10'])}" for name, s in systems.items())
    return Chart(
        drawing.inline_svg(figure, "standings", f"Bar chart of recall at 10: {said}."),
        "Against the baselines",
        "Mean share of a request's true items among the ten shown (0 to 1, longer is better); "
        "whiskers are one standard error either way.",
    )


def _funnel(report: Report) -> Chart | None:
    funnel = report["cascade"].get("funnel") if "cascade" in report else None
    if not funnel:
        return None
    steps = {"catalogue": float(report["data"]["items"]), **funnel}
    figure, (axes,) = drawing.panels(HALF, 0.75 + ROW * 1.2 * len(steps))
    drawing.bars(axes, list(steps), list(steps.values()), "mid", digits=0, first="pale")
    drawing.log_scale(axes)
    axes.set_xlim(1, max(value or 1.0 for value in steps.values()) * 6)
    axes.set_xlabel("candidates per request, log scale")
    said = ", ".join(f"{name} {number(value, 0)}" for name, value in steps.items())
    return Chart(
        drawing.inline_svg(
            figure, "funnel", f"Bar chart of the candidates left after each stage: {said}."
        ),
        "Funnel",
        "Mean number of candidates per request that leave each stage; each grid line is ten times "
        "the one before.",
    )


def _latency(report: Report) -> Chart | None:
    stage_ms = report["cascade"].get("stage_ms") if "cascade" in report else None
    if not stage_ms:
        return None
    figure, (axes,) = drawing.panels(HALF, 0.75 + ROW * len(stage_ms))
    drawing.bars(axes, list(stage_ms), list(stage_ms.values()), "mid", digits=2)
    axes.set_xlabel("ms per request")
    said = ", ".join(f"{name} {number(value, 2)}" for name, value in stage_ms.items())
    return Chart(
        drawing.inline_svg(
            figure, "latency", f"Bar chart of milliseconds per request by stage: {said}."
        ),
        "Time by stage",
        "Mean time each stage takes for one request, in milliseconds; shorter is better.",
    )


def _channels(report: Report) -> Chart | None:
    if "retrieval" not in report:
        return None
    retrieval = report["retrieval"]
    found = {"merged": retrieval["merged"], **retrieval["channels"]}
    figure, panels = drawing.panels(FULL, 0.9 + ROW * 1.7 * len(found), 2, sharey=True)
    fresh = {name: c.get("new_to_user") for name, c in found.items()}
    for axes, title, rows in zip(
        panels, ("All items", "New to the user"), (found, fresh), strict=True
    ):
        columns = {
            "recall@10": [r["recall@10"] if r else None for r in rows.values()],
            "recall@50": [r["recall@50"] if r else None for r in rows.values()],
            "recall@200": [r["recall@200"] if r else None for r in rows.values()],
        }
        shades = ("deep", "mid", "pale")
        for i, ((name, values), shade) in enumerate(zip(columns.items(), shades, strict=True)):
            drawing.bars(
                axes, list(found), values, shade, height=0.26, shift=0.27 * (i - 1), label=name
            )
        axes.set_title(title)
        axes.set_xlabel("recall")
    panels[1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=8)
    said = ", ".join(f"{name} {number(r['recall@200'])}" for name, r in found.items())
    return Chart(
        drawing.inline_svg(
            figure, "channels", f"Grouped bar chart of recall by channel; at 200: {said}."
        ),
        "Recall by channel",
        "Mean share of a request's true items among the first 10, 50 and 200 of each list "
        "(0 to 1, longer is better); the two panels have their own scales.",
        wide=True,
    )


def _overlap(report: Report) -> Chart | None:
    overlap = report["retrieval"].get("overlap") if "retrieval" in report else None
    if not overlap or not overlap["channels"]:
        return None
    names, share = overlap["channels"], overlap["share"]
    size = len(names)
    figure, (axes,) = drawing.panels(HALF, 1.0 + 0.44 * size)
    for a, row in enumerate(share):
        for b, value in enumerate(row):
            shade = 0.0 if value is None or a == b else 0.06 + 0.54 * value
            cell = Rectangle((b, a), 1, 1, color=COLORS["mid"], alpha=shade, lw=0)
            axes.add_patch(cell)
            text = "·" if a == b else number(value, 2)
            axes.text(b + 0.5, a + 0.5, text, ha="center", va="center")
    axes.set(xlim=(0, size), ylim=(size, 0), xlabel="is also found by", ylabel="what this finds")
    axes.set_xticks([i + 0.5 for i in range(size)], names)
    axes.set_yticks([i + 0.5 for i in range(size)], names)
    if size > 6:  # names side by side would run into each other
        axes.tick_params(axis="x", labelrotation=90)
    drawing.plain(axes)
    said = f"{size} by {size} matrix for {', '.join(names)}; the numbers are in the cells."
    return Chart(
        drawing.inline_svg(figure, "overlap", f"Heat map of the overlap of channels, a {said}"),
        "Overlap of channels",
        "Share of the row channel's list that the column channel found too (0 to 1, mean over "
        "requests); a channel with a row of high shares adds little of its own.",
    )


def _exclusive(report: Report) -> Chart | None:
    channels = report["retrieval"]["channels"] if "retrieval" in report else None
    if not channels:
        return None
    figure, (axes,) = drawing.panels(HALF, 0.75 + ROW * 1.2 * len(channels))
    recall = [c["exclusive_recall"] for c in channels.values()]
    drawing.bars(axes, list(channels), recall, "mid")
    axes.set_xlabel("exclusive recall")
    said = ", ".join(f"{name} {c['exclusive_hits']:,}" for name, c in channels.items())
    return Chart(
        drawing.inline_svg(
            figure, "exclusive", f"Bar chart of exclusive recall by channel; hits: {said}."
        ),
        "What only one channel finds",
        "Mean share of a request's true items that this channel finds and no other (0 to 1): "
        "what would be lost without it.",
    )


def _training(report: Report) -> Chart | None:
    curves = {name: t["loss"] for name, t in report.get("training", {}).items() if t["loss"]}
    if not curves:
        return None
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, panels = drawing.panels(FULL, 0.4 + 2.2 * rows, columns, rows=rows)
    for axes, (name, points) in zip(panels, curves.items(), strict=False):
        _curve(axes, {p["step"]: p["train"] for p in points}, "-", "mid", "train")
        _curve(axes, {p["step"]: p["valid"] for p in points}, "o-", "deep", "valid")
        axes.set_title(name)
        axes.set_xlabel("step")
    panels[0].set_ylabel("loss")
    panels[0].legend(loc="upper right", fontsize=8)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return Chart(
        drawing.inline_svg(figure, "training", f"Training curves of {', '.join(curves)}."),
        "Loss curves",
        "Loss by optimiser step, each model in its own unit (lower is better): a validation curve "
        "that turns up while training falls means over-fitting.",
        wide=True,
    )


def _curve(
    axes: Axes, curve: Mapping[int, float | None], style: str, color: str, name: str
) -> None:
    known = {step: loss for step, loss in curve.items() if loss is not None}
    axes.plot(list(known), list(known.values()), style, color=COLORS[color], label=name)
