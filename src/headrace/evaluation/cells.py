"""What the report's tables are made of, and how they write numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row, all others are numbers unless ``prose``."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""
    strong: int = 0  # how many rows from the top to stress
    prose: bool = False


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: thousands marked, undefined as a dash."""
    return ABSENT if value is None or isnan(value) else f"{value:,.{digits}f}"


def spread(value: float | None, error: float | None, digits: int = 3) -> str:
    """A number and what it may be off by."""
    return number(value, digits) + (f" ± {error:.{digits}f}" if error is not None else "")


def gain(value: float | None, base: float | None) -> str:
    """A relative difference in percent, signed."""
    return ABSENT if value is None or not base else f"{100 * (value / base - 1):+.1f} %"
