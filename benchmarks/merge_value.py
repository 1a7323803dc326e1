"""The merge cut by what candidates are worth, against by how likely they are taken.

    python -m benchmarks.merge_value [--run runs/complete_journey ...] [--requests 3000]
                                     [--formula "p_buy * price"] [--bids]

Requests of the test period, as they are (``all``) and with the users' old items left out (``new``),
at the run's quotas, with 100, 200 and 400 candidates left by the merge. ``left`` is the prices of
what was really taken of those, ``taken`` of the slate, ``foretold`` the slate's value as the ranker
has it, all a request; ``more`` what cutting by worth brings above cutting by probability, relative,
with the standard error of requests. With ``--bids`` every item's price gives way to a bid drawn by
lot (for each run anew), log-normal, which what is taken cannot depend on. Several runs are
trainings with other seeds, asked the same requests: those are put together, so that errors are
somewhat too small.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common
from headrace.data import Candidates, Ragged, Requests
from headrace.errors import HeadraceError
from headrace.evaluation import replay
from headrace.evaluation.allocate import Opened
from headrace.ops import ragged
from headrace.pipeline.learning import CHUNK, some
from headrace.run import Run
from headrace.serving.cascade import Cascade
from headrace.serving.merge import retrieve

Array = NDArray[Any]
TOLD = ("left", "foretold", "taken")
SIZES = (100, 200, 400)
KINDS = {"all": 0.0, "new": 1.0}
WAYS = ("probability", "worth")
Key = tuple[str, int, str]  # kind of requests, candidates that the merge leaves, way


def slate(opened: Opened, requests: Requests, merged: Candidates) -> Candidates:
    """What the rest of the cascade shows of what the merge left."""
    cascade, quota = opened.cascade, opened.run.app.allocation.quota

    def all_of(stage: str) -> torch.Tensor:
        return torch.full((len(requests),), quota[stage])

    merged = cascade.features(requests, merged, opened.samples.store)
    short = cascade.cut(cascade.prerank(requests, merged), all_of("preranking"))
    ranked = cascade.rank(requests, short)
    return ranked.take(cascade.reranker.select(requests, ranked, all_of("reranking")))


def taken(cascade: Cascade, item: Ragged, truth: Ragged) -> torch.Tensor:  # (B,)
    """Prices of those items that were really taken."""
    price_N = cascade.catalogue.columns["price"][item.values].double()
    return ragged.segment_sum(torch.where(item.within(truth), price_N, 0.0), item.offsets)


def with_bids(opened: Opened, seed: int) -> Opened:
    """The same cascade, in which items are worth their bids, not their prices."""
    catalogue = opened.cascade.catalogue
    size = len(catalogue.available)
    bid_I = torch.randn(size, generator=torch.Generator().manual_seed(seed)).exp()
    catalogue = catalogue.reprice("price", torch.arange(size), bid_I)
    return replace(opened, cascade=opened.cascade.with_catalogue(catalogue))


def compared(opened: Opened, requests: int) -> Mapping[Key, Array]:
    """What was ``TOLD`` of the same requests, ``(N, 3)``, each way."""
    cascade, samples = opened.cascade, opened.samples
    quota = opened.run.app.allocation.quota
    rows = some(samples.requests("test"), requests, 4)
    parts: dict[Key, list[Array]] = {}
    for kind, new_share in KINDS.items():
        for at in range(0, len(rows), CHUNK):
            chunk = rows[at : at + CHUNK]
            asked, truth = replay.asked(samples, chunk, new_share), samples.truth(chunk)
            found = retrieve(cascade.channels, asked, quota)
            for size in SIZES:
                left_B = torch.full((len(chunk),), size)
                likely = cascade.merge.merge(found, left_B)
                for way, merged in zip(WAYS, (likely, cascade.merged(found, left_B)), strict=True):
                    shown = slate(opened, asked, merged)
                    item, value_K = shown.item_id, shown.scores["value"][:, 0].double()
                    told = {
                        "left": taken(cascade, merged.item_id, truth),
                        "foretold": ragged.segment_sum(value_K, item.offsets),
                        "taken": taken(cascade, item, truth),
                    }
                    row_B3 = torch.stack([told[name] for name in TOLD], 1).numpy()
                    parts.setdefault((kind, size, way), []).append(row_B3)
    return {key: np.concatenate(each) for key, each in parts.items()}


def figures(every: Mapping[Key, Array]) -> dict[str, Any]:
    """Means by kind of request and size, and what worth brings more."""
    out: dict[str, Any] = {}
    for kind in KINDS:
        for size in SIZES:
            likely_N3, worth_N3 = (every[kind, size, way] for way in WAYS)
            base_3, more_N3 = likely_N3.mean(axis=0), worth_N3 - likely_N3
            error_3 = more_N3.std(axis=0) / np.sqrt(len(more_N3)) / base_3
            out.setdefault(kind, {})[str(size)] = {
                name: {
                    "by_probability": round(float(base_3[at]), 4),
                    "by_worth": round(float(worth_N3[:, at].mean()), 4),
                    "more": round(float(more_N3[:, at].mean() / base_3[at]), 4),
                    "standard_error": round(float(error_3[at]), 4),
                }
                for at, name in enumerate(TOLD)
            }
    return out


def main() -> None:
    """Compare on each run."""
    options = _common.parser(__doc__)
    run = Path("runs/complete_journey")
    options.add_argument("--run", type=Path, nargs="+", default=[run], help="one or more")
    options.add_argument("--requests", type=int, default=3_000, help="of the test period")
    options.add_argument("--formula", default="p_buy * price", help="value of an item")
    options.add_argument("--bids", action="store_true", help="in the place of prices")
    asked = options.parse_args()
    try:
        with torch.inference_mode():
            runs = [Opened.of(Run.open(path), asked.formula) for path in asked.run]
            if asked.bids:
                runs = [with_bids(opened, seed) for seed, opened in enumerate(runs)]
            each = [compared(opened, asked.requests) for opened in runs]
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    every = {key: np.concatenate([of[key] for of in each]) for key in each[0]}
    told = {name: getattr(asked, name) for name in ("requests", "formula", "bids")}
    _common.finish("merge_value", {"runs": len(each), **told, **figures(every)}, save=asked.save)


if __name__ == "__main__":
    main()
