"""What a user tower makes of a history before its layers, each request's events where they lie.

B  requests    E  events    I  items    W  columns of an event: D of it, then H and V logits
H  heads       V  vectors a request    X  width of an item's vector
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .buckets import id_of
from .numeric import entry

Array = NDArray[Any]


class Known(NamedTuple):
    """What is made ahead: an event is the sum of its item's row, its type's and its age's."""

    event_IW: Array  # float32
    kind_KW: Array  # float32
    age_AW: Array  # float32
    start_A: Array  # int64 ms, where each age but the first begins
    vector_IX: Array  # float32
    nothing_P: Array  # float32, pooled events of a request that has none; P = H * D


class Told(NamedTuple):
    """The events of some requests, oldest first, cut by ``offsets`` (B+1,)."""

    offsets: Array
    item_E: Array
    kind_E: Array
    time_E: Array  # ms
    now_B: Array


@entry
def pools(
    known: Known, told: Told, most: int, heads: int, vectors: int, attentive: bool
) -> tuple[Array, Array]:
    """Means of the newest ``most`` events of each request, one a head and one a vector.

    Head h weighs events by the softmax of their h-th logit, and gives the mean of their first D
    columns; vector v weighs by the logit H + v, and gives the mean of the items' own vectors. If
    not ``attentive`` there are no logits and all events weigh alike. Returns ``(B, H * D)`` and
    ``(B, V, X)`` float32, zeros for the vectors of a request without events.
    """
    size, width = len(told.offsets) - 1, known.event_IW.shape[1]
    dim = width - heads - vectors if attentive else width
    pool_BP = np.zeros((size, heads * dim), np.float32)
    mean_BVX = np.zeros((size, vectors, known.vector_IX.shape[1]), np.float32)
    row_W, logit_LH = np.empty(width, np.float32), np.empty((most, heads + vectors), np.float32)
    total_H, top_H = np.empty(heads + vectors, np.float32), np.empty(heads + vectors, np.float32)
    for b in range(size):
        end = told.offsets[b + 1]
        start = max(told.offsets[b], end - most)
        if start == end:
            pool_BP[b] = known.nothing_P
            continue
        top_H[:] = -np.inf
        for e in range(start, end):
            age = id_of(known.start_A, told.now_B[b] - told.time_E[e]) - 1
            i, k = told.item_E[e], told.kind_E[e]
            if not (0 <= i < len(known.event_IW) and 0 <= k < len(known.kind_KW)):
                raise IndexError("an event of an item or a type beyond what was trained on")
            for h in range(heads + vectors):
                logit = np.float32(0)
                if attentive:
                    w = dim + h
                    logit = known.event_IW[i, w] + known.kind_KW[k, w] + known.age_AW[age, w]
                logit_LH[e - start, h] = logit
                top_H[h] = max(top_H[h], logit)
        total_H[:] = 0
        for e in range(end - start):
            for h in range(heads + vectors):
                logit_LH[e, h] = math.exp(logit_LH[e, h] - top_H[h])
                total_H[h] += logit_LH[e, h]
        for e in range(start, end):
            age = id_of(known.start_A, told.now_B[b] - told.time_E[e]) - 1
            i, k = told.item_E[e], told.kind_E[e]
            for d in range(dim):
                row_W[d] = known.event_IW[i, d] + known.kind_KW[k, d] + known.age_AW[age, d]
            for h in range(heads):
                weight = logit_LH[e - start, h] / total_H[h]
                for d in range(dim):
                    pool_BP[b, h * dim + d] += weight * row_W[d]
            for v in range(vectors):
                weight = logit_LH[e - start, heads + v] / total_H[heads + v]
                for x in range(mean_BVX.shape[2]):
                    mean_BVX[b, v, x] += weight * known.vector_IX[i, x]
    return pool_BP, mean_BVX


@entry
def directed(user_BVX: Array, mean_BVX: Array, gain_V: Array) -> None:
    """In place, ``unit(user + gain · unit(mean))``; vectors of no length stay as they are."""
    for b in range(user_BVX.shape[0]):
        for v in range(user_BVX.shape[1]):
            scale = gain_V[v] / _length(mean_BVX[b, v])
            for x in range(user_BVX.shape[2]):
                user_BVX[b, v, x] += scale * mean_BVX[b, v, x]
            share = np.float32(1) / _length(user_BVX[b, v])
            for x in range(user_BVX.shape[2]):
                user_BVX[b, v, x] *= share


@entry
def _length(vector_X: Array) -> Any:
    """Euclidean, a trifle where it is none."""
    total = np.float32(0)
    for x in range(len(vector_X)):
        total += vector_X[x] * vector_X[x]
    return max(np.float32(math.sqrt(total)), np.float32(1e-12))
