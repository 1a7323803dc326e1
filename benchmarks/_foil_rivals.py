"""Other ways to search under the same scorer, and to remember what was visited.

Each takes a budget of items and a scorer for one request; results are comparable at equal budgets.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.data import Requests
from headrace.ops.graph import Graph
from headrace.ops.graph_search import Score
from headrace.retrieval._searched import Searchable

Array = NDArray[Any]


def random_walk(
    graph: Graph, score: Score, budget: int, rng: np.random.Generator
) -> dict[int, float]:
    """Best first from one random item, along level 0 alone: the usual search of a plain graph.

    Expands the best node that is not expanded yet until ``budget`` are scored. A scorer's call an
    expansion, so that a search is thousands of them.
    """
    neighbours = graph.levels[0].neighbours
    found: dict[int, float] = {}
    queue: list[tuple[float, int]] = []
    fresh = [int(rng.integers(1, graph.num_items))]
    while len(found) < budget:
        if fresh:
            scores = score(np.zeros(len(fresh), np.int64), np.array(fresh, np.int32)).tolist()
            found.update(zip(fresh, scores, strict=True))
            for item, value in zip(fresh, scores, strict=True):
                heapq.heappush(queue, (-value, item))
        if not queue:
            break
        fresh = [
            i for i in neighbours[heapq.heappop(queue)[1]].tolist() if i > 0 and i not in found
        ]
    return found


def prefilter(
    product: Searchable, request: Requests, score: Score, budget: int
) -> dict[int, float]:
    """What an inner product finds best of all, ``budget`` items, and only then the scorer.

    The first part is exact: it stands for the best index of inner products that there could be.
    """
    item = product.exhaustive(request, budget).item
    scores = score(np.zeros(len(item), np.int64), item)
    return dict(zip(item.tolist(), scores.tolist(), strict=True))


@dataclass(frozen=True)
class Tree:
    """Clusters of clusters; a node is represented by its medoid, the item nearest to its mean."""

    medoids: list[Array]  # of each depth
    child_offsets: list[Array]  # of each depth but the last, into the next
    leaf_offsets: Array  # of the last depth, into leaf_items
    leaf_items: Array

    @classmethod
    def of(cls, vector_ID: Array, branches: int, seed: int = 0) -> Tree:
        """Split by k-means from the top, until a node has at most ``branches`` items."""
        rng = np.random.default_rng(seed)
        groups = [np.arange(1, len(vector_ID))]
        medoids, child_offsets = list[Array](), list[Array]()
        while max(map(len, groups)) > branches:
            parts = [_split(vector_ID, group, branches, rng) for group in groups]
            child_offsets.append(np.cumsum([0, *map(len, parts)]))
            groups = [part for some in parts for part in some]
            medoids.append(np.array([_medoid(vector_ID, group) for group in groups]))
        return cls(
            medoids,
            child_offsets,
            np.cumsum([0, *map(len, groups)]),
            np.concatenate(groups),
        )

    def search(self, score: Score, budget: int) -> dict[int, float]:
        """Keep the best nodes of each depth, as many as let ``budget`` items be scored in all."""
        found: dict[int, float] = {}

        def scored(items: Array) -> Array:
            fresh = np.array([i for i in items.tolist() if i not in found], np.int32)
            if len(fresh):
                values = score(np.zeros(len(fresh), np.int64), fresh)
                found.update(zip(fresh.tolist(), values.tolist(), strict=True))
            return np.array([found[i] for i in items.tolist()])

        nodes = np.arange(len(self.medoids[0]))
        for depth in range(len(self.medoids)):
            value = scored(self.medoids[depth][nodes])
            best = nodes[np.argsort(-value)]
            last = depth == len(self.medoids) - 1
            offsets = self.leaf_offsets if last else self.child_offsets[depth + 1]
            sizes = np.cumsum(offsets[best + 1] - offsets[best])
            share = (budget - len(found)) / (len(self.medoids) - depth)
            best = best[: max(1, int(np.searchsorted(sizes, share)))]
            nodes = np.concatenate([np.arange(offsets[b], offsets[b + 1]) for b in best])
        scored(self.leaf_items[nodes])
        return found


def _split(vector_ID: Array, group: Array, branches: int, rng: np.random.Generator) -> list[Array]:
    """Lloyd's algorithm, eight rounds; of groups of equal vectors, parts of equal size."""
    if len(group) <= branches:
        return [group]
    x = vector_ID[group]
    centre = x[rng.choice(len(group), branches, replace=False)]
    for _ in range(8):
        nearest = np.argmax(x @ centre.T - 0.5 * (centre * centre).sum(1), axis=1)
        order = np.argsort(nearest, kind="stable")
        used, start = np.unique(nearest[order], return_index=True)
        total = np.add.reduceat(x[order], start, axis=0)
        size = np.diff(np.append(start, len(x)))
        centre[used] = total / size[:, None]
    parts = np.split(group[order], start[1:])
    return parts if len(parts) > 1 else np.array_split(group, branches)


def _medoid(vector_ID: Array, group: Array) -> int:
    x = vector_ID[group]
    return int(group[np.argmin(((x - x.mean(0)) ** 2).sum(1))])


@njit(cache=True)
def visit_bitmap(neighbours: Array, front: Array, bits_W: Array) -> Array:
    """The neighbours that were not visited yet, by a bit an item."""
    fresh = np.empty(front.shape[0] * neighbours.shape[1], np.int32)
    size = 0
    for f in front:
        for i in neighbours[f]:
            if i < 0:
                break
            at, bit = i >> 3, np.uint8(1 << (i & 7))
            if not bits_W[at] & bit:
                bits_W[at] |= bit
                fresh[size] = i
                size += 1
    return fresh[:size]


@njit(cache=True)
def visit_hash(neighbours: Array, front: Array, table_S: Array) -> Array:
    """The same by a hash set: a power of two of slots, -1 where there is none, probed in order."""
    mask = len(table_S) - 1
    fresh = np.empty(front.shape[0] * neighbours.shape[1], np.int32)
    size = 0
    for f in front:
        for i in neighbours[f]:
            if i < 0:
                break
            at = (i * 0x9E3779B1 >> 7) & mask
            while table_S[at] >= 0 and table_S[at] != i:
                at = (at + 1) & mask
            if table_S[at] < 0:
                table_S[at] = i
                fresh[size] = i
                size += 1
    return fresh[:size]


def visit_sets(neighbours: Array, front: Array, seen: Array) -> tuple[Array, Array]:
    """The same by set operations on sorted arrays, as a framework without the others has them."""
    reached = np.unique(neighbours[front])
    fresh = np.setdiff1d(reached[reached >= 0], seen, assume_unique=True)
    return fresh, np.union1d(seen, fresh)
