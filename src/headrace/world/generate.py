"""Let the users live: sessions, pages, responses, written as the columns of a raw log.

Users are cut into blocks of some events each; a block depends on nothing but its users, so threads
may take blocks in any order and the log is always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .catalogue import named
from .feed import fill_page
from .jit import SOURCES, entry, leaf
from .respond import Response, outcome_key, respond
from .rules import SCENES, TASKS, Truth
from .visits import Visit, opening, visit

Array = NDArray[Any]
Progress = Callable[[int, int], None]  # users done, users in all

_BLOCK_EVENTS = 200_000
ENTRIES = ("direct", "push", "search", "cart")  # how a visit began, the readiest to buy last
_ENTRY_EDGES = np.array([-0.674, 0.0, 0.674])  # quartiles of a standard normal


class Buffers(NamedTuple):
    """Columns being filled. Users and items count from 1, as in a raw log."""

    user: Array
    item: Array
    time_ms: Array
    type: Array
    value: Array
    request: Array
    request_key: Array
    request_user: Array
    request_time_ms: Array
    request_scene: Array
    request_entry: Array
    shown_request: Array
    shown_item: Array
    shown_position: Array

    @classmethod
    def make(cls, events: int, requests: int, shown: int) -> Buffers:
        """Room for so many."""
        e, r, s = np.empty, np.empty, np.empty
        return cls(
            *(e(events, t) for t in (np.int32, np.int32, np.int64, np.uint8, np.float32, np.int64)),
            *(r(requests, t) for t in (np.int64, np.int32, np.int64, np.uint8, np.uint8)),
            *(s(shown, t) for t in (np.int64, np.int32, np.uint8)),
        )


class Frames(NamedTuple):
    """A part of the raw log."""

    events: pl.DataFrame
    requests: pl.DataFrame
    exposures: pl.DataFrame


def generate(
    truth: Truth,
    wanted_U: Array,
    end_ms: int,
    log_from_ms: int,
    threads: int | None,
    progress: Progress | None,
) -> Frames:
    """Run all users from the start to ``end_ms``; ``wanted_U`` is how many events each may have.

    Requests and exposures before ``log_from_ms`` are lived, but not written.
    """
    users = len(wanted_U)
    edges = np.searchsorted(
        np.cumsum(wanted_U), np.arange(_BLOCK_EVENTS, wanted_U.sum(), _BLOCK_EVENTS)
    )
    edges = np.unique(np.concatenate([[0], edges, [users]]))
    share = (end_ms - log_from_ms) / (end_ms - truth.rules.start_ms)

    def block(b: int) -> Frames:
        first, last = int(edges[b]), int(edges[b + 1])
        return _block(truth, first, last, wanted_U[first:last].sum(), share, end_ms, log_from_ms)

    done: list[Frames] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for b, frames in enumerate(pool.map(block, range(len(edges) - 1))):
            done.append(frames)
            if progress is not None:
                progress(int(edges[b + 1]), users)
    return Frames(*(pl.concat(parts, rechunk=False) for parts in zip(*done, strict=True)))


def _block(
    truth: Truth,
    first: int,
    last: int,
    wanted: float,
    share: float,
    end_ms: int,
    log_from_ms: int,
) -> Frames:
    """The part of the log of users ``first`` to ``last``, in room that grows when it must."""
    pages = _pages(truth, first, last, end_ms)
    events, requests = int(wanted * 1.2) + 1_000, int(pages * min(share * 1.3, 1.0)) + 1_000
    while True:
        out = Buffers.make(events, requests, requests * truth.rules.page_size)
        sizes = _live(truth, first, last, end_ms, log_from_ms, out)
        if sizes[0] >= 0:
            return _frames(out, *sizes)
        events, requests = events * 2, requests * 2


def _pages(truth: Truth, first: int, last: int, end_ms: int) -> int:
    sessions = np.ceil((end_ms - truth.rules.start_ms) / truth.crowd.window_ms[first:last])
    return int(sessions.sum()) * len(truth.rules.program)


@entry
def _live(
    truth: Truth,
    first: int,
    last: int,
    end_ms: int,
    log_from_ms: int,
    out: Buffers,
    sources: int = SOURCES,
) -> tuple[int, int, int]:
    """Fill the buffers; returns events, requests and exposures, or -1 when there is no room."""
    r, pages = truth.rules, truth.rules.program.shape[0]
    item_P, score_P = np.empty(max(r.pool, r.page_size), np.int64), np.empty(r.pool + r.page_size)
    events, requests, shown = 0, 0, 0
    for user in range(first, last):
        sessions = int(np.round((end_ms - r.start_ms) / truth.crowd.window_ms[user]))
        for session in range(sessions):
            start_ms, page_ms = opening(truth, user, session)
            for page in range(pages):
                v = visit(truth, user, session, page, start_ms + page * page_ms, page_ms)
                if events + 4 * r.page_size > out.user.shape[0]:
                    return -1, 0, 0
                size = fill_page(truth, user, v, item_P, score_P)
                request = -1
                if v.time_ms >= log_from_ms:
                    if requests == out.request_key.shape[0]:
                        return -1, 0, 0
                    request = ((user + 1) << 32) + session * pages + page
                    _write_request(out, requests, request, user, v)
                    _write_exposures(out, shown, request, item_P, size)
                    requests, shown = requests + 1, shown + size
                key = outcome_key(r.seed, user, v.time_ms)
                for position in range(size):
                    item = item_P[position]
                    a = respond(truth, user, v, item, position, size, key)
                    if a.done:
                        price = float(truth.shelf.goods[item]["price"])
                        events = _write_events(out, events, user, item, request, a, price, end_ms)
    return events, requests, shown


@leaf
def _write_request(out: Buffers, n: int, request: int, user: int, v: Visit) -> None:
    out.request_key[n], out.request_user[n] = request, user + 1
    out.request_time_ms[n], out.request_scene[n] = v.time_ms, v.scene
    out.request_entry[n] = entry_of(v)


@leaf
def _write_exposures(out: Buffers, n: int, request: int, item_P: Array, size: int) -> None:
    for position in range(size):
        out.shown_request[n + position] = request
        out.shown_item[n + position] = item_P[position] + 1
        out.shown_position[n + position] = position


@leaf
def _write_events(
    out: Buffers, n: int, user: int, item: int, request: int, a: Response, price: float, end_ms: int
) -> int:
    """Write what came of one exposure before the log ends; returns the number of events then."""
    time_ms = (a.view_ms, a.cart_ms, a.favourite_ms, a.buy_ms)
    value = (np.float32(a.dwell_s), np.float32(0.0), np.float32(0.0), np.float32(price))
    for task in range(4):
        if a.done >> task & 1 and time_ms[task] < end_ms:
            out.user[n], out.item[n], out.time_ms[n] = user + 1, item + 1, time_ms[task]
            out.type[n], out.value[n], out.request[n] = task, value[task], request
            n += 1
    return n


@leaf
def entry_of(v: Visit) -> int:
    """How the visit began, as a platform sees it: the quartile of its intent."""
    return int(np.searchsorted(_ENTRY_EDGES, v.intent))


def _frames(out: Buffers, events: int, requests: int, shown: int) -> Frames:
    keys = out.request_key[:requests]
    return Frames(
        pl.DataFrame(
            {
                "user": out.user[:events],
                "item": out.item[:events],
                "time_ms": out.time_ms[:events],
                "type": named(TASKS, out.type[:events]),
                "value": out.value[:events],
                "request": out.request[:events],
            }
        ),
        pl.DataFrame(
            {
                "request": keys,
                "user": out.request_user[:requests],
                "time_ms": out.request_time_ms[:requests],
                "group": keys,
                "scene": named(SCENES, out.request_scene[:requests]),
                "entry": named(ENTRIES, out.request_entry[:requests]),
            }
        ),
        pl.DataFrame(
            {
                "group": out.shown_request[:shown],
                "item": out.shown_item[:shown],
                "position": out.shown_position[:shown],
            }
        ),
    )
