"""The merge against other merges of the same lists, and what its parts are worth.

    python -m benchmarks.merge [--config examples/complete_journey.toml] [--places 400]

Fits the channels of the configuration up to the validation period and each merge on that period;
judges the 200 items that leave it on the first requests of the test period, as they are and with
the users' old items left out. Merges: lists take turns; a sum over channels of level and slope; the
merge of ``serving/merge.py``; boosted trees on places; the merge again with 200 places a list, and
with channels that were not recounted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks import _common
from headrace.data import Candidates, Ragged
from headrace.errors import HeadraceError
from headrace.evaluation import lists
from headrace.ops import ragged
from headrace.pipeline.train import explore, without_seen
from headrace.run import Run
from headrace.serving.merge import MAX_PLACES, Merge, collect, retrieve
from headrace.stages import Recountable, Retriever
from headrace.training import Trainer

Array = NDArray[Any]
Found = Mapping[str, Candidates]
Cut = Callable[[Found], Ragged]  # what channels found -> the items that leave the merge
KEPT = 200
AT = (10, 50, 200)


def scored(score: Callable[[Array], Array]) -> Cut:
    """A merge by a score of each item's places ``(M, C)``."""

    def cut(found: Found) -> Ragged:
        item, place_MC = collect(found)
        score_M = torch.from_numpy(score(place_MC))
        at = ragged.top(score_M, item.offsets, torch.full((len(item),), KEPT))
        return Candidates(item).take(at).item_id

    return cut


def ours(merge: Merge) -> Cut:
    """The merge as it serves."""

    def cut(found: Found) -> Ragged:
        size = len(next(iter(found.values())).item_id)
        return merge.merge(found, torch.full((size,), KEPT)).item_id

    return cut


def single(place_MC: Array) -> Array:
    """Level and slope of each channel."""
    found_MC = place_MC >= 0
    return np.concatenate([found_MC, -np.log1p(place_MC.clip(min=0)) * found_MC], axis=1)


def shorten(found: Found, places: int) -> Found:
    """Only the first places of every list."""
    out: dict[str, Candidates] = {}
    for name, candidates in found.items():
        size = torch.full((len(candidates.item_id),), places)
        out[name] = candidates.take(ragged.head(candidates.item_id.offsets, size))
    return out


def main() -> None:
    """Fit all, judge all."""
    options = _common.parser(__doc__)
    options.add_argument("--config", type=Path, default=Path("examples/complete_journey.toml"))
    options.add_argument("--places", type=int, default=400, help="items a channel")
    given = options.parse_args()
    try:
        run = Run.of(given.config)
        run.ingest()
        samples = run.samples()
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    torch.set_num_threads(run.app.threads)
    channels: dict[str, Retriever] = {}
    for name, settings in run.app.retrieval.items():
        channels[name] = settings.build(samples.space).fit(samples, name, Trainer())
    fresh = {
        name: channel.recount(samples) if isinstance(channel, Recountable) else channel
        for name, channel in channels.items()
    }
    quota = dict.fromkeys(channels, given.places)
    passes = [(each.found, each.truth) for each in explore(channels, samples, quota)]
    unions = [(*collect(found), truth) for found, truth in passes]
    place_MC = np.concatenate([place for _, place, _ in unions])
    taken_M = np.concatenate([item.within(truth).numpy() for item, _, truth in unions])
    line = LogisticRegression(solver="newton-cholesky").fit(single(place_MC), taken_M)
    trees = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.06, min_samples_leaf=200, early_stopping=False
    ).fit(np.where(place_MC < 0, MAX_PLACES, place_MC), taken_M)
    merge = Merge.fit(passes)
    short = Merge.fit([(shorten(found, KEPT), truth) for found, truth in passes])
    merges: dict[str, Cut] = {
        "turns": ours(Merge.interleave(len(channels))),
        "sum": scored(lambda place: line.decision_function(single(place))),
        "pairs": ours(merge),
        "trees": scored(
            lambda place: trees.decision_function(np.where(place < 0, MAX_PLACES, place))
        ),
        f"pairs, {KEPT} places": lambda found: ours(short)(shorten(found, KEPT)),
    }
    rows, truth = samples.first_requests("test")
    requests = samples.features(rows)
    is_new = samples.is_new(rows, truth)
    new_truth = Candidates(truth).take(torch.nonzero(is_new)[:, 0]).item_id
    asked = (("all", requests, truth), ("new", without_seen(requests, samples, rows), new_truth))
    figures: dict[str, dict[str, Any]] = {}
    for which, each, wanted in asked:
        found, stale = retrieve(fresh, each, quota), retrieve(channels, each, quota)
        left = {name: cut(found) for name, cut in merges.items()}
        left["pairs, not recounted"] = ours(merge)(stale)
        for name, items in left.items():
            recall = lists.recall_at(items, wanted)
            figures.setdefault(name, {})[which] = {
                f"recall@{k}": round(recall[f"recall@{k}"], 4) for k in AT
            }
            print(f"{name}, {which}: {figures[name][which]}")
    _common.finish("merge", {"places": given.places, "merges": figures}, save=given.save)


if __name__ == "__main__":
    main()
