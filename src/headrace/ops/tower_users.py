"""User vectors of two towers, for requests one by one: the work is small, so calls count.

B  requests     E  their events     I  items    W  columns of an event, see ``event_pools``
V  user vectors a request           X  width of a vector
F  width of an item's features      K  width of a request's
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .event_pools import Known, Told, directed, pools
from .numeric import add_row, entry
from .side_by_side import side_by_side
from .tiles import add_product

Array = NDArray[Any]


class Tower(NamedTuple):
    """What is made ahead, float32 and contiguous."""

    known: Known
    weights: tuple[Array, ...]  # (from, to) of each layer
    shifts: tuple[Array, ...]  # their biases
    slopes: tuple[Array, ...]  # below 0, of the activation behind each
    gain_V: Array  # of the events' mean vectors, after ``event_pools.directed``
    most: int  # newest events that count
    heads: int
    attentive: bool


class Features(NamedTuple):
    """What events are made of where ``Tower.known`` has none."""

    id_IF: Array  # int64, each item's rows of the tables
    tables: tuple[Array, ...]
    weight_FW: Array  # float32, columns padded for ``tiles``
    bias_W: Array  # float32, not padded


@entry
def users(tower: Tower, told: Told, request_BK: Array) -> Array:  # (B, V, X) float32
    """Vectors of length 1; items of ``told`` are rows of what is known of events."""
    vectors, width = len(tower.gain_V), tower.known.vector_IX.shape[1]
    pool_BP, mean_BVX = pools(tower.known, told, tower.most, tower.heads, vectors, tower.attentive)
    size, pooled = pool_BP.shape
    out_BVX = np.empty((size, len(tower.shifts[-1]) // width, width), np.float32)
    for b in range(size):
        x_1H = np.empty((1, pooled + request_BK.shape[1]), np.float32)
        x_1H[0, :pooled], x_1H[0, pooled:] = pool_BP[b], request_BK[b]
        for layer in range(len(tower.weights)):
            x_1H = _layer(tower.weights[layer], tower.shifts[layer], tower.slopes[layer], x_1H)
        out_BVX[b] = x_1H.reshape(out_BVX.shape[1:])
    if vectors:
        directed(out_BVX, mean_BVX, tower.gain_V)
    else:
        directed(out_BVX, np.zeros_like(out_BVX), np.zeros(out_BVX.shape[1], np.float32))
    return out_BVX


@entry
def users_anew(
    tower: Tower, features: Features, vector_IX: Array, told: Told, request_BK: Array
) -> Array:  # (B, V, X) float32
    """The same where nobody keeps an item's share of its events: it is made of its features."""
    num, columns = len(told.item_E), features.id_IF.shape[1]
    id_FE, vector_EX = (
        np.empty((columns, num), np.int64),
        np.empty((num, vector_IX.shape[1]), np.float32),
    )
    for e in range(num):
        i = told.item_E[e]
        if not 0 <= i < len(vector_IX):
            raise IndexError("an event of an item beyond what was trained on")
        for f in range(columns):
            id_FE[f, e] = features.id_IF[i, f]
        for x in range(vector_IX.shape[1]):
            vector_EX[e, x] = vector_IX[i, x]
    wide_EW = np.zeros((num, features.weight_FW.shape[1]), np.float32)
    add_product(side_by_side(features.tables, id_FE), features.weight_FW, wide_EW)
    event_EW = np.empty((num, len(features.bias_W)), np.float32)
    for e in range(num):
        for w in range(len(features.bias_W)):
            event_EW[e, w] = wide_EW[e, w] + features.bias_W[w]
    old = tower.known
    known = Known(event_EW, old.kind_KW, old.age_AW, old.start_A, vector_EX, old.nothing_P)
    local = Told(told.offsets, np.arange(num), told.kind_E, told.time_E, told.now_B)
    own = Tower(
        known,
        tower.weights,
        tower.shifts,
        tower.slopes,
        tower.gain_V,
        tower.most,
        tower.heads,
        tower.attentive,
    )
    return users(own, local, request_BK)


@entry
def _layer(weight: Array, shift: Array, slope: Array, x_1H: Array) -> Array:
    """A linear layer and the activation behind it."""
    y_1J = shift.copy().reshape(1, len(shift))
    add_row(x_1H, 0, weight, y_1J, 0)
    for j in range(len(shift)):
        y_1J[0, j] = y_1J[0, j] if y_1J[0, j] > 0 else slope[j] * y_1J[0, j]
    return y_1J
