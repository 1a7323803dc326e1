"""Exponential and logarithm in float32, for loops of Numba kernels that LLVM turns into vectors.

The machine library's are calls, one number at a time. These are polynomials (Cephes' expf and
logf) without a branch: within 2 and 1 units in the last place of the true value, tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LOWEST = np.float32(-87.0)  # exp of less counts as exp of this, 1.6e-38
_PER_LN2, _LN2_HIGH, _LN2_LOW = map(np.float32, (1.44269504, 0.693359375, -2.12194440e-4))
_SHIFT = np.float32(1.5 * 2**23)  # adding it rounds to a whole number, found in the lowest bits
_ONE, _HALF, _ROOT = map(np.float32, (1.0, 0.5, 0.70710678))
_E0, _E1, _E2 = map(np.float32, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3))
_E3, _E4, _E5 = map(np.float32, (4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1))
_L0, _L1, _L2 = map(np.float32, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1))
_L3, _L4, _L5 = map(np.float32, (-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1))
_L6, _L7, _L8 = map(np.float32, (2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1))
_EXPONENT, _BIAS = 23, 126  # bits below the exponent; its value for numbers from 1/2 to 1
_FRACTION = (1 << _EXPONENT) - 1


@njit(cache=True, nogil=True, fastmath={"contract"})
def exp(x: Any) -> Any:
    """``e ** x`` of a float32 of at most 88."""
    x = max(x, LOWEST)
    shifted = x * _PER_LN2 + _SHIFT
    whole = shifted - _SHIFT
    x = x - whole * _LN2_HIGH
    x = x - whole * _LN2_LOW
    y = ((((_E0 * x + _E1) * x + _E2) * x + _E3) * x + _E4) * x + _E5
    return _times_two_to(y * x * x + x + _ONE, shifted)


@njit(cache=True, nogil=True, fastmath={"contract"})
def log(x: Any) -> Any:
    """The natural logarithm of a positive, normal float32."""
    y, power = _fraction(x), _power(x)
    small = y < _ROOT
    power = power - _ONE if small else power
    y = y + y - _ONE if small else y - _ONE
    z = y * y
    p = (((_L0 * y + _L1) * y + _L2) * y + _L3) * y + _L4
    p = (((p * y + _L5) * y + _L6) * y + _L7) * y + _L8
    p = p * y * z + power * _LN2_LOW - _HALF * z
    return y + p + power * _LN2_HIGH


def _number(value: int) -> Any:
    return ir.Constant(ir.IntType(32), value)


def _scale(typing: Any, y: Any, shifted: Any) -> Any:
    """Type and code of ``y * 2 ** n`` by its bits, n being what ``_SHIFT`` was added to."""
    del typing, y, shifted

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        del context
        y_bits, n_bits = (builder.bitcast(x, ir.IntType(32)) for x in given)
        bits = builder.add(y_bits, builder.shl(n_bits, _number(_EXPONENT)))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32, types.float32), emit


def _split_fraction(typing: Any, x: Any) -> Any:
    """Type and code of what x, as a number from 1/2 to 1 by a power of 2, has beside the power."""
    del typing, x

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        del context
        bits = builder.bitcast(given[0], ir.IntType(32))
        bits = builder.and_(bits, _number(_FRACTION))
        return builder.bitcast(builder.or_(bits, _number(_BIAS << _EXPONENT)), ir.FloatType())

    return types.float32(types.float32), emit


def _split_power(typing: Any, x: Any) -> Any:
    """Type and code of that power of 2."""
    del typing, x

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        del context
        bits = builder.bitcast(given[0], ir.IntType(32))
        power = builder.sub(builder.lshr(bits, _number(_EXPONENT)), _number(_BIAS))
        return builder.sitofp(power, ir.FloatType())

    return types.float32(types.float32), emit


_times_two_to: Any = intrinsic(_scale)  # their callers leave out ``typing``
_fraction: Any = intrinsic(_split_fraction)
_power: Any = intrinsic(_split_power)
