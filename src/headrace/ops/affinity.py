"""Popular items raised by what a user is known to take of their kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .best import best

Array = NDArray[Any]
TINY = 1e-30  # an event too old to count has still been seen


@njit(cache=True, nogil=True)
def rank(
    offsets: Array,
    item_E: Array,
    type_E: Array,
    time_E: Array,
    now_B: Array,
    type_mask: int,
    half_life_ms: float,
    code_AI: Array,
    prior_AC: Array,
    item_P: Array,
    place_I: Array,
    code_AP: Array,
    log_share_P: Array,
    lift: float,
    shown_B: Array,
    shown_offsets: Array,
    shown_S: Array,
    exclude_offsets: Array,
    exclude_X: Array,
    quota_B: Array,
) -> tuple[Array, Array, Array]:
    """Rank the pool of items ``item_P`` for each row of events.

    ``score_p = log_share_p + lift [p on show] + 1/A Σ_a log(1 + count_a[code_ap] / prior_a[...])``
    with ``count_a`` the row's events by code of attribute a, each worth half after
    ``half_life_ms``. ``place_I`` is an item's place in the pool, -1 none. The places on show are
    row ``shown_B`` (-1 none) of ``shown_S`` cut by ``shown_offsets``. Returns offsets ``(B+1,)``,
    items ``(N,) int64`` and scores ``(N,) float32``, best first.
    """
    size, pool = offsets.shape[0] - 1, item_P.shape[0]
    num_attributes, num_items = code_AI.shape[0], code_AI.shape[1]
    out = np.zeros(size + 1, np.int64)
    item_N = np.empty(np.minimum(quota_B, pool).sum(), np.int64)
    score_N = np.empty(item_N.shape[0], np.float32)
    count_C = np.zeros(prior_AC.shape[1], np.float32)
    code_T = np.empty(prior_AC.shape[1], np.int64)
    score_P = np.empty(pool, np.float32)
    longest = offsets[1:] - offsets[:-1]
    worth_L = np.empty(longest.max() if size else 0)
    for b in range(size):
        start, end = offsets[b], offsets[b + 1]
        item_L, age_L = item_E[start:end], now_B[b] - time_E[start:end]
        _fade(worth_L, item_L, type_E[start:end], age_L, type_mask, half_life_ms, num_items)
        score_P[:] = log_share_P
        for a in range(num_attributes):
            _lean(
                score_P,
                code_AP[a],
                code_AI[a],
                item_L,
                worth_L,
                prior_AC[a],
                1 / num_attributes,
                count_C,
                code_T,
            )
        if shown_B[b] >= 0:
            for s in range(shown_offsets[shown_B[b]], shown_offsets[shown_B[b] + 1]):
                score_P[shown_S[s]] += lift
        for x in range(exclude_offsets[b], exclude_offsets[b + 1]):
            if exclude_X[x] < num_items and place_I[exclude_X[x]] >= 0:
                score_P[place_I[exclude_X[x]]] = -np.inf
        n = out[b]
        for p in best(score_P, item_P, pool, quota_B[b]):
            if score_P[p] == -np.inf:
                break
            item_N[n], score_N[n] = item_P[p], score_P[p]
            n += 1
        out[b + 1] = n
    return out, item_N[: out[-1]].copy(), score_N[: out[-1]].copy()


@njit(cache=True, nogil=True)
def _fade(
    worth_L: Array,
    item_L: Array,
    type_L: Array,
    age_L: Array,
    type_mask: int,
    half_life_ms: float,
    num_items: int,
) -> None:
    """What each event is worth; nothing if its type or item does not count."""
    for e in range(len(item_L)):
        counts = (type_mask >> type_L[e]) & 1 and item_L[e] < num_items
        worth_L[e] = 0.5 ** (age_L[e] / half_life_ms) + TINY if counts else 0


@njit(cache=True, nogil=True)
def _lean(
    score_P: Array,
    code_P: Array,
    code_I: Array,
    item_L: Array,
    worth_L: Array,
    prior_C: Array,
    share: float,
    count_C: Array,
    code_T: Array,
) -> None:
    """Add one attribute's part to the scores. ``count_C`` are zeros and are left so."""
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
