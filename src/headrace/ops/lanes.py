"""Vectors in Numba kernels, for code that is handed to LLVM as such; it cuts them to the machine's.

A loop of Numba's is made for long rows: four vectors at a time after a look whether arrays overlap,
and what is left over element by element. Here rows are short.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]
LANES = 16


def padded(x: Array, axis: int = -1, filler: float | np.float32 = 0.0) -> Array:
    """Up to a multiple of ``LANES`` along one axis, float32, contiguous."""
    axis %= x.ndim
    missing = -x.shape[axis] % LANES
    if not missing:
        return np.ascontiguousarray(x, np.float32)
    shape = list(x.shape)
    shape[axis] += missing
    out = np.full(shape, filler, np.float32)
    out[tuple(map(slice, x.shape))] = x
    return out


class Lanes:
    """Vectors of one element type in the function that ``builder`` writes."""

    def __init__(self, context: Any, builder: Any, element: Any, count: int = LANES) -> None:
        self.context, self.builder, self.count = context, builder, count
        self.vector = ir.VectorType(context.get_data_type(element), count)
        self.align = context.get_abi_sizeof(context.get_data_type(element))

    def data(self, kind: Any, array: Any) -> Any:
        """A pointer to the elements of an array."""
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def number(self, value: int) -> Any:
        """A constant index."""
        return ir.Constant(ir.IntType(64), value)

    def vector_at(self, data: Any, at: Any, more: Any, vector: int = 0) -> Any:
        """A pointer to the ``vector``-th vector from element ``at + more`` on."""
        first = self.builder.add(self.builder.add(at, more), self.number(vector * self.count))
        return self.builder.bitcast(self.builder.gep(data, [first]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        """The vector there."""
        return self.builder.load(pointer, align=self.align)

    def store(self, value: Any, pointer: Any) -> None:
        """Put a vector there."""
        self.builder.store(value, pointer, align=self.align)

    def variable(self, value: Any) -> Any:
        """A variable, a register once compiled."""
        made = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value, made)
        return made

    def zeros(self) -> Any:
        """A vector of zeros."""
        return ir.Constant(self.vector, None)

    def spread(self, element: Any) -> Any:
        """A vector of nothing but ``element``."""
        nothing, index = ir.Constant(self.vector, ir.Undefined), ir.IntType(32)
        first = self.builder.insert_element(nothing, element, ir.Constant(index, 0))
        zeros = ir.Constant(ir.VectorType(index, self.count), [0] * self.count)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def added(self, total: Any, a: Any, b: Any) -> Any:
        """``total + a * b``, rounded once where the machine can."""
        product = self.builder.fmul(a, b, flags=("contract",))
        return self.builder.fadd(total, product, flags=("contract",))

    def add_to(self, variable: Any, a: Any, b: Any) -> None:
        """``variable += a * b``."""
        self.builder.store(self.added(self.builder.load(variable), a, b), variable)

    def positive(self, x: Any, yes: Any, no: Any) -> Any:
        """``yes`` where ``x > 0``, ``no`` elsewhere, as where it is no number."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, self.zeros()), yes, no)

    def sum_of(self, vector: Any) -> Any:
        """What the elements of a vector add up to, half to half."""
        index, lanes = ir.IntType(32), self.count
        while lanes > 1:
            lanes //= 2
            nothing = ir.Constant(vector.type, ir.Undefined)
            vector = self.builder.fadd(
                *(
                    self.builder.shuffle_vector(
                        vector, nothing, ir.Constant(ir.VectorType(index, lanes), list(half))
                    )
                    for half in (range(lanes), range(lanes, 2 * lanes))
                )
            )
        return self.builder.extract_element(vector, ir.Constant(index, 0))


def _lent_of(typing: Any, arrays: Any) -> Any:
    """Type and code of ``lent``."""

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        """Take out of each array whom it belongs to."""
        made: list[Any] = []
        for kind, value in zip(arrays.types, cgutils.unpack_tuple(builder, given[0]), strict=True):
            array = context.make_array(kind)(context, builder, value=value)
            array.meminfo = cgutils.get_null_value(array.meminfo.type)
            made.append(array._getvalue())
        return context.make_tuple(builder, arrays, made)

    return arrays(arrays), emit


lent: Any = intrinsic(_lent_of)
"""A named tuple of arrays for inner functions, which then do not count references, four to a small
product. The arrays must live on elsewhere: as what the outermost function was called with."""
