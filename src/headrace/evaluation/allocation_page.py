"""The report on allocation: curves as in DCAF's figures, and who gets how much."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .. import __version__
from ..allocation.actions import OPTIONAL, STAGES, Actions
from ..allocation.compare import Curve, Outcome, Pool, headline
from ..allocation.logged import Logged
from . import drawing
from .drawing import COLORS, FULL, HALF, SERIES, Chart
from .page import template

Array = NDArray[Any]
KEYS = (*STAGES, *OPTIONAL)
GROUPS = ("few visits", "some", "many")  # thirds of requests by their users' requests


def reference(pool: Pool) -> float:
    """The budget that headlines are told at: halfway between the cheapest and the widest plan."""
    return float(pool.cost_J[0] + pool.cost_J[-1]) / 2


def write_page(path: Path, name: str, actions: Actions, pool: Pool, logged: Logged) -> Path:
    """Draw and write; ``logged`` are the requests of the pool."""
    curves, cost = pool.curves(), reference(pool)
    at = pool.dcaf(cost)
    with drawing.style():
        charts = [
            _value(pool, curves, cost),
            _price(curves),
            _deciles(pool, at),
            _groups(pool, at, logged),
            _mix(actions, pool, at),
        ]
    page = template("allocation.html.jinja").render(
        version=__version__,
        name=name,
        requests=len(pool),
        actions=len(actions),
        reference=cost,
        charts=charts,
    )
    path.write_text(page)
    return path


def _value(pool: Pool, curves: Mapping[str, Curve], cost: float) -> Chart:
    figure, (axes,) = drawing.panels(FULL, 3.6)
    axes.plot(*pool.equal(), "o-", color=COLORS["ink"], label="equal", markersize=3)
    for (name, curve), color in zip(curves.items(), SERIES, strict=False):
        _plot(axes, curve, "gain", color, name)
    axes.axvline(cost, color=COLORS["line"])
    axes.set_xlabel("processor time, ms a request")
    axes.set_ylabel("value a request")
    axes.legend(loc="lower right")
    told = headline(pool, curves, cost)
    gains = ", ".join(f"{k} {v:+.1%}" for k, v in told["value_gain_at_equal_cost"].items())
    cuts = ", ".join(f"{k} {v:.0%}" for k, v in told["cost_cut_at_equal_value"].items())
    return Chart(
        drawing.inline_svg(figure, "value", f"Value against cost; at the reference: {gains}."),
        "Value against cost",
        f"Against equal allocation at the reference budget (vertical line): value {gains}; "
        f"cost saved at equal value {cuts}. Equal is the best single plan or mixture of two.",
        wide=True,
    )


def _price(curves: Mapping[str, Curve]) -> Chart:
    figure, (axes,) = drawing.panels(HALF, 2.8)
    for name, color in (("dcaf", "warm"), ("oracle", "deep")):
        _plot(axes, curves[name], "price", color, name)
    axes.set_xlabel("processor time, ms a request")
    axes.set_ylabel("price λ, value a ms")
    axes.legend()
    return Chart(
        drawing.inline_svg(figure, "price", "Price of computation against the spend."),
        "The price of computation",
        "What a millisecond must bring to be spent, by what is spent a request.",
    )


def _deciles(pool: Pool, at: Outcome) -> Chart:
    spent_N = pool.cost_J[at.choice]
    order = np.argsort(pool.gain_NJ[:, -1], kind="stable")
    spent = [float(part.mean()) if len(part) else None for part in _split(spent_N[order], 10)]
    figure, (axes,) = drawing.panels(HALF, 3.8)
    drawing.bars(axes, [f"{d}" for d in range(1, 11)], spent, "mid", digits=2)
    axes.set_xlabel("processor time, ms a request")
    axes.set_ylabel("decile of true value")
    return Chart(
        drawing.inline_svg(figure, "deciles", "Spend by decile of the request's value."),
        "Who gets how much, by value",
        "Requests in ten equal parts by what the widest plan would bring them, least first.",
    )


def _groups(pool: Pool, at: Outcome, logged: Logged) -> Chart:
    _, user_N, count_U = np.unique(logged.user_N, return_inverse=True, return_counts=True)
    order = np.argsort(count_U[user_N], kind="stable")
    rows = np.arange(len(pool))
    kept_N = pool.gain_NJ[rows, at.choice] / np.maximum(pool.gain_NJ[:, -1], 1e-12)
    figure, panels = drawing.panels(HALF, 2.0, 2, sharey=True)
    for axes, values, label, digits in (
        (panels[0], pool.cost_J[at.choice], "ms a request", 2),
        (panels[1], kept_N, "share of value kept", 3),
    ):
        means = [float(part.mean()) if len(part) else None for part in _split(values[order], 3)]
        drawing.bars(axes, GROUPS, means, "mid", digits=digits)
        axes.set_xlabel(label)
    return Chart(
        drawing.inline_svg(figure, "groups", "Spend and value kept by users' activity."),
        "Fairness: by users' activity",
        "Requests in thirds by how often their users came in the period; value kept is against "
        "the widest plan.",
    )


def _mix(actions: Actions, pool: Pool, at: Outcome) -> Chart:
    share_J = np.bincount(at.choice, minlength=len(pool.cost_J)) / max(1, len(pool))
    names = [
        f"{sum(n > 0 for k, n in q.items() if k not in KEYS)} channels, "
        f"{q['preranking'] * q.get('ranking', 1)} ranked, {ms:.1f} ms"
        for q, ms in zip(actions.quotas, actions.cpu_ms.tolist(), strict=True)
    ]
    figure, (axes,) = drawing.panels(HALF, 0.8 + 0.26 * len(names))
    drawing.bars(axes, names, share_J.tolist(), "mid")
    axes.set_xlabel("share of requests at the reference budget")
    return Chart(
        drawing.inline_svg(figure, "mix", "Share of requests by plan."),
        "Mix of plans",
        "Plans with the channels that are on, the items that the ranker scores, and their cost.",
    )


def _plot(axes: Axes, curve: Curve, what: str, color: str, name: str) -> None:
    y = [o.gain if what == "gain" else o.price for o in curve]
    axes.plot([o.cost for o in curve], y, color=COLORS[color], label=name)


def _split(values: Array, parts: int) -> list[Array]:
    return np.array_split(values, parts)
