"""The tables of pre-ranking."""

from __future__ import annotations

from .cells import Table, number, spread
from .structure import Agreement, Consistency, Report


def quality(report: Report) -> Table | None:
    """The pre-ranker by itself, and the one measure to judge it by."""
    if "preranking" not in report:
        return None
    stage = report["preranking"]
    rows = [("AUC", number(stage["auc"])), ("GAUC", number(stage["gauc"]))]
    rows += [(f"hit@{m}", number(hit)) for m, hit in stage["hit"].items()]
    note = "hit@m: share of the ranker's top 10 that is in the pre-ranker's top m."
    return Table("Pre-ranking", ("measure", "value"), rows, note)


def consistency(report: Report) -> Table | None:
    """Against the ranker, and against what was taken, at every length."""
    agreed = _consistency(report)
    if agreed is None:
        return None
    best = agreed["favourites"]
    return Table(
        "Does the pre-ranker agree with the ranker, and with the users?",
        ("kept", "hit", "hit by worth", "NDCG", "taken"),
        [(k, *_cells(each)) for k, each in agreed["at"].items()],
        f"Of the pre-ranker's first k: share of the ranker's {best} best, the same by worth, NDCG "
        "by grades of the ranker's places, and share of what the users then took, whichever "
        f"channel had found it or none. Kendall's tau: {number(agreed['tau'])}.",
    )


def sets(report: Report) -> Table | None:
    """What the ranker delivers from what is kept, told beforehand and true."""
    agreed = _consistency(report)
    if agreed is None or "sets" not in agreed:
        return None
    rows = [
        (
            k,
            number(each["predicted"]),
            number(each["real"]),
            number(each["error"]),
            number(each["error_of_sum"]),
        )
        for k, each in agreed["sets"].items()
    ]
    return Table(
        "Value delivered from what the pre-ranker keeps",
        ("kept", "predicted", "real", "error", "error of a sum"),
        rows,
        "Worth of the ranker's ten best of the first k, told by a regression from the "
        "pre-ranker's worths and the channels, for requests it was not fitted on. Error: mean "
        "absolute, over the real mean; beside it that of the pre-ranker's ten best worths, scaled.",
    )


def kinds(report: Report) -> Table | None:
    """The same for kinds of items that cascades tend to starve."""
    agreed = _consistency(report)
    if agreed is None:
        return None
    rows = [
        (
            name,
            number(each["candidates"]),
            f"{each['favourites']:,}",
            number(each["hit"]),
            number(each["worth_hit"]),
            f"{each['taken']:,}",
            number(each["taken_hit"]),
        )
        for name, each in agreed["kinds"].items()
    ]
    return Table(
        f"Pre-ranking by kind of item, {agreed['cut']} kept",
        ("items", "candidates", "favourites", "hit", "hit by worth", "taken", "of these kept"),
        rows,
        f"Candidates: share of all. Favourites: of the ranker's {agreed['favourites']} best.",
    )


def _consistency(report: Report) -> Consistency | None:
    return report["preranking"].get("consistency") if "preranking" in report else None


def _cells(at: Agreement) -> tuple[str, ...]:
    se = at["se"]
    return (
        spread(at["hit"], se.get("hit")),
        spread(at["worth_hit"], se.get("worth_hit")),
        spread(at["ndcg"], se.get("ndcg")),
        spread(at["taken_hit"], se.get("taken_hit")),
    )
