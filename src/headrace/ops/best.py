"""The best few of many, in order: the last step of every channel that scores a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def best(score: Array, item: Array, size: int, most: int) -> Array:
    """Positions of the ``most`` highest of the first ``size`` scores, best first, ``(K,) int64``.

    Equal scores go to the lower item. A heap of the ``most`` best so far, worst on top, sees every
    score once: most of them lose against the top and cost one comparison.
    """
    kept = min(most, size)
    heap = np.empty(kept, np.int64)
    if kept == 0:
        return heap
    for p in range(kept):
        heap[p] = p
    for at in range(kept // 2 - 1, -1, -1):
        _sink(heap, at, kept, score, item)
    for p in range(kept, size):
        if _before(score, item, p, heap[0]):
            heap[0] = p
            _sink(heap, 0, kept, score, item)
    for end in range(kept - 1, 0, -1):  # heapsort: the worst goes last
        heap[0], heap[end] = heap[end], heap[0]
        _sink(heap, 0, end, score, item)
    return heap


@njit(cache=True, nogil=True)
def put(
    score: Array, item: Array, size: int, most: int, item_N: Array, score_N: Array, at: int
) -> int:
    """Write the ``most`` best items and their scores from ``at`` on; return where they end."""
    top = best(score, item, size, most)
    for k in range(len(top)):
        item_N[at + k], score_N[at + k] = item[top[k]], score[top[k]]
    return at + len(top)


@njit(cache=True, nogil=True)
def _before(score: Array, item: Array, p: int, q: int) -> bool:
    """Whether position p is better than position q."""
    return score[p] > score[q] or (score[p] == score[q] and item[p] < item[q])


@njit(cache=True, nogil=True)
def _sink(heap: Array, at: int, end: int, score: Array, item: Array) -> None:
    """Let an entry sink below all that are worse."""
    p = heap[at]
    while True:
        child = 2 * at + 1
        if child >= end:
            break
        if child + 1 < end and _before(score, item, heap[child], heap[child + 1]):
            child += 1
        if not _before(score, item, p, heap[child]):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = p


@njit(cache=True, nogil=True)
def kept(score: Array, most: int) -> Array:
    """Positions of the ``most`` highest scores, ascending ``(K,) int64``; ties go to the first.

    Nothing is put in order: a score that parts them is found, and what is above it is taken.
    """
    size = len(score)
    if most >= size:
        return np.arange(size)
    out = np.empty(most, np.int64)
    if most <= 0:
        return out[:0]
    edge = np.partition(score, size - most)[size - most]
    ties, at = most, 0
    for n in range(size):
        ties -= score[n] > edge
    for n in range(size):
        if score[n] > edge or (score[n] == edge and ties > 0):
            ties -= score[n] == edge
            out[at] = n
            at += 1
    return out[:at]
