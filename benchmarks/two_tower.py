"""What the sampling correction is worth: two towers on the planted world W1, several seeds.

Every user of W1 wants one item near something they took lately; popularity is Zipf. The towers are
trained on in-batch negatives without and with the correction for how often an item is one, and with
uniform negatives mixed in. Recall of 1,000 users' targets. The gate is the correction's gain,
corrected over plain, at least 1.15.

    python -m benchmarks.two_tower [--seeds 3] [--users 81000] [--epochs 3]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import _common
from headrace.behavior import MappedLog
from headrace.data import Ragged
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import Log, write_log
from headrace.nn.history import HistoryEncoder
from headrace.retrieval.two_tower import TwoTower
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import Split
from headrace.schema import Schema
from headrace.training import Trainer, Training
from headrace.world import World

AT = (10, 50, 200)
GATE = 1.15
HEAD = 0.05  # share of the items that are head, by popularity
SCHEMA = {
    "features": {
        "item": {"of": "item", "encode": "id"},
        "category": {"of": "item"},
    },
    "tables": {"item": {"dim": 32}},
    "sequences": {"history": {"length": 20}},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"log_q_weight": 0.0, "pool": 0},
    "half": {"log_q_weight": 0.5, "pool": 0},
    "corrected": {"log_q_weight": 1.0, "pool": 0},
    "mixed": {"log_q_weight": 1.0, "pool": 256},
}


def samples_of(log: Log, seed: int) -> Samples:
    """Train on the targets of all users but the last ones, test on theirs, a day later."""
    config = SamplesConfig(tasks=("view",), test_days=0.5, valid_days=0.25, train_days=0.5)
    split = Split.of(config, log)
    space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), seed)


def channel(settings: dict[str, Any], epochs: int, seed: int) -> TwoTower.Config:
    """One variant of the towers."""
    return TwoTower.Config(
        dim=32,
        user_hidden=(128,),
        item_hidden=(),
        encoder=HistoryEncoder.Config(dim=32),
        training=Training(epochs=epochs, seed=seed, table_learning_rate=0.05),
        **settings,
    )


def recall(found: Ragged, truth: Ragged, popular_I: Tensor) -> dict[str, float]:
    """Recall of single targets, of all and of popular and other ones."""
    out: dict[str, float] = {}
    for most in AT:
        kept = Ragged.of([found[b][:most] for b in range(len(found))])
        hit_N = truth.within(kept).float()
        out[f"recall@{most}"] = float(hit_N.mean())
        if most == 50:
            head_N = popular_I[truth.values]
            out["head"] = float(hit_N[head_N].mean())
            out["tail"] = float(hit_N[~head_N].mean())
    return out


def one(log: Log, settings: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Train one variant from one seed and judge it."""
    samples = samples_of(log, seed)
    config = channel(settings, epochs, seed)
    trainer = Trainer()
    retriever = config.build(samples.space).fit(samples, "two_tower", trainer)
    rows = samples.requests("test")
    quota_B = torch.full((len(rows),), max(AT))
    found = retriever.retrieve(samples.features(rows), quota_B).item_id
    order = np.argsort(-samples.frequency)
    popular_I = torch.zeros(len(order), dtype=torch.bool)
    popular_I[torch.from_numpy(order[: int(HEAD * len(order))].copy())] = True
    seconds = trainer.histories["two_tower"].seconds
    return {**recall(found, samples.truth(rows), popular_I), "seconds": seconds}


def main() -> None:
    """Print a line a variant and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--users", type=int, default=81_000)
    options.add_argument("--epochs", type=int, default=3)
    given = options.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(1, given.seeds + 1):
        world = World.Config.model_validate(
            {"preset": "w1", "seed": seed, "people": {"users": given.users}}
        )
        with tempfile.TemporaryDirectory() as folder:
            log = write_log(Path(folder) / "log", World(world).raw_log(), "w1")
            for name, settings in VARIANTS.items():
                rows[name].append(one(log, settings, given.epochs, seed))
                shown = {key: round(value, 4) for key, value in rows[name][-1].items()}
                print(f"seed {seed}, {name}: {shown}", flush=True)
    table = {
        name: {key: float(np.mean([r[key] for r in found])) for key in found[0]}
        for name, found in rows.items()
    }
    spread = {n: float(np.std([r["recall@50"] for r in found])) for n, found in rows.items()}
    gain = table["corrected"]["recall@50"] / table["plain"]["recall@50"]
    figures = {
        "seeds": given.seeds,
        "users": given.users,
        "epochs": given.epochs,
        "variants": table,
        "recall@50_sd": spread,
        "correction_gain": gain,
        "passed": gain >= GATE,
    }
    _common.finish("two_tower", figures, save=given.save)


if __name__ == "__main__":
    main()
