"""What kernels over ragged rows share: fast activations, small matrix products, how to compile.

Loops are written for the compiler to vectorise: no division by zero to raise, no order of summation
to keep. Constants come as an argument in the kernel's own precision. Numba's cache of an entry does
not see a change of this file: after one, remove ``__pycache__``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

#: Rational approximation of tanh on [-7.9053, 7.9053], where float32 reaches 1: odd coefficients
#: above, even ones below, highest first, within 3 units in the last place of float32. From Eigen's
#: ``generic_fast_tanh_float``. The C library's tanh is called a number at a time.
_TANH = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    *(1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
    *(7.90531110763549805, 0.5, 1.0),
)


def _constants(kind: type[np.floating[Any]]) -> tuple[Any, ...]:
    return tuple(kind(value) for value in _TANH)


#: In the kernel's own precision: a float64 literal would make float32 arithmetic double.
CONSTANTS = {torch.float32: _constants(np.float32), torch.float64: _constants(np.float64)}
_HOW: dict[str, Any] = {"fastmath": {"contract", "reassoc"}, "error_model": "numpy"}
entry = njit(cache=True, nogil=True, **_HOW)
#: Called by entries only and allocating nothing; counting references would cost more than the work.
_LEAF: dict[str, Any] = {"_nrt": False, "forceinline": True, "no_cfunc_wrapper": True, **_HOW}
leaf = njit(nogil=True, **_LEAF)
#: The same for what is long and seldom called: compiled once, not at each call.
_PART: dict[str, Any] = {**_LEAF, "forceinline": False}
part = njit(nogil=True, **_PART)


@leaf
def tanh(x: Any, c: tuple[Any, ...]) -> Any:
    """Hyperbolic tangent, with ``CONSTANTS`` of the kernel's precision."""
    x = c[11] if x > c[11] else x  # a NaN fails both comparisons and stays
    x = -c[11] if x < -c[11] else x
    s = x * x
    above = (((((c[0] * s + c[1]) * s + c[2]) * s + c[3]) * s + c[4]) * s + c[5]) * s + c[6]
    below = ((c[7] * s + c[8]) * s + c[9]) * s + c[10]
    return x * above / below


@leaf
def sigmoid(x: Any, c: tuple[Any, ...]) -> Any:
    """``1 / (1 + exp(-x))``, likewise."""
    return c[12] + c[12] * tanh(c[12] * x, c)


@leaf
def add_product(a_RK: Array, b_KJ: Array, out_RJ: Array, rows: int, inner: int) -> None:
    """Add the product of the first ``rows`` rows and ``inner`` columns of a with b.

    Four rows by four columns at a time: four additions for each number of b that is loaded.
    """
    width = b_KJ.shape[1]
    for y in range(rows // 4):
        i = 4 * y
        for z in range(inner // 4):
            k = 4 * z
            a0, a1 = a_RK[i, k], a_RK[i, k + 1]
            a2, a3 = a_RK[i, k + 2], a_RK[i, k + 3]
            b0, b1 = a_RK[i + 1, k], a_RK[i + 1, k + 1]
            b2, b3 = a_RK[i + 1, k + 2], a_RK[i + 1, k + 3]
            c0, c1 = a_RK[i + 2, k], a_RK[i + 2, k + 1]
            c2, c3 = a_RK[i + 2, k + 2], a_RK[i + 2, k + 3]
            d0, d1 = a_RK[i + 3, k], a_RK[i + 3, k + 1]
            d2, d3 = a_RK[i + 3, k + 2], a_RK[i + 3, k + 3]
            for j in range(width):
                e, f, g, h = b_KJ[k, j], b_KJ[k + 1, j], b_KJ[k + 2, j], b_KJ[k + 3, j]
                out_RJ[i, j] += a0 * e + a1 * f + a2 * g + a3 * h
                out_RJ[i + 1, j] += b0 * e + b1 * f + b2 * g + b3 * h
                out_RJ[i + 2, j] += c0 * e + c1 * f + c2 * g + c3 * h
                out_RJ[i + 3, j] += d0 * e + d1 * f + d2 * g + d3 * h
        for k in range(4 * (inner // 4), inner):
            a0, b0, c0, d0 = a_RK[i, k], a_RK[i + 1, k], a_RK[i + 2, k], a_RK[i + 3, k]
            for j in range(width):
                e = b_KJ[k, j]
                out_RJ[i, j] += a0 * e
                out_RJ[i + 1, j] += b0 * e
                out_RJ[i + 2, j] += c0 * e
                out_RJ[i + 3, j] += d0 * e
    for i in range(4 * (rows // 4), rows):
        for k in range(inner):
            a0 = a_RK[i, k]
            for j in range(width):
                out_RJ[i, j] += a0 * b_KJ[k, j]


@leaf
def add_row(a_RK: Array, r: Any, b_KJ: Array, out_QJ: Array, q: Any) -> None:
    """Add the product of row r of a with b to row q of out."""
    inner, width = b_KJ.shape
    for z in range(inner // 4):
        k = 4 * z
        a0, a1, a2, a3 = a_RK[r, k], a_RK[r, k + 1], a_RK[r, k + 2], a_RK[r, k + 3]
        for j in range(width):
            out_QJ[q, j] += (
                a0 * b_KJ[k, j] + a1 * b_KJ[k + 1, j] + a2 * b_KJ[k + 2, j] + a3 * b_KJ[k + 3, j]
            )
    for k in range(4 * (inner // 4), inner):
        a0 = a_RK[r, k]
        for j in range(width):
            out_QJ[q, j] += a0 * b_KJ[k, j]


@leaf
def softmax(logit_RK: Array, r: Any, out_RK: Array) -> None:
    """Softmax of row r."""
    top = logit_RK[r, 0]
    for k in range(1, logit_RK.shape[1]):
        top = max(top, logit_RK[r, k])
    total = top - top
    for k in range(logit_RK.shape[1]):
        out_RK[r, k] = math.exp(logit_RK[r, k] - top)
        total += out_RK[r, k]
    for k in range(logit_RK.shape[1]):
        out_RK[r, k] /= total
