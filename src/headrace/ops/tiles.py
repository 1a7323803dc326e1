"""Products of small matrices inside Numba kernels, in tiles that stay in the registers.

A BLAS call costs more than a product of 50 by 32 by 64, and a loop that Numba compiles loads and
stores its sums at every step. Here LLVM is handed the tile as vectors: up to six rows by four of 16
lanes, summed over the inner dimension before they are stored. Widths of results are multiples of
``LANES``; pad with zeros.

Matrices are contiguous. What runs for every few rows names them by the array that holds them and by
the place in it, flat, where they begin: a view that Numba makes costs as much as a small product.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .lanes import LANES, Lanes

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def add_product(a: Array, b: Array, c: Array) -> None:
    """``c += a @ b``."""
    (rows, depth), width = a.shape, c.shape[1]
    put_product((rows, depth, width), (a, 0, depth, 1), (b, 0), (c, 0, width), (c, 0))


@njit(cache=True, nogil=True)
def add_product_of_turned(a: Array, b: Array, c: Array) -> None:
    """``c += a.T @ b``."""
    (depth, rows), width = a.shape, c.shape[1]
    put_product((rows, depth, width), (a, 0, 1, rows), (b, 0), (c, 0, width), (c, 0))


@njit(cache=True, nogil=True)
def put_product(
    shape: tuple[int, int, int],
    a: tuple[Array, int, int, int],
    b: tuple[Array, int],
    start: tuple[Array, int, int],
    c: tuple[Array, int],
) -> None:
    """``c = start + a @ b`` for places in arrays; ``shape`` is (rows, depth, width).

    a: the array, where in it, how far from row to row and along one: (depth, 1) is a matrix,
    (1, rows) its transpose. start: the same but for the last; from row to row it is the width of a
    matrix, or 0 where one row is added to all. It may be ``c``.
    """
    _product(shape, a, b, start, c)


def _product_of(typing: Any, shape: Any, a: Any, b: Any, start: Any, c: Any) -> Any:
    """Type and code of ``put_product``: loops over tiles, the large ones first."""

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        """Write the loops' instructions."""
        tile = Lanes(context, builder, c.types[0].dtype)
        (rows, depth, width), *places = (cgutils.unpack_tuple(builder, x) for x in given)
        left, right, begin, result = (
            _Matrix(tile.data(kind.types[0], array), *numbers)
            for kind, (array, *numbers) in zip((a, b, start, c), places, strict=True)
        )
        right, result = right._replace(row=width), result._replace(row=width)
        for height, i in _steps(builder, rows, (6, 2, 1)):
            for lanes, j in _steps(builder, width, (4 * LANES, 2 * LANES, LANES)):
                at = i, j, height, lanes // LANES
                _emit_tile(tile, depth, left, right, begin, result, at)
        return context.get_dummy_value()

    return types.void(shape, a, b, start, c), emit


_product: Any = intrinsic(_product_of)  # its callers leave out ``typing``


class _Matrix(NamedTuple):
    """Element (r, h) is ``data[at + r * row + h * step]``."""

    data: Any
    at: Any
    row: Any = None
    step: Any = None  # one


def _steps(builder: Any, size: Any, lengths: tuple[int, ...]) -> Generator[tuple[int, Any]]:
    """Loops that go through ``range(size)``, first in steps of the first length: (length, at)."""
    done = ir.Constant(size.type, 0)
    for length in lengths:
        step = ir.Constant(size.type, length)
        stop = builder.add(done, builder.mul(builder.sdiv(builder.sub(size, done), step), step))
        with cgutils.for_range_slice(builder, done, stop, step) as (at, _):
            yield length, at
        done = stop


def _emit_tile(
    tile: Lanes,
    depth: Any,
    a: _Matrix,
    b: _Matrix,
    start: _Matrix,
    c: _Matrix,
    at: tuple[Any, Any, int, int],
) -> None:
    """One tile of ``c``: from row i and column j on, so many rows and vectors."""
    builder, (i, j, rows, vectors) = tile.builder, at

    def places(matrix: _Matrix) -> list[list[Any]]:
        first = builder.add(matrix.at, builder.add(j, builder.mul(matrix.row, i)))
        return [
            [
                tile.vector_at(matrix.data, first, builder.mul(matrix.row, tile.number(r)), v)
                for v in range(vectors)
            ]
            for r in range(rows)
        ]

    total = [[tile.variable(tile.load(pointer)) for pointer in row] for row in places(start)]
    a_at = builder.add(a.at, builder.mul(a.row, i))
    b_at = builder.add(b.at, j)
    with cgutils.for_range(builder, depth) as loop:
        a_now = builder.add(a_at, builder.mul(loop.index, a.step))
        b_now = builder.mul(loop.index, b.row)
        b_V = [tile.load(tile.vector_at(b.data, b_at, b_now, v)) for v in range(vectors)]
        for r, row in enumerate(total):
            one = builder.add(a_now, builder.mul(a.row, tile.number(r)))
            a_r = tile.spread(builder.load(builder.gep(a.data, [one])))
            for variable, b_v in zip(row, b_V, strict=True):
                tile.add_to(variable, a_r, b_v)
    for row, pointers in zip(total, places(c), strict=True):
        for variable, pointer in zip(row, pointers, strict=True):
            tile.store(builder.load(variable), pointer)
