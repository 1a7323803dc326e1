"""Raw tables in, one immutable log version out, atomically.

Order of work: number users and items (known ones keep their numbers), clean and narrow events,
sort the new ones by (user, time), drop repeats, link them to requests, insert them among those
already there, build the second order, write all arrays beside the current version, and swap the
link. Columns are sorted, merged and written one at a time: beside what the adapter handed over, an
ingest holds about 25 bytes an event twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import DataError
from ..ops import history
from . import _exposures, _order, _requests
from ._draft import Draft, next_version
from ._ids import codes, number, vocabulary
from ._order import Array
from .format import FORMAT, Log, Manifest
from .raw import Notes, RawLog, clean, mend_items

MAX_EVENT_TYPES = 63  # a set of types is a mask in 64 bits
EVENT_COLUMNS = ("item", "time_ms", "type", "value", "category", "request")

Columns = dict[str, Array]


def write_log(path: Path, raw: RawLog, source: str, *, append: bool = False) -> Log:
    """Write ``raw`` as the current version of the log at ``path`` and open it.

    ``source`` is the fingerprint of where it came from. With ``append`` the events join those of
    the current version; appending the same source twice changes nothing.
    """
    append = append and (path / "CURRENT").exists()
    if append and source in Log.open(path).manifest.sources:
        return Log.open(path)
    with next_version(path) as draft:
        _write_version(draft, raw, source, Log.open(path) if append else None)
    return Log.open(path)


def _write_version(draft: Draft, raw: RawLog, source: str, old: Log | None) -> None:
    notes = Notes(list(raw.notes))
    raw = clean(raw, notes)
    vocab = {k: list(v) for k, v in old.vocab.items()} if old else {}
    users = number("user", raw.users, [raw.events, raw.requests], old.users if old else None)
    items = number("item", raw.items, [raw.events, raw.exposures], old.items if old else None)
    items = mend_items(items, notes)
    category_I = vocabulary(items["category"], "category", vocab)
    groups = _exposures.write(draft, raw.exposures, items, vocab, old, notes)
    fresh, keys = None, None
    if raw.requests is not None:
        fresh, keys = _requests.encode(raw.requests, users, vocab, groups, notes)
    types = _event_types(raw.events, raw.event_types, old)
    events, at = _sorted_events(_encode(raw.events, users, items, types, keys), users, old, notes)
    events["category"] = category_I[events["item"]]
    requests = _link(events, fresh, old, users.height)
    _write_requests(draft, requests.columns, groups.count)
    times = _write_events(draft, events, at, requests, old, users.height)
    draft.table("users", users)
    draft.table("items", items)
    draft.array("items", "category", category_I)
    draft.json("vocab", vocab)
    manifest = Manifest(
        format=FORMAT,
        num_users=users.height,
        num_items=items.height,
        num_events=len(times),
        num_requests=len(requests.columns["user"]),
        num_groups=groups.count,
        first_ms=int(times.min()),
        last_ms=int(times.max()),
        event_types=tuple(types),
        context=tuple(c for c in requests.columns if c not in {"user", "time_ms", "group"}),
        exposure=groups.attributes,
        sources=(*(old.manifest.sources if old else ()), source),
        notes=(*(old.manifest.notes if old else ()), *notes.lines),
    )
    draft.json("manifest", dataclasses.asdict(manifest))


def _event_types(events: pl.DataFrame, fixed: Sequence[str], old: Log | None) -> list[str]:
    names = list(old.manifest.event_types) if old else []
    found = events["type"].unique().cast(pl.String).unique().sort().to_list()
    names += [n for n in dict.fromkeys((*fixed, *found)) if n not in names]
    if len(names) > MAX_EVENT_TYPES:
        raise DataError(
            f"events: {len(names)} types, at most {MAX_EVENT_TYPES}; is type the right column?"
        )
    return names


def _encode(
    events: pl.DataFrame,
    users: pl.DataFrame,
    items: pl.DataFrame,
    types: list[str],
    keys: pl.DataFrame | None,
) -> Columns:
    """Events as narrow columns, still in the order of the source."""
    columns = {
        "user": codes(events["user"], users, "user"),
        "item": codes(events["item"], items, "item"),
        "time_ms": events["time_ms"].to_numpy(),
        "type": codes(events["type"], pl.DataFrame({"type": types}), "type").astype(np.uint8),
        "value": events["value"].to_numpy(),
    }
    if keys is not None and "request" in events.columns:
        columns["request"] = _requests.link_by_key(events["request"], keys)
    return columns


def _sorted_events(
    events: Columns, users: pl.DataFrame, old: Log | None, notes: Notes
) -> tuple[Columns, Array | None]:
    """New events in (user, time, item, type) order, and where among the old ones each belongs.

    Repeats, of old events too, are left out. Empties ``events`` on the way, so that each column is
    held twice for a moment only.
    """
    order, offsets, repeats = _order.sort_rows(
        events.pop("user"), users.height, events["time_ms"], events["item"], events["type"]
    )
    columns = {c: _order.take(events.pop(c), order) for c in list(events)}
    columns["user"] = _order.row_of(offsets)
    at = None
    if old is not None:
        before = (old.event("time_ms"), old.event("item"), old.event("type"))
        query = (columns["user"], columns["time_ms"], columns["item"], columns["type"])
        at, known = history.place(old.event("user_offsets"), *before, query)
        repeats += int(known.sum())
        columns = {name: column[~known] for name, column in columns.items()}
        at = at[~known]
    notes.add(repeats, "repeated events (same user, time, item and type) dropped")
    return columns, at


def _link(
    events: Columns, fresh: _requests.Columns | None, old: Log | None, num_users: int
) -> _requests.Linked:
    if fresh is None:
        fresh, link = _requests.derive(events["user"], events["time_ms"])
    elif "request" in events:
        link = events.pop("request")
    else:
        link = _requests.link_by_time(events["user"], events["time_ms"], fresh, num_users)
    return _requests.join(fresh, link, old, num_users)


def _write_requests(draft: Draft, columns: Columns, num_groups: int) -> None:
    for name, column in columns.items():
        if name != "group" or num_groups:  # without exposures, no request has a group
            draft.array("requests", name, column)


def _write_events(
    draft: Draft,
    new: Columns,
    at: Array | None,
    requests: _requests.Linked,
    old: Log | None,
    num_users: int,
) -> Array:
    """Write the merged events and both orders; return their times."""
    counts = np.bincount(new.pop("user"), minlength=num_users)
    new["request"] = requests.link
    if old is not None:
        counts[: old.manifest.num_users] += np.diff(old.event("user_offsets"))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    draft.array("events", "user_offsets", offsets)
    merged: Columns = {}
    for name in EVENT_COLUMNS:
        column = new.pop(name)
        if old is not None and at is not None:
            stored = requests.old_link if name == "request" else old.event(name)
            column = np.insert(np.asarray(stored), at, column)
        if name in {"category", "time_ms"}:
            merged[name] = column
        draft.array("events", name, column)
    order = _order.second_order(offsets, merged["category"])
    draft.array("by_category", "order", order)
    keys = history.category_keys(offsets, merged["category"], order)
    for name, column in zip(("key_offsets", "key_category", "key_start"), keys, strict=True):
        draft.array("by_category", name, column)
    return merged["time_ms"]
