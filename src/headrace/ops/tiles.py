"""Products of small matrices inside Numba kernels, in tiles that stay in the registers.

A BLAS call costs more than a product of 50 by 32 by 64, and a loop that Numba compiles loads and
stores its sums at every step. Here LLVM is handed the tile as vectors: up to six rows by four of 16
lanes, summed over the inner dimension before they are stored. LLVM cuts the vectors to what the
machine has. Widths of results are multiples of ``LANES``; pad with zeros.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import literally, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]
LANES = 16


@njit(cache=True, nogil=True)
def add_product(a: Array, b: Array, c: Array) -> None:
    """``c += a @ b``, all of them contiguous."""
    rows, depth, width, i = a.shape[0], a.shape[1], c.shape[1], 0
    while i + 6 <= rows:
        _band(6, a, i * depth, depth, 1, b, c, i * width, depth)
        i += 6
    while i + 2 <= rows:
        _band(2, a, i * depth, depth, 1, b, c, i * width, depth)
        i += 2
    if i < rows:
        _band(1, a, i * depth, depth, 1, b, c, i * width, depth)


@njit(cache=True, nogil=True)
def add_product_of_turned(a: Array, b: Array, c: Array) -> None:
    """``c += a.T @ b``, all of them contiguous."""
    rows, width, i = a.shape[1], c.shape[1], 0
    while i + 6 <= rows:
        _band(6, a, i, 1, rows, b, c, i * width, len(a))
        i += 6
    while i + 2 <= rows:
        _band(2, a, i, 1, rows, b, c, i * width, len(a))
        i += 2
    if i < rows:
        _band(1, a, i, 1, rows, b, c, i * width, len(a))


@njit(cache=True, nogil=True)
def _band(
    rows: int,
    a: Array,
    a_at: int,
    a_row: int,
    a_step: int,
    b: Array,
    c: Array,
    c_at: int,
    depth: int,
) -> None:
    """Some rows of ``c`` from element ``c_at`` on, all of their columns."""
    literally(rows)
    width, j = c.shape[1], 0
    while j + 4 * LANES <= width:
        _tile(rows, 4, a, a_at, a_row, a_step, b, j, width, c, c_at + j, depth)
        j += 4 * LANES
    while j + 2 * LANES <= width:
        _tile(rows, 2, a, a_at, a_row, a_step, b, j, width, c, c_at + j, depth)
        j += 2 * LANES
    if j < width:
        _tile(rows, 1, a, a_at, a_row, a_step, b, j, width, c, c_at + j, depth)


def _tile_of(
    typing: Any,
    rows: Any,
    vectors: Any,
    a: Any,
    a_at: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_at: Any,
    width: Any,
    c: Any,
    c_at: Any,
    depth: Any,
) -> Any:
    """Type and code of ``_tile``, for each of ``rows`` rows r and all lanes l of some vectors.

    ``c[c_at + r * width + l] += Σ_i a[a_at + r * a_row + i * a_step] * b[b_at + i * width + l]``;
    ``rows`` and ``vectors``, how many vectors that is, are literals.
    """
    if not all(isinstance(x, types.IntegerLiteral) for x in (rows, vectors)):
        return None  # Numba asks again with literals
    numbers = types.intp
    signature = types.void(
        *(rows, vectors, a, numbers, numbers, numbers),
        *(b, numbers, numbers, c, numbers, numbers),
    )

    def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
        """Write the tile's instructions."""
        _, _, a_, a_at, a_row, a_step, b_, b_at, width, c_, c_at, depth = given
        a_data, b_data, c_data = (
            context.make_array(kind)(context, builder, x).data
            for kind, x in ((a, a_), (b, b_), (c, c_))
        )
        tile = _Tile(context, builder, c.dtype)
        place = [
            [
                tile.vector_at(c_data, c_at, builder.mul(width, tile.number(r)), v)
                for v in range(vectors.literal_value)
            ]
            for r in range(rows.literal_value)
        ]
        total = [[tile.variable(pointer) for pointer in row] for row in place]
        with cgutils.for_range(builder, depth) as loop:
            a_now = builder.add(a_at, builder.mul(loop.index, a_step))
            b_now = builder.mul(loop.index, width)
            b_V = [
                tile.load(tile.vector_at(b_data, b_at, b_now, v))
                for v in range(vectors.literal_value)
            ]
            for r, row in enumerate(total):
                one = tile.spread(a_data, builder.add(a_now, builder.mul(a_row, tile.number(r))))
                for variable, b_v in zip(row, b_V, strict=True):
                    tile.add_to(variable, one, b_v)
        for row, pointers in zip(total, place, strict=True):
            for variable, pointer in zip(row, pointers, strict=True):
                builder.store(builder.load(variable), pointer, align=tile.align)
        return context.get_dummy_value()

    return signature, emit


_tile: Any = intrinsic(_tile_of)  # its callers leave out ``typing``


class _Tile:
    """Vectors of one element type in the function that ``builder`` writes."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.builder = builder
        self.vector = ir.VectorType(context.get_data_type(element), LANES)
        self.align = context.get_abi_sizeof(context.get_data_type(element))

    def number(self, value: int) -> Any:
        """A constant index."""
        return ir.Constant(ir.IntType(64), value)

    def vector_at(self, data: Any, at: Any, more: Any, vector: int) -> Any:
        """A pointer to the ``vector``-th vector from element ``at + more`` on."""
        first = self.builder.add(self.builder.add(at, more), self.number(vector * LANES))
        return self.builder.bitcast(self.builder.gep(data, [first]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        """The vector there."""
        return self.builder.load(pointer, align=self.align)

    def variable(self, pointer: Any) -> Any:
        """A variable, a register once compiled, that starts as the vector there."""
        made = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(self.load(pointer), made)
        return made

    def spread(self, data: Any, at: Any) -> Any:
        """A vector of nothing but the element ``at``."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        index = ir.IntType(32)
        element = self.builder.load(self.builder.gep(data, [at]))
        first = self.builder.insert_element(nothing, element, ir.Constant(index, 0))
        zeros = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def add_to(self, variable: Any, a: Any, b: Any) -> None:
        """``variable += a * b``, rounded once where the machine can."""
        product = self.builder.fmul(a, b, flags=("contract",))
        total = self.builder.fadd(self.builder.load(variable), product, flags=("contract",))
        self.builder.store(total, variable)
