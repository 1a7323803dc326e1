"""What a user had before: the distinct items of each row of events, and what they are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import put

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def recent(
    offsets: Array,
    item_E: Array,
    type_E: Array,
    time_E: Array,
    now_B: Array,
    type_mask: int,
    half_life_ms: float,
    most: int,
    seen_I: Array,
) -> tuple[Array, Array, Array]:
    """The ``most`` items that each row had last, newest first, with a worth by the age of the last.

    Events of types outside ``type_mask`` do not count. Returns offsets ``(B+1,)``, items
    ``(S,) int64`` and worths ``(S,) float32``, 1 for now and half after ``half_life_ms``.
    ``seen_I`` are zeros, uint8, one for each item that may occur, and are left so.
    """
    size = offsets.shape[0] - 1
    out = np.zeros(size + 1, np.int64)
    item_S = np.empty(item_E.shape[0], np.int64)
    worth_S = np.empty(item_E.shape[0], np.float32)
    n = 0
    for b in range(size):
        for e in range(offsets[b + 1] - 1, offsets[b] - 1, -1):
            if n - out[b] == most:
                break
            if (type_mask >> type_E[e]) & 1 and not seen_I[item_E[e]]:
                seen_I[item_E[e]] = 1
                item_S[n] = item_E[e]
                worth_S[n] = 0.5 ** ((now_B[b] - time_E[e]) / half_life_ms)
                n += 1
        for s in range(out[b], n):
            seen_I[item_S[s]] = 0
        out[b + 1] = n
    return out, item_S[:n].copy(), worth_S[:n].copy()


@njit(cache=True, nogil=True)
def rank(
    offsets: Array,
    item_E: Array,
    type_E: Array,
    time_E: Array,
    now_B: Array,
    type_mask: int,
    tau_ms: float,
    factor_I: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
    slot_I: Array,
) -> tuple[Array, Array, Array]:
    """Rank the items of each row by ``factor_i Σ exp(-(now - t) / tau)`` over its events.

    Events of types outside ``type_mask`` do not count; items beyond ``factor_I`` have factor 1;
    item 0 and excluded items are left out. Returns offsets ``(B+1,)``, items ``(N,) int64`` and
    scores ``(N,) float32``, best first. ``slot_I`` are zeros, int32, one for each item that may
    occur, and are left so.
    """
    size = offsets.shape[0] - 1
    out = np.zeros(size + 1, np.int64)
    longest = offsets[1:] - offsets[:-1]
    distinct = np.empty(longest.max() if size else 0, np.int64)
    score = np.empty(distinct.shape[0])
    item_N = np.empty(item_E.shape[0], np.int64)
    score_N = np.empty(item_E.shape[0], np.float32)
    for b in range(size):
        found = 0
        for e in range(offsets[b], offsets[b + 1]):
            i = item_E[e]
            if (type_mask >> type_E[e]) & 1:
                if slot_I[i] == 0:
                    distinct[found], score[found] = i, 0
                    found += 1
                    slot_I[i] = found
                score[slot_I[i] - 1] += np.exp((time_E[e] - now_B[b]) / tau_ms)
        for x in range(exclude_offsets[b], exclude_offsets[b + 1]):
            if exclude_X[x] < slot_I.shape[0] and slot_I[exclude_X[x]] > 0:
                score[slot_I[exclude_X[x]] - 1] = -1
        n = 0
        for k in range(found):
            i = distinct[k]
            slot_I[i] = 0
            if i > 0 and score[k] >= 0:
                factor = factor_I[i] if i < factor_I.shape[0] else 1
                distinct[n], score[n] = i, score[k] * factor
                n += 1
        out[b + 1] = put(score, distinct, n, quota_B[b], item_N, score_N, out[b])
    return out, item_N[: out[-1]].copy(), score_N[: out[-1]].copy()
