"""Show people what the cascade recommends, and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..run import Run
from ..serving.service import Recommendation, Service


def show_recommendations(
    run: Run,
    console: Console,
    *,
    names: Sequence[str] | None = None,
    users: int = 3,
    k: int = 10,
) -> None:
    """Print slates with names, stage scores and the channels that found each item.

    Without ``names`` it picks users of different activity from the log.
    """
    with Service.open(run.folder) as service:
        for name in names or _typical(run, users):
            _print(service.recommend(user=name, k=k, explain=True), name, console)


def _typical(run: Run, count: int) -> list[str]:
    """Users at evenly spaced quantiles of the number of events, the most active first."""
    log = run.log()
    offsets = log.event("user_offsets")
    order = (offsets[1:] - offsets[:-1]).argsort()[::-1]
    active = order[: int((offsets[1:] > offsets[:-1]).sum())]
    picks = [int(active[len(active) * (2 * i + 1) // (2 * count)]) for i in range(count)]
    return [log.users["user"][row] for row in picks]


def _print(slate: Recommendation, name: str, console: Console) -> None:
    table = Table(title=f"for user {name}", title_justify="left", pad_edge=False)
    for heading in ("item", "name", "found by"):
        table.add_column(heading, no_wrap=heading == "item", overflow="fold")
    for heading in ("retrieval", "pre-rank", "rank", "value"):
        table.add_column(heading, justify="right")
    for item in slate.items:
        scores = item.scores
        table.add_row(
            item.item,
            item.name or "",
            ", ".join(item.found_by),
            *(f"{scores[s]:.4f}" for s in ("retrieval", "preranking", "ranking", "value")),
        )
    console.print(table)
