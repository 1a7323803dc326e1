"""Kernels of the multiple-choice knapsack: one action a request, one price for all.

N requests, J actions, P increments summed over requests.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def choose(gain_NJ: Array, cost_NJ: Array, price: float) -> Array:  # (N,) int64
    """The action with the most gain left after its cost at a price; -1 where none is worth it.

    ``cost_NJ`` may have one row for all requests. NaN is an action that cannot be had. Of equal
    ones the cheaper wins, then the earlier.
    """
    size, actions = gain_NJ.shape
    choice_N = np.full(size, -1, np.int64)
    shared = cost_NJ.shape[0] == 1
    for i in range(size):
        best, spent = 0.0, 0.0
        at = 0 if shared else i
        for j in range(actions):
            cost = cost_NJ[at, j]
            left = gain_NJ[i, j] - price * cost
            if left > best or (left == best and choice_N[i] >= 0 and cost < spent):
                best, spent = left, cost
                choice_N[i] = j
    return choice_N


@njit(cache=True, nogil=True)
def counts(gain_NJ: Array, toll_J: Array) -> Array:  # (J,) int64
    """How many requests choose each action at tolls where each must have one.

    NaN is an action that cannot be had. Of equal ones the earlier wins.
    """
    size, actions = gain_NJ.shape
    count_J = np.zeros(actions, np.int64)
    for i in range(size):
        best, at = -math.inf, -1
        for j in range(actions):
            left = gain_NJ[i, j] - toll_J[j]
            if left > best:
                best, at = left, j
        if at >= 0:
            count_J[at] += 1
    return count_J


@njit(cache=True, nogil=True)
def hulls(gain_NJ: Array, cost_NJ: Array) -> tuple[Array, Array, Array, Array, Array]:
    """The upper concave hull of every request's actions, from doing nothing upwards.

    Returns increments, request by request and steepest first: offsets ``(N + 1,)``, action
    ``(P,)``, what it costs and gains beyond the one before ``(P,)``, and the ratio of the two,
    which falls along a request (infinite where nothing more is paid).
    """
    size, actions = gain_NJ.shape
    shared = cost_NJ.shape[0] == 1
    offsets = np.zeros(size + 1, np.int64)
    action, cost_P = np.empty(size * actions, np.int64), np.empty(size * actions)
    gain_P, slope_P = np.empty(size * actions), np.empty(size * actions)
    order = np.empty(actions, np.int64)
    count = 0
    for i in range(size):
        at = 0 if shared else i
        if i == 0 or not shared:
            order = np.argsort(cost_NJ[at])
        start, cost, gain = count, 0.0, 0.0  # of the top of the hull so far
        for j in order:
            here, worth = cost_NJ[at, j], gain_NJ[i, j]
            while worth > gain:  # not so for NaN
                more = here - cost
                slope = math.inf if more <= 0.0 else (worth - gain) / more
                if count > start and slope >= slope_P[count - 1]:  # the one before lies below
                    count -= 1
                    cost -= cost_P[count]
                    gain -= gain_P[count]
                    if count == start:
                        cost, gain = 0.0, 0.0  # no rounding left over
                    continue
                action[count], cost_P[count] = j, more
                gain_P[count], slope_P[count] = worth - gain, slope
                count += 1
                cost, gain = here, worth
                break
        offsets[i + 1] = count
    return offsets, action[:count], cost_P[:count], gain_P[:count], slope_P[:count]


@njit(cache=True, nogil=True)
def spend_at(cost_P: Array, slope_P: Array, price: float) -> float:
    """What all increments of at least this slope cost."""
    spend = 0.0
    for p in range(len(slope_P)):
        if slope_P[p] >= price:
            spend += cost_P[p]
    return spend


@njit(cache=True, nogil=True)
def tally(cost_P: Array, bits_P: Array, least: int, shift: int, wide: int) -> Array:
    """What increments cost by how steep they are, ``2 ** shift`` slopes together from ``least`` on.

    Of the first ``2 ** wide`` such bands. ``bits_P`` are slopes read as integers, which for numbers
    of at least 0 keeps their order.
    """
    cost_X = np.zeros(1 << wide)
    for p in range(len(bits_P)):
        above = bits_P[p] - least
        if above >= 0 and above >> shift < len(cost_X):
            cost_X[above >> shift] += cost_P[p]
    return cost_X


@njit(cache=True, nogil=True)
def paid(offsets: Array, cost_P: Array, slope_P: Array, price: float) -> tuple[Array, float]:
    """How many increments of each request are steeper than a price ``(N,)``, and their cost."""
    taken_N, spend = np.zeros(len(offsets) - 1, np.int64), 0.0
    for i in range(len(taken_N)):
        for p in range(offsets[i], offsets[i + 1]):
            if slope_P[p] <= price:
                break  # slopes fall along a request
            taken_N[i] += 1
            spend += cost_P[p]
    return taken_N, spend


@njit(cache=True, nogil=True)
def fitting(offsets: Array, cost_P: Array, taken_N: Array, room: float) -> Array:  # (K,) int64
    """Requests whose next increment fits into what is left."""
    row_K, count = np.empty(len(taken_N), np.int64), 0
    for i in range(len(taken_N)):
        p = offsets[i] + taken_N[i]
        if p < offsets[i + 1] and cost_P[p] <= room:
            row_K[count] = i
            count += 1
    return row_K[:count]


@njit(cache=True, nogil=True)
def take(offsets: Array, cost_P: Array, row_K: Array, taken_N: Array, room: float) -> float:
    """Take requests' next increments in an order while they fit; return the room left.

    ``taken_N`` says how many each request has, and is brought up to date.
    """
    for i in row_K:
        cost = cost_P[offsets[i] + taken_N[i]]
        if cost <= room:
            taken_N[i] += 1
            room -= float(cost)
    return room


@njit(cache=True, nogil=True)
def surplus(cost_P: Array, gain_P: Array, price: float) -> float:
    """What increments gain beyond their cost at a price, of those that do."""
    left = 0.0
    for p in range(len(cost_P)):
        left += max(0.0, gain_P[p] - price * cost_P[p])
    return left


@njit(cache=True, nogil=True)
def totals(choice_N: Array, gain_NJ: Array, cost_NJ: Array) -> tuple[float, float]:
    """Gain and cost of a choice; -1 is nothing."""
    gain, cost = 0.0, 0.0
    shared = cost_NJ.shape[0] == 1
    for i in range(len(choice_N)):
        j = choice_N[i]
        if j >= 0:
            gain += gain_NJ[i, j]
            cost += cost_NJ[0 if shared else i, j]
    return gain, cost
