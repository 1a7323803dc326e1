"""The foil: a graph searched under a trained scorer with target attention, or everything scored.

A world of so many items, a scorer trained on its log, and later requests (``_foil_world``; made
once, kept in ``--folder``, made anew with ``--fresh``). A request asks for the best 200 items. Both
ways use the same scorer, its item part made beforehand and its user part once a request; the
exhaustive scan reads items in order. ``coverage`` is the share of the exact best that the search
found, ``recall_delta`` what that loses of the items that requests led to; ``without_seeds`` is the
same search entered from the coarse level alone. ``by_items`` searches the first items of the
catalogue, each with the narrowest widths that cover ``AIM``; no recall there, since few of the
items that requests led to are among them. Rivals score as many items as the search did.
``precision``: the share of the best by fp32 rows that a scan of bf16 rows has among its best, and
that a search of these finds. One process, ``--threads`` threads.

    python -m benchmarks.foil [--items 1000000] [--requests 1000] [--judged 200] [--threads 2]
                              [--plot docs/images/foil.svg]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks import _common, _foil_rivals
from benchmarks._foil_bench import MOST, Bench, first, latency, peak_gflops, size_of, throughput
from benchmarks._foil_world import Trained, trained
from headrace.data import Requests
from headrace.ops.graph_search import Effort, Score, search
from headrace.retrieval._searched import Searchable, item_part

Array = NDArray[Any]
AIM, CHURN = 0.98, 0.05
CHURNED = 100_000  # items of the catalogue that changes, at most
EFFORT = Effort(width=(450, 20, 20), hops=(8, 1, 2))
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


def by_items(whole: Bench, judged: int) -> dict[str, dict[str, float]]:
    """Cost of catalogues of the first 10,000 items, of ten times as many and so on."""
    out: dict[str, dict[str, float]] = {}
    for size in [10**power for power in range(4, 10) if 10**power < whole.num_items - 1]:
        part = Bench(first(whole.catalogue, size), whole.requests, whole.truth, judged)
        out[str(size)] = narrowest(part)
    return out | {str(whole.num_items): narrowest(whole)}


def narrowest(bench: Bench) -> dict[str, float]:
    """The narrowest widths that cover enough: what is scored then, and how long it takes."""
    row: dict[str, float] = {}
    for scale in LADDER:
        row = {"scale": scale, **bench.judge(EFFORT, scale)}
        if row["coverage"] >= AIM:
            break
    row = {name: value for name, value in row.items() if not name.startswith("recall")}
    times = _common.times_ms(lambda: bench.search(0, 1, EFFORT, row["scale"]), 30)
    scan = float(np.median(bench.scan_ms))
    return row | {"p50_ms": round(float(np.median(times)), 2), "scan_ms": round(scan, 2)}


def churn(whole: Bench, judged: int) -> dict[str, float]:
    """A share of the items goes and as many come: linked in, against a graph built in one go."""
    size = min(whole.num_items, CHURNED)
    changed, built = max(1, round(CHURN * size)), first(whole.catalogue, size)
    old, available_I = first(whole.catalogue, size - changed), built.available_I.clone()
    begun = time.perf_counter()
    inserted = old.grown(available_I)
    insert_us = 1e6 * (time.perf_counter() - begun) / changed
    gone = np.random.default_rng(0).choice(np.arange(1, size - changed), changed, replace=False)
    available_I[torch.from_numpy(gone)] = False
    both = [replace(each, available_I=available_I) for each in (inserted, built)]
    bench = Bench(both[1], whole.requests, whole.truth, judged)
    by_inserts, in_one_go = (bench.judge(EFFORT, catalogue=each) for each in both)
    return {
        "items": size,
        "inserted_coverage": by_inserts["coverage"],
        "inserted_share": by_inserts["scored_share"],
        "built_coverage": in_one_go["coverage"],
        "built_share": in_one_go["scored_share"],
        "insert_us": round(insert_us, 1),
    }


def rivals(
    bench: Bench, product: Searchable, budget: int, requests: int
) -> dict[str, dict[str, float]]:
    """What others cover who score as many items."""
    rng = np.random.default_rng(0)
    begun = time.perf_counter()
    tree = _foil_rivals.Tree.of(bench.catalogue.vector_IV.numpy(), 16)
    tree_s = time.perf_counter() - begun
    graph = bench.catalogue.graph.graph
    ways: dict[str, Callable[[Score, Requests], dict[int, float]]] = {
        "two_tower_filter": lambda s, r: _foil_rivals.prefilter(product, r, s, budget),
        "random_start_walk": lambda s, _: _foil_rivals.random_walk(graph, s, budget, rng),
        "k_medoids_tree": lambda s, _: tree.search(s, budget),
    }
    out: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        hits, scored, begun = 0.0, 0, time.perf_counter()
        for request in range(requests):
            asked = bench.some(request, request + 1)
            found = way(bench.catalogue.scores(asked), asked)
            best = sorted(found, key=found.__getitem__, reverse=True)[:MOST]
            hits += float(np.isin(bench.exact[request], best).mean()) / requests
            scored += len(found)
        spent = 1000 * (time.perf_counter() - begun) / requests
        share = scored / requests / bench.num_items
        out[name] = {
            "coverage": round(hits, 4),
            "scored_share": round(share, 5),
            "ms": round(spent, 1),
        }
    out["k_medoids_tree"]["build_s"] = round(tree_s, 1)
    return out


def fronts(bench: Bench, request: int) -> list[Array]:
    """What a search of one request expanded on level 0, hop by hop, about."""
    score, calls = bench.catalogue.scores(bench.some(request, request + 1)), list[Array]()

    def watched(row_N: Array, item_N: Array) -> Array:
        score_N = score(row_N, item_N)
        calls.append(item_N[np.argsort(-score_N)[: EFFORT.width[0]]])
        return score_N

    search(bench.catalogue.graph.graph, watched, 1, MOST, EFFORT)
    return calls[-EFFORT.hops[0] - 1 : -1]


def visited(bench: Bench, requests: int) -> dict[str, float]:
    """Microseconds a request to expand the same nodes with three ways to know what was visited."""
    links, size = bench.catalogue.graph.graph.levels[0].neighbours, bench.num_items
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


@torch.inference_mode()
def precision(bench: Bench, judged: int) -> dict[str, float]:
    """What rows of half the width lose."""
    catalogue = bench.catalogue
    _, row_IX = item_part(catalogue.scorer, torch.arange(bench.num_items), torch.float32)
    exact = replace(catalogue, row_IX=row_IX)
    shares = np.zeros((judged, 2))
    for request in range(judged):
        best = exact.exhaustive(bench.some(request, request + 1), MOST).item
        found = bench.search(request, request + 1, EFFORT).item
        shares[request] = [np.isin(best, each).mean() for each in (bench.exact[request], found)]
    scan, search = shares.mean(0).round(4).tolist()
    return {"scan": scan, "search": search}


def plot(out: dict[str, Any], path: Path) -> None:
    """Cost against the number of items, and coverage against the share that is scored."""
    figure = Figure((9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = [int(size) for size in out["by_items"]]
    rows = list(out["by_items"].values())
    left.loglog(sizes, [row["scored"] for row in rows], "o-", color="#0b5c77", label="foil")
    left.loglog(sizes, sizes, "--", color="#d9822b", label="all")
    left.set(xlabel="items", ylabel=f"scored for a coverage of {AIM}")
    left.legend()
    points = sorted((row["scored_share"], row["coverage"]) for row in out["settings"].values())
    right.semilogx(*zip(*points, strict=True), "o-", color="#0b5c77")
    right.set(
        xlabel=f"share of {out['items']:,} items scored", ylabel=f"coverage of the {MOST} best"
    )
    for axes in (left, right):
        axes.grid(visible=True, color="#d8dee4")
    figure.savefig(path)


def figures(bench: Bench, world: Trained, given: Any) -> dict[str, Any]:
    """All that is said of one catalogue, and its smaller kin."""
    out: dict[str, Any] = bench.judge(EFFORT)
    scored, catalogue = round(out["scored"]), bench.catalogue
    out |= latency(bench, EFFORT, given.requests)
    exhaustive_ms = float(np.median(bench.scan_ms))
    out |= {
        "exhaustive_ms": round(exhaustive_ms, 2),
        "speedup": round(exhaustive_ms / out["p50_ms"], 1),
        "flops_share": round(out["gflops"] / peak_gflops(catalogue.row_IX.dtype), 4),
        "train_s": world.train_s,
        "build_s": world.build_s,
        "bytes_per_item": size_of(catalogue),
        "nodes": [len(level.nodes) for level in catalogue.graph.graph.levels],
        "requests_per_s_at_16": throughput(bench, EFFORT, given.requests),
        "settings": {str(scale): bench.judge(EFFORT, scale) for scale in SCALES},
        "without_seeds": bench.unseeded().judge(EFFORT),
        "visited": visited(bench, min(20, given.requests)),
    }
    few = min(20, given.judged)
    out["precision"] = precision(bench, few)
    out["rivals"] = rivals(bench, world.product.catalogue, scored, few)
    out["by_items"] = by_items(bench, min(50, given.judged))
    return out | {"churn": churn(bench, min(50, given.judged))}


def main() -> None:
    """Print one JSON line last."""
    options = _common.parser(__doc__)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--requests", type=int, default=1_000)
    options.add_argument("--judged", type=int, default=200, help="requests with an exact answer")
    options.add_argument("--days", type=float, default=0.35, help="of training")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--fresh", action="store_true", help="make world and scorers anew")
    folder = Path(tempfile.gettempdir()) / "headrace_foil"
    options.add_argument("--folder", type=Path, default=folder, help="keep them here")
    options.add_argument("--plot", type=Path, help="write a chart here")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    world = trained(given.items, given.requests, given.folder, fresh=given.fresh, days=given.days)
    torch.set_num_threads(given.threads)
    bench = Bench(world.foil.catalogue, world.requests, world.truth, given.judged)
    out = {"items": given.items, "threads": given.threads, **figures(bench, world, given)}
    if given.plot:
        plot(out, given.plot)
    passed = {name: bool(gate(out[name])) for name, gate in GATES.items()}
    _common.finish("foil", {**out, "passed": passed}, save=given.save)


if __name__ == "__main__":
    main()
