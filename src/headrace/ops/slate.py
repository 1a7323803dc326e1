"""Greedy choice of a slate from the ragged candidates of a batch of requests.

What the kernels share, and so the reason why they live in one file (Numba's cache does not notice
a change in another file's helper):
  offsets (B+1,)   row b is [offsets[b], offsets[b+1]); the best candidate of a row comes first
  relevance (N,)   of each candidate; NaN marks those that may only fill places left over
  vector (N, D)    similarity is the dot product; with D = 0 it is 1 within a category, else 0
  category (N,)    at most ``cap`` of one category are chosen in a row
  quota (B,)       places in each row
  window           how many of the items chosen last a candidate is compared with
Each answers with the positions chosen ``(K,) int64``, grouped by row, in the order of choice.
Ties go to the candidate that comes first. A row comes out shorter than its quota only when it has
fewer candidates, or when ``cap`` forbids all that are left.

Within a row there are M candidates, counted from 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
UNLIMITED = 1 << 31  # as a window or a cap
EPSILON = 1e-10  # a candidate with less left of it is a copy of what was chosen


@njit(cache=True, nogil=True)
def first(category_N: Array, offsets: Array, quota_B: Array, cap: int) -> Array:
    """The first of each row that the cap allows."""
    out = np.empty(category_N.shape[0], np.int64)
    size = 0
    for b in range(offsets.shape[0] - 1):
        low, high = offsets[b], offsets[b + 1]
        chosen_K = out[size : size + max(0, min(quota_B[b], high - low))]
        open_M = np.ones(high - low, np.bool_)
        kept = _fill(category_N[low:high], open_M, chosen_K, 0, cap)
        chosen_K += low
        size += kept
    return out[:size]


@njit(cache=True, nogil=True)
def mmr(
    relevance_N: Array,
    vector_ND: Array,
    category_N: Array,
    offsets: Array,
    quota_B: Array,
    theta: float,
    window: int,
    cap: int,
) -> Array:
    """Maximal marginal relevance: argmax of theta * relevance - (1 - theta) * max similarity.

    Carbonell and Goldstein 1998, with the maximum over the ``window`` items chosen last; there is
    none for the first item. O(M K (D + W)) time, O(M W) memory.
    """
    out = np.empty(category_N.shape[0], np.int64)
    size = 0
    for b in range(offsets.shape[0] - 1):
        low, high = offsets[b], offsets[b + 1]
        chosen_K = out[size : size + max(0, min(quota_B[b], high - low))]
        open_M = np.ones(high - low, np.bool_)
        category_M = category_N[low:high]
        kept = _mmr_row(
            theta * relevance_N[low:high],
            1.0 - theta,
            vector_ND[low:high],
            category_M,
            open_M,
            chosen_K,
            window,
            cap,
        )
        kept = _fill(category_M, open_M, chosen_K, kept, cap)
        chosen_K += low
        size += kept
    return out[:size]


@njit(cache=True, nogil=True)
def dpp(
    log_quality_N: Array,
    vector_ND: Array,
    category_N: Array,
    offsets: Array,
    quota_B: Array,
    window: int,
    cap: int,
) -> Array:
    """Greedy MAP of a determinantal point process with kernel L = diag(q) S diag(q).

    Each step adds the candidate that raises det(L of the chosen) most: Chen, Zhang and Zhou 2018,
    algorithm 1; with a window, det of the ``window`` items chosen last and the candidate, their
    sliding window. S has ones on its diagonal, so the Cholesky rows are kept for S alone and q
    enters as ``2 log q``: the same choice, without overflow, and ``EPSILON`` is relative to q².
    When less than that is left of every candidate, given the chosen, the remaining places are
    filled from the front. O(M K (D + W)) time, O(M W) memory.
    """
    out = np.empty(category_N.shape[0], np.int64)
    size = 0
    for b in range(offsets.shape[0] - 1):
        low, high = offsets[b], offsets[b + 1]
        chosen_K = out[size : size + max(0, min(quota_B[b], high - low))]
        open_M = np.ones(high - low, np.bool_)
        category_M = category_N[low:high]
        kept = _dpp_row(
            2 * log_quality_N[low:high],
            vector_ND[low:high],
            category_M,
            open_M,
            chosen_K,
            window,
            cap,
        )
        kept = _fill(category_M, open_M, chosen_K, kept, cap)
        chosen_K += low
        size += kept
    return out[:size]


@njit(cache=True, nogil=True)
def _mmr_row(
    worth_M: Array,
    penalty: float,
    vector_MD: Array,
    category_M: Array,
    open_M: Array,
    chosen_K: Array,
    window: int,
    cap: int,
) -> int:
    """Choose until the places are full or no candidate competes; answer how many."""
    width = min(window, chosen_K.shape[0])
    alike_MW = np.zeros((worth_M.shape[0], width))  # a ring over the items chosen last
    for k in range(chosen_K.shape[0]):
        best, best_gain = -1, -np.inf
        for m in range(worth_M.shape[0]):
            if open_M[m]:
                nearest = alike_MW[m, 0]
                for w in range(1, min(k, width)):
                    nearest = max(nearest, alike_MW[m, w])
                gain = worth_M[m] - penalty * nearest
                if gain > best_gain:  # never true of NaN
                    best, best_gain = m, gain
        if best < 0:
            return k
        _take(best, category_M, open_M, chosen_K, k, cap)
        for m in range(worth_M.shape[0]):
            if open_M[m]:
                alike_MW[m, k % width] = _similarity(vector_MD, category_M, m, best)
    return chosen_K.shape[0]


@njit(cache=True, nogil=True)
def _dpp_row(
    worth_M: Array,
    vector_MD: Array,
    category_M: Array,
    open_M: Array,
    chosen_K: Array,
    window: int,
    cap: int,
) -> int:
    """Choose until the places are full or no candidate competes; answer how many."""
    width = min(window, chosen_K.shape[0])
    factor_WW = np.zeros((width, width))  # Cholesky factor of S over the window
    row_MW = np.zeros((worth_M.shape[0], width))  # what it would gain for each candidate
    left_M = np.ones(worth_M.shape[0])  # d²: the part of each that the window does not explain
    held = 0
    for k in range(chosen_K.shape[0]):
        best, best_gain = -1, -np.inf
        for m in range(worth_M.shape[0]):
            if open_M[m] and left_M[m] >= EPSILON:
                gain = worth_M[m] + np.log(left_M[m])
                if gain > best_gain:  # never true of NaN
                    best, best_gain = m, gain
        if best < 0:
            return k
        _take(best, category_M, open_M, chosen_K, k, cap)
        if held == width:
            _forget(factor_WW, row_MW, left_M)
            held -= 1
        root = np.sqrt(left_M[best])
        factor_WW[held, :held] = row_MW[best, :held]
        factor_WW[held, held] = root
        for m in range(worth_M.shape[0]):
            if open_M[m]:
                rest = _similarity(vector_MD, category_M, m, best)
                for w in range(held):
                    rest -= row_MW[m, w] * factor_WW[held, w]
                row_MW[m, held] = rest / root
                left_M[m] -= row_MW[m, held] ** 2
        held += 1
    return chosen_K.shape[0]


@njit(cache=True, nogil=True)
def _forget(factor_WW: Array, row_MW: Array, left_M: Array) -> None:
    """Drop the oldest item of a full window.

    Without its first row, the factor is lower triangular but for its first column. Givens rotations
    of that column with each of the others empty it; the same rotations of the candidates' rows keep
    factor @ row = similarity, and gather in their first entry what only the dropped item explains.
    """
    width = factor_WW.shape[0]
    for w in range(1, width):
        radius = np.hypot(factor_WW[w, w], factor_WW[w, 0])
        cosine, sine = factor_WW[w, w] / radius, factor_WW[w, 0] / radius
        _rotate(factor_WW[w:], w, cosine, sine)
        _rotate(row_MW, w, cosine, sine)
    for m in range(row_MW.shape[0]):
        left_M[m] += row_MW[m, 0] ** 2
        for w in range(1, width):
            row_MW[m, w - 1] = row_MW[m, w]
    for w in range(1, width):
        for v in range(1, width):
            factor_WW[w - 1, v - 1] = factor_WW[w, v]


@njit(cache=True, nogil=True)
def _rotate(rows: Array, column: int, cosine: float, sine: float) -> None:
    """Turn every row in the plane of the first column and another."""
    for r in range(rows.shape[0]):
        old, other = rows[r, 0], rows[r, column]
        rows[r, 0] = cosine * old - sine * other
        rows[r, column] = cosine * other + sine * old


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # so that the sum is vectorised
def _similarity(vector_MD: Array, category_M: Array, a: int, b: int) -> float:
    if vector_MD.shape[1] == 0:
        return 1.0 if category_M[a] == category_M[b] else 0.0
    total = 0.0
    for d in range(vector_MD.shape[1]):
        total += vector_MD[a, d] * vector_MD[b, d]
    return total


@njit(cache=True, nogil=True)
def _take(m: int, category_M: Array, open_M: Array, chosen_K: Array, k: int, cap: int) -> None:
    """Give place k to candidate m, and close its category when that is full."""
    open_M[m] = False
    chosen_K[k] = m
    same = 1
    for j in range(k):
        same += category_M[chosen_K[j]] == category_M[m]
    if same >= cap:
        for other in range(category_M.shape[0]):
            if category_M[other] == category_M[m]:
                open_M[other] = False


@njit(cache=True, nogil=True)
def _fill(category_M: Array, open_M: Array, chosen_K: Array, k: int, cap: int) -> int:
    """Give the places from k on to the first candidates left; answer how many are taken."""
    for m in range(category_M.shape[0]):
        if k == chosen_K.shape[0]:
            break
        if open_M[m]:
            _take(m, category_M, open_M, chosen_K, k, cap)
            k += 1
    return k
