"""The report as one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from .cells import ABSENT, gain, number
from .charts import charts
from .structure import Cascade, Report
from .tables import strongest_first, tables

SECTIONS = {
    "Cascade": ("standings", "funnel", "baselines", "latency", "stages"),
    "Retrieval": ("channels", "retrieval", "overlap", "exclusive"),
    "Pre-ranking": ("hit", "consistency", "sets", "kinds", "preranking"),
    "Ranking": ("calibration", "ranking", "reach", "d_category"),
    "Training": ("training",),
    "Data and time": ("data", "seconds"),
}


@dataclass(frozen=True, slots=True)
class Remark:
    """A line under a headline."""

    text: str
    tone: str = ""  # "good", "bad" or neither


@dataclass(frozen=True, slots=True)
class Headline:
    """One number that should be seen first."""

    label: str
    value: str
    unit: str
    error: str = ""
    remarks: tuple[Remark, ...] = ()


def render(report: Report) -> str:
    """Write the page."""
    return template("report.html.jinja").render(
        report=report,
        headlines=headlines(report),
        sections=SECTIONS,
        charts=charts(report),
        tables=tables(report),
    )


def template(name: str) -> Template:
    """A page of ours, to be filled; a value that it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("headrace.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def headlines(report: Report) -> list[Headline]:
    """The numbers to see first, as far as the report has them."""
    out: list[Headline] = []
    if "cascade" in report:
        out += _slate_headlines(report, report["cascade"])
    if "retrieval" in report:
        merged = report["retrieval"]["merged"]
        new = merged.get("new_to_user")
        remarks = (Remark(f"new to the user {number(new['recall@200'])}"),) if new else ()
        error = _error(merged.get("se", {}).get("recall@200"))
        value = number(merged["recall@200"])
        out.append(
            Headline("Merged recall@200", value, "share of true items found", error, remarks)
        )
    if report.get("ranking"):
        models = report.get("ranking", {})
        name, best = max(models.items(), key=lambda kv: kv[1]["gauc"] or 0.0)
        remark = Remark(f"PCOC {number(best['pcoc'])}, AUC {number(best['auc'])}")
        out.append(Headline("Ranker GAUC", number(best["gauc"]), name, remarks=(remark,)))
    latency = report["cascade"].get("latency_ms") if "cascade" in report else None
    if latency:
        remark = Remark(f"p50 {number(latency['p50'], 1)} ms")
        out.append(Headline("Latency p99", number(latency["p99"], 1), "ms", remarks=(remark,)))
    return out


def _slate_headlines(report: Report, cascade: Cascade) -> list[Headline]:
    """The slate's numbers, each against every baseline that has it."""
    bases = strongest_first(report)
    fresh = {name: base["new_to_user"] for name, base in bases.items() if "new_to_user" in base}
    new, errors = cascade.get("new_to_user"), cascade.get("se", {})
    out = [
        Headline(
            "Recall@10",
            number(cascade["recall@10"]),
            "share of true items found",
            _error(errors.get("recall@10")),
            _against(cascade["recall@10"], {n: b["recall@10"] for n, b in bases.items()}),
        ),
        Headline(
            "NDCG@10",
            number(cascade["ndcg@10"]),
            "0 to 1",
            _error(errors.get("ndcg@10")),
            _against(cascade["ndcg@10"], {n: b["ndcg@10"] for n, b in bases.items()}),
        ),
        Headline(
            "Slate value",
            number(cascade["value"], 2),
            f"{report['data']['value_unit']} per request",
            _error(errors.get("value"), 2),
            _against(cascade["value"], {n: b["value"] for n, b in bases.items()}),
        ),
    ]
    if new:
        found = Headline(
            "New-to-user recall@10",
            number(new["recall@10"], 4),
            "share of true items found",
            _error(new.get("se", {}).get("recall@10"), 4),
            _against(new["recall@10"], {n: b["recall@10"] for n, b in fresh.items()}),
        )
        out.insert(1, found)
    return out


def _error(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"± {value:.{digits}f}"


def _against(value: float | None, bases: Mapping[str, float | None]) -> tuple[Remark, ...]:
    """How far ahead of each baseline, in percent."""
    remarks: list[Remark] = []
    for name, base in bases.items():
        change = gain(value, base)
        tone = "" if change == ABSENT else "bad" if change.startswith("-") else "good"
        remarks.append(Remark(f"{change} against {name}", tone))
    return tuple(remarks)
