"""The world that ``benchmarks/foil.py`` searches: a log, a scorer trained on it, later requests.

The preset ``large``: people with a few lasting interests come for something else each time, so that
what they want next is near to some of their newest events and not to the mean of them. The scorer
is the foil channel's own, trained by the channel; a second one of the same towers, without the net
and its attention, is the best that an inner product can do with the same inputs and steps.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from headrace.behavior import MappedLog
from headrace.data import Ragged, Requests
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import Log, write_log
from headrace.nn.history import HistoryEncoder
from headrace.pipeline.learning import some
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._graph import ItemGraph
from headrace.retrieval._objective import Negatives
from headrace.retrieval.foil import Foil, FoilRetriever
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import Split
from headrace.schema import Schema
from headrace.training import Trainer, Training
from headrace.world import World

EVENTS = 50
SCHEMA: dict[str, Any] = {
    "default_dim": 16,
    "tables": {"category": {"dim": 32}},
    "features": {
        "item": {"of": "item", "encode": "id"},
        "category": {"of": "item"},
        "department": {"of": "item"},
        "price": {"of": "item", "encode": "bucket", "buckets": 32},
    },
    "sequences": {"history": {"length": EVENTS, "events": ("view",)}},
}
INPUTS: dict[str, Any] = {
    "dim": 64,
    "user_hidden": (128,),
    "item_hidden": (),
    "encoder": HistoryEncoder.Config(dim=32, events=EVENTS),
    "events": EVENTS,
}
SCORERS = {
    "foil": AttentionScorer.Config(**INPUTS, hidden=(64, 32)),
    "product": AttentionScorer.Config(**INPUTS, hidden=(), heads=0),
}
GRAPH = ItemGraph.Config(links=16, build_width=64, coarse_share=1e-4)


@dataclass(frozen=True)
class Trained:
    """A catalogue under a trained scorer, and requests that came after its training."""

    samples: Samples
    foil: FoilRetriever
    product: FoilRetriever
    requests: Requests
    truth: Ragged
    train_s: float
    build_s: float
    """Item parts and graph."""


def trained(
    num_items: int, num_requests: int, folder: Path, *, fresh: bool, days: float
) -> Trained:
    """Make the world, its log and both scorers, or take up what ``folder`` keeps of them."""
    world = world_of(num_items)
    text = "".join(channel(name).model_dump_json() for name in SCORERS)
    text = f"{world.model_dump_json()}{text}{json.dumps(SCHEMA)}{days}"
    home = folder / f"{num_items}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    if fresh:
        shutil.rmtree(home, ignore_errors=True)
    if not (home / "log" / "CURRENT").exists():
        print(f"{num_items:,} items: making the world", flush=True)
        write_log(home / "log", World(world).raw_log(), "foil")
    samples = samples_of(Log.open(home / "log"), days)
    foil, product = (_fitted(name, samples, home) for name in SCORERS)
    rows = some(samples.requests("test"), num_requests, 0)
    times = json.loads((home / "foil.json").read_text())
    return Trained(samples, foil, product, samples.features(rows), samples.truth(rows), **times)


def world_of(num_items: int) -> World.Config:
    """The preset ``large``, with about 500 items a category at any size."""
    tree = (20, 10, 10)[: max(1, round(math.log10(num_items)) - 3)]
    return World.Config.model_validate(
        {
            "preset": "large",
            "catalogue": {"items": num_items, "tree": tree},
            "people": {"users": max(num_items // 50, 400)},
            "slate": {"exposure_days": 4.0},
        }
    )


def samples_of(log: Log, days: float) -> Samples:
    """Train on so many days, once; the half day after them is later. Nothing stops training."""
    config = SamplesConfig(tasks=("view",), test_days=0.5, valid_days=1e-6, train_days=days)
    split = Split.of(config, log)
    space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), 1)


def channel(name: str) -> Foil.Config:
    """The channel around one of the scorers."""
    return Foil.Config(
        scorer=SCORERS[name],
        negatives=Negatives(in_batch=64, uniform=64),
        graph=GRAPH,
        precision="bf16",
        training=Training(table_learning_rate=0.05, threads=1),
    )


def _fitted(name: str, samples: Samples, home: Path) -> FoilRetriever:
    """Train a channel, or restore it."""
    part, kept = channel(name).build(samples.space), home / f"{name}.safetensors"
    if kept.exists():
        return part.restore(load_file(kept), samples.space)
    print(f"training {name}", flush=True)
    begun, trainer = time.perf_counter(), Trainer()
    found = part.fit(samples, name, trainer)
    fit_s, train_s = time.perf_counter() - begun, trainer.histories[name].seconds
    times = {"train_s": round(train_s, 1), "build_s": round(fit_s - train_s, 1)}
    (home / f"{name}.json").write_text(json.dumps(times))
    save_file({key: array.contiguous() for key, array in found.arrays().items()}, kept)
    return found
