"""The command line. Mistakes of the user are one line on stderr and exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .. import __version__
from ..errors import ConfigError, HeadraceError, suggest
from .allocate import allocate
from .foil import foil
from .prerank import prerank, slim
from .steps import Steps
from .store import store

if TYPE_CHECKING:
    from ..run import Run
    from ..stages import Allocator

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="headrace: the whole recommendation cascade, training and serving.",
)
app.add_typer(store, name="store")
app.add_typer(prerank, name="prerank")
app.command()(slim)
app.add_typer(allocate, name="allocate")
app.add_typer(foil, name="foil")
console = Console()
errors = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Argument(help="The application's TOML file.")]
RunPath = Annotated[Path, typer.Argument(help="A run directory, or the TOML file of one.")]


@app.command()
def ingest(
    config: ConfigFile,
    append: Annotated[bool, typer.Option(help="Add a later day to the log.")] = False,
    force: Annotated[bool, typer.Option(help="Read again even if nothing changed.")] = False,
) -> None:
    """Turn raw files into the columnar event log."""
    from ..run import Run

    run = Run.of(config)
    with Steps(console)("ingest"):
        log, changed = run.ingest(append=append, force=force)
    m = log.manifest
    console.print(
        f"{run.log_path}: {'written' if changed else 'up to date'}: {m.num_events:,} events of "
        f"{m.num_users - 1:,} users, {m.num_items - 1:,} items, {m.num_requests:,} requests",
        highlight=False,
    )
    for note in m.notes:
        console.print(f"  note: {note}", highlight=False, soft_wrap=True)


@app.command()
def train(
    config: ConfigFile,
    resume: Annotated[bool, typer.Option(help="Go on from checkpoints.")] = False,
) -> None:
    """Train every stage and write the bundle."""
    from ..run import Run

    _train(Run.of(config), Steps(console), resume=resume)


@app.command()
def evaluate(
    run: RunPath,
    against: Annotated[
        str | None,
        typer.Option(help="Ranker of [compare] for the d_category report; default: the first."),
    ] = None,
) -> None:
    """Judge the trained cascade on the test period; write report.json and report.html."""
    from ..run import Run

    _evaluate(Run.open(run), Steps(console), against)


@app.command()
def demo(
    config: ConfigFile,
    users: Annotated[int, typer.Option(help="Recommend for so many users.")] = 3,
) -> None:
    """Ingest, train, evaluate, and show what the cascade recommends."""
    from ..run import Run
    from .show import show_recommendations

    run, steps = Run.of(config), Steps(console)
    with steps("ingest"):
        run.ingest()
    _train(run, steps)
    path = _evaluate(run, steps)
    show_recommendations(run, console, users=users)
    console.print(f"\nserve it:  headrace serve {run.folder}", highlight=False, soft_wrap=True)
    console.print(f"took {sum(steps.seconds.values()):.0f} s", highlight=False, soft_wrap=True)
    print(f"report: {path}")


@app.command()
def recommend(
    run: RunPath,
    user: Annotated[str, typer.Option(help="Raw id of a user; an unknown one is new.")] = "",
    k: Annotated[int, typer.Option(min=1, help="Length of the slate.")] = 10,
) -> None:
    """Recommend for one user, with reasons."""
    from ..run import Run
    from .show import show_recommendations

    show_recommendations(Run.open(run), console, names=[user] if user else None, k=k)


@app.command()
def serve(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    allocator: Annotated[
        str | None, typer.Option(help="Who decides what a request may cost; default: configured.")
    ] = None,
) -> None:
    """Serve the cascade over HTTP."""
    from ..run import Run
    from ..serving.http import serve as serve_http

    opened = Run.open(run)
    chosen = None if allocator is None else _allocator(opened, allocator)
    serve_http(opened.folder, host=host, port=port, allocator=chosen)


@app.command()
def simulate(config: ConfigFile) -> None:
    """Write the log of a synthetic platform with a known truth."""
    from ..training.observers import progress_bars
    from ..world import simulate_file

    with Steps(console)("simulate"), progress_bars(console) as progress:
        task = progress.add_task("users")
        log = simulate_file(config, lambda done, n: progress.update(task, completed=done, total=n))
    m = log.manifest
    console.print(
        f"{log.path}: {m.num_events:,} events of {m.num_users - 1:,} users, "
        f"{m.num_items - 1:,} items",
        highlight=False,
    )


@app.command()
def schema(
    world: Annotated[bool, typer.Option("--world", help="Of a file for `simulate`.")] = False,
) -> None:
    """Print the JSON Schema of the TOML file."""
    from ..app import App
    from ..world import Simulation

    print(json.dumps((Simulation if world else App).model_json_schema(by_alias=True), indent=2))


@app.command()
def init(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV file of events.")],
    output: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    user: Annotated[str | None, typer.Option(help="Column of the user's id.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of the item's id.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of the time.")] = None,
) -> None:
    """Write a commented starting file from a table's columns."""
    from ..log.init import starter

    text = starter(table, user=user, item=item, time=time)
    if output is None:
        print(text)
    elif output.exists():
        raise HeadraceError(f"{output}: exists already; choose another name or remove it")
    else:
        output.write_text(text)
        console.print(
            f"{output}: written; edit it, then `headrace demo {output}`",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _allocator(run: Run, kind: str) -> Allocator:
    """The configured policy, or one of another kind over the configured quota."""
    from ..config import Kinds

    configured = run.app.allocation
    if kind == configured.kind:
        return configured.build()
    policies = Kinds("headrace.allocation.policies")
    if "." not in kind and kind not in policies.names():
        raise ConfigError(f"--allocator: no such kind {kind!r}; {suggest(kind, policies.names())}")
    return policies.find(kind).Config(quota=configured.quota).build()


def _train(run: Run, steps: Steps, *, resume: bool = False) -> None:
    from ..pipeline import train as pipeline
    from ..training import Trainer
    from ..training.distributed import join
    from ..training.observers import progress_bars

    with progress_bars(console) as progress, join() as group:
        trainer = Trainer(run.folder, progress, group)
        parts = pipeline.train(run, trainer, steps, resume=resume)
        if group.rank:  # the first process writes for all
            return
    with steps("bundle"):
        bundle = pipeline.save(run, trainer, parts, steps.seconds)
    console.print(f"{run.bundle_path}: version {bundle.version}", highlight=False, soft_wrap=True)


def _evaluate(run: Run, steps: Steps, against: str | None = None) -> Path:
    from ..bundle import Bundle
    from ..evaluation import print_report, write_report
    from ..evaluation.evaluate import evaluate as judge

    bundle = Bundle.open(run.bundle_path)
    bundle.check_schema(run.app.schema_)
    report = judge(run, bundle, steps, against)
    path = write_report(report, run.folder)
    print_report(report, console)
    return path


def main() -> None:
    """Run the command line; the entry point of the ``headrace`` script."""
    try:
        app()
    except HeadraceError as error:
        errors.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted; `headrace train --resume` goes on from the last checkpoint")
        sys.exit(130)
