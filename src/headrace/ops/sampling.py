"""Draw the candidates of a training request: what it took, and what it might have taken.

Every request draws from a generator of its own, seeded by (seed, request), so that a sample does
not depend on the batch it is in. ``combine`` sees to it that an item appears once a request and
that a negative is never a positive of the same request.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
POSITIVE, EXPOSURE, UNEXPOSED = 0, 1, 2  # where a candidate came from


@njit(cache=True, nogil=True)
def _seeded(seed: int, request: int) -> Array:
    """A generator's state: one word of splitmix64."""
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(request)
    _next(state)
    return state


@njit(cache=True, nogil=True)
def _next(state: Array) -> Any:
    """splitmix64 (Steele et al., OOPSLA 2014): advance the state and return 64 mixed bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _uniform(state: Array) -> float:
    return np.float64(_next(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def positives(
    request_B: Array,
    event_offsets: Array,
    linked: Array,
    event_item: Array,
    event_type: Array,
    mask: int,
) -> tuple[Array, Array, Array]:
    """Distinct items of each request's events of the masked types.

    ``linked[event_offsets[r]:event_offsets[r + 1]]`` are the events of request r. Returns offsets
    ``(B+1,)``, item ``(N,) int64`` and the set of event types as bits ``(N,) int64``.
    """
    room = 0
    for r in request_B:
        room += event_offsets[r + 1] - event_offsets[r]
    offsets = np.zeros(request_B.shape[0] + 1, np.int64)
    item_N = np.empty(room, np.int64)
    bits_N = np.zeros(room, np.int64)
    n = 0
    for b in range(request_B.shape[0]):
        r = request_B[b]
        for e in range(event_offsets[r], event_offsets[r + 1]):
            kind = np.int64(event_type[linked[e]])
            if (mask >> kind) & 1:
                item = event_item[linked[e]]
                at = offsets[b]
                while at < n and item_N[at] != item:
                    at += 1
                if at == n:
                    item_N[n] = item
                    n += 1
                bits_N[at] |= np.int64(1) << kind
        offsets[b + 1] = n
    return offsets, item_N[:n].copy(), bits_N[:n].copy()


@njit(cache=True, nogil=True)
def exposures(
    request_B: Array, group_R: Array, group_offsets: Array, shown: Array, keep: float, seed: int
) -> tuple[Array, Array]:
    """Keep each item that a request was shown with probability ``keep``: offsets, item (int64)."""
    offsets = np.zeros(request_B.shape[0] + 1, np.int64)
    item_N = np.empty(0, np.int64)
    for fill in (False, True):  # the same draws twice: count, then write
        for b in range(request_B.shape[0]):
            g = group_R[request_B[b]]
            n = offsets[b]
            if g >= 0 and keep > 0:
                state = _seeded(seed, request_B[b])
                k = group_offsets[g] - 1
                while True:
                    if keep < 1:  # the gap to the next one kept is geometric
                        k += 1 + np.int64(np.log(1 - _uniform(state)) / np.log1p(-keep))
                    else:
                        k += 1
                    if k >= group_offsets[g + 1]:
                        break
                    if fill:
                        item_N[n] = shown[k]
                    n += 1
            if not fill:
                offsets[b + 1] = n
        if not fill:
            item_N = np.empty(offsets[-1], np.int64)
    return offsets, item_N


@njit(cache=True, nogil=True)
def unexposed(
    request_B: Array,
    user_R: Array,
    time_R: Array,
    user_offsets: Array,
    time_ms: Array,
    event_item: Array,
    popular: Array,
    num_items: int,
    num_uniform: int,
    num_frequency: int,
    num_history: int,
    seed: int,
) -> Array:
    """Draw items that a request was not shown: ``(B, uniform + frequency + history)``, -1 none.

    ``popular`` lists items as often as they shall be drawn; history draws from the user's own
    events before the request.
    """
    out = np.full((request_B.shape[0], num_uniform + num_frequency + num_history), -1, np.int64)
    for b in range(request_B.shape[0]):
        r = request_B[b]
        state = _seeded(seed + 1, r)
        low, high = user_offsets[user_R[r]], user_offsets[user_R[r] + 1]
        end = low + np.searchsorted(time_ms[low:high], time_R[r], side="left")
        for j in range(out.shape[1]):
            u = _uniform(state)
            if j < num_uniform:
                out[b, j] = 1 + np.int64(u * (num_items - 1))
            elif j < num_uniform + num_frequency:
                out[b, j] = popular[np.int64(u * popular.shape[0])]
            elif end > low:
                out[b, j] = event_item[low + np.int64(u * (end - low))]
    return out


@njit(cache=True, nogil=True)
def combine(
    positive_offsets: Array,
    positive_N: Array,
    bits_P: Array,
    exposure_offsets: Array,
    exposure_N: Array,
    extra_BX: Array,
    group_B: Array,
    group_offsets: Array,
    shown: Array,
) -> tuple[Array, Array, Array, Array, Array]:
    """Put the three together, positives first, each item once a request.

    Returns offsets ``(B+1,)``, item ``(N,) int64``, origin ``(N,) uint8``, event types as bits
    ``(N,) int64`` and whether the request was shown the item ``(N,) bool``. An extra that was on
    show is dropped: exposures alone stand for those, at their known rate.
    """
    size = positive_offsets.shape[0] - 1
    room = positive_N.shape[0] + exposure_N.shape[0] + extra_BX.size
    offsets = np.zeros(size + 1, np.int64)
    item_N = np.empty(room, np.int64)
    origin_N = np.empty(room, np.uint8)
    bits_N = np.zeros(room, np.int64)
    exposed_N = np.empty(room, np.bool_)
    n = 0
    for b in range(size):
        start = n
        for p in range(positive_offsets[b], positive_offsets[b + 1]):
            item_N[n], origin_N[n], bits_N[n] = positive_N[p], POSITIVE, bits_P[p]
            exposed_N[n] = _on_show(group_offsets, shown, group_B[b], positive_N[p])
            n += 1
        few = n  # exposures differ among themselves: compare with positives only
        for e in range(exposure_offsets[b], exposure_offsets[b + 1]):
            if not _among(item_N, start, few, exposure_N[e]):
                item_N[n], origin_N[n], exposed_N[n] = exposure_N[e], EXPOSURE, True
                n += 1
        more = n
        for x in range(extra_BX.shape[1]):
            item = extra_BX[b, x]
            if (
                item > 0
                and not _among(item_N, start, few, item)
                and not _among(item_N, more, n, item)
                and not _on_show(group_offsets, shown, group_B[b], item)
            ):
                item_N[n], origin_N[n], exposed_N[n] = item, UNEXPOSED, False
                n += 1
        offsets[b + 1] = n
    return offsets, item_N[:n].copy(), origin_N[:n].copy(), bits_N[:n].copy(), exposed_N[:n].copy()


@njit(cache=True, nogil=True)
def _among(item_N: Array, start: int, end: int, item: int) -> bool:
    for k in range(start, end):
        if item_N[k] == item:
            return True
    return False


@njit(cache=True, nogil=True)
def _on_show(group_offsets: Array, shown: Array, group: int, item: int) -> bool:
    if group < 0:
        return False
    low, high = group_offsets[group], group_offsets[group + 1]
    k = low + np.searchsorted(shown[low:high], item, side="left")
    return k < high and shown[k] == item


@njit(cache=True, nogil=True)
def subset(offsets: Array, keep_N: Array, most: int, request_B: Array, seed: int) -> Array:
    """Choose at most ``most`` of each row's kept values at random: positions, ascending."""
    out = np.empty(keep_N.shape[0], np.int64)
    n = 0
    for b in range(offsets.shape[0] - 1):
        left = 0
        for k in range(offsets[b], offsets[b + 1]):
            left += keep_N[k]
        wanted = min(most, left)
        state = _seeded(seed + 2, request_B[b])
        for k in range(offsets[b], offsets[b + 1]):
            if keep_N[k]:
                if _uniform(state) * left < wanted:  # selection sampling, Knuth 3.4.2 S
                    out[n] = k
                    n += 1
                    wanted -= 1
                left -= 1
    return out[:n].copy()


@njit(cache=True, nogil=True)
def values_of(
    request_B: Array,
    event_offsets: Array,
    linked: Array,
    event_item: Array,
    event_type: Array,
    event_value: Array,
    kind: int,
    offsets: Array,
    item_N: Array,
) -> Array:
    """Value of each candidate's event of one type in its own request, ``(N,)``; NaN where none."""
    out = np.full(item_N.shape[0], np.nan)
    for b in range(request_B.shape[0]):
        for e in range(event_offsets[request_B[b]], event_offsets[request_B[b] + 1]):
            if event_type[linked[e]] == kind:
                for n in range(offsets[b], offsets[b + 1]):
                    if item_N[n] == event_item[linked[e]]:
                        out[n] = event_value[linked[e]]
    return out
