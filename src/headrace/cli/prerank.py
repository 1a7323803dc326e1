"""``headrace prerank select`` and ``headrace slim``: what pre-ranking reads, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from .steps import Steps

if TYPE_CHECKING:
    from ..pipeline.delivery import Replayed
    from ..tuning.selection import Selection
    from ..tuning.slimming import Slimmed
    from ..tuning.stepping import Fitted

prerank = typer.Typer(no_args_is_help=True, help="What the pre-ranker reads, and what it costs.")
console = Console()
RunPath = Annotated[Path, typer.Argument(help="A trained run's directory, or its TOML file.")]


@prerank.callback()
def about() -> None:
    """What the pre-ranker reads, and what it costs."""


@prerank.command("select")
def select(
    run: RunPath,
    keep: Annotated[
        list[int] | None, typer.Option(help="A number of groups to try; repeat for several.")
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(min=0.0, help="Most ms a request of 2,000 candidates may take.")
    ] = None,
) -> None:
    """Rank COLD's groups by importance, retrain with the K most important, and choose K."""
    from ..evaluation.charts_prerank import trade_off
    from ..run import Run
    from ..training import Trainer
    from ..training.observers import progress_bars
    from ..tuning import selection

    opened = Run.open(run)
    with progress_bars(console) as progress:
        trainer, steps = Trainer(progress=progress), Steps(console)
        found = selection.select(opened, keep or [], budget_ms, trainer, steps)
    _print_selection(found)
    base = opened.folder / "prerank_select"
    base.with_suffix(".json").write_text(json.dumps(found.plain()))
    trade_off(found.trials, found.best).savefig(base.with_suffix(".svg"))
    console.print(f"plot: {base}.svg", highlight=False, soft_wrap=True)
    _print_plainly("write under [preranking], then `headrace train`:")
    print(found.settings)


@prerank.command("scores")
def scores(
    run: RunPath,
    output: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    requests: Annotated[int, typer.Option(min=1, help="Training requests to ask for.")] = 4_000,
) -> None:
    """Keep what the ranker says of what retrieval finds, for a pre-ranker to learn from."""
    from ..pipeline import distillation
    from ..run import Run

    with Steps(console)("scores"):
        told = distillation.log_scores(Run.open(run), output, requests)
    console.print(f"{output}: scores for {told:,} requests", highlight=False, soft_wrap=True)
    _print_plainly("write under [preranking.distill], then `headrace train`:")
    print(f"scores = {json.dumps(str(output))}")


@prerank.command("steps")
def steps(
    run: RunPath,
    target: Annotated[
        float, typer.Option(help="Share of the fine step's hit that must stay.")
    ] = 0.98,
    retrieval: Annotated[
        int | None, typer.Option(min=1, help="Items found a request; default: as configured.")
    ] = None,
) -> None:
    """Find how few candidates the coarse step of two may leave, and publish the bundle so."""
    from ..run import Run
    from ..tuning import stepping

    found, version = stepping.publish(Run.open(run), target, retrieval, Steps(console))
    _print_steps(found, target)
    console.print(f"bundle: version {version}", highlight=False, soft_wrap=True)
    print(f"keep = {found.best.keep}")


@prerank.command("delivery")
def delivery(
    run: RunPath,
    requests: Annotated[int, typer.Option(min=1, help="Logged requests to replay.")] = 20_000,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Count the log's last days; default: all that rankers look at."),
    ] = None,
    again: Annotated[bool, typer.Option(help="Count days anew that have counts.")] = False,
) -> None:
    """Replay logged requests to count how often items pass pre-ranking and are shown."""
    from ..pipeline.delivery import replay
    from ..run import Run
    from ..training.observers import progress_bars

    opened = Run.open(run)
    with Steps(console)("replay"), progress_bars(console) as progress:
        task = progress.add_task("requests")
        told = replay(
            opened,
            requests,
            days,
            again=again,
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    _print_replayed(told, opened.log_path)
    _print_plainly("write under [schema.features], then `headrace train`:")
    print('item_delivery_7 = { of = "cross" }')


def slim(
    run: RunPath,
    stage: Annotated[str, typer.Option(help="preranking or ranking.")] = "preranking",
    budget: Annotated[
        float, typer.Option(help="Share of the measured cost that may stay, between 0 and 1.")
    ] = 0.3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data under gates.")] = 1,
) -> None:
    """Thin out a trained pre-ranker or ranker by gates, and publish the bundle with it."""
    from ..nn.gated import Gated
    from ..run import Run
    from ..training import Trainer
    from ..training.observers import progress_bars
    from ..tuning import slimming

    if stage not in ("preranking", "ranking"):
        raise ConfigError(f"--stage {stage}: preranking or ranking")
    if not 0 < budget < 1:
        raise ConfigError(f"--budget {budget:g}: a share between 0 and 1")
    with progress_bars(console) as progress:
        gating = Gated.Config(budget=budget)
        done = slimming.slim(
            Run.open(run), stage, gating, epochs, Trainer(progress=progress), Steps(console)
        )
    _print_slimmed(done, stage)


def _print_plainly(line: str) -> None:
    """As it is: brackets are no markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_selection(found: Selection) -> None:
    table = Table(title="groups by importance", title_justify="left", pad_edge=False)
    table.add_column("group")
    table.add_column("scale", justify="right")
    for name, scale in found.importance.items():
        table.add_row(name, f"{scale:.3f}")
    console.print(table)
    table = Table(title="trials", title_justify="left", pad_edge=False)
    for heading in ("K", "GAUC", "hit", "rows/s", "ms", "features ms", "precision", ""):
        table.add_column(heading, justify="right")
    for t in found.trials:
        numbers = (f"{t.gauc:.4f}", f"{t.hit:.3f}", f"{t.rows_per_s:,.0f}", f"{t.ms:.2f}")
        chosen = "chosen" if t == found.best else ""
        table.add_row(str(t.keep), *numbers, f"{t.features_ms:.2f}", t.precision, chosen)
    console.print(table)


def _print_steps(found: Fitted, target: float) -> None:
    table = Table(title="two steps", title_justify="left", pad_edge=False)
    for heading in ("keep", "hit", "of the fine step's", ""):
        table.add_column(heading, justify="right")
    shown = [
        t for t in found.tried if t == found.best or t in found.tried[:: len(found.tried) // 8 + 1]
    ]
    for t in shown:
        chosen = "chosen" if t == found.best else ""
        table.add_row(str(t.keep), f"{t.hit:.3f}", f"{t.of_whole:.3f}", chosen)
    console.print(table)
    for line in (
        f"the smallest with {target:.0%} of the hit of the fine step on all, {found.whole_hit:.3f}",
        f"a request of {found.candidates} candidates: {found.ms:.2f} ms, without the coarse step "
        f"{found.whole_ms:.2f} ms ({found.cost:.0%})",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _print_replayed(told: Replayed, log: Path) -> None:
    passed, shown = (count / max(told.entered, 1) for count in (told.passed, told.shown))
    lines = [
        f"{log}/delivery: {told.days} days counted out of {told.requests:,} requests; of "
        f"{told.entered:,} candidates {passed:.2%} reached the ranker, {shown:.2%} a slate"
    ]
    if told.kept:
        lines.append(f"  note: {told.kept} days had counts already and keep them")
    if told.trained:
        lines.append(
            f"  note: {told.trained} of the days are among those that the cascade was trained on: "
            "it knows what came after them"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _print_slimmed(done: Slimmed, stage: str) -> None:
    table = Table(title=f"{stage}, slimmed", title_justify="left", pad_edge=False)
    for heading in ("", "GAUC", "rows/s", "ms", "features ms", "scoring ms"):
        table.add_column(heading, justify="right")
    for name, gauc, speed in zip(("before", "after"), done.gauc, done.speed, strict=True):
        ms = (f"{x:.2f}" for x in (speed.ms, speed.features_ms, speed.score_ms))
        table.add_row(name, f"{gauc:.4f}", f"{speed.rows_per_s:,.0f}", *ms)
    console.print(table)
    console.print(
        f"left of the measured cost: {done.cost_left:.0%}", highlight=False, soft_wrap=True
    )
    console.print(
        f"dropped: {', '.join(done.dropped) or 'no group'}", highlight=False, soft_wrap=True
    )
    for key, value in done.settings.items():
        console.print(f"{key} = {json.dumps(value)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"bundle: version {done.version}", highlight=False, soft_wrap=True)
