"""The foil: a graph searched under a scorer with target attention, against scoring everything.

A request asks for the best 200 items. Both ways use the same scorer, its item part made beforehand
and its user part once a request; the exhaustive scan reads items in order. ``coverage`` is the
share of the exact best that the search found, ``recall_delta`` what that loses of the items that
requests led to. ``by_items`` searches ever larger catalogues, each with the narrowest widths that
cover ``AIM``. Rivals score as many items as the search did. One process, ``--threads`` threads.

    python -m benchmarks.foil [--items 1000000] [--requests 1000] [--judged 200] [--threads 2]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common, _foil_rivals
from benchmarks._foil_bench import GRAPH, MOST, Bench, latency, peak_gflops, size_of, throughput
from benchmarks._foil_case import StandIn, World
from headrace.ops.graph_search import Effort, search

Array = NDArray[Any]
AIM, CHURN = 0.98, 0.05
EFFORT = Effort(width=(250, 120, 100), hops=(6, 1, 1))
SCALES = (0.25, 0.5, 1.0, 2.0)  # of the widths: four settings
LADDER = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
GATES = {
    "coverage": lambda got: got >= AIM,
    "scored_share": lambda got: got <= 0.015,
    "recall_delta": lambda got: got <= 0.01,
    "speedup": lambda got: got >= 40,
    "p50_ms": lambda got: got <= 12,
    "p99_ms": lambda got: got <= 25,
    "build_s": lambda got: got <= 600,
}


def by_items(largest: int, make: Callable[[int], Bench]) -> dict[str, dict[str, float]]:
    """Cost of catalogues of 10,000 items, of ten times as many and so on."""
    sizes = [10**power for power in range(4, 10) if 10**power < largest]
    return {str(size): narrowest(make(size)) for size in sizes}


def narrowest(bench: Bench) -> dict[str, float]:
    """The narrowest widths that cover enough: what is scored then, and how long it takes."""
    for scale in LADDER:
        row = bench.judge(EFFORT, scale)
        if row["coverage"] >= AIM:
            break
    times = _common.times_ms(lambda: bench.search(np.array([0]), EFFORT, scale), 30)
    scan = float(np.median(bench.scan_ms))
    row |= {"scale": scale, "p50_ms": round(float(np.median(times)), 2), "scan_ms": round(scan, 2)}
    return row


def churn(bench: Bench, judged: int) -> dict[str, float]:
    """A share of the items goes and as many come: linked in, against a graph built in one go."""
    vector_ID, size = bench.case.vector_ID, bench.graph.num_items
    changed = max(1, round(CHURN * size))
    old = GRAPH.build(vector_ID[:-changed])
    begun = time.perf_counter()
    new = old.insert(vector_ID, torch.arange(size - changed, size))
    insert_us = 1e6 * (time.perf_counter() - begun) / changed
    left = np.random.default_rng(0).choice(np.arange(1, size - changed), changed, replace=False)
    bench.allowed_I[left] = False
    bench.judge_by(judged)
    inserted, built = bench.judge(EFFORT, graph=new.graph), bench.judge(EFFORT)
    return {
        "inserted_coverage": inserted["coverage"],
        "inserted_share": inserted["scored_share"],
        "built_coverage": built["coverage"],
        "built_share": built["scored_share"],
        "insert_us": round(insert_us, 1),
    }


def rivals(bench: Bench, budget: int, requests: int) -> dict[str, dict[str, float]]:
    """What others cover who score as many items."""
    rng, size = np.random.default_rng(0), bench.graph.num_items
    begun = time.perf_counter()
    tree = _foil_rivals.Tree.of(bench.case.vector_ID.numpy(), 16)
    tree_s = time.perf_counter() - begun
    ways: dict[str, Callable[[Any], dict[int, float]]] = {
        "random_start_walk": lambda s: _foil_rivals.random_walk(bench.graph, s, budget, rng),
        "k_medoids_tree": lambda s: tree.search(s, budget),
    }
    out: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        hits, scored, begun = 0.0, 0, time.perf_counter()
        for request in range(requests):
            found = way(bench.case.score(np.array([request])))
            best = sorted(found, key=found.__getitem__, reverse=True)[:MOST]
            hits += float(np.isin(bench.exact_RK[request], best).mean()) / requests
            scored += len(found)
        spent = 1000 * (time.perf_counter() - begun) / requests
        share = scored / requests / size
        out[name] = {
            "coverage": round(hits, 4),
            "scored_share": round(share, 5),
            "ms": round(spent, 1),
        }
    out["k_medoids_tree"]["build_s"] = round(tree_s, 1)
    return out


def fronts(bench: Bench, request: int) -> list[Array]:
    """What a search of one request expanded on level 0, hop by hop, about."""
    score, calls = bench.case.score(np.array([request])), list[Array]()

    def watched(row_N: Array, item_N: Array) -> Array:
        score_N = score(row_N, item_N)
        calls.append(item_N[np.argsort(-score_N)[: EFFORT.width[0]]])
        return score_N

    search(bench.graph, watched, 1, MOST, EFFORT)
    return calls[-EFFORT.hops[0] - 1 : -1]


def visited(bench: Bench, requests: int) -> dict[str, float]:
    """Microseconds a request to expand the same nodes with three ways to know what was visited."""
    links, size = bench.graph.levels[0].neighbours, bench.graph.num_items
    all_fronts = [fronts(bench, request) for request in range(requests)]

    def bitmap() -> None:
        for some in all_fronts:
            bits_W = np.zeros((size + 7) // 8, np.uint8)
            for front in some:
                _foil_rivals.visit_bitmap(links, front, bits_W)

    def hashed() -> None:
        for some in all_fronts:
            room = sum(map(len, some)) * links.shape[1]  # at most half full, whatever is found
            table_S = np.full(2 << (room - 1).bit_length(), -1, np.int32)
            for front in some:
                _foil_rivals.visit_hash(links, front, table_S)

    def sets() -> None:
        for some in all_fronts:
            seen = np.empty(0, np.int32)
            for front in some:
                _, seen = _foil_rivals.visit_sets(links, front, seen)

    ways = {"bitmap": bitmap, "hash_set": hashed, "sorted_sets": sets}
    return {
        f"{name}_us": round(1000 * min(_common.times_ms(way, 5)) / requests)
        for name, way in ways.items()
    }


def figures(bench: Bench, given: Any, make: Callable[[int], Bench]) -> dict[str, Any]:
    """All that is said of one catalogue, and its smaller kin."""
    out: dict[str, Any] = bench.judge(EFFORT)
    scored = round(out["scored"])
    out |= latency(bench, EFFORT, given.requests)
    exhaustive_ms = float(np.median(bench.scan_ms))
    out |= {
        "exhaustive_ms": round(exhaustive_ms, 2),
        "speedup": round(exhaustive_ms / out["p50_ms"], 1),
        "flops_share": round(out["gflops"] / peak_gflops(), 3),
        "build_s": round(bench.build_s, 1),
        "bytes_per_item": size_of(bench),
        "nodes": [len(level.nodes) for level in bench.graph.levels],
        "requests_per_s_at_16": throughput(bench, EFFORT, given.requests),
        "settings": {str(scale): bench.judge(EFFORT, scale) for scale in SCALES},
        "visited": visited(bench, min(20, given.requests)),
    }
    few = min(20, given.judged)
    out["rivals"] = rivals(bench, scored, few)
    out["by_items"] = by_items(bench.graph.num_items, make)
    out["by_items"][str(bench.graph.num_items)] = narrowest(bench)
    return out | {"churn": churn(bench, min(50, given.judged))}


def main() -> None:
    """Print one JSON line last."""
    options = _common.parser(__doc__)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--requests", type=int, default=1_000)
    options.add_argument("--judged", type=int, default=200, help="requests with an exact answer")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)

    def make(num_items: int, judged: int = 50) -> Bench:
        world = World.planted(num_items, max(given.requests, judged), 64, seed=1)
        return Bench(StandIn(world), min(judged, given.judged))

    out = {"scorer": "stand-in, not trained", "items": given.items, "threads": given.threads}
    out |= figures(make(given.items, given.judged), given, make)
    passed = {name: bool(gate(out[name])) for name, gate in GATES.items()}
    _common.finish("foil", {**out, "passed": passed}, save=given.save)


if __name__ == "__main__":
    main()
