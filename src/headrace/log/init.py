"""What ``headrace init`` knows: guesses at a table of events, for a starting file to build on.

Roles (user, item, time, ...) are guessed from the names of columns; whom another column describes,
from the data: what is the same in nearly all rows of an item describes the item, and so for users;
what changes is context. ``_starter.py`` turns the guesses into commented TOML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from ..errors import DataError
from . import _starter
from ._starter import Guess, Side
from .sources._base import TimeUnit, check_names, find_files, open_table, readable, to_ms

SAMPLE_ROWS = 200_000
SAME = 0.95  # share of items (users) with one value only, from which on a column describes them
FEW = 1_000  # distinct values that need no threshold
DAY_MS = 86_400_000
MAX_TYPES = 63
TAKEN = {"user", "item", "time_ms", "type", "value", "request", "group", "category", "price"}

#: Names that say what a column is, likeliest first; compared without case and punctuation.
ROLES: Mapping[str, str] = {
    "user": "user userid uid customer customerid custid member memberid household householdid "
    "visitor visitorid client clientid account accountid reviewerid buyerid personid",
    "item": "item itemid iid product productid sku skuid asin article articleid movie movieid "
    "goods goodsid video videoid track trackid content contentid ad adid newsid stockcode",
    "time": "time timestamp timems ts datetime date eventtime eventtimestamp createdat when "
    "unixtime unixreviewtime transactiontimestamp invoicedate day",
    "type": "type event eventtype behavior behaviour behaviortype action actiontype interaction",
    "value": "value amount revenue salesvalue paid rating overall total dwell duration",
    "category": "category categoryid itemcategory productcategory categorycode cat cate genre",
    "price": "price unitprice listprice saleprice",
}
NEEDED = ("user", "item", "time")
TARGETS = ("buy", "purchase", "order", "transaction", "conversion", "cart", "click", "play", "rat")


def starter(
    path: Path, *, user: str | None = None, item: str | None = None, time: str | None = None
) -> str:
    """Write commented TOML for a table of events: Parquet or CSV, a file or a folder.

    ``user``, ``item`` and ``time`` name the columns that are not to be guessed. DataError when
    there is no such file or column, or when one of the three can only be told.
    """
    files = find_files(path)
    with readable(path):
        frame = open_table(files)
        sample = frame.head(SAMPLE_ROWS).collect()
        if sample.height == 0:
            raise DataError(f"{path}: empty; there is not one row in it")
        roles = _roles(path, sample, {"user": user, "item": item, "time": time})
        when = pl.col(roles["time"])
        ends = frame.select(when.min().alias("first"), when.max().alias("last")).collect()
    unit = _time_unit(sample[roles["time"]])
    place = f"{path}: column {roles['time']!r}"
    ends_ms = to_ms(pl.concat([ends["first"], ends["last"]]), unit, place)
    sides: dict[str, Side] = {
        c: _side(sample, c, roles) for c in sample.columns if c not in roles.values()
    }
    kept: dict[str, Side] = {
        c: side for c, side in sides.items() if _usable(sample[c]) and c not in TAKEN
    }
    described = {**kept, **{roles[r]: "item" for r in ("category", "price") if r in roles}}
    return _starter.render(
        Guess(
            path=path,
            roles=roles,
            time_unit=unit,
            sides=kept,
            left_out=[c for c in sides if c not in kept],
            encodings={
                c: _encoding(sample, c, roles[side] if side != "context" else None)
                for c, side in described.items()
            },
            target=_target(sample, roles),
            days=float((ends_ms[1] - ends_ms[0]) / DAY_MS),
        )
    )


def _roles(path: Path, sample: pl.DataFrame, told: Mapping[str, str | None]) -> dict[str, str]:
    roles = {role: column for role, column in told.items() if column is not None}
    check_names(path, list(roles.values()), sample.columns)
    plain = {c: re.sub(r"[^a-z0-9]", "", c.lower()) for c in sample.columns}
    for role, names in ROLES.items():
        found = [
            c
            for match in (str.__eq__, str.endswith)
            for name in names.split()
            for c in plain
            if match(plain[c], name) and c not in roles.values() and _fits(sample[c], role)
        ]
        if role not in roles and found:
            roles[role] = found[0]
        if role in NEEDED and role not in roles:
            raise DataError(
                f"{path}: no column looks like the {role}; say which it is with --{role} COLUMN "
                f"(there are {', '.join(sample.columns)})"
            )
    return roles


def _fits(column: pl.Series, role: str) -> bool:
    dtype = column.dtype
    if role == "time":
        return dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.String)
    if role in {"value", "price"}:
        return dtype.is_numeric()
    if not (dtype.is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)):
        return False
    return role != "type" or column.n_unique() <= MAX_TYPES


def _time_unit(time: pl.Series) -> TimeUnit:
    if not time.dtype.is_numeric():
        return "datetime"
    last = float(time.cast(pl.Float64).max() or 0)  # pyright: ignore
    return "s" if last < 1e11 else "ms" if last < 1e14 else "us"


def _side(sample: pl.DataFrame, column: str, roles: Mapping[str, str]) -> Side:
    """Whom a column describes: an item or a user, when nearly each of them has one value only."""
    shares: dict[Side, float] = {}
    for side in ("item", "user"):
        groups = sample.group_by(roles[side]).agg(
            pl.len().alias("rows"), pl.col(column).drop_nulls().n_unique().alias("values")
        )
        often = groups.filter(pl.col("rows") > 1)["values"]
        shares[side] = float((often <= 1).sum() / max(often.len(), 1))
    likely = max(shares, key=lambda side: shares[side])
    return likely if shares[likely] >= SAME else "context"


def _usable(column: pl.Series) -> bool:
    """Whether a column can become a feature: dates and nested values need work of your own."""
    dtype = column.dtype
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Boolean)
    return (text or dtype.is_numeric()) and column.null_count() < column.len()


def _encoding(sample: pl.DataFrame, column: str, owner: str | None) -> str | None:
    """Settings of the column's feature, or None when its values are all but unique."""
    values = sample[column]
    distinct = values.n_unique()
    whole = values.dtype.is_integer() and re.search(r"id|code|no$", column.lower()) is not None
    if values.dtype.is_numeric() and not whole:
        return 'encode = "bucket"' if distinct > 16 else ""
    owners = sample.height if owner is None else sample[owner].n_unique()
    if distinct > FEW and distinct > owners / 2:
        return None
    return "min_count = 5" if distinct > FEW else ""


def _target(sample: pl.DataFrame, roles: Mapping[str, str]) -> str:
    """The event type most worth predicting: one that sounds like a sale, or else the rarest."""
    if "type" not in roles:
        return "event"
    counts = sample[roles["type"]].drop_nulls().cast(pl.String).value_counts(sort=True)
    types = counts.to_series(0).to_list()
    return next((t for word in TARGETS for t in types if word in t.lower()), types[-1])
