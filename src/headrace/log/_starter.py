"""The starting file's text, in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..schema import COUNTERS

Side = Literal["item", "user", "context"]


@dataclass(frozen=True)
class Guess:
    """What a table of events seems to hold."""

    path: Path
    roles: Mapping[str, str]  # user, item, time; maybe type, value, category, price -> column
    time_unit: str
    sides: Mapping[str, Side]  # whom each other column describes
    left_out: Sequence[str]
    encodings: Mapping[str, str | None]  # column -> settings of its feature; None: not a feature
    target: str
    days: float


def render(guess: Guess) -> str:
    """The whole file."""
    return "\n".join(
        [
            *_head(guess),
            *_source(guess),
            *_schema(guess),
            *_samples(guess),
            REST.format(formula=_formula(guess)),
        ]
    )


def _head(guess: Guess) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", guess.path.name.split(".")[0]).strip("_") or "app"
    return [
        f"# Written by `headrace init` from {guess.path.name}: guesses, to be looked over.",
        "# `headrace schema` says what else can be set.",
        f"name = {_text(name)}",
        "seed = 1    # every random choice follows from it",
        "",
    ]


def _source(guess: Guess) -> list[str]:
    roles, path = guess.roles, guess.path.as_posix()
    time = [
        _set("time", roles["time"], "its time"),
        _set("time_unit", guess.time_unit, "s, ms or us since 1970; datetime for dates and text"),
    ]
    lines = [
        "[source]",
        'kind = "table"    # Parquet or CSV files by the names of their columns',
        "",
        "[source.events]    # what users did; a row is one event",
        _set("path", path, "a file, or a folder of files of one shape"),
        _set("user", roles["user"], "column of the user's id"),
        _set("item", roles["item"], "column of the item's id"),
        *time,
    ]
    if "type" in roles:
        lines.append(_set("type", roles["type"], "its type, such as view or buy"))
    if value := roles.get("value", roles.get("price")):
        lines.append(_set("value", value, "a number: money paid, a rating, seconds stayed"))
    items = _of(guess, "item")
    if items or roles.keys() & {"category", "price"}:
        lines += ["", "[source.items]    # what is recommended; the first row of an item counts"]
        lines += [_set("path", path), _set("item", roles["item"])]
        for role, what in (("category", "histories are searched by it"), ("price", "")):
            if role in roles:
                lines.append(_set(role, roles[role], what))
        lines.append(_set("attributes", items, "further columns to keep"))
    if users := _of(guess, "user"):
        lines += ["", "[source.users]    # who they are; the first row of a user counts"]
        lines += [_set("path", path), _set("user", roles["user"]), _set("attributes", users)]
    if context := _of(guess, "context"):
        lines += ["", "[source.requests]    # when they came; events of one user and time are one"]
        lines += [_set("path", path), _set("user", roles["user"]), *time]
        lines.append(_set("context", context, "what was known of the visit"))
    if guess.left_out:
        lines += ["", f"# left out: {', '.join(guess.left_out)}"]
    return [*lines, ""]


def _schema(guess: Guess) -> list[str]:
    """Features of every side; what is no feature is there as a comment."""
    lines = [
        "# Every feature becomes an id into an embedding table of its own name.",
        "[schema.tables]",
        "item = { dim = 32 }    # width of its vectors; tables not listed have 8",
        "",
        "[schema.features]",
        'user = { of = "user", encode = "id" }',
        *(_feature(guess, c, c, "user") for c in _of(guess, "user")),
        'hour = { of = "context" }    # of the request, like weekday',
        'weekday = { of = "context" }',
        *(_feature(guess, c, c, "context") for c in _of(guess, "context") if c not in CLOCK),
        'item = { of = "item", encode = "id", min_count = 3 }    # rarer ones share the unknown id',
        *(
            _feature(guess, guess.roles[role], role, "item")
            for role in ("category", "price")
            if role in guess.roles
        ),
        *(_feature(guess, c, c, "item") for c in _of(guess, "item")),
        *(f'{name} = {{ of = "cross" }}' for name in COUNTERS),
        "",
        "[schema.sequences]",
        "history = { length = 100 }      # newest events that neural models read",
        "lifetime = { length = 5000 }    # newest events that repurchase counts",
    ]
    return [*lines, ""]


def _feature(guess: Guess, column: str, name: str, side: Side) -> str:
    settings = guess.encodings[column]
    feature = name.replace(".", "_")
    source = "" if feature == name else f"column = {_text(name)}"
    parts = ", ".join(p for p in (f'of = "{side}"', source, settings) if p)
    line = f"{_key(feature)} = {{ {parts} }}"
    return f"# {line}    # nearly every value is another" if settings is None else line


def _samples(guess: Guess) -> list[str]:
    test = next(
        (days for span, days in TEST_DAYS if guess.days >= span), max(guess.days / 10, 0.02)
    )
    return [
        "[samples]",
        _set("tasks", [guess.target], "event types to predict"),
        f"test_days = {_number(test)}    # the last days: reports only",
        f"valid_days = {_number(test / 2)}    # the days before: early stopping, calibration",
        "",
        "[samples.negatives]",
        "uniform = 1      # drawn of all items, for each positive",
        "frequency = 6    # ... of all, by how often they occur",
        "history = 12     # ... of the user's own",
        "",
    ]


def _formula(guess: Guess) -> str:
    return f"p_{guess.target} * price" if "price" in guess.roles else f"p_{guess.target}"


def _of(guess: Guess, side: Side) -> list[str]:
    return [column for column, s in guess.sides.items() if s == side]


def _set(key: str, value: str | list[str], why: str = "") -> str:
    text = _text(value) if isinstance(value, str) else f"[{', '.join(map(_text, value))}]"
    return f"{key} = {text}" + (f"    # {why}" if why else "")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # which TOML reads alike


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _number(days: float) -> str:
    return f"{days:.3g}" if days < 1 else f"{days:g}"


CLOCK = ("hour", "weekday")
TEST_DAYS = ((180, 14), (60, 7), (21, 3), (6, 1))  # (days of log, days of test), longest first

#: Everything behind the schema that does not depend on the table. Braces are for ``str.format``.
REST = """\
# Channels that find items, each on its own; their names are yours.
[retrieval.repurchase]
kind = "repurchase"    # what the user had before

[retrieval.popular]
kind = "popular"       # what everybody has

[retrieval.item_cf]
kind = "item_cf"       # what goes with what the user had

[retrieval.swing]
kind = "swing"         # ... by pairs of users who agree

[retrieval.two_tower]
kind = "two_tower"     # nearest vectors of a trained model

[preranking]
kind = "vector"        # cuts what was found

[ranking]
kind = "din"           # decides

[value]
formula = "{formula}"    # what a predicted outcome is worth

[reranking]
kind = "top"           # the best first; mmr and dpp also mix

[allocation]
kind = "fixed"         # the same work for every request

[allocation.quota]     # how many items pass
repurchase = 200
popular = 200
item_cf = 200
swing = 200
two_tower = 200
retrieval = 200        # distinct items that leave the merge
preranking = 120       # items that the ranker scores
reranking = 10         # the slate
"""
