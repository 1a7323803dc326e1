"""A navigable graph of items: levels of links between what is near each other.

I  items    n  nodes of a level
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a navigable graph."""

    neighbours: NDArray[np.int32]
    """(n, width) items linked with each node, -1 where a row has no more."""
    nodes: NDArray[np.int32]
    """(n,) the item of each row; on level 0 each item has its own row."""
    row_of: NDArray[np.int32]
    """(I,) the row of each item, -1 where the level lacks it."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Levels, the finest first; each holds the nodes of the next, and level 0 holds all items."""

    levels: tuple[Level, ...]

    @property
    def num_items(self) -> int:
        """Items of the graph, I."""
        return len(self.levels[0].row_of)
