"""Random numbers by name: a draw is a pure function of the seed and of what it is for.

No draw depends on what was drawn before it. So any thread may make any part of a world, the truth
can be recomputed for any (user, time, item), and two arms of an experiment meet the same luck.
Keys are mixed by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import entry, leaf

Array = NDArray[Any]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_SHIFT_1, _SHIFT_2, _SHIFT_3, _SHIFT_4 = (np.uint64(n) for n in (30, 27, 31, 11))
_UNIT = 1.0 / (1 << 53)

#: A place of an alias table: its value with chance ``keep``, else the other one.
ALIAS = np.dtype([("keep", np.float32), ("value", np.int32), ("other", np.int32)])

# What a draw is for.
FOCUS, INTENT, START, SLATE, RING, TASTE, STROLL, OUTCOME = range(8)


@leaf
def mix(key: np.uint64, value: int) -> np.uint64:
    """The key of ``value`` below ``key``."""
    z = key + _STEP * (np.uint64(value) + _ONE)
    z = (z ^ (z >> _SHIFT_1)) * _MULTIPLY_1
    z = (z ^ (z >> _SHIFT_2)) * _MULTIPLY_2
    return z ^ (z >> _SHIFT_3)


@leaf
def uniform(key: np.uint64) -> float:
    """A number in (0, 1)."""
    return (np.float64(key >> _SHIFT_4) + 0.5) * _UNIT


@leaf
def below(key: np.uint64, size: int) -> int:
    """An integer in [0, size)."""
    return int(uniform(key) * size)


@leaf
def normal(key: np.uint64) -> float:
    """A standard normal number (Box-Muller)."""
    radius = math.sqrt(-2.0 * math.log(uniform(key)))
    return radius * math.cos(2.0 * math.pi * uniform(mix(key, 0)))


@leaf
def logistic(key: np.uint64) -> float:
    """A standard logistic number."""
    u = uniform(key)
    return math.log(u / (1.0 - u))


@entry
def alias_table(weight_N: Array, offsets: Array, value_N: Array, table: Array) -> None:
    """Fill Vose's alias table, ``(N,)`` records of ``ALIAS``, to draw by weight in segments."""
    for s in range(offsets.shape[0] - 1):
        low, size = offsets[s], offsets[s + 1] - offsets[s]
        scaled = weight_N[low : low + size] * (size / weight_N[low : low + size].sum())
        stack = np.empty(size, np.int64)  # small ones from the left, large ones from the right
        small, large = 0, size
        for i in range(size):
            table[low + i]["keep"], table[low + i]["value"] = 1.0, value_N[low + i]
            if scaled[i] < 1.0:
                stack[small] = i
                small += 1
            else:
                large -= 1
                stack[large] = i
        while small > 0 and large < size:
            small -= 1
            i, j = stack[small], stack[large]
            table[low + i]["keep"], table[low + i]["other"] = scaled[i], value_N[low + j]
            scaled[j] -= 1.0 - scaled[i]
            if scaled[j] < 1.0:
                large += 1
                stack[small] = j
                small += 1


@leaf
def alias_draw(table: Array, low: int, high: int, key: np.uint64) -> int:
    """Draw a value of the segment [low, high)."""
    place = uniform(key) * (high - low)
    i = int(place)
    row = table[low + i]
    return int(row["value"] if place - i < row["keep"] else row["other"])
