"""Popular items raised by what a user is known to take of their kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import best

Array = NDArray[Any]
TINY = 1e-30  # an event too old to count has still been seen


class Pool(NamedTuple):
    """Items to rank, and what is known of all: A attributes of I items, P of them in the pool."""

    item_P: Array  # int32
    log_share_P: Array  # float32, of recent events
    place_I: Array  # int32, an item's place in the pool, -1 none
    code_AI: Array  # int32, value of each attribute, 0 unknown
    code_AP: Array  # int32, the same of the pool
    prior_AC: Array  # float32, what everybody takes of each value
    type_mask: int  # bits of the event types that count
    half_life_ms: float  # an event counts half after so long
    lift: float  # added to the score of what is on show
    shown_offsets: Array  # (G+1,) int64, cuts shown_S by exposure group
    shown_S: Array  # int32, places in the pool


@njit(cache=True, nogil=True)
def rank(
    pool: Pool,
    offsets: Array,
    item_E: Array,
    type_E: Array,
    time_E: Array,
    now_B: Array,
    shown_B: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
) -> tuple[Array, Array, Array]:
    """Rank the pool for each row of events.

    ``score_p = log_share_p + lift [p on show] + 1/A Σ_a log(1 + count_a[code_ap] / prior_a[...])``
    with ``count_a`` the row's events by code of attribute a, each worth half after
    ``half_life_ms``. ``shown_B`` is the exposure group on show, -1 none. Returns offsets
    ``(B+1,)``, items ``(N,) int64`` and scores ``(N,) float32``, best first.
    """
    size, num_places = offsets.shape[0] - 1, pool.item_P.shape[0]
    out = np.zeros(size + 1, np.int64)
    item_N = np.empty(np.minimum(quota_B, num_places).sum(), np.int64)
    score_N = np.empty(item_N.shape[0], np.float32)
    num_codes = pool.prior_AC.shape[1]
    count_C, code_T = np.zeros(num_codes, np.float32), np.empty(num_codes, np.int64)
    score_P = np.empty(num_places, np.float32)
    longest = offsets[1:] - offsets[:-1]
    worth_L = np.empty(longest.max() if size else 0)
    for b in range(size):
        start, end = offsets[b], offsets[b + 1]
        item_L, age_L = item_E[start:end], now_B[b] - time_E[start:end]
        _fade(pool, worth_L, item_L, type_E[start:end], age_L)
        score_P[:] = pool.log_share_P
        for a in range(pool.code_AI.shape[0]):
            _lean(pool, a, score_P, item_L, worth_L, count_C, code_T)
        _adjust(pool, score_P, shown_B[b], exclude_X[exclude_offsets[b] : exclude_offsets[b + 1]])
        n = out[b]
        for p in best(score_P, pool.item_P, num_places, quota_B[b]):
            if score_P[p] == -np.inf:
                break
            item_N[n], score_N[n] = pool.item_P[p], score_P[p]
            n += 1
        out[b + 1] = n
    return out, item_N[: out[-1]].copy(), score_N[: out[-1]].copy()


@njit(cache=True, nogil=True)
def _fade(pool: Pool, worth_L: Array, item_L: Array, type_L: Array, age_L: Array) -> None:
    """What each event is worth; nothing if its type or item does not count."""
    for e in range(len(item_L)):
        counts = (pool.type_mask >> type_L[e]) & 1 and item_L[e] < pool.place_I.shape[0]
        worth_L[e] = 0.5 ** (age_L[e] / pool.half_life_ms) + TINY if counts else 0


@njit(cache=True, nogil=True)
def _lean(
    pool: Pool,
    a: int,
    score_P: Array,
    item_L: Array,
    worth_L: Array,
    count_C: Array,
    code_T: Array,
) -> None:
    """Add attribute a's part to the scores. ``count_C`` are zeros and are left so."""
    code_I, code_P, prior_C = pool.code_AI[a], pool.code_AP[a], pool.prior_AC[a]
    share = 1 / pool.code_AI.shape[0]
    touched = 0
    for e in range(len(item_L)):
        if worth_L[e] > 0:
            code = code_I[item_L[e]]
            if code > 0 and count_C[code] == 0:
                code_T[touched] = code
                touched += 1
            count_C[code] += worth_L[e]
    count_C[0] = 0  # nothing is known of the unknown
    for t in range(touched):
        code = code_T[t]
        count_C[code] = np.log1p(count_C[code] / prior_C[code]) * share
    for p in range(len(code_P)):
        score_P[p] += count_C[code_P[p]]
    for t in range(touched):
        count_C[code_T[t]] = 0


@njit(cache=True, nogil=True)
def _adjust(pool: Pool, score_P: Array, shown: int, exclude_X: Array) -> None:
    """Raise what is on show; drop what is excluded."""
    if shown >= 0:
        for s in range(pool.shown_offsets[shown], pool.shown_offsets[shown + 1]):
            score_P[pool.shown_S[s]] += pool.lift
    for item in exclude_X:
        if item < pool.place_I.shape[0] and pool.place_I[item] >= 0:
            score_P[pool.place_I[item]] = -np.inf
