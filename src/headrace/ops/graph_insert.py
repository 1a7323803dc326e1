"""New nodes in a navigable graph, linked as its builder links, without building it anew.

I  items    D  vector width    n  nodes of a level    M  links of a node    P  nodes in view

Malkov and Yashunin (arXiv:1603.09320), Algorithm 1: of the nodes near a new one, found by a walk on
the same graph, those are linked that are nearer to it than to one already linked (Algorithm 4,
without the discarded ones; only where more were found than fit, as Faiss does), and link back; who
then has too many keeps his by the same rule. The walk begins with the nearest of the whole coarse
level. Levels above 0 are drawn with the usual probabilities, from the item's number and a seed:
the same in every process.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .graph import Graph, Level

Array = NDArray[Any]


def insert(graph: Graph, vector_ID: Array, item_N: Array, build_width: int, seed: int = 0) -> Graph:
    """Link items, given the vectors of all: a new graph; the old one may be searched meanwhile.

    Items may be new to the graph, or have a new vector; then they keep their level, and links that
    lead to them stay until they are crowded out. ``build_width`` nodes are kept in view.
    """
    vector_ID = np.ascontiguousarray(vector_ID, np.float32)
    item_N = np.asarray(item_N, np.int32)
    links = graph.levels[-1].neighbours.shape[1]
    height_N = _height(item_N.astype(np.uint64), links, len(graph.levels) - 1, seed)
    levels: list[Level] = []
    for at, level in enumerate(graph.levels):
        joining = item_N[height_N >= at] if at else np.arange(graph.num_items, len(vector_ID))
        levels.append(_grown(level, joining.astype(np.int32), len(vector_ID)))
    visited_W = np.zeros((len(vector_ID) + 7) // 8, np.uint8)
    for item in item_N:
        near = _nearest(vector_ID, item, levels[-1].nodes, build_width)
        for level in reversed(levels):
            links_of = (level.neighbours, level.row_of)
            near = _walk(vector_ID, item, *links_of, *near, build_width, visited_W)
            if level.row_of[item] >= 0:
                _link(vector_ID, item, *links_of, *near)
    return Graph(tuple(levels))


def _grown(level: Level, joining: NDArray[np.int32], num_items: int) -> Level:
    """A copy of the level, with rows for those of the items that it lacks."""
    row_of = np.full(num_items, -1, np.int32)
    row_of[: len(level.row_of)] = level.row_of
    joining = joining[row_of[joining] < 0]
    nodes = np.concatenate([level.nodes, joining])
    row_of[joining] = np.arange(len(level.nodes), len(nodes))
    neighbours = np.full((len(nodes), level.neighbours.shape[1]), -1, np.int32)
    neighbours[: len(level.nodes)] = level.neighbours
    return Level(neighbours, nodes, row_of)


def _height(item_N: NDArray[np.uint64], links: int, top: int, seed: int) -> Array:  # (N,) int64
    """The highest level of each item: at least l for one in ``links**l``."""
    start = (seed + 1) * 0x9E3779B97F4A7C15 % (1 << 64)  # splitmix64
    mixed = item_N * np.uint64(0xD1342543DE82EF95) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    uniform = ((mixed ^ mixed >> np.uint64(31)) >> np.uint64(11)).astype(np.float64) + 0.5
    height = -np.log(uniform / 2.0**53) / math.log(links)
    return np.minimum(height, top).astype(np.int64)


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _distance(vector_ID: Array, i: int, j: int) -> Any:
    total = np.float32(0)
    for d in range(vector_ID.shape[1]):
        gap = vector_ID[i, d] - vector_ID[j, d]
        total += gap * gap
    return total


@njit(cache=True, nogil=True)
def _place(item_P: Array, distance_P: Array, size: int, item: int, distance: Any) -> int:
    """Put a node where it belongs among the nearest, the last falls off; return where."""
    at = size
    while at and (
        distance < distance_P[at - 1] or (distance == distance_P[at - 1] and item < item_P[at - 1])
    ):
        at -= 1
    for p in range(min(size, len(item_P) - 1), at, -1):
        item_P[p], distance_P[p] = item_P[p - 1], distance_P[p - 1]
    if at < len(item_P):
        item_P[at], distance_P[at] = item, distance
    return at


@njit(cache=True, nogil=True)
def _nearest(vector_ID: Array, item: int, nodes: Array, width: int) -> tuple[Array, Array]:
    """The nodes of a level that are nearest to an item, itself left out: ``(P,)``, distances."""
    item_P, distance_P = np.empty(width, np.int32), np.empty(width, np.float32)
    size = 0
    for node in nodes:
        if node != item:
            _place(item_P, distance_P, size, node, _distance(vector_ID, item, node))
            size = min(size + 1, width)
    return item_P[:size].copy(), distance_P[:size].copy()


@njit(cache=True, nogil=True)
def _walk(
    vector_ID: Array,
    item: int,
    neighbours: Array,
    row_of_I: Array,
    from_P: Array,
    from_distance_P: Array,
    width: int,
    visited_W: Array,
) -> tuple[Array, Array]:
    """The same along the links of a level, from some of its nodes, nearest first."""
    item_P, distance_P = np.empty(width, np.int32), np.empty(width, np.float32)
    open_P = np.empty(width + 1, np.bool_)
    visited_W[:] = 0
    visited_W[item >> 3] |= np.uint8(1 << (item & 7))
    size = min(width, len(from_P))
    for p in range(size):
        i = from_P[p]
        item_P[p], distance_P[p], open_P[p] = i, from_distance_P[p], True
        visited_W[i >> 3] |= np.uint8(1 << (i & 7))
    p = 0
    while p < size:
        if not open_P[p]:
            p += 1
            continue
        open_P[p] = False
        first = p + 1  # the nearest that is to be expanded next
        for i in neighbours[row_of_I[item_P[p]]]:
            if i < 0:
                break
            at, bit = i >> 3, np.uint8(1 << (i & 7))
            if visited_W[at] & bit:
                continue
            visited_W[at] |= bit
            place = _place(item_P, distance_P, size, i, _distance(vector_ID, item, i))
            if place < width:
                size = min(size + 1, width)
                open_P[place + 1 : size] = open_P[place : size - 1].copy()
                open_P[place] = True
                first = min(first, place)
        p = first
    return item_P[:size].copy(), distance_P[:size].copy()


@njit(cache=True, nogil=True)
def _link(
    vector_ID: Array,
    item: int,
    neighbours: Array,
    row_of_I: Array,
    near_P: Array,
    distance_P: Array,
) -> None:
    """Link an item with what is near to it, and what is near with the item."""
    row_M = neighbours[row_of_I[item]]
    _choose(vector_ID, near_P, distance_P, row_M)
    other = np.empty(len(row_M) + 1, np.int32)
    distance = np.empty(len(row_M) + 1, np.float32)
    for i in row_M:
        if i < 0:
            break
        back_M = neighbours[row_of_I[i]]
        size = 0
        for j in back_M:
            if j < 0 or j == item:
                break
            size += 1
        if size < len(back_M):
            back_M[size] = item  # there already, or in a free place
            continue
        size = 0
        for j in back_M:
            _place(other, distance, size, j, _distance(vector_ID, i, j))
            size += 1
        _place(other, distance, size, item, _distance(vector_ID, i, item))
        _choose(vector_ID, other, distance, back_M)


@njit(cache=True, nogil=True)
def _choose(vector_ID: Array, near_P: Array, distance_P: Array, row_M: Array) -> None:
    """Fill a row: with all if they fit, else with each that no chosen one is nearer to."""
    row_M[:] = -1
    if len(near_P) <= len(row_M):
        row_M[: len(near_P)] = near_P
        return
    size = 0
    for p in range(len(near_P)):
        chosen = True
        for m in range(size):
            if _distance(vector_ID, near_P[p], row_M[m]) < distance_P[p]:
                chosen = False
                break
        if chosen:
            row_M[size] = near_P[p]
            size += 1
            if size == len(row_M):
                break
