"""Numbers that threads share inside Numba kernels, and a clock for them.

Of an int64 array and a place in it. All are sequentially consistent: what a thread wrote before it
wrote here is seen by whoever reads here.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_ORDER, _BYTES = "seq_cst", 8


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _load_of(typing: Any, array: Any, at: Any) -> Any:
    """Type and code of ``load``."""
    del typing, at

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        return builder.load_atomic(_place(context, builder, array, *given), _ORDER, _BYTES)

    return types.int64(array, types.intp), emit


def _store_of(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Type and code of ``store``."""
    del typing, at, value

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        place = _place(context, builder, array, *given[:2])
        builder.store_atomic(given[2], place, _ORDER, _BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), emit


def _add_of(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Type and code of ``add``."""
    del typing, at, value

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        place = _place(context, builder, array, *given[:2])
        return builder.atomic_rmw("add", place, given[2], _ORDER)

    return types.int64(array, types.intp, types.int64), emit


def _swap_of(typing: Any, array: Any, at: Any, old: Any, new: Any) -> Any:
    """Type and code of ``swap``."""
    del typing, at, old, new

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        place = _place(context, builder, array, *given[:2])
        done = builder.cmpxchg(place, given[2], given[3], _ORDER, _ORDER)
        return builder.extract_value(done, 1)

    return types.boolean(array, types.intp, types.int64, types.int64), emit


def _ticks_of(typing: Any) -> Any:
    """Type and code of ``ticks``."""
    del typing

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        del context, given
        number, machine = ir.IntType(64), platform.machine().lower()
        kind = ir.FunctionType(number, [])
        if machine in ("x86_64", "amd64"):
            count = builder.module.declare_intrinsic("llvm.readcyclecounter", fnty=kind)
            return builder.call(count, [])
        if machine in ("aarch64", "arm64"):
            return builder.asm(kind, "mrs $0, cntvct_el0", "=r", [], True)
        return ir.Constant(number, 0)

    return types.int64(), emit


load: Any = intrinsic(_load_of)  # their callers leave out ``typing``
"""(array, at): the number."""
store: Any = intrinsic(_store_of)
"""(array, at, value)"""
add: Any = intrinsic(_add_of)
"""(array, at, value): add to the number; what it was before."""
swap: Any = intrinsic(_swap_of)
"""(array, at, old, new): write ``new`` if the number is ``old``; whether it was."""
ticks: Any = intrinsic(_ticks_of)
"""(): a clock that counts evenly in no unit; always 0 on machines without one that is known."""
