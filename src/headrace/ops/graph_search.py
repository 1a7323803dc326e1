"""Search of a navigable graph under any score: the best items without scoring them all.

B  requests    I  items    N  pairs of a request and an item    n  nodes of a level

The coarse level is scored whole. The best ``width`` of its nodes enter the next finer level; there,
hop by hop, the neighbours of what was new among the best are scored, all requests in one call.
After NANN (Chen et al. 2022, "Approximate Nearest Neighbor Search under Neural Similarity Metric
for Large-Scale Recommendation", arXiv:2202.10226, Algorithm 1), with these departures: no node is
scored twice for a request, even if it is met on several levels; the answer is the best of all that
were scored; nodes that may not be returned are walked through; a request may stop early; and it may
bring items of its own, near which it expects good ones (seeds).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import graph_search_kernels as kernels

Array = NDArray[Any]
Score = Callable[[NDArray[np.int64], NDArray[np.int32]], NDArray[np.float32]]
"""``(row_N, item_N) -> score_N``: requests ascending; what is not finite is as bad as can be."""
Rule = Literal["paper", "served"]


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


@dataclass(frozen=True, slots=True)
class Effort:
    """What a search may cost. A graph with more levels goes on with the last numbers."""

    width: tuple[int, ...]
    """Nodes kept on each level, the finest first (ef)."""
    hops: tuple[int, ...]
    """Times that the kept nodes are expanded on each level (T); not on the one scored whole."""
    rule: Rule = "paper"
    """``paper`` keeps the best of the level and expands what is new among them; ``served`` keeps
    and expands the best of what is new, as the authors' served graph does."""
    stop: float = 0.0
    """A request leaves a level once a hop renewed less than this share of its answer."""
    stretch: float = 4.0
    """How many times as many nodes as ``width`` may be kept where some may not be returned."""

    def of(self, level: int) -> tuple[int, int]:
        """Width and hops of a level."""
        width = self.width[min(level, len(self.width) - 1)]
        return width, self.hops[min(level, len(self.hops) - 1)]


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the time of a search went, in seconds."""

    expansion_s: float
    scoring_s: float
    selection_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """The best items of each request, best first; of equal scores the lower item first."""

    item: NDArray[np.int32]
    """(N,)"""
    score: NDArray[np.float32]
    """(N,) all finite."""
    offsets: NDArray[np.int64]
    """(B+1,) row b is ``[offsets[b], offsets[b+1])``, at most ``most`` long."""
    num_scored: NDArray[np.int64]
    """(B,) nodes scored, each once."""
    spent: Spent


def search(
    graph: Graph,
    score: Score,
    num_rows: int,
    most: int,
    effort: Effort,
    *,
    allowed: NDArray[np.bool_] | NDArray[np.uint8] | None = None,
    exclude: tuple[Array, Array] | None = None,
    scale_B: Array | None = None,
    seeds: tuple[Array, Array] | None = None,
) -> Found:
    """Find the ``most`` best items of each of ``num_rows`` requests.

    ``allowed`` is a bool an item, or the same in bits (``pack``); ``exclude`` holds offsets
    ``(B+1,)`` and items that single requests must not get, unknown ones ignored. Neither hinders
    the walk, which widens up to ``effort.stretch`` times to hold ``width`` nodes that may be
    returned. ``scale_B`` multiplies the widths of single requests, to at least 1. ``seeds`` holds
    offsets ``(B+1,)`` and items, unknown ones ignored, at which single requests enter level 0
    beside what the coarser levels led to: the best of both are expanded.

    A request finds the same alone as among others, if ``score`` says the same. Nodes whose score is
    not finite are expanded last and never returned. Raises ValueError for arrays that do not fit.
    """
    state = _State(graph, num_rows, most, effort, allowed, exclude, scale_B)
    if num_rows and most > 0 and graph.num_items:
        last = len(graph.levels) - 1
        nodes = graph.levels[last].nodes
        fresh_offsets = len(nodes) * np.arange(num_rows + 1)
        state.absorb(last, score, np.tile(nodes, num_rows), fresh_offsets, add=True)
        for at in range(last - 1, -1, -1):
            state.descend()
            if at == 0 and seeds is not None:
                state.plant(score, *seeds)
            for _ in range(effort.of(at)[1]):
                if not state.hop(at, score):
                    break
    return state.found()


def pack(allowed_I: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A bit an item, the lowest first: what ``search`` need not make anew each time."""
    return np.packbits(allowed_I, bitorder="little")


class _State:
    """What a search knows between two calls of the scorer."""

    def __init__(
        self,
        graph: Graph,
        num_rows: int,
        most: int,
        effort: Effort,
        allowed: Array | None,
        exclude: tuple[Array, Array] | None,
        scale_B: Array | None,
    ) -> None:
        self.graph, self.effort = graph, effort
        num_items, num_levels = graph.num_items, len(graph.levels)
        if num_items > kernels.MOST_ITEMS:
            raise ValueError(f"{num_items} items: at most {kernels.MOST_ITEMS} can be searched")
        width_L = np.array([effort.of(level)[0] for level in range(num_levels)])
        scale = np.ones(num_rows) if scale_B is None else np.asarray(scale_B, np.float64)
        if scale.shape != (num_rows,):
            raise ValueError(f"scale_B has shape {scale.shape}, want ({num_rows},)")
        kept_LB = np.ceil(width_L[:, None] * scale).clip(1, num_items or 1)
        self.kept_LB = kept_LB.astype(np.int64)
        self.limit_LB = np.ceil(kept_LB * effort.stretch).clip(kept_LB, num_items or 1)
        self.limit_LB = self.limit_LB.astype(np.int64)
        self.shown_RW = _shown(num_items, num_rows, allowed, exclude)
        num_bytes = (num_items + 7) // 8
        above = len(graph.levels[1].nodes) if num_levels > 1 else 0
        self.visited_BW = np.zeros((num_rows, num_bytes), np.uint8)
        self.scored_BW = np.zeros((num_rows, num_bytes), np.uint8)
        self.memory_BM = np.empty((num_rows, above), np.int32)
        self.front_BF = np.empty((num_rows, self.limit_LB.max(initial=0)), np.int64)
        self.front_size_B = np.zeros(num_rows, np.int64)
        best = max(min(most, num_items), 0)
        self.best_BK = np.full((num_rows, best), kernels.NOTHING, np.int64)
        self.best_size_B = np.zeros(num_rows, np.int64)
        self.num_scored_B = np.zeros(num_rows, np.int64)
        self.going_B = np.ones(num_rows, np.bool_)
        self.known, self.known_offsets = np.empty(0, np.int64), np.zeros(num_rows + 1, np.int64)
        self.expansion_s = self.scoring_s = self.selection_s = 0.0

    def descend(self) -> None:
        """Enter the next finer level with what was kept."""
        begun = time.perf_counter()
        kernels.descend(self.front_BF, self.front_size_B, self.visited_BW, self.going_B)
        self.expansion_s += time.perf_counter() - begun

    def plant(self, score: Score, offsets: Array, item_S: Array) -> None:
        """Let given items in beside what was kept, on level 0."""
        if len(offsets) != len(self.going_B) + 1:
            raise ValueError(f"seeds have {len(offsets) - 1} rows, want {len(self.going_B)}")
        begun = time.perf_counter()
        fresh, fresh_offsets, self.known, self.known_offsets = kernels.plant(
            np.asarray(offsets, np.int64),
            np.asarray(item_S, np.int64),
            self.graph.levels[1].row_of,
            self.visited_BW,
            self.scored_BW,
            self.memory_BM,
            self.shown_RW,
        )
        self.expansion_s += time.perf_counter() - begun
        if len(fresh) or len(self.known):
            self.absorb(0, score, fresh, fresh_offsets, add=True)
            self.going_B[:] = True  # also those without seeds

    def hop(self, level: int, score: Score) -> bool:
        """Expand what is new among the kept; whether that led anywhere."""
        begun = time.perf_counter()
        links, above = self.graph.levels[level], self.graph.levels[1]
        fresh, fresh_offsets, self.known, self.known_offsets = kernels.expand(
            links.neighbours,
            links.row_of,
            above.row_of,
            self.front_BF,
            self.front_size_B,
            self.going_B,
            self.visited_BW,
            self.scored_BW,
            self.memory_BM,
            self.shown_RW,
        )
        self.expansion_s += time.perf_counter() - begun
        if not (len(fresh) or len(self.known)):
            return False
        add = self.effort.rule == "paper"
        self.absorb(level, score, fresh, fresh_offsets, add=add)
        return bool(self.going_B.any())

    def absorb(
        self, level: int, score: Score, fresh: Array, fresh_offsets: Array, *, add: bool
    ) -> None:
        """Score the new nodes and keep the best, of them or of them and those kept before."""
        begun = time.perf_counter()
        row_N = np.repeat(np.arange(len(fresh_offsets) - 1), np.diff(fresh_offsets))
        score_N = np.ascontiguousarray(score(row_N, fresh), np.float32) if len(fresh) else _NONE
        if score_N.shape != fresh.shape:
            raise ValueError(f"score answered with shape {score_N.shape}, want {fresh.shape}")
        scored = time.perf_counter()
        kernels.absorb(
            fresh,
            score_N.view(np.int32),
            fresh_offsets,
            self.known,
            self.known_offsets,
            self.graph.levels[min(1, len(self.graph.levels) - 1)].row_of,
            level > 0,
            add,
            self.effort.stop,
            self.kept_LB[level],
            self.limit_LB[level],
            self.front_BF,
            self.front_size_B,
            self.best_BK,
            self.best_size_B,
            self.going_B,
            self.scored_BW,
            self.memory_BM,
            self.shown_RW,
        )
        self.num_scored_B += np.diff(fresh_offsets)
        self.scoring_s += scored - begun
        self.selection_s += time.perf_counter() - scored

    def found(self) -> Found:
        """The answer, in order."""
        begun = time.perf_counter()
        self.best_BK.sort(axis=1)
        key_BK = self.best_BK[:, ::-1]
        key = key_BK[key_BK != kernels.NOTHING]
        item, score_bits = kernels.unpack(key)
        offsets = np.concatenate([np.zeros(1, np.int64), self.best_size_B.cumsum()])
        spent = Spent(
            self.expansion_s, self.scoring_s, self.selection_s + time.perf_counter() - begun
        )
        return Found(item, score_bits.view(np.float32), offsets, self.num_scored_B, spent)


_NONE = np.empty(0, np.float32)


def _shown(
    num_items: int, num_rows: int, allowed: Array | None, exclude: tuple[Array, Array] | None
) -> Array:  # (1 or B, bytes) uint8
    """Which items may be returned: one row for all, or one a request."""
    num_bytes = (num_items + 7) // 8
    if allowed is None:
        bits = np.full(num_bytes, 255, np.uint8)
    elif allowed.dtype == np.bool_ and allowed.shape == (num_items,):
        bits = pack(allowed)
    elif allowed.dtype == np.uint8 and allowed.shape == (num_bytes,):
        bits = allowed
    else:
        raise ValueError(
            f"allowed does not describe {num_items} items: {allowed.dtype}[{len(allowed)}]"
        )
    if exclude is None or not len(exclude[1]):
        return bits[None]
    offsets, item_X = exclude
    if len(offsets) != num_rows + 1:
        raise ValueError(f"exclude has {len(offsets) - 1} rows, want {num_rows}")
    return kernels.without(bits, offsets, item_X, num_items)
