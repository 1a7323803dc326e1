"""A catalogue with exact answers to some requests, and what a search of it finds and costs.

I  items, 0 is none    R  requests    K  best items
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import _common
from benchmarks._foil_world import EVENTS, GRAPH
from headrace.data import Ragged, Requests
from headrace.ops.graph_search import Effort, Found
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._searched import Searchable, placed
from headrace.retrieval._split import Fused, Scores, Split

Array = NDArray[Any]
MOST, BATCH = 200, 16


class Bench:
    """A catalogue, requests of later days with what they led to, exact answers to the first."""

    def __init__(
        self, catalogue: Searchable, requests: Requests, truth: Ragged, judged: int
    ) -> None:
        self.catalogue, self.requests, self.truth = catalogue, requests, truth
        self.seeded = True
        self.judge_by(judged)

    def unseeded(self) -> Bench:
        """The same, its searches entered from the coarse level alone."""
        other = copy(self)
        other.seeded = False
        return other

    @property
    def num_items(self) -> int:
        """Items of the catalogue, I."""
        return len(self.catalogue.available_I)

    def judge_by(self, judged: int) -> None:
        """Find the exact answers to so many requests, by a scan."""
        found = [self._scan(request) for request in range(judged)]
        self.scan_ms = [ms for ms, _ in found]
        self.exact = [best for _, best in found]

    def some(self, low: int, high: int) -> Requests:
        """Requests by number, from the first again after the last."""
        return self.requests.take(torch.arange(low, high) % len(self.requests))

    def search(
        self,
        low: int,
        high: int,
        effort: Effort,
        scale: float = 1.0,
        catalogue: Searchable | None = None,
    ) -> Found:
        """Find the best of some requests; the user part is made anew."""
        return self.find(self.some(low, high), effort, scale, catalogue)

    def find(
        self,
        asked: Requests,
        effort: Effort,
        scale: float = 1.0,
        catalogue: Searchable | None = None,
    ) -> Found:
        """The same of requests that are at hand."""
        scale_B = np.full(len(asked), scale)
        seeds = asked.ragged("history.item").tail(EVENTS) if self.seeded else None
        return (catalogue or self.catalogue).search(
            asked, MOST, effort, scale_B=scale_B, seeds=seeds
        )

    def judge(
        self, effort: Effort, scale: float = 1.0, catalogue: Searchable | None = None
    ) -> dict[str, float]:
        """How much of the exact answers is found, and what it costs."""
        rows = np.zeros((len(self.exact), 4))
        for request, exact_K in enumerate(self.exact):
            found = self.search(request, request + 1, effort, scale, catalogue)
            wanted = self.truth[request].numpy()
            rows[request] = (
                np.isin(exact_K, found.item).mean(),
                found.num_scored[0],
                np.isin(wanted, exact_K).mean(),
                np.isin(wanted, found.item).mean(),
            )
        coverage, scored, whole, part = rows.mean(0).tolist()
        return {
            "coverage": round(coverage, 4),
            "scored_share": round(scored / self.num_items, 5),
            "scored": round(scored),
            "recall_all": round(whole, 4),
            "recall_delta": round((whole - part) / whole if whole else 0.0, 4),
        }

    def _scan(self, request: int) -> tuple[float, Array]:
        asked, begun = self.some(request, request + 1), time.perf_counter()
        best = self.catalogue.exhaustive(asked, MOST).item
        return 1000 * (time.perf_counter() - begun), best


@final
class Part(Split[Any]):
    """A scorer of the first items of a catalogue; requests still tell of all."""

    def __init__(self, whole: Searchable) -> None:
        self._scorer, self._vector_IV = whole.scorer, whole.vector_IV

    @property
    def reads_sequences(self) -> Collection[str] | None:
        return self._scorer.reads_sequences

    def vectors(self, item_M: Tensor) -> Tensor:
        return self._scorer.vectors(item_M)

    def places(self, vector_MV: Tensor) -> Tensor:
        return self._scorer.places(vector_MV)

    def rows(self, vector_MV: Tensor) -> Tensor:
        return self._scorer.rows(vector_MV)

    def users(self, requests: Requests, vector_IV: Tensor, dtype: torch.dtype) -> Any:
        return self._scorer.users(requests, self._vector_IV, dtype)

    def cross(self, users: Any, item: Tensor, row: Tensor) -> Tensor:
        return self._scorer.cross(users, item, row)

    def fused(
        self, vector_IV: Tensor, row_IX: Tensor, bonus_I: Tensor
    ) -> Callable[[Requests], list[Scores]]:
        assert isinstance(self._scorer, Fused)
        return self._scorer.fused(self._vector_IV, row_IX, bonus_I)


def first(whole: Searchable, num_items: int) -> Searchable:
    """The first items of a catalogue, linked anew: they are in no order, so any are as good."""
    vector_IV, height_I = whole.vector_IV[:num_items], whole.height_I[:num_items]
    return replace(
        whole,
        scorer=Part(whole),
        graph=GRAPH.build(placed(whole.scorer, vector_IV, height_I), (vector_IV, height_I)),
        vector_IV=vector_IV,
        row_IX=whole.row_IX[:num_items],
        bonus_I=whole.bonus_I[:num_items],
        height_I=height_I,
        available_I=whole.available_I[:num_items],
    )


def latency(bench: Bench, effort: Effort, requests: int) -> dict[str, Any]:
    """Milliseconds of a request alone, and where they go."""
    times, parts, scored = list[float](), np.zeros(3), 0
    for request in range(requests + 5):  # the first warm up
        asked = bench.some(max(0, request - 5), max(0, request - 5) + 1)
        begun = time.perf_counter()
        found = bench.find(asked, effort)
        if request >= 5:
            times.append(1000 * (time.perf_counter() - begun))
            spent = found.spent
            parts += (spent.scoring_s, spent.expansion_s, spent.selection_s)
            scored += int(found.num_scored[0])
    total = sum(times) / 1000
    names = "scoring", "expansion", "selection"
    shares: dict[str, float] = dict(zip(names, (parts / total).tolist(), strict=True))
    shares["user part and rest"] = 1 - parts.sum() / total
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "profile": {name: round(share, 3) for name, share in shares.items()},
        "gflops": round(scored * flops(bench.catalogue) / parts[0] / 1e9, 1),
        "scored_per_s": round(scored / parts[0]),
    }


def flops(catalogue: Searchable) -> float:
    """Operations of the cross for one item, a multiplication and its addition being two."""
    scorer = catalogue.scorer
    assert isinstance(scorer, AttentionScorer)
    config = scorer.config
    query, keys = config.heads * config.head_dim, EVENTS + 1
    widths = (*config.hidden, 1)
    net = sum(a * b for a, b in pairwise(widths))
    return 2.0 * (config.dim + query * keys + config.heads * keys * widths[0] + net)


def throughput(bench: Bench, effort: Effort, requests: int) -> float:
    """Requests a second, ``BATCH`` at a time."""
    begun, rounds = time.perf_counter(), max(1, requests // BATCH)
    for low in range(0, rounds * BATCH, BATCH):
        bench.search(low, low + BATCH, effort)
    return round(rounds * BATCH / (time.perf_counter() - begun), 1)


def peak_gflops(dtype: torch.dtype) -> float:
    """What the machine's matrix product reaches on as many threads."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best_ms = min(_common.times_ms(lambda: a @ b, 5))
    return 2 * 2048**3 / best_ms / 1e6


def size_of(catalogue: Searchable) -> float:
    """Bytes an item: vector, row of the item part, bonus and height, links."""
    arrays = [
        array
        for level in catalogue.graph.graph.levels
        for array in (level.neighbours, level.nodes, level.row_of)
    ]
    own = (catalogue.vector_IV, catalogue.row_IX, catalogue.bonus_I, catalogue.height_I)
    total = sum(a.nbytes for a in arrays) + sum(x.nbytes for x in own)
    return round(total / len(catalogue.available_I), 1)
