"""``headrace store``: what an operator does with the events that came in since the log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import HeadraceError

store = typer.Typer(no_args_is_help=True, help="The events that came in since the log.")
console = Console()
RunPath = Annotated[Path, typer.Argument(help="A run directory, or the TOML file of one.")]


@store.command("load")
def load(
    run: RunPath,
    events: Annotated[Path | None, typer.Argument(help="Parquet or CSV; else the log.")] = None,
) -> None:
    """Append events of a file; without one, put the log's newest events into Redis."""
    from ..behavior import upkeep
    from ..behavior.stores.redis import RedisStore
    from ..run import Run
    from ..training.observers import progress_bars

    opened = Run.open(run)
    with closing(opened.store(writable=True)) as kept:
        if events is not None:
            with progress_bars(console) as progress:
                task = progress.add_task("events")
                told = upkeep.load_file(
                    kept,
                    opened.log(),
                    events,
                    lambda done, n: progress.update(task, completed=done, total=n),
                )
            message = f"{told.accepted:,} events appended, {told.duplicates:,} known already"
        elif isinstance(kept, RedisStore):
            message = f"{kept.load():,} keys written"
        else:
            message = "nothing to do: this kind of store reads the log in place"
    console.print(message, highlight=False, soft_wrap=True)


@store.command("stats")
def stats(run: RunPath) -> None:
    """Print facts about the store as JSON."""
    from ..run import Run

    opened = Run.open(run)
    with closing(opened.store()) as kept:
        log = opened.log().manifest
        facts = {"log_events": log.num_events, "log_last_ms": log.last_ms, **kept.stats()}
    print(json.dumps(facts))


@store.command("compact")
def compact(run: RunPath) -> None:
    """Make events that came in a later day of the log. Stop the server first."""
    from ..behavior import upkeep
    from ..run import Run

    opened = Run.open(run)
    with closing(opened.store(writable=True)) as kept:
        log, count = upkeep.compact(kept, opened.log_path, opened.folder / "events")
    console.print(
        f"{count:,} events compacted; {opened.log_path}: {log.manifest.num_events:,} events",
        highlight=False,
    )


@store.command("export")
def export(
    run: RunPath, output: Annotated[Path, typer.Argument(help="A Parquet file to write.")]
) -> None:
    """Write the events that came in as raw events; a server may go on meanwhile."""
    from ..run import Run

    if output.exists():
        raise HeadraceError(f"{output}: exists already; choose another name or remove it")
    with closing(Run.open(run).store()) as kept:
        events, _ = kept.export()
    try:
        events.write_parquet(output)
    except OSError as error:
        raise HeadraceError(f"{output}: cannot be written ({error})") from None
    console.print(f"{output}: {events.height:,} events", highlight=False, soft_wrap=True)
