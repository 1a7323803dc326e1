"""What pydantic finds wrong with a request, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import suggest
from . import wire

UNION_TAGS = ("body", "one", "many")  # parts of a place that are ours, not the caller's
SHOWN = 60  # characters of a wrong input
FIELDS = {
    name
    for model in (
        wire.Ask,
        wire.AskBatch,
        wire.Filters,
        wire.PastEvent,
        wire.Event,
        wire.Events,
        wire.Change,
    )
    for name in model.model_fields
}


def in_one_line(errors: Sequence[Mapping[str, Any]]) -> str:
    """Tell the first mistake: where it is, what it is; and how many more there are."""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _tell(errors[0]) + more


def _tell(error: Mapping[str, Any]) -> str:
    kind, loc = error["type"], [part for part in error["loc"] if part not in UNION_TAGS]
    if kind == "json_invalid":
        return f"body: not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    place = _place(loc)
    if kind == "extra_forbidden":
        return f"{place}: no such field; {suggest(str(loc[-1]), FIELDS)}"
    if kind == "missing":
        return f"{place}: needed, but missing"
    if kind in {"model_attributes_type", "model_type"}:
        return f"{place}: want a JSON object"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = repr(error["input"])
    if kind == "value_error" or len(shown) > SHOWN:
        return f"{place}: {message}"
    return f"{place}: {message}, got {shown}"


def _place(loc: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.lstrip(".") or "body"
