"""Keys and values of a request's newest events, laid out as ``attention_score`` reads them.

I  items                         L  events, and one more that stands for nothing, padded
V  width of an item's vector     K  types of events    G  ages
A  heads                         Q  width of a key     H  of a value, padded
X  all keys, padded, then all values
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .attention_score import PADDING
from .buckets import id_of
from .event_pools import Told
from .lanes import LANES
from .numeric import entry
from .tiles import add_product

Array = NDArray[Any]
SHORT = np.float32(1e-12)  # a key at least as long as this has length 1


class Folded(NamedTuple):
    """What is made ahead, all contiguous: a product with an item's vector, then sums."""

    vector_IV: Array  # float32
    weight_VX: Array  # float32
    kind_KX: Array  # float32, what an event's type adds; 0 for keys, which become directions
    age_GX: Array  # float32, and its age
    bias_KA: Array  # float32, what the type says of the logit
    bias_GA: Array  # float32, and the age
    start_G: Array  # int64 ms, where each age but the first begins
    nothing_A: Array  # float32, the logit of the key for nothing, which is 0
    nothing_AH: Array  # float32, its value
    width: int  # Q


@entry
def keys(made: Folded, told: Told, b: int, most: int) -> tuple[Array, Array, Array]:
    """Those of the newest ``most`` events of request ``b``; in front, of nothing.

    Returns keys ``(A, Q, L)`` of length 1, biases ``(A, L)`` and values ``(A, L, H)``. Raises
    IndexError for an event of an item or a type that there is not.
    """
    (heads, depth), width = made.nothing_AH.shape, made.width
    values_at = made.weight_VX.shape[1] - heads * depth
    end = told.offsets[b + 1]
    start = max(told.offsets[b], end - most)
    size = end - start
    length = (size + LANES) // LANES * LANES  # of size + 1
    key_AQL = np.zeros((heads, width, length), np.float32)
    bias_AL = np.full((heads, length), PADDING)
    value_ALH = np.zeros((heads, length, depth), np.float32)
    vector_EV = np.empty((size, made.vector_IV.shape[1]), np.float32)
    event_EX = np.empty((size, made.weight_VX.shape[1]), np.float32)
    bias_AL[:, 0], value_ALH[:, 0] = made.nothing_A, made.nothing_AH
    for e in range(size):
        i, k = told.item_E[start + e], told.kind_E[start + e]
        if not (0 <= i < len(made.vector_IV) and 0 <= k < len(made.kind_KX)):
            raise IndexError("an event of an item or a type beyond what was trained on")
        age = id_of(made.start_G, told.now_B[b] - told.time_E[start + e]) - 1
        for v in range(vector_EV.shape[1]):
            vector_EV[e, v] = made.vector_IV[i, v]
        for x in range(event_EX.shape[1]):
            event_EX[e, x] = made.kind_KX[k, x] + made.age_GX[age, x]
        for a in range(heads):
            bias_AL[a, 1 + e] = made.bias_KA[k, a] + made.bias_GA[age, a]
    add_product(vector_EV, made.weight_VX, event_EX)
    for e in range(size):
        for a in range(heads):
            total = np.float32(0)
            for q in range(width):
                total += event_EX[e, a * width + q] ** 2
            scale = np.float32(1) / max(np.sqrt(total), SHORT)
            for q in range(width):
                key_AQL[a, q, 1 + e] = scale * event_EX[e, a * width + q]
            for h in range(depth):
                value_ALH[a, 1 + e, h] = event_EX[e, values_at + a * depth + h]
    return key_AQL, bias_AL, value_ALH
