"""Requests in (user, time) order, and the request that each event belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..ops import history
from . import _order
from ._exposures import Groups
from ._ids import codes, vocabulary
from ._order import Array
from .format import NO_GROUP, Log
from .raw import Notes

Columns = dict[str, Array]
NONE = -1


@dataclass(frozen=True)
class Linked:
    """All requests of the next version, and what became of the links to them."""

    columns: Columns  # user, time_ms, group and context codes
    link: Array  # (E,) int32: the request of each new event, -1 none
    old_link: Array | None  # the same for the events that were there


def derive(user: Array, time_ms: Array) -> tuple[Columns, Array]:
    """Make the events of one user at one time one request, given events in that order."""
    begins = np.ones(len(user), np.bool_)
    begins[1:] = (user[1:] != user[:-1]) | (time_ms[1:] != time_ms[:-1])
    link = np.cumsum(begins, dtype=np.int32) - np.int32(1)
    return {"user": user[begins], "time_ms": time_ms[begins]}, link


def encode(
    requests: pl.DataFrame,
    users: pl.DataFrame,
    vocab: dict[str, list[str]],
    groups: Groups,
    notes: Notes,
) -> tuple[Columns, pl.DataFrame | None]:
    """Turn given requests to columns in (user, time) order; also the row of each key, if keyed."""
    keyed = "request" in requests.columns
    if keyed:
        distinct = requests.unique("request", keep="first", maintain_order=True)
        notes.add(requests.height - distinct.height, "repeated request keys dropped")
        requests = distinct
    columns: Columns = {
        "user": codes(requests["user"], users, "user"),
        "time_ms": requests["time_ms"].to_numpy(),
    }
    if "group" in requests.columns:
        columns["group"] = groups.numbers(requests["group"])
    for name in requests.columns:
        if name not in {"request", "user", "time_ms", "group"}:
            columns[name] = vocabulary(requests[name], name, vocab)
    # two requests of one user at one time differ by their keys, or not at all
    tie = np.arange(requests.height) if keyed else np.zeros(requests.height, np.int64)
    least = np.zeros(requests.height, np.uint8)
    order, _, repeats = _order.sort_rows(
        columns["user"], users.height, columns["time_ms"], tie, least
    )
    notes.add(repeats, "repeated requests (same user and time) dropped")
    keys = requests["request"][order].to_frame() if keyed else None
    rows = np.arange(len(order), dtype=np.int32)
    return (
        {name: _order.take(column, order) for name, column in columns.items()},
        keys if keys is None else keys.with_columns(pl.Series("row", rows)),
    )


def link_by_key(events: pl.Series, keys: pl.DataFrame) -> Array:
    """The request of each event by key, -1 where the key is missing or unknown."""
    if events.dtype != keys["request"].dtype:
        events, keys = events.cast(pl.String), keys.with_columns(pl.col("request").cast(pl.String))
    rows = events.to_frame().join(keys, on="request", how="left", maintain_order="left")
    return rows["row"].fill_null(NONE).to_numpy()


def link_by_time(user: Array, time_ms: Array, requests: Columns, num_users: int) -> Array:
    """The request of each event by user and time, -1 where there is none."""
    at, found = _find(requests, num_users, user, time_ms)
    return np.where(found, at, NONE).astype(np.int32)


def join(fresh: Columns, link: Array, old: Log | None, num_users: int) -> Linked:
    """Merge fresh requests into those of the log; one already there is not added twice."""
    fresh = {"group": np.full(len(fresh["user"]), NO_GROUP, np.int32), **fresh}
    if old is None:
        return Linked(fresh, link, None)
    names = dict.fromkeys(("user", "time_ms", "group", *old.manifest.context, *fresh))
    size = old.manifest.num_requests
    before = {n: old.request(n) for n in names if n in _stored(old)}
    at, known = _find(before, num_users, fresh["user"], fresh["time_ms"])
    new_at = at[~known]
    moved = np.arange(size) + np.cumsum(np.bincount(new_at, minlength=size + 1))[:size]
    final = np.empty(len(at) + 1, np.int32)
    final[:-1][~known] = new_at + np.arange(len(new_at))
    final[:-1][known] = moved[at[known]]
    final[NONE] = NONE
    absent = np.zeros(max(size, len(at)), np.int32)  # code 0: unknown
    columns = {
        name: np.insert(
            np.asarray(before.get(name, absent[:size])),
            new_at,
            fresh.get(name, absent[: len(at)])[~known],
        )
        for name in names
    }
    old_final = np.append(moved, NONE).astype(np.int32)
    return Linked(columns, final[link], old_final[old.event("request")])


def _stored(old: Log) -> set[str]:
    return {"user", "time_ms", "group", *old.manifest.context}


def _find(requests: Columns, num_users: int, user: Array, time_ms: Array) -> tuple[Array, Array]:
    offsets = _order.offsets_of(requests["user"], num_users)
    times = np.asarray(requests["time_ms"])
    # time stands for all three keys of a position, since requests have no other
    return history.place(offsets, times, times, times, (user, time_ms, time_ms, time_ms))
