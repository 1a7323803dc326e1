"""Ways to search a two-tower channel: time of a request, and how much of the exact answer is found.

    python -m benchmarks.indexes [--run runs/complete_journey] [--channel two_tower] [--items 400]

Each index over the same trained vectors, asked for the first test requests of 300 users one by one,
on one thread, from the request's features to the list: ``ms`` one after the other, ``idle_ms`` with
a pause of 30 ms before each, as on a server with little to do, whose caches others use meanwhile.
Medians; indexes take turns. ``coverage`` is the share of the exact list that is found.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import _common
from headrace.bundle import Bundle
from headrace.data import Requests
from headrace.errors import ConfigError, HeadraceError
from headrace.retrieval._indexes import Exact, FastScan, Hnsw, IndexConfig
from headrace.retrieval.two_tower import TwoTower, TwoTowerRetriever
from headrace.run import Run
from headrace.serving.api import one_thread

INDEXES: dict[str, IndexConfig] = {
    "exact": Exact.Config(),
    "fast_scan, 4 rescored": FastScan.Config(rescored=4),
    "fast_scan": FastScan.Config(),
    "hnsw": Hnsw.Config(),
}
PAUSE_S = 0.03


def opened(run: Run, channel: str, requests: int) -> tuple[TwoTowerRetriever, list[Requests]]:
    """The channel of a run, and what it is asked."""
    bundle = Bundle.open(run.bundle_path)
    samples = run.samples(bundle.space(run.log()))
    settings = run.app.retrieval.get(channel)
    if not isinstance(settings, TwoTower.Config):
        raise ConfigError(f"--channel {channel}: no two-tower channel of that name in the run")
    trained = settings.build(samples.space)
    retriever = trained.restore(bundle.arrays(f"channel.{channel}"), samples.space)
    rows = samples.first_requests("test")[0]
    rng = np.random.default_rng(0)
    some = rng.choice(rows, min(requests, len(rows)), replace=False)
    asked = samples.features(np.sort(some))
    return retriever, [asked.take(torch.tensor([b])) for b in range(len(asked))]


def asked_ms(retriever: TwoTowerRetriever, request: Requests, most: int, pause_s: float) -> float:
    """How long one answer takes."""
    time.sleep(pause_s)
    begun = time.perf_counter()
    retriever.retrieve(request, torch.tensor([most]))
    return 1000 * (time.perf_counter() - begun)


def measure(retriever: TwoTowerRetriever, asked: list[Requests], most: int) -> dict[str, Any]:
    """Figures of each index."""
    made, figures = dict[str, TwoTowerRetriever](), dict[str, dict[str, Any]]()
    for name, index in INDEXES.items():
        begun = time.perf_counter()
        made[name] = retriever.reindexed(index)
        figures[name] = {"build_s": round(time.perf_counter() - begun, 2)}
    quota = torch.tensor([most])
    exact = [made["exact"].retrieve(request, quota).item_id for request in asked]
    for name, one in made.items():
        found = [one.retrieve(request, quota).item_id for request in asked]
        shares = [float(a.within(b).float().mean()) for a, b in zip(exact, found, strict=True)]
        figures[name]["coverage"] = round(sum(shares) / len(shares), 4)
    for key, pause_s in (("ms", 0.0), ("idle_ms", PAUSE_S)):
        times: dict[str, list[float]] = {name: [] for name in made}
        for first in range(0, len(asked), 20):
            for name, one in made.items():
                some = asked[first : first + 20]
                times[name] += [asked_ms(one, request, most, pause_s) for request in some]
        for name, took in times.items():
            figures[name][key] = round(median(took), 2)
    return figures


def main() -> None:
    """Print a line an index and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument("--channel", default="two_tower")
    options.add_argument("--items", type=int, default=400, help="length of a list")
    options.add_argument("--requests", type=int, default=300)
    given = options.parse_args()
    try:
        retriever, asked = opened(Run.open(given.run), given.channel, given.requests)
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    one_thread()
    figures = measure(retriever, asked, given.items)
    for name, own in figures.items():
        print(f"{name}: {own}", flush=True)
    size = len(retriever.item_vectors) - 1
    told = {"items": size, "list": given.items, "requests": len(asked), "indexes": figures}
    _common.finish("indexes", told, save=given.save)


if __name__ == "__main__":
    main()
