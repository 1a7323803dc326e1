"""The report as tables: built once here, shown in the terminal and in the HTML page alike."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from rich.console import Console
from rich.table import Table as RichTable

from . import tables_preranking
from .cells import ABSENT, Table, gain, number, spread
from .structure import Baseline, Cascade, Channel, DCategory, Merged, Report


def print_report(report: Report, console: Console) -> None:
    """Print every table of the report that there is data for."""
    for table in tables(report).values():
        shown = RichTable(
            title=table.title,
            caption=table.note or None,
            title_justify="left",
            caption_justify="left",
            title_style="bold",
            header_style="dim",
        )
        for i, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if i == 0 or table.prose else "right")
        for i, row in enumerate(table.rows):
            shown.add_row(*row, style="bold" if i < table.strong else None)
        console.print(shown)


def tables(report: Report) -> dict[str, Table]:
    """All tables by section, in reading order; parts that the report lacks are left out."""
    built = {
        "baselines": _baselines(report),
        "retrieval": _retrieval(report),
        "preranking": tables_preranking.quality(report),
        "consistency": tables_preranking.consistency(report),
        "sets": tables_preranking.sets(report),
        "kinds": tables_preranking.kinds(report),
        "ranking": _ranking(report),
        "d_category": _d_category(report),
        "stages": _stages(report),
        "seconds": _seconds(report),
        "data": _data(report),
    }
    return {name: table for name, table in built.items() if table is not None}


def strongest_first(report: Report) -> dict[str, Baseline]:
    """The baselines by falling recall@10."""
    bases = report.get("baselines", {}).items()
    return dict(sorted(bases, key=lambda kv: kv[1]["recall@10"] or 0.0, reverse=True))


def _baselines(report: Report) -> Table | None:
    if "cascade" not in report:
        return None
    cascade = report["cascade"]
    rows = [("cascade", *_slate_cells(cascade), ABSENT)]
    rows += [
        (name, *_slate_cells(base), _ahead(cascade, base))
        for name, base in strongest_first(report).items()
    ]
    return Table(
        "The cascade against its baselines, on the same requests",
        (
            "slates of 10",
            "recall@10",
            "NDCG@10",
            "hit rate@10",
            "MRR@10",
            f"value ({report['data']['value_unit']})",
            "coverage",
            "new: recall@10",
            "cascade ahead by",
        ),
        rows,
        "± is the bootstrap standard error over requests. New: only items the user had not bought. "
        "Ahead: difference in recall@10, with the standard error of the paired difference.",
        strong=1,
    )


def _slate_cells(slate: Cascade | Baseline) -> tuple[str, ...]:
    errors = slate.get("se", {})
    new = slate.get("new_to_user")
    return (
        spread(slate["recall@10"], errors.get("recall@10")),
        number(slate["ndcg@10"]),
        number(slate["hit_rate@10"]),
        number(slate["mrr@10"]),
        number(slate["value"], 2),
        number(slate["coverage@10"], 4),
        number(new["recall@10"], 4) if new else ABSENT,
    )


def _ahead(cascade: Cascade, base: Baseline) -> str:
    ours, theirs = cascade["recall@10"], base["recall@10"]
    if ours is None or theirs is None:
        return ABSENT
    error = base.get("delta_se", {}).get("recall@10")
    sure = f" ± {error:.3f}" if error is not None else ""
    return f"{ours - theirs:+.3f}{sure} ({gain(ours, theirs)})"


def _retrieval(report: Report) -> Table | None:
    if "retrieval" not in report:
        return None
    retrieval = report["retrieval"]
    rows = [("merged", *_recall_cells(retrieval["merged"]), ABSENT, ABSENT, ABSENT, ABSENT)]
    rows += [
        (
            name,
            *_recall_cells(channel),
            f"{channel['exclusive_hits']:,}",
            number(channel["exclusive_recall"]),
            number(channel["coverage"]),
            number(channel["items"], 1),
        )
        for name, channel in retrieval["channels"].items()
    ]
    return Table(
        "Retrieval, by channel",
        (
            "channel",
            *("recall@10", "@50", "@200"),
            *("new: @10", "@50", "@200"),
            "exclusive hits",
            "exclusive recall",
            "coverage",
            "items",
        ),
        rows,
        "Exclusive: true items no other channel finds, as a count and as a share of each "
        "request's true items. Items: mean length of the list.",
        strong=1,
    )


def _recall_cells(found: Merged | Channel) -> tuple[str, ...]:
    new = found.get("new_to_user")
    cells = (found["recall@10"], found["recall@50"], found["recall@200"])
    fresh = (new["recall@10"], new["recall@50"], new["recall@200"]) if new else (None,) * 3
    return tuple(number(value) for value in (*cells, *fresh))


def _ranking(report: Report) -> Table | None:
    if not report.get("ranking"):
        return None
    rows: list[tuple[str, ...]] = []
    for name, model in report.get("ranking", {}).items():
        sd = model.get("sd")
        rows.append(
            (
                name,
                spread(model["auc"], sd and sd["auc"], 4),
                spread(model["gauc"], sd and sd["gauc"], 4),
                spread(model["logloss"], sd and sd["logloss"], 4),
                number(model["normalised_entropy"], 4),
                spread(model["pcoc"], sd and sd["pcoc"]),
                f"{model['gauc_users']:,} ({model['gauc_skipped']:,})",
                str(model.get("seeds", 1)),
            )
        )
    return Table(
        "Ranking, on labelled exposures",
        ("model", "AUC", "GAUC", "logloss", "NE", "PCOC", "users (skipped)", "seeds"),
        rows,
        "± is the standard deviation over seeds. Skipped users have labels of one class only.",
    )


def bins_of_days(part: DCategory) -> list[str]:
    """A name for each bin of days; the first is of items without an earlier event."""
    low = [number(days, 0) for days in part["from_days"][1:]]
    inner = [f"{a} to {z}" for a, z in pairwise(low)]
    return ["never", *inner, *(f"{last} or more" for last in low[-1:])]


def _d_category(report: Report) -> Table | None:
    if "d_category" not in report:
        return None
    part = report["d_category"]
    models = part["models"].values()
    lists = [model[which] for which in ("shown", "taken") for model in models]
    orders = [model[which] for which in ("auc", "gauc") for model in models]
    blank = (ABSENT,) * (len(orders) + 2)
    rows = [
        (
            name,
            *(number(each["share"][g]) for each in lists),
            *(number(values[g], 4) for values in orders),
            number(part["exposures"][g]),
            f"{part['positives'][g]:,}",
        )
        for g, name in enumerate(bins_of_days(part))
    ]
    rows += [
        ("ever", *(number(each["known"]) for each in lists), *blank),
        ("mean days, if ever", *(number(each["days"], 1) for each in lists), *blank),
        ("items", *(f"{each['items']:,}" for each in lists), *blank),
    ]
    heads = [f"{h}: {name}" for h in ("shown", "taken", "AUC", "GAUC") for name in part["models"]]
    return Table(
        "How far back rankers reach (d_category)",
        ("days since", *heads, "exposures", "positives"),
        rows,
        "Days since the user's last event in the item's category. Shown: shares of each ranker's "
        "ten best of what retrieval found; taken: of these, what the user then took.",
    )


def _stages(report: Report) -> Table | None:
    if "cascade" not in report:
        return None
    stage_ms = report["cascade"].get("stage_ms", {})
    funnel = report["cascade"].get("funnel", {})
    names = list(dict.fromkeys((*stage_ms, *funnel)))
    rows = [(n, number(stage_ms.get(n), 2), number(funnel.get(n), 1)) for n in names]
    latency = report["cascade"].get("latency_ms")
    note = (
        f"A whole request: p50 {number(latency['p50'], 1)} ms, p99 {number(latency['p99'], 1)} ms."
        if latency
        else ""
    )
    return Table("Stages", ("stage", "ms per request", "candidates after"), rows, note)


def _seconds(report: Report) -> Table | None:
    if not report.get("seconds"):
        return None
    seconds = report.get("seconds", {})
    rows = [(name, number(value, 1)) for name, value in seconds.items()]
    rows.append(("total", number(_total(seconds.values()), 1)))
    return Table("Time taken", ("step", "seconds"), rows)


def _total(values: Iterable[float | None]) -> float:
    return sum(value or 0.0 for value in values)


def _data(report: Report) -> Table:
    data = report["data"]
    rows = [
        ("data", data["name"]),
        ("users", f"{data['users']:,}"),
        ("items", f"{data['items']:,}"),
        ("events", f"{data['events']:,}"),
        ("requests evaluated", f"{data['requests']:,}"),
        ("  with items new to the user", f"{data['requests_new_to_user']:,}"),
        ("true items per request", number(data["truth_per_request"], 1)),
        ("  share new to the user", number(data["new_to_user_share"], 2)),
        *(
            (name, f"{span['start'][:10]} to {span['end'][:10]}")
            for name, span in data["intervals"].items()
        ),
        *(("note", note) for note in data["notes"]),
        *(("left out", f"{part}: {why}") for part, why in report.get("left_out", {}).items()),
    ]
    return Table("What was evaluated", ("", ""), rows, prose=True)
