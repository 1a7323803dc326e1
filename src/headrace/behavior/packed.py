"""An event in 24 bytes, as it lies in LMDB and in Redis.

Big-endian with the sign of the time flipped, so that bytes sort as (time, item, type) do.
"""

from __future__ import annotations

import numpy as np

from .base import Array, Events

EVENT = np.dtype(
    [
        ("time", ">u8"),
        ("item", ">u4"),
        ("type", "u1"),
        ("pad", "u1", (3,)),
        ("category", ">u4"),
        ("value", ">f4"),
    ]
)
IDENTITY_BYTES = 16  # what makes an event the same: the bytes before its category
SIGN = np.uint64(1 << 63)


def pack(time_ms: Array, item: Array, kind: Array, category: Array, value: Array) -> Array:
    """Events as records ``(E,)``."""
    records = np.zeros(len(item), EVENT)
    records["time"] = time_ms.astype(np.int64).view(np.uint64) ^ SIGN
    records["item"], records["type"] = item, kind
    records["category"], records["value"] = category, value
    return records


def unpack(records: Array, offsets: Array) -> Events:
    """Records cut into rows, in any order and with repeats, as events."""
    time_ms = (records["time"].astype(np.uint64) ^ SIGN).view(np.int64)
    item, kind = records["item"].astype(np.int32), records["type"].astype(np.uint8)
    category, value = records["category"].astype(np.int32), records["value"].astype(np.float32)
    events = Events(offsets, item, category, kind, time_ms, value)
    return events if _ascends(events) else _put_in_order(events)


def beyond(category: Array, keep: int) -> Array:
    """Positions of one user's ascending events that are not among a category's newest ``keep``."""
    order = np.argsort(category, kind="stable")[::-1]
    category = category[order]
    starts = np.flatnonzero(np.concatenate([[True], category[1:] != category[:-1]]))
    lengths = np.diff(starts, append=len(category))
    place = np.arange(len(category)) - np.repeat(starts, lengths)
    return order[place >= keep]


def _ascends(events: Events) -> bool:
    """Whether every row ascends in time alone, as nearly all do."""
    later = events.time_ms[1:] > events.time_ms[:-1]
    first = events.offsets[1:-1] - 1
    later[first[(first >= 0) & (first < len(later))]] = True
    return bool(later.all())


def _put_in_order(events: Events) -> Events:
    row = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    at = np.lexsort((events.type, events.item, events.time_ms, row))
    row, columns = row[at], (events.time_ms[at], events.item[at], events.type[at])
    new = np.ones(len(at), bool)
    new[1:] = row[1:] != row[:-1]
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    counts = np.bincount(row[new], minlength=len(events.offsets) - 1)
    return events.take(at[new], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
