"""``headrace allocate``: what plans cost, what they bring, and what a policy makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from .steps import Steps

allocate = typer.Typer(no_args_is_help=True, help="How much computation requests are worth.")
console = Console()
RunPath = Annotated[Path, typer.Argument(help="A run directory, or the TOML file of one.")]
Formula = Annotated[
    str | None, typer.Option(help='Value of an item, as "p_buy * price"; default: as configured.')
]
NewShare = Annotated[
    float,
    typer.Option(
        "--new-to-user", min=0, max=1, help="Share of requests with the filter of this name."
    ),
]


@allocate.command("profile")
def profile(
    run: RunPath,
    requests: Annotated[int, typer.Option(min=2, help="Requests timed under every plan.")] = 40,
    formula: Formula = None,
    new_to_user: NewShare = 0.0,
    widen: Annotated[
        float, typer.Option(min=1, max=100, help="Times the configured quota, of the widest plan.")
    ] = 1.0,
) -> None:
    """Measure what every plan costs on this machine, and keep those worth having."""
    from ..evaluation import allocate as work
    from ..run import Run

    opened = work.Opened.of(Run.open(run), formula)
    quota = dict(opened.run.app.allocation.quota)
    actions = work.profile(
        opened, Steps(console), requests, quota, new_share=new_to_user, widen=widen
    )
    busy_ms = actions.cpu_ms_in(work.TOGETHER)
    costs = zip(actions.quotas, actions.cpu_ms, busy_ms, actions.cost_ms, strict=True)
    for wide, cpu, busy, wall in costs:
        on = [name for name in opened.cascade.channels if wide[name]]
        told = f"{cpu:7.2f} ms CPU ({busy:5.2f} under load) {wall:7.2f} ms"
        told = f"{told}  {work.described(wide)}  {' '.join(on)}"
        console.print(told, highlight=False, soft_wrap=True)
    console.print(f"{opened.folder}: {len(actions)} plans", highlight=False, soft_wrap=True)


@allocate.command("replay")
def replay(
    run: RunPath,
    requests: Annotated[
        int, typer.Option(min=2, help="Of the validation and test periods.")
    ] = 10_000,
    estimator: Annotated[Literal["gbdt", "linear"], typer.Option(help="Of gains.")] = "gbdt",
    formula: Formula = None,
    new_to_user: NewShare = 0.0,
    decisions: Annotated[
        bool,
        typer.Option("--decisions", help="Correct the last replay by live decisions instead."),
    ] = False,
    within_hours: Annotated[
        float,
        typer.Option(
            min=0.001, max=8_784, help="With --decisions: how long events count for a slate."
        ),
    ] = 24.0,
) -> None:
    """Run logged requests once at full quota, and learn what every plan would have brought.

    With --decisions nothing is run: what explored requests brought more than others since the last
    replay, by the decision log and the events that came in, corrects its estimates.
    """
    from ..evaluation import allocate as work
    from ..run import Run

    opened = work.Opened.of(Run.open(run), formula)
    if decisions:
        learnt = work.heed(opened, Steps(console), round(within_hours * 3_600_000))
        console.print(f"{learnt}", highlight=False, soft_wrap=True)
    else:
        work.replay(opened, Steps(console), requests, estimator, new_to_user)
    told = f"{opened.folder}: ready for `headrace serve {run} --allocator dcaf`"
    console.print(told, highlight=False, soft_wrap=True)


@allocate.command("report")
def report(run: RunPath) -> None:
    """Write allocation/report.html: policies against each other on the last replay."""
    from ..evaluation import allocate as work
    from ..run import Run

    print(f"report: {work.report(Run.open(run))}")
