"""The search of ``graph_search.py`` under the scorer of ``attention_score.py``, compiled.

No Python runs between hops: one call of a kernel a level, the scoring shared out among threads.

It finds what ``graph_search.search`` finds, score by score. A thread costs less than Python would
between two hops, so that a request's hops, some hundred items each, are worth sharing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import graph_walk_kernels as kernels
from .attention_score import Scorer
from .graph import Graph
from .graph_search import Effort, Found, State
from .parallel import beside

Array = NDArray[Any]
Rows = tuple[Array, Array]


def search(
    graph: Graph,
    scorers: Sequence[Scorer],
    most: int,
    effort: Effort,
    *,
    allowed: Array | None = None,
    exclude: Rows | None = None,
    scale_B: Array | None = None,
    seeds: Rows | None = None,
) -> list[Found]:
    """Find the ``most`` best items of each request, of which each brings a scorer.

    The rest is as in ``graph_search.search``.
    """
    found: list[Found] = []
    for b, scorer in enumerate(scorers):
        scale = None if scale_B is None else scale_B[b : b + 1]
        state = State(graph, 1, most, effort, allowed, _row(exclude, b), scale)
        _walk(state, scorer, _row(seeds, b))
        found.append(state.found())
    return found


def _walk(state: State, scorer: Scorer, seeds: Rows | None) -> None:
    """Walk all levels, with as many threads as the scorer may have."""
    unit, items, effort = scorer.unit, scorer.items, state.effort
    entries, desk = state.entries(seeds), state.desk
    board, ticks_3 = kernels.board_for(len(desk.fresh_X)), np.zeros(3, np.int64)

    def help_out() -> None:
        kernels.help_out(unit, items, desk.fresh_X, desk.bits_X.view(np.float32), board)

    begun = time.perf_counter()
    with beside(help_out, min(scorer.threads, _CORES) - 1, lambda: kernels.end(board)):
        for level, offsets, item_S in entries:
            links = state.graph.levels[level]
            kernels.walk_level(
                unit,
                items,
                state.walk,
                desk,
                board,
                level,
                (links.neighbours, links.row_of),
                (offsets, item_S),
                state.hops(level),
                effort.rule == "paper",
                effort.stop,
                ticks_3,
            )
    spent_s = time.perf_counter() - begun
    whole = int(ticks_3.sum())  # 0 on machines without a clock for kernels: all counts as scoring
    state.spent_s += spent_s * (ticks_3 / whole if whole else np.array([0.0, 1.0, 0.0]))


def _row(rows: Rows | None, b: int) -> Rows | None:
    if rows is None:
        return None
    first, last = rows[0][b], rows[0][b + 1]
    return np.array([0, last - first]), rows[1][first:last]


_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
