"""Asking for memory that is needed soon, from inside Numba kernels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

LINE_BYTES = 64


@njit(cache=True, nogil=True)
def ask_for(table: NDArray[Any], row: int) -> None:
    """Have a row of a contiguous matrix brought into the cache; the caller goes on meanwhile."""
    size = table.shape[1] * table.itemsize
    for at in range(0, size, LINE_BYTES):
        _prefetch(table, row * size + at)


def _prefetch_at(typing: Any, table: Any, at: Any) -> Any:
    """Type and code of asking for byte ``at`` of an array."""
    del typing, at

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        data = context.make_array(table)(context, builder, given[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.gep(builder.bitcast(data, byte), [given[1]])
        reading, keep, is_data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(ask, [place, reading, keep, is_data])
        return context.get_dummy_value()

    return types.void(table, types.intp), emit


_prefetch: Any = intrinsic(_prefetch_at)  # its caller leaves out ``typing``
