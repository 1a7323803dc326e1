"""The best few of many, in order: the last step of every channel that scores a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
_BINS = 2048


@njit(cache=True, nogil=True)
def best(score: Array, item: Array, size: int, most: int) -> Array:
    """Positions of the ``most`` highest of the first ``size`` scores, best first, ``(K,) int64``.

    Equal scores go to the lower item. A heap of the ``most`` best so far, worst on top, sees those
    that may be among them, see ``_contenders``.
    """
    kept = min(most, size)
    if kept <= 0:
        return np.empty(0, np.int64)
    place = _contenders(score, size, kept)
    heap = place[:kept].copy()
    for at in range(kept // 2 - 1, -1, -1):
        _sink(heap, at, kept, score, item)
    for p in place[kept:]:
        if _before(score, item, p, heap[0]):
            heap[0] = p
            _sink(heap, 0, kept, score, item)
    for end in range(kept - 1, 0, -1):  # heapsort: the worst goes last
        heap[0], heap[end] = heap[end], heap[0]
        _sink(heap, 0, end, score, item)
    return heap


@njit(cache=True, nogil=True)
def best_of_each(score_BI: Array, item_I: Array, most: int) -> Array:
    """The same of each row of scores, ``(B, K) int64``."""
    kept = max(0, min(most, len(item_I)))
    out_BK = np.empty((len(score_BI), kept), np.int64)
    for b in range(len(score_BI)):
        out_BK[b] = best(score_BI[b], item_I, len(item_I), kept)
    return out_BK


@njit(cache=True, nogil=True)
def _contenders(score: Array, size: int, most: int) -> Array:
    """Positions of at least the ``most`` highest scores, ascending, and of few others.

    Scores in single precision, read as whole numbers, are counted by their first 11 bits and, where
    the ``most``-th is, by the 11 behind; what is as high in these 22 bits contends.
    """
    kept = np.empty(size, np.int64)
    if most >= size:
        for p in range(size):
            kept[p] = p
        return kept
    single = np.empty(size, np.float32)
    bits = single.view(np.int32)
    count = np.zeros(2 * _BINS, np.int64)
    for p in range(size):
        single[p] = score[p] + 0.0  # no -0, which has other bits
    for p in range(size):
        x = bits[p]
        bits[p] = x if x >= 0 else x ^ 0x7FFFFFFF  # in the order of the scores
        count[(bits[p] >> 21) + _BINS // 2] += 1
    first, left = _reach(count, _BINS - 1, most)
    for p in range(size):
        if (bits[p] >> 21) + _BINS // 2 == first:
            count[_BINS + ((bits[p] >> 10) & (_BINS - 1))] += 1
    second, _ = _reach(count, 2 * _BINS - 1, left)
    edge, found = ((first - _BINS // 2) << 21) + ((second - _BINS) << 10), 0
    for p in range(size):
        kept[found] = p
        found += bits[p] >= edge
    return kept[:found]


@njit(cache=True, nogil=True)
def _reach(count: Array, at: int, most: int) -> tuple[int, int]:
    """How far to go down from ``at`` until ``most`` are counted, and how many of them are there."""
    while count[at] < most:
        most -= count[at]
        at -= 1
    return at, most


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
