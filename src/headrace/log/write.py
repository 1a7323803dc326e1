"""Raw tables in, one immutable log version out, atomically.

Order of work: number users and items (known ones keep their numbers), clean and narrow events,
sort by (user, time), drop repeats, link events to requests, build the second order, write all
arrays beside the current version, and swap the link. Whatever fails on the way, a full disk
included, leaves the current version whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError
from ..ops import history
from .format import FORMAT, Log, Manifest

Array = NDArray[Any]
UNKNOWN_NAME = "<unknown>"
DAY_MS = 86_400_000
MAX_EVENT_TYPES = 63  # a set of types is a mask in 64 bits


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """What an adapter hands over. Ids may be integers or strings; every frame may hold more rows.

    events      user, item, time_ms (unix epoch); optional: type (default "event"), value (default
                0), request (a key of ``requests``)
    items       item; optional: category, price, further attributes
    users       user, further attributes
    requests    user, time_ms; optional: request (the key), group (a key of ``exposures``), and
                context columns. Without it, the events of one user at one time are one request.
    exposures   group, item; optional further columns: what each request of the group was shown
    """

    events: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    requests: pl.DataFrame | None = None
    exposures: pl.DataFrame | None = None
    event_types: tuple[str, ...] = ()  # fixes the order of type codes; others follow
    notes: tuple[str, ...] = ()


def write_log(path: Path, raw: RawLog, source: str, *, append: bool = False) -> Log:
    """Write ``raw`` as the current version of the log at ``path`` and open it.

    ``source`` is the fingerprint of where it came from. With ``append`` the events join those of
    the current version; appending the same source twice changes nothing.
    """
    old = Log.open(path) if append and (path / "CURRENT").exists() else None
    if old is not None and source in old.manifest.sources:
        return old
    draft = path / "versions" / f".{uuid.uuid4().hex[:12]}"
    try:
        draft.mkdir(parents=True)
        _write_version(draft, raw, source, old)
        final = path / "versions" / _content_hash(draft)
        if not final.exists():
            draft.rename(final)
        _swap(path, final)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write the log ({error.strerror or error}); the old one is unchanged"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Log.open(path)


@dataclass
class _Notes:
    """What was dropped or mended, one line each, for the manifest and the user."""

    lines: list[str] = field(default_factory=list[str])

    def add(self, count: int, what: str) -> None:
        if count:
            self.lines.append(f"{count:,} {what}")


def _write_version(draft: Path, raw: RawLog, source: str, old: Log | None) -> None:
    _check_columns(raw)
    notes = _Notes(list(raw.notes))
    vocab: dict[str, list[str]] = {k: list(v) for k, v in old.vocab.items()} if old else {}
    new = _clean_events(raw, notes)
    users = _number("user", raw.users, [new, raw.requests], old.users if old else None)
    items = _number("item", raw.items, [new, raw.exposures], old.items if old else None)
    items = _mend_items(items, vocab, notes)
    types = _event_types(new, raw.event_types, old)
    new = new.with_columns(
        _codes(new["user"], users, "user"),
        _codes(new["item"], items, "item"),
        new["type"].cast(pl.Enum(types)).to_physical().cast(pl.UInt8).alias("type"),
    )
    new = new.with_columns(items["code"].gather(new["item"]).alias("category"))
    groups, group_keys = _write_exposures(draft, raw.exposures, items, vocab, old)
    requests, new = _requests(raw, new, users, vocab, group_keys, old)
    events = _sort_events(new, old, notes)
    requests, events = _order_requests(requests, events)
    context = [c for c in requests.columns if c not in {"user", "time_ms", "group"}]
    for column in requests.columns:
        _save(draft, "requests", column, requests[column].to_numpy())
    _write_events(draft, events, users.height)
    users.write_parquet(draft / "users.parquet")
    items.drop("code").write_parquet(draft / "items.parquet")
    _save(draft, "items", "category", items["code"].to_numpy())
    _write_json(draft / "vocab.json", vocab)
    time_ms = events["time_ms"].to_numpy()
    manifest = Manifest(
        format=FORMAT,
        num_users=users.height,
        num_items=items.height,
        num_events=events.height,
        num_requests=requests.height,
        num_groups=groups,
        first_ms=int(time_ms.min()),
        last_ms=int(time_ms.max()),
        event_types=tuple(types),
        context=tuple(context),
        exposure=tuple(
            c
            for c in (raw.exposures.columns if raw.exposures is not None else ())
            if c not in {"group", "item"}
        )
        or (old.manifest.exposure if old else ()),
        sources=(*(old.manifest.sources if old else ()), source),
        notes=(*(old.manifest.notes if old else ()), *notes.lines),
    )
    _write_json(draft / "manifest.json", dataclasses.asdict(manifest))


def _check_columns(raw: RawLog) -> None:
    wanted = {
        "events": (raw.events, ("user", "item", "time_ms")),
        "items": (raw.items, ("item",)),
        "users": (raw.users, ("user",)),
        "requests": (raw.requests, ("user", "time_ms")),
        "exposures": (raw.exposures, ("group", "item")),
    }
    for name, (frame, columns) in wanted.items():
        for column in columns:
            if frame is not None and column not in frame.columns:
                raise DataError(
                    f"{name}: no column {column!r}; there are {', '.join(frame.columns)}"
                )
    if raw.events.height == 0:
        raise DataError("events: the log is empty; check the paths and filters of the source")
    if raw.events.schema["time_ms"] != pl.Int64:
        raise DataError(f"events: time_ms is {raw.events.schema['time_ms']}, want int64 unix ms")


def _clean_events(raw: RawLog, notes: _Notes) -> pl.DataFrame:
    """Keep usable events, with all columns present."""
    events = raw.events
    if "type" not in events.columns:
        events = events.with_columns(pl.lit("event").alias("type"))
    if "value" not in events.columns:
        events = events.with_columns(pl.lit(0.0, pl.Float32).alias("value"))
    keep = ["user", "item", "time_ms", "type", "value"]
    events = events.select(*keep, *(["request"] if "request" in events.columns else []))
    whole = events.drop_nulls(["user", "item", "time_ms", "type"])
    notes.add(events.height - whole.height, "events without user, item, time or type dropped")
    limit = int(time.time() * 1000) + DAY_MS
    times = whole["time_ms"]
    late = int((times > limit).sum())
    if late:
        raise DataError(
            f"events: {late:,} lie in the future, the first at time_ms={times.filter(times > limit)[0]}; "
            "is the time unit right?"
        )
    if whole.height == 0:
        raise DataError("events: none is left after dropping rows without user, item or time")
    value = whole["value"].cast(pl.Float32)
    bad = ~value.is_finite().fill_null(value=False)
    notes.add(int(bad.sum()), "event values missing or not finite, set to 0")
    return whole.with_columns(
        pl.when(pl.Series(bad)).then(0.0).otherwise(value).cast(pl.Float32).alias("value")
    )


def _number(
    key: str,
    table: pl.DataFrame | None,
    mentions: Sequence[pl.DataFrame | None],
    known: pl.DataFrame | None,
) -> pl.DataFrame:
    """One row an id, the unknown one first, known ones in their old rows; attributes joined."""
    sources = [table, *mentions]
    ids = [pl.Series(key, [UNKNOWN_NAME])] if known is None else [known[key]]
    for frame in sources:
        if frame is not None and key in frame.columns:
            fresh = frame[key].unique(maintain_order=frame is table).drop_nulls()
            ids.append((fresh if frame is table else fresh.sort()).cast(pl.String))
    numbered = pl.concat([s.to_frame() for s in ids]).unique(maintain_order=True)
    about = [f.with_columns(pl.col(key).cast(pl.String)) for f in (table, known) if f is not None]
    if not about:
        return numbered
    attributes = pl.concat(about, how="diagonal_relaxed").unique(
        key, keep="first", maintain_order=True
    )
    return numbered.join(attributes, on=key, how="left", maintain_order="left")


def _mend_items(items: pl.DataFrame, vocab: dict[str, list[str]], notes: _Notes) -> pl.DataFrame:
    """Give every item a category name and code, and a price that can be multiplied."""
    if "category" not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias("category"))
    if "price" not in items.columns:
        items = items.with_columns(pl.lit(0.0).alias("price"))
    category = items["category"].cast(pl.String)
    notes.add(int(category[1:].is_null().sum()), f"items without a category, named {UNKNOWN_NAME}")
    price = items["price"].cast(pl.Float32)
    bad = ~((price >= 0) & price.is_finite()).fill_null(value=False)
    notes.add(int(bad[1:].sum()), "item prices missing, negative or not finite, set to 0")
    category = category.fill_null(UNKNOWN_NAME)
    return items.with_columns(
        category.alias("category"),
        pl.when(pl.Series(bad)).then(0.0).otherwise(price).cast(pl.Float32).alias("price"),
        _vocabulary(category, "category", vocab).alias("code"),
    )


def _vocabulary(values: pl.Series, name: str, vocab: dict[str, list[str]]) -> pl.Series:
    """Code a column of names, extending ``vocab[name]``; code 0 is the unknown."""
    names = vocab.setdefault(name, [UNKNOWN_NAME])
    known = set(names)
    names += [v for v in values.unique().drop_nulls().sort().to_list() if v not in known]
    table = pl.DataFrame({"value": names, "code": np.arange(len(names), dtype=np.int32)})
    coded = (
        values.alias("value").to_frame().join(table, on="value", how="left", maintain_order="left")
    )
    return coded["code"].fill_null(0)


def _codes(ids: pl.Series, table: pl.DataFrame, key: str) -> pl.Series:
    """Replace raw ids by the rows of their table."""
    distinct = ids.unique().drop_nulls()
    rows = table.select(pl.col(key).alias("name")).with_row_index("row")
    mapping = (
        pl.DataFrame({"id": distinct, "name": distinct.cast(pl.String)})
        .join(rows, on="name", how="left")
        .select("id", pl.col("row").cast(pl.Int32))
    )
    coded = ids.alias("id").to_frame().join(mapping, on="id", how="left", maintain_order="left")
    return coded["row"].fill_null(0).alias(key)


def _event_types(events: pl.DataFrame, fixed: Sequence[str], old: Log | None) -> list[str]:
    names = list(old.manifest.event_types) if old else []
    found = events["type"].cast(pl.String).unique().sort().to_list()
    names += [n for n in dict.fromkeys((*fixed, *found)) if n not in names]
    if len(names) > MAX_EVENT_TYPES:
        raise DataError(
            f"events: {len(names)} types, at most {MAX_EVENT_TYPES}; is type the right column?"
        )
    return names


def _write_exposures(
    draft: Path,
    exposures: pl.DataFrame | None,
    items: pl.DataFrame,
    vocab: dict[str, list[str]],
    old: Log | None,
) -> tuple[int, pl.DataFrame | None]:
    """Write what each group of requests was shown; return the groups and the row of each key."""
    offsets = np.array(old.exposure("offsets") if old else [0], np.int64)
    columns: dict[str, Array] = {"item": old.exposure("item") if old else np.zeros(0, np.int32)}
    columns |= {c: old.exposure(c) for c in (old.manifest.exposure if old else ())}
    first, keys = len(offsets) - 1, None
    if exposures is not None and exposures.height:
        names = exposures["group"].unique().sort().drop_nulls()
        keys = pl.DataFrame({"group": names, "row": np.arange(len(names), dtype=np.int32) + first})
        shown = exposures.drop_nulls(["group", "item"])
        shown = shown.with_columns(
            _codes(shown["item"], items, "item"),
            *(
                _vocabulary(shown[c].cast(pl.String), c, vocab).cast(pl.UInt16).alias(c)
                for c in shown.columns
                if c not in {"group", "item"}
            ),
        ).join(keys, on="group", how="left")
        shown = shown.sort("row", "item").unique(["row", "item"], keep="first", maintain_order=True)
        counts = np.bincount(shown["row"].to_numpy() - first, minlength=len(names))
        for c in shown.columns:
            if c not in {"group", "row"}:
                before = columns.get(c, np.zeros(offsets[-1], np.uint16))
                columns[c] = np.concatenate([before, shown[c].to_numpy()])
        offsets = np.concatenate([offsets, offsets[-1] + np.cumsum(counts)])
    for name, column in columns.items():
        _save(draft, "exposures", name, column)
    _save(draft, "exposures", "offsets", offsets)
    return len(offsets) - 1, keys


def _requests(
    raw: RawLog,
    events: pl.DataFrame,
    users: pl.DataFrame,
    vocab: dict[str, list[str]],
    group_keys: pl.DataFrame | None,
    old: Log | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All requests, old ones first, and the new events with the row of their request (-1 none)."""
    before = _old_requests(old)
    if raw.requests is None:
        fresh = events.select("user", "time_ms").unique(maintain_order=True)
        if before is not None:
            fresh = fresh.join(before, on=["user", "time_ms"], how="anti", maintain_order="left")
        fresh = fresh.with_columns(pl.lit(-1, pl.Int32).alias("group"))
    else:
        fresh = raw.requests.with_columns(_codes(raw.requests["user"], users, "user"))
        if "group" in fresh.columns and group_keys is not None:
            fresh = fresh.join(group_keys, on="group", how="left", maintain_order="left")
            fresh = fresh.with_columns(pl.col("row").fill_null(-1).alias("group")).drop("row")
        else:
            fresh = fresh.with_columns(pl.lit(-1, pl.Int32).alias("group"))
        context = [c for c in fresh.columns if c not in {"request", "user", "time_ms", "group"}]
        fresh = fresh.with_columns(
            _vocabulary(fresh[c].cast(pl.String), c, vocab).alias(c) for c in context
        )
    shift = before.height if before is not None else 0
    fresh = fresh.with_row_index("row", offset=shift).with_columns(pl.col("row").cast(pl.Int32))
    if "request" in events.columns and "request" in fresh.columns:
        keys = fresh.select("request", "row").unique("request", keep="first")
        events = events.join(keys, on="request", how="left", maintain_order="left")
    else:
        events = events.drop("request", strict=False)
        every = fresh.select("user", "time_ms", "row")
        if before is not None:
            every = pl.concat(
                [
                    before.with_row_index("row").select(
                        "user", "time_ms", pl.col("row").cast(pl.Int32)
                    ),
                    every,
                ]
            )
        every = every.unique(["user", "time_ms"], keep="first")
        events = events.join(every, on=["user", "time_ms"], how="left", maintain_order="left")
    events = events.with_columns(pl.col("row").fill_null(-1).alias("request")).drop("row")
    fresh = fresh.drop("row").drop("request", strict=False)
    if before is not None:
        fresh = pl.concat([before, fresh], how="diagonal_relaxed").fill_null(0)
    return fresh, events


def _old_requests(old: Log | None) -> pl.DataFrame | None:
    if old is None:
        return None
    columns = ("user", "time_ms", "group", *old.manifest.context)
    return pl.DataFrame({c: np.array(old.request(c)) for c in columns})


def _sort_events(new: pl.DataFrame, old: Log | None, notes: _Notes) -> pl.DataFrame:
    """All events in (user, time) order without exact repeats."""
    columns = ("user", "item", "time_ms", "type", "value", "category", "request")
    new = new.select(columns)
    if old is not None:
        before = {"user": old.event_user, **{c: np.array(old.event(c)) for c in columns[1:]}}
        new = pl.concat([pl.DataFrame(before), new], how="vertical_relaxed")
    key = ["user", "time_ms", "item", "type"]
    new = new.sort(key)
    repeat = np.ones(max(new.height - 1, 0), bool)
    for c in key:
        column = new[c].to_numpy()
        repeat &= column[1:] == column[:-1]
    notes.add(int(repeat.sum()), "repeated events (same user, time, item and type) dropped")
    return new.filter(pl.Series(np.concatenate([[True], ~repeat]))) if repeat.any() else new


def _order_requests(
    requests: pl.DataFrame, events: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sort requests by (user, time) and rewrite the events' links to them."""
    order = requests.select(pl.arg_sort_by("user", "time_ms")).to_series().to_numpy()
    place = np.empty(len(order) + 1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    place[-1] = -1  # an event without a request
    linked = pl.Series("request", place[events["request"].to_numpy()])
    return requests[order], events.with_columns(linked)


def _write_events(draft: Path, events: pl.DataFrame, num_users: int) -> None:
    counts = np.bincount(events["user"].to_numpy(), minlength=num_users)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    category = events["category"].to_numpy()
    order = history.second_order(offsets, category)
    keys = history.category_keys(offsets, category, order)
    _save(draft, "events", "user_offsets", offsets)
    for c in ("item", "time_ms", "type", "value", "category", "request"):
        _save(draft, "events", c, events[c].to_numpy())
    narrow = np.uint32 if events.height < 2**32 else np.int64
    _save(draft, "by_category", "order", order.astype(narrow))
    for name, column in zip(("key_offsets", "key_category", "key_start"), keys, strict=True):
        _save(draft, "by_category", name, column)


def _save(draft: Path, group: str, name: str, column: Array) -> None:
    (draft / group).mkdir(exist_ok=True)
    with (draft / group / f"{name}.npy").open("wb") as file:
        np.save(file, column)
        file.flush()
        os.fsync(file.fileno())


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))


def _content_hash(version: Path) -> str:
    """Name a version by what it holds, so that writing the same log again changes nothing."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(p for p in version.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(version)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _swap(path: Path, final: Path) -> None:
    """Point CURRENT at ``final``; drop versions older than the one just replaced."""
    current = path / "CURRENT"
    previous = current.resolve().name if current.exists() else final.name
    link = path / f".current-{uuid.uuid4().hex[:8]}"
    link.symlink_to(Path("versions") / final.name)
    os.replace(link, current)
    for version in (path / "versions").iterdir():  # readers may still map the previous one
        if version.name not in {final.name, previous}:
            shutil.rmtree(version, ignore_errors=True)
