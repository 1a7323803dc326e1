"""A lifetime's events grouped by category, laid out as ``attention_score`` reads them.

I  items    E  events kept    P  categories that have any    G  ages
D  width of a key             W  of a value
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .buckets import id_of
from .event_pools import Told
from .numeric import entry

Array = NDArray[Any]


class Folded(NamedTuple):
    """What is made ahead, float32 but for the whole numbers."""

    category_I: Array  # int64
    key_ID: Array
    value_IW: Array
    bias_G: Array  # what an event's age says of its logit
    age_GW: Array  # and of its value
    start_G: Array  # int64 ms, where each age but the first begins


@entry
def groups(
    made: Folded, told: Told, b: int, hits: int
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The newest ``hits`` events of request ``b`` in each category, oldest first.

    Returns categories, first events and lengths ``(P,)`` int64, categories rising; keys ``(E, D)``,
    biases ``(E,)`` and values ``(E, W)``. Raises IndexError for an event of an unknown item.
    """
    first, size = told.offsets[b], told.offsets[b + 1] - told.offsets[b]
    category_N = np.empty(size, np.int64)
    for n in range(size):
        i = told.item_E[first + n]
        if not 0 <= i < len(made.key_ID):
            raise IndexError("an event of an item beyond what was trained on")
        category_N[n] = made.category_I[i]
    order_N = np.argsort(category_N, kind="mergesort")  # stable: by time within a category
    code_P, start_P = np.empty(size, np.int64), np.empty(size, np.int64)
    length_P, kept_E = np.empty(size, np.int64), np.empty(size, np.int64)
    num, kept, n = 0, 0, 0
    while n < size:
        stop = n
        while stop < size and category_N[order_N[stop]] == category_N[order_N[n]]:
            stop += 1
        begin = max(n, stop - hits)
        code_P[num], start_P[num], length_P[num] = category_N[order_N[n]], kept, stop - begin
        kept_E[kept : kept + stop - begin] = order_N[begin:stop]
        num, kept, n = num + 1, kept + stop - begin, stop
    key_ED = np.empty((kept, made.key_ID.shape[1]), np.float32)
    value_EW = np.empty((kept, made.value_IW.shape[1]), np.float32)
    bias_E = np.empty(kept, np.float32)
    for e in range(kept):
        at = first + kept_E[e]
        i, age = told.item_E[at], id_of(made.start_G, told.now_B[b] - told.time_E[at]) - 1
        bias_E[e] = made.bias_G[age]
        for d in range(key_ED.shape[1]):
            key_ED[e, d] = made.key_ID[i, d]
        for w in range(value_EW.shape[1]):
            value_EW[e, w] = made.value_IW[i, w] + made.age_GW[age, w]
    return (
        code_P[:num].copy(),
        start_P[:num].copy(),
        length_P[:num].copy(),
        key_ED,
        bias_E,
        value_EW,
    )
