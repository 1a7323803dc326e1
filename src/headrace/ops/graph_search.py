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
from .graph import Graph
from .graph_keys import MOST_ITEMS, NOTHING, unpack

Array = NDArray[Any]
Score = Callable[[NDArray[np.int64], NDArray[np.int32]], NDArray[np.float32]]
"""``(row_N, item_N) -> score_N``: requests ascending; what is not finite is as bad as can be."""
Rule = Literal["paper", "served"]


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
    state = State(graph, num_rows, most, effort, allowed, exclude, scale_B)
    for level, offsets, item_S in state.entries(seeds):
        state.descend()
        if state.plant(offsets, item_S):
            state.absorb(level, score, add=True)
            state.walk.going_B[:] = True  # also those without seeds
        for _ in range(state.hops(level)):
            if not state.expand(level):
                break
            state.absorb(level, score, add=effort.rule == "paper")
            if not state.walk.going_B.any():
                break
    return state.found()


def pack(allowed_I: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A bit an item, the lowest first: what ``search`` need not make anew each time."""
    return np.packbits(allowed_I, bitorder="little")


class State:
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
        num_items, levels = graph.num_items, graph.levels
        if num_items > MOST_ITEMS:
            raise ValueError(f"{num_items} items: at most {MOST_ITEMS} can be searched")
        width_L = np.array([effort.of(level)[0] for level in range(len(levels))])
        scale = np.ones(num_rows) if scale_B is None else np.asarray(scale_B, np.float64)
        if scale.shape != (num_rows,):
            raise ValueError(f"scale_B has shape {scale.shape}, want ({num_rows},)")
        kept_LB = np.ceil(width_L[:, None] * scale).clip(1, num_items or 1)
        limit_LB = np.ceil(kept_LB * effort.stretch).clip(kept_LB, num_items or 1)
        above = len(levels[1].nodes) if len(levels) > 1 else 0
        best = max(min(most, num_items), 0)
        bits = num_rows, (num_items + 7) // 8
        self.walk = kernels.Walk(
            kept_LB.astype(np.int64),
            limit_LB.astype(np.int64),
            _shown(num_items, num_rows, allowed, exclude),
            levels[min(1, len(levels) - 1)].row_of,
            np.zeros(bits, np.uint8),
            np.zeros(bits, np.uint8),
            np.empty((num_rows, above), np.int32),
            np.empty((num_rows, int(limit_LB.max(initial=0))), np.int64),
            np.zeros(num_rows, np.int64),
            np.full((num_rows, best), NOTHING, np.int64),
            np.zeros(num_rows, np.int64),
            np.zeros(num_rows, np.int64),
            np.ones(num_rows, np.bool_),
        )
        self.desk = kernels.Desk(*(np.empty(0, np.int64) for _ in range(8)))
        self.spent_s = np.zeros(3)

    def entries(self, seeds: tuple[Array, Array] | None) -> list[tuple[int, Array, Array]]:
        """The levels, the coarsest first, each with what it is entered at: offsets and items."""
        size, levels = len(self.walk.going_B), self.graph.levels
        if seeds is not None and len(seeds[0]) != size + 1:
            raise ValueError(f"seeds have {len(seeds[0]) - 1} rows, want {size}")
        if not (size and self.walk.best_BK.shape[1]):
            return []
        nothing: tuple[Array, Array] = np.zeros(size + 1, np.int64), np.zeros(0, np.int64)
        entries = [(at, *nothing) for at in range(len(levels))]
        if seeds is not None:
            entries[0] = 0, np.asarray(seeds[0], np.int64), np.asarray(seeds[1], np.int64)
        nodes = levels[-1].nodes.astype(np.int64)
        entries[-1] = len(levels) - 1, len(nodes) * np.arange(size + 1), np.tile(nodes, size)
        self._make_room(max(len(item_S) for _, _, item_S in entries))
        return entries[::-1]

    def hops(self, level: int) -> int:
        """Times that a level is expanded; none where it was scored whole."""
        return self.effort.of(level)[1] if level < len(self.graph.levels) - 1 else 0

    def descend(self) -> None:
        """Enter the next finer level with what was kept."""
        begun = time.perf_counter()
        kernels.descend(self.walk)
        self.spent_s[0] += time.perf_counter() - begun

    def plant(self, offsets: Array, item_S: Array) -> bool:
        """Let given items in beside what was kept; whether any is new."""
        begun = time.perf_counter()
        num = kernels.plant(self.walk, self.desk, offsets, item_S)
        self.spent_s[0] += time.perf_counter() - begun
        return num > 0

    def expand(self, level: int) -> bool:
        """Expand what is new among the kept; whether that led anywhere."""
        begun, links = time.perf_counter(), self.graph.levels[level]
        num = kernels.expand(self.walk, self.desk, links.neighbours, links.row_of)
        self.spent_s[0] += time.perf_counter() - begun
        return num > 0

    def absorb(self, level: int, score: Score, *, add: bool) -> None:
        """Score the new nodes and keep the best, of them or of them and those kept before."""
        begun, desk = time.perf_counter(), self.desk
        fresh = desk.fresh_X[: desk.fresh_offsets[-1]]
        row_N = np.repeat(np.arange(len(desk.fresh_offsets) - 1), np.diff(desk.fresh_offsets))
        if len(fresh):
            score_N = np.ascontiguousarray(score(row_N, fresh), np.float32)
            if score_N.shape != fresh.shape:
                raise ValueError(f"score answered with shape {score_N.shape}, want {fresh.shape}")
            desk.bits_X[: len(fresh)] = score_N.view(np.int32)
        scored = time.perf_counter()
        kernels.absorb(self.walk, desk, level, add, self.effort.stop)
        self.spent_s[1] += scored - begun
        self.spent_s[2] += time.perf_counter() - scored

    def found(self) -> Found:
        """The answer, in order."""
        begun, walk = time.perf_counter(), self.walk
        walk.best_BK.sort(axis=1)
        key_BK = walk.best_BK[:, ::-1]
        item, score_bits = unpack(key_BK[key_BK != NOTHING])
        offsets = np.concatenate([np.zeros(1, np.int64), walk.best_size_B.cumsum()])
        self.spent_s[2] += time.perf_counter() - begun
        spent = Spent(*self.spent_s.tolist())
        return Found(item, score_bits.view(np.float32), offsets, walk.num_scored_B, spent)

    def _make_room(self, entered: int) -> None:
        """For what a hop may find, of requests together and of one alone."""
        size, front = len(self.walk.going_B), self.walk.front_BF.shape[1]
        width = max(level.neighbours.shape[1] for level in self.graph.levels)
        every = max(entered, size * min(front * width, self.graph.num_items))
        pool = every + max(front, self.walk.best_BK.shape[1])
        self.desk = kernels.Desk(
            np.empty(every, np.int32),
            np.zeros(size + 1, np.int64),
            np.empty(every, np.int32),
            np.empty(every, np.int64),
            np.zeros(size + 1, np.int64),
            np.empty(every, np.int64),
            np.empty(pool, np.int64),
            np.empty(pool, np.int64),
        )


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
