"""As-of look-ups in a columnar event log, strictly before each query's time.

The log is sorted by (user, time) and carries a second order by (user, category, time):
  user_offsets (U+1,)   events of user u are [user_offsets[u], user_offsets[u+1])
  time_ms      (E,)     in (user, time) order, like every event column
  key_offsets  (U+1,)   the (user, category) keys of user u
  key_category (P,)     ascending within a user
  key_start    (P+1,)   the events of key p are order[key_start[p]:key_start[p+1]]
  order        (E,)     event positions in (user, category, time) order
Both look-ups answer with positions into the event columns, oldest first, and their offsets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
EVERY_TYPE = -1  # a mask with every bit set


@njit(cache=True, nogil=True)
def latest(
    user_offsets: Array,
    time_ms: Array,
    kind: Array,
    user_B: Array,
    before_B: Array,
    n: int,
    type_mask: int,
) -> tuple[Array, Array]:
    """The last ``n`` events of each user before each time, of the types in ``type_mask``.

    Users outside the log have no events. Returns positions ``(E,) int64``, offsets ``(B+1,)``.
    """
    size = user_B.shape[0]
    offsets = np.zeros(size + 1, np.int64)
    first = np.zeros(size, np.int64)
    last = np.zeros(size, np.int64)
    for b in range(size):
        u = user_B[b]
        if 0 <= u < user_offsets.shape[0] - 1:
            low, high = user_offsets[u], user_offsets[u + 1]
            end = low + np.searchsorted(time_ms[low:high], before_B[b], side="left")
            start, taken = end, 0
            if type_mask == EVERY_TYPE:
                start = max(low, end - n)
                taken = end - start
            else:
                while start > low and taken < n:
                    start -= 1
                    if (type_mask >> np.int64(kind[start])) & 1:
                        taken += 1
            first[b], last[b] = start, end
            offsets[b + 1] = taken
    for b in range(size):
        offsets[b + 1] += offsets[b]
    positions = np.empty(offsets[size], np.int64)
    for b in range(size):
        at = offsets[b + 1]
        p = last[b]
        while at > offsets[b]:
            p -= 1
            if type_mask == EVERY_TYPE or (type_mask >> np.int64(kind[p])) & 1:
                at -= 1
                positions[at] = p
    return positions, offsets


@njit(cache=True, nogil=True)
def by_category(
    key_offsets: Array,
    key_category: Array,
    key_start: Array,
    order: Array,
    time_ms: Array,
    user_P: Array,
    category_P: Array,
    before_P: Array,
    n: int,
) -> tuple[Array, Array]:
    """The last ``n`` events of each (user, category) before each time.

    Returns positions ``(E,) int64`` into the event columns and offsets ``(P+1,)``.
    """
    size = user_P.shape[0]
    offsets = np.zeros(size + 1, np.int64)
    end_P = np.zeros(size, np.int64)
    for p in range(size):
        u = user_P[p]
        if 0 <= u < key_offsets.shape[0] - 1:
            low, high = key_offsets[u], key_offsets[u + 1]
            k = low + np.searchsorted(key_category[low:high], category_P[p], side="left")
            if k < high and key_category[k] == category_P[p]:
                start = key_start[k]
                a, z = start, key_start[k + 1]
                while a < z:  # first event at or after the time
                    middle = (a + z) // 2
                    if time_ms[order[middle]] < before_P[p]:
                        a = middle + 1
                    else:
                        z = middle
                end_P[p] = a
                offsets[p + 1] = min(n, a - start)
    for p in range(size):
        offsets[p + 1] += offsets[p]
    positions = np.empty(offsets[size], np.int64)
    for p in range(size):
        taken = offsets[p + 1] - offsets[p]
        for i in range(taken):
            positions[offsets[p] + i] = order[end_P[p] - taken + i]
    return positions, offsets


@njit(cache=True, nogil=True)
def of_category(
    offsets: Array,
    category: Array,
    time_ms: Array,
    row_P: Array,
    category_P: Array,
    before_P: Array,
    n: int,
) -> tuple[Array, Array]:
    """``by_category`` in short rows that have no second order: a walk back from each time.

    Rows outside the offsets have no events. Returns positions ``(E,) int64``, offsets ``(P+1,)``.
    """
    size = row_P.shape[0]
    out = np.zeros(size + 1, np.int64)
    end_P = np.zeros(size, np.int64)
    for p in range(size):
        row = row_P[p]
        if 0 <= row < offsets.shape[0] - 1:
            low, high = offsets[row], offsets[row + 1]
            end_P[p] = low + np.searchsorted(time_ms[low:high], before_P[p], side="left")
            at = end_P[p]
            while at > low and out[p + 1] < n:
                at -= 1
                out[p + 1] += category[at] == category_P[p]
    for p in range(size):
        out[p + 1] += out[p]
    positions = np.empty(out[size], np.int64)
    for p in range(size):
        free, at = out[p + 1], end_P[p]
        while free > out[p]:
            at -= 1
            if category[at] == category_P[p]:
                free -= 1
                positions[free] = at
    return positions, out


@njit(cache=True, nogil=True)
def merge(
    time_a: Array,
    item_a: Array,
    kind_a: Array,
    offsets_a: Array,
    time_b: Array,
    item_b: Array,
    kind_b: Array,
    offsets_b: Array,
    n: int,
) -> tuple[Array, Array]:
    """Merge two ragged lists row by row by (time, item, type) and keep the newest ``n`` of each.

    What is equal in all three happened once: the event of a stays. Answers with positions into the
    concatenation of a and b.
    """
    size = offsets_a.shape[0] - 1
    room = np.zeros(size + 1, np.int64)
    for r in range(size):
        total = offsets_a[r + 1] - offsets_a[r] + offsets_b[r + 1] - offsets_b[r]
        room[r + 1] = room[r] + min(n, total)
    found = np.empty(room[size], np.int64)
    offsets = np.zeros(size + 1, np.int64)
    for r in range(size):  # from the newest back, into the end of each row's room
        i, j, at = offsets_a[r + 1], offsets_b[r + 1], room[r + 1]
        while at > room[r] and (i > offsets_a[r] or j > offsets_b[r]):
            at -= 1
            if j == offsets_b[r]:
                i -= 1
                found[at] = i
                continue
            b = (time_b[j - 1], np.int64(item_b[j - 1]), np.int64(kind_b[j - 1]))
            if i > offsets_a[r]:
                a = (time_a[i - 1], np.int64(item_a[i - 1]), np.int64(kind_a[i - 1]))
                if a >= b:
                    i -= 1
                    found[at] = i
                    j -= a == b
                    continue
            j -= 1
            found[at] = time_a.shape[0] + j
        offsets[r + 1] = offsets[r] + room[r + 1] - at
    positions = np.empty(offsets[size], np.int64)
    for r in range(size):
        taken = offsets[r + 1] - offsets[r]
        positions[offsets[r] : offsets[r + 1]] = found[room[r + 1] - taken : room[r + 1]]
    return positions, offsets


@njit(cache=True, nogil=True)
def pick(a: Array, b: Array, positions: Array) -> Array:
    """``concatenate([a, b])[positions]`` without the concatenation."""
    out = np.empty(positions.shape[0], a.dtype)
    for i in range(positions.shape[0]):
        at = positions[i]
        out[i] = a[at] if at < a.shape[0] else b[at - a.shape[0]]
    return out


@njit(cache=True, nogil=True)
def place(
    offsets: Array, first: Array, second: Array, third: Array, query: tuple[Array, ...]
) -> tuple[Array, Array]:
    """Where each query (row, first, second, third) belongs in sorted rows.

    Rows beyond the offsets are empty and lie at the end. Returns, for each query, the first
    position that is not smaller ``(Q,) int64``, and whether that one is equal ``(Q,) bool``.
    """
    row_Q, first_Q, second_Q, third_Q = query
    at_Q = np.empty(len(row_Q), np.int64)
    equal_Q = np.zeros(len(row_Q), np.bool_)
    for q in range(len(row_Q)):
        low = high = offsets[-1]
        if row_Q[q] < len(offsets) - 1:
            low, high = offsets[row_Q[q]], offsets[row_Q[q] + 1]
        a, z = low, high
        wanted = (first_Q[q], second_Q[q], third_Q[q])
        while a < z:
            middle = (a + z) // 2
            if (first[middle], second[middle], third[middle]) < wanted:
                a = middle + 1
            else:
                z = middle
        at_Q[q] = a
        equal_Q[q] = a < high and (first[a], second[a], third[a]) == wanted
    return at_Q, equal_Q


@njit(cache=True, nogil=True)
def counters(
    item_E: Array, time_E: Array, offsets: Array, key_N: Array, item_N: Array
) -> tuple[Array, Array, Array, Array]:
    """Count a candidate's own events and its category's, and find the last of each.

    ``offsets`` cut the events into rows, one a (request, category) key; candidate n reads row
    ``key_N[n]``. Returns item count, category count ``(N,) int32`` and the last time of each
    ``(N,) int64``, -1 where there is none.
    """
    size = key_N.shape[0]
    item_count = np.zeros(size, np.int32)
    category_count = np.zeros(size, np.int32)
    item_last = np.full(size, -1, np.int64)
    category_last = np.full(size, -1, np.int64)
    for n in range(size):
        start, end = offsets[key_N[n]], offsets[key_N[n] + 1]
        category_count[n] = end - start
        if end > start:
            category_last[n] = time_E[end - 1]
        for e in range(start, end):
            if item_E[e] == item_N[n]:
                item_count[n] += 1
                item_last[n] = time_E[e]
    return item_count, category_count, item_last, category_last


@njit(cache=True, nogil=True)
def second_order(user_offsets: Array, category: Array) -> Array:
    """Positions in (user, category, time) order, given columns in (user, time) order."""
    order = np.empty(category.shape[0], np.int64)
    for u in range(user_offsets.shape[0] - 1):
        low, high = user_offsets[u], user_offsets[u + 1]
        order[low:high] = low + np.argsort(category[low:high], kind="mergesort")
    return order


@njit(cache=True, nogil=True)
def category_keys(user_offsets: Array, category: Array, order: Array) -> tuple[Array, Array, Array]:
    """Cut the second order into (user, category) keys: key_offsets, key_category, key_start."""
    users = user_offsets.shape[0] - 1
    key_offsets = np.zeros(users + 1, np.int64)
    for u in range(users):
        keys = 0
        for p in range(user_offsets[u], user_offsets[u + 1]):
            if p == user_offsets[u] or category[order[p]] != category[order[p - 1]]:
                keys += 1
        key_offsets[u + 1] = key_offsets[u] + keys
    key_category = np.empty(key_offsets[users], np.int32)
    key_start = np.empty(key_offsets[users] + 1, np.int64)
    k = 0
    for u in range(users):
        for p in range(user_offsets[u], user_offsets[u + 1]):
            if p == user_offsets[u] or category[order[p]] != category[order[p - 1]]:
                key_category[k] = category[order[p]]
                key_start[k] = p
                k += 1
    key_start[k] = order.shape[0]
    return key_offsets, key_category, key_start


@njit(cache=True, nogil=True)
def own_share(
    user_offsets: Array,
    key_offsets: Array,
    key_category: Array,
    key_start: Array,
    order: Array,
    time_ms: Array,
    item_E: Array,
    user_N: Array,
    before_N: Array,
    item_N: Array,
    category_N: Array,
) -> Array:
    """Share of an item among all of a user's events before a time, ``(N,) float64``."""
    out = np.zeros(user_N.shape[0], np.float64)
    for n in range(user_N.shape[0]):
        u = user_N[n]
        low, high = user_offsets[u], user_offsets[u + 1]
        total = np.searchsorted(time_ms[low:high], before_N[n], side="left")
        a, z = key_offsets[u], key_offsets[u + 1]
        k = a + np.searchsorted(key_category[a:z], category_N[n], side="left")
        if total > 0 and k < z and key_category[k] == category_N[n]:
            own = 0
            for p in range(key_start[k], key_start[k + 1]):
                if time_ms[order[p]] >= before_N[n]:
                    break
                own += item_E[order[p]] == item_N[n]
            out[n] = own / total
    return out
