"""Scores of items under target attention and a small net, for one request, in one pass.

I  items    X  width of an item's row    N  items asked for    R  rows of a tile
A  heads    Q  width of query and key    L  keys, padded       V  width of an item's vector
H  width of the first layer, padded      J  layers behind it but the last
E  events of a lifetime    P  groups of them    D, W  widths of its keys and values

    x = item half + user half + Σ_heads softmax(q K + b) V' + log Σ exp(q K + b) · c
    x = x + (what the events of the item's group say, see ``row_attention``) O
    score = ⟨u, v⟩ + net(x) + bonus

``TILE`` items go through all of it at a time, so that what lies between their rows and their scores
stays in the first caches; products are those of ``tiles``. Rows are float32, or the upper halves of
float32 (bfloat16, as uint16); everything else is float32, and so are all sums. An item's score does
not depend on what else is asked for: each row is summed up in the same order, wherever it lies.
Scores are within some 1e-6 of the largest number on their way, as tested against float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from . import attention_score_kernels as kernels
from .attention_score_kernels import Catalogue, Lifetime, Net, Unit
from .lanes import padded
from .parallel import spread

Array = NDArray[Any]
SHARE = 768  # items that make a thread worth while
PADDING = np.float32(-1e30)  # logit of a key that is none

_NUMBERS, _FLOATS = np.zeros(0, np.int64), np.zeros(0, np.float32)
_SHEET, _BOX = np.zeros((0, 0), np.float32), np.zeros((0, 0, 0), np.float32)
_NO_LIFETIME = Lifetime(
    *(_NUMBERS, 0, _NUMBERS, _NUMBERS, _NUMBERS), *(_SHEET, _FLOATS, _SHEET, _FLOATS, _SHEET)
)


def net(layers: Sequence[tuple[Array | None, Array, Array]]) -> Net:
    """Pad the layers behind the first to whole vectors.

    Each is the slope of the activation before it (None: ReLU), its weight ``(to, from)`` and its
    bias; the last has one output. Without layers a score is the product alone.
    """
    slopes, weights, shifts = list[Array](), list[Array](), list[Array]()
    last, last_shift = _FLOATS, 0.0
    for at, (slope, weight, shift) in enumerate(layers):
        slopes.append(padded(np.zeros(weight.shape[1]) if slope is None else slope))
        if at == len(layers) - 1:
            last, last_shift = padded(weight[0]), float(shift[0])
        else:
            weights.append(padded(padded(weight.T, 0), 1))
            shifts.append(padded(shift))
    return Net(
        np.array([len(shift) for shift in shifts], np.int64),
        _end_to_end(slopes),
        _end_to_end(weights),
        _end_to_end(shifts),
        last,
        last_shift,
    )


def unit(
    product_V: Array,
    half_H: Array,
    attention: tuple[Array, Array, Array, Array] | None,
    rest: Net,
    lifetime: Lifetime | None = None,
) -> Unit:
    """Pad what a request brings to whole vectors, where it is not padded yet.

    ``attention`` holds keys ``(A, Q, L)``, biases ``(A, L)``, values ``(A, L, H)`` and what the log
    of the sum is multiplied by, ``(A, H)``. A lifetime's ``out_XH`` is padded by the caller.
    """
    key_AQL, bias_AL, value_ALH, count_AH = attention or (_BOX, _SHEET, _BOX, _SHEET)
    return Unit(
        np.ascontiguousarray(product_V, np.float32),
        padded(half_H),
        padded(key_AQL),
        padded(bias_AL, filler=PADDING),
        padded(padded(value_ALH, 1), 2),
        padded(count_AH),
        rest,
        lifetime or _NO_LIFETIME,
    )


def catalogue(table_IX: Array, bonus_I: Array, width: int) -> Catalogue:
    """The item part, to be scored by ``Scorer``.

    A row of the table is the item's half of the first layer, ``width`` wide, its queries head by
    head, its query of a lifetime, and its vector. ``bonus_I`` is added to scores.
    """
    bits_IX = table_IX.view(np.uint32) if table_IX.dtype == np.float32 else table_IX
    return Catalogue(bits_IX, bonus_I, width)


@final
class Scorer:
    """Scores items for one request: ``item_N -> score_N``. Few items take one thread."""

    def __init__(self, unit: Unit, items: Catalogue, threads: int) -> None:
        self.unit, self.items, self.threads = unit, items, threads

    def __call__(self, item_N: Array) -> Array:  # (N,) float32
        """Scores of some items, by their numbers (int32)."""
        score_N = np.empty(len(item_N), np.float32)
        parts = self.unit, self.items, item_N
        spread(lambda a, z: kernels.score(*parts, a, z, score_N), len(item_N), SHARE, self.threads)
        return score_N


def _end_to_end(parts: list[Array]) -> Array:
    return np.concatenate([_FLOATS, *(part.ravel() for part in parts)])
