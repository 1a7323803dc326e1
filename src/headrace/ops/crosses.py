"""Columns of (request, item) for all candidates of some requests: the hot loops of cross features.

B  requests    N  candidates, cut by offsets (B+1,)    I  items    C  categories
P  (request, category) keys    E  a user's past events    F  columns    M  edges
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .buckets import id_of

Array = NDArray[Any]
DAY_MS = 86_400_000
#: What ``counters`` makes: of the user's events on the item, and of those in its category.
COUNTED = (
    "user_item_count",
    "user_item_days",
    "user_item_share",
    "user_item_decay",
    "user_category_count",
    "user_category_days",
)
_OF_ITEM = 4  # the first ones, which a candidate that the user never met has in common


@njit(cache=True, nogil=True)
def keys(
    offsets: Array, item_N: Array, category_I: Array, num_categories: int
) -> tuple[Array, Array, Array]:
    """Each request with the categories of its candidates, once, ascending.

    Returns the request and category of each key, ``(P,) int64``, and each candidate's key
    ``(N,) int64``.
    """
    key_C = np.full(num_categories, -1, np.int64)
    row_N, category_N = np.empty(len(item_N), np.int64), np.empty(len(item_N), np.int64)
    key_N = np.empty(len(item_N), np.int64)
    size = 0
    for b in range(len(offsets) - 1):
        first = size
        for n in range(offsets[b], offsets[b + 1]):
            category = category_I[item_N[n]]
            if key_C[category] < 0:
                key_C[category] = 0
                category_N[size] = category
                size += 1
        row_N[first:size] = b
        category_N[first:size].sort()
        for p in range(first, size):
            key_C[category_N[p]] = p
        for n in range(offsets[b], offsets[b + 1]):
            key_N[n] = key_C[category_I[item_N[n]]]
        for p in range(first, size):
            key_C[category_N[p]] = -1
    return row_N[:size].copy(), category_N[:size].copy(), key_N


class Counters(NamedTuple):
    """Columns that ``counters`` makes: which of COUNTED, and where their numbers are cut."""

    what_F: Array  # int64
    edge_FM: Array  # float64, padded
    size_F: Array  # int64, how many edges each has

    @classmethod
    def of(cls, what_F: Array, edges: Sequence[Array]) -> Counters:
        """With the edges of each."""
        size_F = np.array([len(each) for each in edges], np.int64)
        edge_FM = np.zeros((len(edges), size_F.max(initial=0)))
        for f, each in enumerate(edges):
            edge_FM[f, : len(each)] = each
        return cls(what_F, edge_FM, size_F)


@njit(cache=True, nogil=True)
def counters(
    item_E: Array,
    time_E: Array,
    offsets: Array,
    before_P: Array,
    key_N: Array,
    item_N: Array,
    half_life_ms: float,
    wanted: Counters,
) -> Array:  # (F, N) int64
    """Ids of counters of (user, item) and (user, category), column by column.

    ``offsets`` cut the events into rows, one a key of ``keys``, asked for as of ``before_P``;
    candidate n reads row ``key_N[n]``.
    """
    what_F, edge_FM, size_F = wanted
    out_FN = np.empty((len(what_F), len(key_N)), np.int64)
    number = np.empty(len(COUNTED))
    id_PF = np.empty((len(before_P), len(what_F)), np.int64)
    for p in range(len(before_P)):  # as for candidates that the user never met
        kin = offsets[p + 1] - offsets[p]
        number[:] = 0
        number[1], number[4], number[5] = np.nan, kin, np.nan
        if kin > 0:
            number[5] = (before_P[p] - time_E[offsets[p + 1] - 1]) / DAY_MS
        for f in range(len(what_F)):
            id_PF[p, f] = id_of(edge_FM[f, : size_F[f]], number[what_F[f]])
    for n in range(len(key_N)):
        p = key_N[n]
        own, last, decay = 0, 0, 0.0
        for e in range(offsets[p], offsets[p + 1]):
            if item_E[e] == item_N[n]:
                own, last = own + 1, time_E[e]
                decay += 0.5 ** ((before_P[p] - time_E[e]) / half_life_ms)
        for f in range(len(what_F)):
            out_FN[f, n] = id_PF[p, f]
        if own > 0:
            number[0], number[1] = own, (before_P[p] - last) / DAY_MS
            number[2], number[3] = own / (offsets[p + 1] - offsets[p]), decay
            for f in range(len(what_F)):
                if what_F[f] < _OF_ITEM:
                    out_FN[f, n] = id_of(edge_FM[f, : size_F[f]], number[what_F[f]])
    return out_FN


@njit(cache=True, nogil=True)
def made(id_IF: Array, item_N: Array, column_F: Array) -> tuple[Array, Array]:
    """Some columns of ids that are kept one too high, 0 where they were not made yet.

    Returns the ids, ``(F, N) int64``, and the places of the items that lack any, ``(M,) int64``.
    """
    out_FN = np.empty((len(column_F), len(item_N)), np.int64)
    lacking_N, size = np.empty(len(item_N), np.int64), 0
    for n in range(len(item_N)):
        least = 0
        for f in range(len(column_F)):
            out_FN[f, n] = np.int64(id_IF[item_N[n], column_F[f]]) - 1
            least = min(least, out_FN[f, n])
        if least < 0:
            lacking_N[size] = n
            size += 1
    return out_FN, lacking_N[:size].copy()
