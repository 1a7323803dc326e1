"""Graphs of items that are near each other by their vectors, for searches under any score.

I  items, row 0 is none    D  vector width    n  nodes of a level    M  links of a node
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, final

import faiss as faiss_module
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from .. import config
from ..errors import BundleError, DataError
from ..ops.graph import Graph, Level
from ..ops.graph_insert import insert

faiss: Any = faiss_module  # its stubs lack what SWIG adds at run time
FEWEST = 256  # nodes of a coarse level: fewer would save no time worth having
VERSION = "vectors"


@final
class ItemGraph:
    """The levels of a navigable small-world graph over item vectors, by Euclidean distance.

    Linked by Faiss (HNSW, Malkov and Yashunin, arXiv:1603.09320) and read out, up to the level that
    is to be scored whole. Item 0 has no links. Withdrawn items keep theirs, so that a search walks
    through them; it is for the search not to return them.

    Linking on several threads depends on their timing: graphs of two runs may differ, a graph that
    was saved may not.
    """

    class Config(config.Config):
        """Settings of ItemGraph."""

        links: int = Field(default=32, ge=2, le=512)
        """Links of an item on the coarser levels (M); on the finest there are twice as many."""
        build_width: int = Field(default=40, ge=1, le=100_000)
        """Items kept in view while linking (efConstruction)."""
        coarse_share: float = Field(default=0.001, gt=0, le=1)
        """About this share of the items, at least some 256 of them, make up the coarse level."""
        seed: int = Field(default=0, ge=0)
        """For the levels of items that are inserted later."""

        def build(self, vector_ID: Tensor, parts: tuple[Tensor, ...] = ()) -> ItemGraph:
            """Link all items; DataError for vectors that are not finite.

            ``parts`` are what the vectors are made of, if they can be made anew only nearly so:
            what tells a graph of the same version. Default: the vectors.
            """
            _check_finite(vector_ID, torch.arange(len(vector_ID)))
            return ItemGraph(self, _linked(self, vector_ID), parts or (vector_ID,))

        def restore(self, arrays: Mapping[str, Tensor], parts: tuple[Tensor, ...]) -> ItemGraph:
            """Take up a graph made of these; BundleError if it is damaged or another's."""
            return ItemGraph(self, _restored(arrays, parts), parts)

    def __init__(self, config: Config, graph: Graph, parts: tuple[Tensor, ...]) -> None:
        self.config = config
        self.graph = graph
        self._parts = parts

    def insert(
        self, vector_ID: Tensor, item_N: Tensor, parts: tuple[Tensor, ...] = ()
    ) -> ItemGraph:
        """Link new items, or items with new vectors, given the vectors of all.

        The old graph stays as it is and may be searched meanwhile. All vectors past its end must be
        among the new; DataError for vectors that are not finite.
        """
        _check_finite(vector_ID, item_N)
        width, seed = self.config.build_width, self.config.seed
        graph = insert(self.graph, vector_ID.numpy(), item_N[item_N > 0].numpy(), width, seed)
        return ItemGraph(self.config, graph, parts or (vector_ID,))

    def arrays(self) -> Mapping[str, Tensor]:
        """The graph, and what tells whether vectors are those that it was made of."""
        out = {VERSION: torch.tensor(_fingerprint(self._parts))}
        for at, level in enumerate(self.graph.levels):
            out[f"neighbours.{at}"] = torch.from_numpy(level.neighbours)
            if at:
                out[f"nodes.{at}"] = torch.from_numpy(level.nodes)
        return out


def _linked(config: ItemGraph.Config, vector_ID: Tensor) -> Graph:
    """Have Faiss link the items from 1 on, and read out what it made."""
    num_items = len(vector_ID)
    index = faiss.IndexHNSWFlat(vector_ID.shape[1], config.links, faiss.METRIC_L2)
    index.hnsw.efConstruction = config.build_width
    if num_items > 1:
        index.add(vector_ID[1:].contiguous().numpy())
    height_J = faiss.vector_to_array(index.hnsw.levels) - 1  # of item j + 1; Faiss counts from 1
    start_J = faiss.vector_to_array(index.hnsw.offsets)[:-1].astype(np.int64)
    links = faiss.vector_to_array(index.hnsw.neighbors)
    passed = faiss.vector_to_array(index.hnsw.cum_nneighbor_per_level)
    levels = [_whole_level(num_items, int(passed[1]))]
    _read(links, start_J, levels[0].neighbours[1:])
    goal = max(num_items * config.coarse_share, FEWEST)
    for at in range(1, int(height_J.max(initial=0)) + 1):
        above_J = np.flatnonzero(height_J >= at)
        if len(above_J) * len(levels[-1].nodes) < goal * goal:  # the last one comes nearer to it
            break
        neighbours = np.empty((len(above_J), int(passed[at + 1] - passed[at])), np.int32)
        _read(links, start_J[above_J] + int(passed[at]), neighbours)
        levels.append(_level(neighbours, (above_J + 1).astype(np.int32), num_items))
    return Graph(tuple(levels))


def _read(links: NDArray[np.int32], start_N: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Copy a row of links from each start, some at a time; items are one more than Faiss says."""
    for low in range(0, len(start_N), 1 << 16):
        start = start_N[low : low + (1 << 16), None]
        row = links[start + np.arange(out.shape[1])]
        out[low : low + (1 << 16)] = np.where(row < 0, -1, row + 1)


def _level(neighbours: NDArray[np.int32], nodes: NDArray[np.int32], num_items: int) -> Level:
    row_of = np.full(num_items, -1, np.int32)
    row_of[nodes] = np.arange(len(nodes), dtype=np.int32)
    return Level(neighbours, nodes, row_of)


def _whole_level(num_items: int, width: int) -> Level:
    every = np.arange(num_items, dtype=np.int32)
    return Level(np.full((num_items, width), -1, np.int32), every, every)


def _restored(arrays: Mapping[str, Tensor], parts: tuple[Tensor, ...]) -> Graph:
    """Put the levels together, and check every number that a search relies on."""
    num_items = len(parts[0])
    finest = _table(arrays, "neighbours.0", 2)
    if VERSION not in arrays or len(finest) != num_items:
        raise _bad(f"the graph has {len(finest)} items, the vectors {num_items}")
    if int(arrays[VERSION]) != _fingerprint(parts):
        raise _bad("graph and vectors are of different versions")
    every = np.arange(num_items, dtype=np.int32)
    levels = [Level(finest, every, every)]
    while f"nodes.{len(levels)}" in arrays:
        at = len(levels)
        nodes, neighbours = _table(arrays, f"nodes.{at}", 1), _table(arrays, f"neighbours.{at}", 2)
        _check_items(nodes, levels[-1], at - 1, lowest=0)
        level = _level(neighbours, nodes, num_items)
        if len(nodes) != len(neighbours) or (level.row_of[nodes] != np.arange(len(nodes))).any():
            raise _bad(f"level {at} has {len(neighbours)} rows, or an item twice")
        levels.append(level)
    for at, level in enumerate(levels):
        _check_items(level.neighbours, level, at, lowest=-1)
    return Graph(tuple(levels))


def _table(arrays: Mapping[str, Tensor], name: str, dim: int) -> NDArray[np.int32]:
    found = arrays.get(name)
    if found is None or found.dtype != torch.int32 or found.dim() != dim:
        raise _bad(f"{name} is missing or no int32 array of {dim} dimensions")
    return found.numpy()


def _check_items(item: NDArray[np.int32], level: Level, at: int, lowest: int) -> None:
    """All items must be of the level; of level 0 all are."""
    if item.size and (item.min() < lowest or item.max() >= len(level.row_of)):
        raise _bad(f"an item out of range on level {at}")
    if at and (level.row_of[item[item >= 0]] < 0).any():
        raise _bad(f"an item that level {at} lacks")


def _bad(what: str) -> BundleError:
    return BundleError(f"graph: {what}; build it again")


def _fingerprint(parts: tuple[Tensor, ...]) -> int:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.contiguous().view(torch.uint8).numpy().data, crc)
    return crc


def _check_finite(vector_ID: Tensor, item_N: Tensor) -> None:
    wrong = item_N[~vector_ID[item_N].isfinite().all(1)]
    if len(wrong):
        raise DataError(
            f"graph: the vector of item {int(wrong[0])} is not finite; train with a lower rate"
        )
