"""``headrace foil``: what can be done about a searched channel after its training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError, suggest

if TYPE_CHECKING:
    from ..app import App
    from ..tuning.foil import Tuned

foil = typer.Typer(no_args_is_help=True, help="Channels searched along a graph.")
console = Console()
RunPath = Annotated[Path, typer.Argument(help="A run directory, or the TOML file of one.")]


@foil.callback()
def _group() -> None: ...


@foil.command("tune")
def tune(
    run: RunPath,
    recall: Annotated[float, typer.Option(help="Share of the exact best to be found.")] = 0.99,
    links: Annotated[
        list[int] | None,
        typer.Option(help="Also make a graph of so many links an item; may be given repeatedly."),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Name under [retrieval]; default: the only foil.")
    ] = None,
    most: Annotated[int, typer.Option("--k", help="Length of the lists compared.")] = 200,
    requests: Annotated[int, typer.Option(help="Validation requests to search for.")] = 200,
) -> None:
    """Find the cheapest search that finds enough, and write it to the bundle."""
    from ..bundle import Bundle, rewrite
    from ..retrieval.foil import FoilRetriever
    from ..run import Run
    from ..tuning.foil import tune, validation

    _check(recall, links or [], most, requests)
    opened = Run.open(run)
    name = _channel(opened.app, channel, run)
    bundle = Bundle.open(opened.bundle_path)
    bundle.check_schema(opened.app.schema_)
    samples = opened.samples(bundle.space(opened.log()))
    settings = opened.app.retrieval[name]
    retriever = settings.build(samples.space).restore(
        bundle.arrays(f"channel.{name}"), samples.space
    )
    assert isinstance(retriever, FoilRetriever)  # its kind says so
    tuned = tune(retriever, validation(samples, requests), recall, most, links or [])
    written = rewrite(opened.bundle_path, bundle, {f"channel.{name}": tuned.retriever.arrays()})
    console.print(_table(tuned))
    console.print(
        f"{opened.bundle_path}: version {written.version}", highlight=False, soft_wrap=True
    )


def _check(recall: float, links: list[int], most: int, requests: int) -> None:
    if not 0 < recall <= 1:
        raise ConfigError(f"--recall {recall:g}: want a share above 0, at most 1")
    if wrong := [number for number in links if not 2 <= number <= 512]:
        raise ConfigError(f"--links {wrong[0]}: want 2 to 512")
    for option, number in (("--k", most), ("--requests", requests)):
        if number < 1:
            raise ConfigError(f"{option} {number}: want at least 1")


def _channel(app: App, wanted: str | None, run: Path) -> str:
    """The foil that is meant."""
    foils = [name for name, settings in app.retrieval.items() if settings.kind == "foil"]
    if not foils:
        raise ConfigError(
            f"{run}: no channel of kind foil among {', '.join(app.retrieval)}; "
            "add one under [retrieval] and train"
        )
    if wanted is None and len(foils) > 1:
        raise ConfigError(f"{run}: several foils; choose by --channel: {', '.join(foils)}")
    if wanted is not None and wanted not in foils:
        raise ConfigError(f"--channel {wanted}: no foil of that name; {suggest(wanted, foils)}")
    return wanted or foils[0]


def _table(tuned: Tuned) -> Table:
    """The front, the chosen one marked."""
    table = Table(title="no other effort scores less and finds more")
    for heading in ("links", "width", "hops", "coverage", "scored", ""):
        table.add_column(heading, justify="right")
    for trial in tuned.front:
        table.add_row(
            str(trial.links),
            " ".join(map(str, trial.effort.width)),
            " ".join(map(str, trial.effort.hops)),
            f"{trial.coverage:.4f}",
            f"{trial.scored_share:.2%}",
            "chosen" if trial is tuned.chosen else "",
        )
    return table
