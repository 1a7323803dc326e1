"""Predicted outcomes, bids and prices to one number a candidate, by a formula.

A formula is arithmetic over names: ``p_<task>`` for each task of the ranker, calibrated, and the
catalogue's number columns. ``p_buy * price`` is expected turnover, ``p_click ** 0.8 * bid`` an
auction's rank with squashing, ``0.3 * p_click + 2 * p_buy * price`` several objectives at once.
It is parsed into a closed set of operations; nothing else of Python can be said in it.
"""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import final

import torch
from pydantic import Field, field_validator
from torch import Tensor

from . import config
from .errors import ConfigError, suggest

Columns = Mapping[str, Tensor]  # name -> () or (N,) float64
Expression = Callable[[Columns], Tensor]
Operation = Callable[..., Tensor]

MAX_LENGTH = 1_000  # characters of a formula
MAX_DEPTH = 100  # of its tree; a sum nests once a term

_BINARY: Mapping[type[ast.operator], Operation] = {
    ast.Add: torch.add,
    ast.Sub: torch.sub,
    ast.Mult: torch.mul,
    ast.Div: torch.div,
    ast.Pow: torch.pow,
}
_UNARY: Mapping[type[ast.unaryop], Operation] = {ast.USub: torch.neg, ast.UAdd: torch.clone}


def _clip(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, low), high)


def _min(*values: Tensor) -> Tensor:
    return reduce(torch.minimum, values)


def _max(*values: Tensor) -> Tensor:
    return reduce(torch.maximum, values)


_MANY = MAX_LENGTH
_FUNCTIONS: Mapping[str, tuple[Operation, int, int]] = {  # with fewest and most arguments
    "log1p": (torch.log1p, 1, 1),
    "sqrt": (torch.sqrt, 1, 1),
    "min": (_min, 2, _MANY),
    "max": (_max, 2, _MANY),
    "clip": (_clip, 3, 3),
}


@final
class Value:
    """What showing a candidate is worth, in the formula's unit: currency where prices are.

    An operation on finite numbers that has no finite result is 0: a division by zero, a zero to a
    negative power, a negative number to a fractional one, the root of a negative number, log1p at
    -1 and below, an overflow. So a missing price given as 0 cannot make an item priceless. NaN in a
    probability or column stays NaN, which re-rankers put last. Computed in float64.
    """

    class Config(config.Config):
        """Settings of the value."""

        formula: str = Field("p_buy * price", max_length=MAX_LENGTH)
        """Numbers, ``p_<task>``, columns of the catalogue, ``+ - * / **``, brackets, and
        ``log1p(x)``, ``sqrt(x)``, ``min(x, y)``, ``max(x, y)``, ``clip(x, low, high)``."""

        @field_validator("formula")
        @classmethod
        def _parses(cls, formula: str) -> str:
            _parse(formula)
            return formula

    def __init__(self, config: Config, tasks: Sequence[str], columns: Sequence[str]) -> None:
        """Bind the formula to a ranker's tasks and a catalogue's columns.

        Raises ConfigError on a name that is neither.
        """
        self.config = config
        self._probabilities = [f"p_{task}" for task in tasks]
        known = [*self._probabilities, *columns]
        for name in columns:
            if name in self._probabilities:
                raise ConfigError(
                    f"value: {name} is both a column and the probability of a task; "
                    "rename the column"
                )
        self._expression, names = _parse(config.formula)
        for name in names:
            if name not in known:
                raise ConfigError(f"value.formula: no such name {name!r}; {suggest(name, known)}")
        self.columns = tuple(name for name in columns if name in names)  # those that are read

    def __call__(self, probability_NT: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        """Value ``(N,) float32`` from calibrated probabilities and columns ``(N,)`` each."""
        if probability_NT.dim() != 2 or probability_NT.shape[1] != len(self._probabilities):
            raise ValueError(
                f"probabilities of {len(self._probabilities)} tasks wanted, "
                f"got a tensor of shape {tuple(probability_NT.shape)}"
            )
        named = dict(zip(self._probabilities, probability_NT.double().unbind(1), strict=True))
        value = self._expression(named | {name: columns[name].double() for name in self.columns})
        largest = torch.finfo(torch.float32).max
        return value.expand(len(probability_NT)).clamp(-largest, largest).float()


def _parse(formula: str) -> tuple[Expression, list[str]]:
    """Compile a formula; also answer its names, in the order of first use."""
    text = " ".join(formula.split())
    if not text:
        raise ValueError('empty; say what an item is worth, as in "p_buy * price"')
    if "#" in text:
        raise ValueError("no comments inside a formula; put them on a line of the file before it")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{textwrap.shorten(text, 80)!r} is no formula: {why}") from None
    names: dict[str, None] = {}
    return _compile(tree.body, text, names, MAX_DEPTH), list(names)


def _compile(node: ast.expr, text: str, names: dict[str, None], depth: int) -> Expression:
    """Turn a syntax tree into a function of columns; refuse what is not arithmetic."""
    if depth == 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep; split it up")

    def inner(child: ast.expr) -> Expression:
        return _compile(child, text, names, depth - 1)

    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _constant(number)
        case ast.Name(id=name):
            names[name] = None
            return lambda columns: columns[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _apply(_UNARY[type(op)], [inner(operand)])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _apply(_BINARY[type(op)], [inner(left), inner(right)])
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]):
            return _apply(_function(function, len(args)), [inner(arg) for arg in args])
        case _:
            given = ast.get_source_segment(text, node) or text
            raise ValueError(
                f"{given!r} is not allowed; a formula has numbers, names, + - * / **, brackets "
                f"and {', '.join(_FUNCTIONS)}"
            )


def _function(name: str, given: int) -> Operation:
    if name not in _FUNCTIONS:
        raise ValueError(f"no such function {name!r}; {suggest(name, _FUNCTIONS)}")
    operation, fewest, most = _FUNCTIONS[name]
    if not fewest <= given <= most:
        wanted = str(fewest) if fewest == most else f"at least {fewest}"
        raise ValueError(f"{name} takes {wanted} argument{'s' * (fewest > 1)}, got {given}")
    return operation


def _constant(number: float) -> Expression:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("a number in it is too large")
    constant = torch.tensor(value, dtype=torch.float64)
    return lambda columns: constant


def _apply(operation: Operation, arguments: list[Expression]) -> Expression:
    def evaluate(columns: Columns) -> Tensor:
        given = [argument(columns) for argument in arguments]
        result = operation(*given)
        finite = result.isfinite()
        if bool(finite.all()):
            return result
        defined = reduce(torch.logical_and, (x.isfinite() for x in given))
        return torch.where(defined & ~finite, 0.0, result)

    return evaluate
