"""The report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from .charts import charts
from .structure import Cascade, Report
from .tables import ABSENT, gain, number, tables

SECTIONS = {
    "Cascade": ("standings", "funnel", "latency", "stages"),
    "Retrieval": ("channels", "retrieval", "overlap", "exclusive"),
    "Pre-ranking": ("hit", "preranking"),
    "Ranking": ("calibration", "ranking"),
    "Training": ("training", "seconds"),
    "Data": ("data",),
}


@dataclass(frozen=True, slots=True)
class Headline:
    """One number that should be seen first."""

    label: str
    value: str
    unit: str
    error: str = ""
    against: tuple[tuple[str, str, bool], ...] = ()  # what, relative difference, better or not


def render(report: Report) -> str:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("headrace.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja")
    return page.render(
        report=report,
        headlines=headlines(report),
        sections=SECTIONS,
        charts=charts(report),
        tables=tables(report),
    )
