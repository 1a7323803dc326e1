"""How wide tables of peers begin, if not as their library has it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def begin(tables: Iterable[Tensor], times: float) -> None:
    """Begin so many times as wide as by Glorot's rule; 0 leaves them as they are."""
    for table in tables if times else ():
        nn.init.xavier_uniform_(table, gain=times)


def tables_of(model: nn.Module) -> list[Tensor]:
    """Each embedding table."""
    return [part.weight.data for part in model.modules() if isinstance(part, nn.Embedding)]
