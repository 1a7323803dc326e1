"""A catalogue with its graph and exact answers, and what a search of it finds and costs.

I  items, 0 is none    R  requests    B  requests of a search    K  best items
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common
from benchmarks._foil_case import Case
from headrace.ops.graph_search import Effort, Found, Graph, pack, search
from headrace.retrieval._graph import ItemGraph

Array = NDArray[Any]
MOST, BATCH = 200, 16
GRAPH = ItemGraph.Config(links=16, build_width=64)


class Bench:
    """A case, its graph, and the exact answers to its first requests."""

    def __init__(self, case: Case, judged: int) -> None:
        self.case = case
        begun = time.perf_counter()
        self.graph = GRAPH.build(case.vector_ID).graph
        self.build_s = time.perf_counter() - begun
        self.allowed_I = np.arange(self.graph.num_items) > 0
        self.judge_by(judged)

    def judge_by(self, judged: int) -> None:
        """Find the exact answers to so many requests, by a scan."""
        withdrawn_I, exact = torch.from_numpy(~self.allowed_I), list[Array]()
        self.bits, self.scan_ms = pack(self.allowed_I), list[float]()
        for request in range(judged):
            begun = time.perf_counter()
            score_I = self.case.scan(request).masked_fill(withdrawn_I, -torch.inf)
            exact.append(score_I.topk(min(MOST, int(self.allowed_I.sum()))).indices.numpy())
            self.scan_ms.append(1000 * (time.perf_counter() - begun))
        self.exact_RK = np.stack(exact)

    def search(
        self, request_B: Array, effort: Effort, scale: float = 1.0, graph: Graph | None = None
    ) -> Found:
        """Find the best of some requests; the user part is made anew."""
        size = len(request_B)
        return search(
            self.graph if graph is None else graph,
            self.case.score(request_B),
            size,
            MOST,
            effort,
            allowed=self.bits,
            scale_B=np.full(size, scale),
        )

    def judge(
        self, effort: Effort, scale: float = 1.0, graph: Graph | None = None
    ) -> dict[str, float]:
        """How much of the exact answers is found, and what it costs."""
        hits = np.zeros(4)
        for request, exact_K in enumerate(self.exact_RK):
            found = self.search(np.array([request]), effort, scale, graph)
            target = self.case.target_R[request]
            hits += (
                np.isin(exact_K, found.item).mean(),
                found.num_scored[0],
                target in exact_K,
                target in found.item,
            )
        coverage, scored, whole, part = (hits / len(self.exact_RK)).tolist()
        return {
            "coverage": round(coverage, 4),
            "scored_share": round(scored / self.graph.num_items, 5),
            "scored": round(scored),
            "recall_all": round(whole, 4),
            "recall_delta": round((whole - part) / whole if whole else 0.0, 4),
        }


def latency(bench: Bench, effort: Effort, requests: int) -> dict[str, Any]:
    """Milliseconds of a request alone, and where they go."""
    times, parts, scored = list[float](), np.zeros(3), 0
    for request in range(requests + 5):  # the first warm up
        begun = time.perf_counter()
        found = bench.search(np.array([max(0, request - 5)]), effort)
        if request >= 5:
            times.append(1000 * (time.perf_counter() - begun))
            spent = found.spent
            parts += (spent.scoring_s, spent.expansion_s, spent.selection_s)
            scored += int(found.num_scored[0])
    total = sum(times) / 1000
    shares = dict(zip(("scoring", "expansion", "selection"), (parts / total).tolist(), strict=True))
    shares["user part and rest"] = 1 - parts.sum() / total
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "profile": {name: round(share, 3) for name, share in shares.items()},
        "gflops": scored * bench.case.flops / parts[0] / 1e9,
        "scored_per_s": round(scored / parts[0]),
    }


def throughput(bench: Bench, effort: Effort, requests: int) -> float:
    """Requests a second, ``BATCH`` at a time."""
    begun, rounds = time.perf_counter(), max(1, requests // BATCH)
    for low in range(0, rounds * BATCH, BATCH):
        bench.search(np.arange(low, low + BATCH) % len(bench.case.target_R), effort)
    return round(rounds * BATCH / (time.perf_counter() - begun), 1)


def peak_gflops() -> float:
    """What the machine's matrix product reaches on as many threads, float32."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best_ms = min(_common.times_ms(lambda: a @ b, 5))
    return 2 * 2048**3 / best_ms / 1e6


def size_of(bench: Bench) -> float:
    """Bytes an item: vector, row of the item part, links."""
    links = sum(
        array.nbytes
        for level in bench.graph.levels
        for array in (level.neighbours, level.nodes, level.row_of)
    )
    vector_bytes = 4 * bench.case.vector_ID.shape[1]
    return round(links / bench.graph.num_items + vector_bytes + bench.case.row_bytes, 1)
