"""Sorting and searching rows by (user, time): what makes a log of 100 M events in one pass each.

A sort is a stable counting sort by row (user, group), then a sort within each row, most of which
arrive sorted; rows are shared out among threads, since the kernels release the GIL. Orders are
positions, uint32 below 2**32 values; columns follow one at a time, so that at most one is doubled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..ops import history

Array = NDArray[Any]
CHUNK = 1 << 18  # values a task: enough work to pay for a thread, small enough to share out


def narrow(size: int) -> type[np.unsignedinteger[Any]] | type[np.signedinteger[Any]]:
    """The smallest integer type that holds positions below ``size``."""
    return np.uint32 if size < 2**32 else np.int64


def sort_rows(
    row: Array, num_rows: int, first: Array, second: Array, third: Array
) -> tuple[Array, Array, int]:
    """Order values by (row, first, second, third), where the third is below 256.

    Values equal in all four count once: the earliest stays. Returns the order, the offsets
    ``(num_rows + 1,) int64`` of each row in it, and how many repeats were left out.
    """
    order, offsets = _group(row, num_rows, np.empty(len(row), narrow(len(row))))
    repeat = np.zeros(len(row), np.bool_)
    _each_chunk(
        offsets,
        lambda a, b: _sort_within(offsets[a : b + 1], order, repeat, first, second, third),
    )
    num_repeats = int(np.count_nonzero(repeat))
    if num_repeats:
        dropped = np.searchsorted(np.flatnonzero(repeat), offsets)
        order, offsets = order[~repeat], offsets - dropped
    return order, offsets, num_repeats


def take(column: Array, order: Array) -> Array:
    """``column[order]``, by several threads."""
    out = np.empty(len(order), column.dtype)

    def fill(start: int) -> None:
        part = slice(start, start + CHUNK)
        np.take(column, order[part], out=out[part], mode="clip")

    _run(fill, [(start,) for start in range(0, len(order), CHUNK)])
    return out


def second_order(offsets: Array, category: Array) -> Array:
    """``ops.history.second_order`` by several threads, narrowed."""
    order = np.empty(len(category), narrow(len(category)))

    def fill(a: int, b: int) -> None:
        low, high = offsets[a], offsets[b]
        order[low:high] = low + history.second_order(offsets[a : b + 1] - low, category[low:high])

    _each_chunk(offsets, fill)
    return order


def row_of(offsets: Array) -> Array:
    """The row of each value, ``int32``."""
    return np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))


def offsets_of(row: Array, num_rows: int) -> Array:
    """The offsets of rows in a column of ascending row numbers."""
    return np.searchsorted(row, np.arange(num_rows + 1)).astype(np.int64)


@njit(cache=True, nogil=True)
def _group(row: Array, num_rows: int, order: Array) -> tuple[Array, Array]:
    offsets = np.zeros(num_rows + 1, np.int64)
    for i in range(len(row)):
        offsets[row[i] + 1] += 1
    for r in range(num_rows):
        offsets[r + 1] += offsets[r]
    free = offsets[:-1].copy()
    for i in range(len(row)):
        order[free[row[i]]] = i
        free[row[i]] += 1
    return order, offsets


@njit(cache=True, nogil=True)
def _sort_within(
    offsets: Array, order: Array, repeat: Array, first: Array, second: Array, third: Array
) -> None:
    for r in range(len(offsets) - 1):
        low, high = offsets[r], offsets[r + 1]
        key = np.empty(high - low, np.int64)
        ascending = True
        for i in range(low, high):
            key[i - low] = first[order[i]]
            ascending = ascending and (i == low or key[i - low - 1] <= key[i - low])
        if not ascending:
            _reorder(order, low, key)
        i = low
        while i < high:
            j = i + 1
            while j < high and key[j - low] == key[i - low]:
                j += 1
            if j - i > 1:
                _sort_tie(order, repeat, i, j, second, third)
            i = j


@njit(cache=True, nogil=True)
def _sort_tie(
    order: Array, repeat: Array, low: int, high: int, second: Array, third: Array
) -> None:
    key = np.empty(high - low, np.int64)
    for i in range(low, high):
        key[i - low] = np.int64(second[order[i]]) * 256 + np.int64(third[order[i]])
    _reorder(order, low, key)
    for i in range(low + 1, high):
        repeat[i] = key[i - low] == key[i - low - 1]


@njit(cache=True, nogil=True)
def _reorder(order: Array, low: int, key: Array) -> None:
    """Sort ``key``, stably, and the stretch of the order that begins at ``low`` with it."""
    by_key = np.argsort(key, kind="mergesort")
    old_order, old_key = order[low : low + len(key)].copy(), key.copy()
    for i in range(len(key)):
        order[low + i] = old_order[by_key[i]]
        key[i] = old_key[by_key[i]]


def _each_chunk(offsets: Array, work: Callable[[int, int], None]) -> None:
    """Run ``work(a, b)`` over stretches of rows of about equal size."""
    _run(work, list(_chunks(offsets)))


def _chunks(offsets: Array) -> Iterator[tuple[int, int]]:
    wanted = np.arange(CHUNK, offsets[-1], CHUNK)
    cuts = np.unique([0, *np.searchsorted(offsets, wanted).tolist(), len(offsets) - 1])
    return zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)


def _run(work: Callable[..., None], tasks: list[tuple[int, ...]]) -> None:
    if len(tasks) < 2:
        for task in tasks:
            work(*task)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(work, *task) for task in tasks]:
            done.result()
