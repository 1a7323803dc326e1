"""Sums over short rows inside Numba kernels, rows being named by array and place, flat."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import LANES, Lanes


def _vectors(context: Any, builder: Any, element: Any, width: Any) -> Generator[tuple[Lanes, Any]]:
    """Loops over the places where a row's vectors begin, and over what is left: (lanes, place)."""
    whole = Lanes(context, builder, element)
    rest = Lanes(context, builder, element, 1)
    stop = builder.and_(width, whole.number(-LANES))
    spans = (whole, whole.number(0), stop), (rest, stop, width)
    for lanes, first, last in spans:
        step = lanes.number(lanes.count)
        with cgutils.for_range_slice(builder, first, last, step) as (at, _):
            yield lanes, at


def _row(write: Callable[[Lanes, Any, Any, Any], None]) -> Any:
    """A function of three rows; ``write`` is given pointers to their vectors."""

    def typed(
        typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, c: Any, c_at: Any, width: Any
    ) -> Any:
        n = types.intp

        def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
            """Write the loops' instructions."""
            for lanes, at in _vectors(context, builder, c.dtype, given[-1]):
                data = (
                    lanes.data(kind, x) for kind, x in zip((a, b, c), given[:-1:2], strict=True)
                )
                places = zip(data, given[1:-1:2], strict=True)
                write(lanes, *(lanes.vector_at(x, first, at) for x, first in places))
            return context.get_dummy_value()

        return types.void(a, n, b, n, c, n, n), emit

    return intrinsic(typed)


def _write_add_multiplied(lanes: Lanes, a: Any, b: Any, c: Any) -> None:
    lanes.store(lanes.added(lanes.load(c), lanes.load(a), lanes.load(b)), c)


def _write_rectified(lanes: Lanes, x: Any, slope: Any, y: Any) -> None:
    value = lanes.load(x)
    lanes.store(lanes.positive(value, value, lanes.builder.fmul(lanes.load(slope), value)), y)


def _write_rectified_backward(lanes: Lanes, of: Any, slope: Any, x: Any) -> None:
    value, of_value = lanes.load(x), lanes.load(of)
    low = lanes.builder.fmul(lanes.load(slope), of_value)
    lanes.store(lanes.positive(value, of_value, low), x)
    lanes.store(lanes.positive(value, lanes.zeros(), lanes.builder.fmul(of_value, value)), of)


add_multiplied: Any = _row(_write_add_multiplied)
"""(a, at, b, at, c, at, width): ``c += a * b``."""
rectify: Any = _row(_write_rectified)
"""(x, at, slope, at, y, at, width): ``y`` is x where that is positive, slope * x elsewhere."""
rectify_backward: Any = _row(_write_rectified_backward)
"""(of, at, slope, at, x, at, width): from ``of`` y, x's gradient in place of x and the slope's in
that of ``of``."""


def _dot_of(typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, width: Any) -> Any:
    """Type and code of ``dot``."""

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        """Write the loops' instructions."""
        a_, a_at, b_, b_at, width = given
        lanes = Lanes(context, builder, a.dtype), Lanes(context, builder, a.dtype, 1)
        totals = {x.count: x.variable(x.zeros()) for x in lanes}
        for x, at in _vectors(context, builder, a.dtype, width):
            left = x.load(x.vector_at(x.data(a, a_), a_at, at))
            right = x.load(x.vector_at(x.data(b, b_), b_at, at))
            x.add_to(totals[x.count], left, right)
        return builder.fadd(*(x.sum_of(builder.load(totals[x.count])) for x in lanes))

    return a.dtype(a, types.intp, b, types.intp, types.intp), emit


dot: Any = intrinsic(_dot_of)
"""(a, at, b, at, width): ``Σ a * b``."""


def _add_scaled_of(
    typing: Any, scale: Any, a: Any, a_at: Any, c: Any, c_at: Any, width: Any
) -> Any:
    """Type and code of ``add_scaled``."""

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        """Write the loops' instructions."""
        scale, a_, a_at, c_, c_at, width = given
        for lanes, at in _vectors(context, builder, c.dtype, width):
            pointer = lanes.vector_at(lanes.data(c, c_), c_at, at)
            value = lanes.load(lanes.vector_at(lanes.data(a, a_), a_at, at))
            lanes.store(lanes.added(lanes.load(pointer), lanes.spread(scale), value), pointer)
        return context.get_dummy_value()

    return types.void(c.dtype, a, types.intp, c, types.intp, types.intp), emit


add_scaled: Any = intrinsic(_add_scaled_of)
"""(scale, a, at, c, at, width): ``c += scale * a``."""
