"""What the form of the model is worth in retrieval: target attention against the inner product.

    python -m benchmarks.foil_quality [--seeds 3] [--only complete_journey w1] [--days 30]

On Complete Journey (first test basket of each household, as it is and with the household's old
items left out) and on the planted world W1 (one target a user). All see the same inputs, the same
requests and the same popularity; each is trained for one pass.

* ``towers``: the two-tower channel, in-batch negatives and a pool of 2,048.
* ``product``: the foil's towers, negatives and steps, its scorer cut down to the inner product.
* ``foil``: target attention over the newest 50 events.
* ``foil + lifetime``: and over the user's events in the item's category (Complete Journey alone).

Towers are searched exactly, foils along their graph; ``coverage`` is the share of the exact top 200
that a search finds, ``scored`` the share of the catalogue that it scores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common, two_tower
from headrace.data import Candidates, Ragged, Requests
from headrace.errors import HeadraceError
from headrace.evaluation import lists, metrics
from headrace.log import write_log
from headrace.nn.history import HistoryEncoder
from headrace.pipeline.learning import some
from headrace.pipeline.train import without_seen
from headrace.retrieval._attention import AttentionScorer
from headrace.retrieval._lifetime import LifelongConfig
from headrace.retrieval.foil import Foil, FoilRetriever, candidates
from headrace.retrieval.two_tower import Popularity, TwoTower
from headrace.run import Run
from headrace.samples import Samples
from headrace.samples.split import Split
from headrace.training import Trainer, Training
from headrace.world import World

AT = (50, 200)
EXACT = 50  # requests whose whole catalogue is scored
NO_NET: Mapping[str, Any] = {"heads": 0, "hidden": ()}
LIFETIME: Mapping[str, Any] = {"lifelong": LifelongConfig()}
Asked = Mapping[str, tuple[Requests, Ragged]]


def judge(settings: Any, samples: Samples, asked: Asked) -> dict[str, float]:
    """Train one channel and ask it."""
    begun = time.perf_counter()
    part = settings.build(samples.space).fit(samples, "foil_quality", Trainer())
    part, out = part.recount(samples), {"fit_seconds": time.perf_counter() - begun}
    for which, (requests, truth) in asked.items():
        begun = time.perf_counter()
        found = part.retrieve(requests, torch.full((len(requests),), max(AT))).item_id
        out[f"{which}ms"] = 1000 * (time.perf_counter() - begun) / len(requests)
        matches = lists.match(found, truth)
        out |= {f"{which}recall@{k}": metrics.mean(matches.recall(k)) for k in AT}
    if isinstance(part, FoilRetriever):
        requests = next(iter(asked.values()))[0].take(torch.arange(EXACT))
        best = candidates(part.exhaustive(requests, max(AT))).item_id
        found = part.search(requests, max(AT))
        near = candidates(found).item_id.within(best)
        out["coverage"] = float(near.sum()) / len(best.values)
        out["scored"] = float(found.num_scored.mean()) / len(samples.space.catalogue)
    return out


def journey(config: Path, days: float, users: int) -> Iterator[tuple[int, Samples, Asked]]:
    """Complete Journey, seed after seed."""
    run = Run.of(config)
    run.ingest()
    base = run.samples()
    wanted = run.app.samples.model_copy(update={"train_days": days})
    split = Split.of(wanted, base.log)
    rows = some(base.first_requests("test")[0], users, 0)
    requests, truth = base.features(rows), base.truth(rows)
    new = Candidates(truth).take(torch.nonzero(base.is_new(rows, truth))[:, 0]).item_id
    asked = {"": (requests, truth), "new_": (without_seen(requests, base, rows), new)}
    for seed in range(1, 1000):
        yield seed, Samples(wanted, base.log, split, base.builder, base.store, seed), asked


def world(users: int) -> Iterator[tuple[int, Samples, Asked]]:
    """W1, a new world every seed."""
    for seed in range(1, 1000):
        config = World.Config.model_validate(
            {"preset": "w1", "seed": seed, "people": {"users": users}}
        )
        with tempfile.TemporaryDirectory() as folder:
            log = write_log(Path(folder) / "log", World(config).raw_log(), "w1")
            samples = two_tower.samples_of(log, seed)
            rows = some(samples.requests("test"), 1000, 0)
            yield seed, samples, {"": (samples.features(rows), samples.truth(rows))}


def of_journey(seed: int) -> dict[str, Any]:
    """Variants on Complete Journey; popularity is counted, as in the example."""
    training = Training(seed=seed, table_learning_rate=0.05)
    shared = {"log_q_weight": 0.0, "popularity": Popularity(), "training": training}
    attention = {"recent": "recent"}
    foils = {
        "product": AttentionScorer.Config(**NO_NET),
        "foil": AttentionScorer.Config(**attention),
        "foil + lifetime": AttentionScorer.Config(**attention, **LIFETIME),
    }
    return {"towers": TwoTower.Config(**shared)} | {
        name: Foil.Config(scorer=scorer, **shared) for name, scorer in foils.items()
    }


def of_world(seed: int) -> dict[str, Any]:
    """Variants on W1; popularity is learnt."""
    training = Training(seed=seed, table_learning_rate=0.05)
    inputs = {
        "dim": 32,
        "user_hidden": (128,),
        "item_hidden": (),
        "encoder": HistoryEncoder.Config(dim=32),
    }
    foils = {
        "product": AttentionScorer.Config(**inputs, **NO_NET),
        "foil": AttentionScorer.Config(**inputs, events=20, hidden=(64, 32)),
    }
    return {"towers": TwoTower.Config(**inputs, pool=256, training=training)} | {
        name: Foil.Config(scorer=scorer, training=training) for name, scorer in foils.items()
    }


def table(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""
    return {
        key: {
            "mean": round(float(np.mean([r[key] for r in rows])), 4),
            "sd": round(float(np.std([r[key] for r in rows], ddof=1)), 4)
            if len(rows) > 1
            else None,
        }
        for key in rows[0]
    }


def main() -> None:
    """Print a line a variant and seed and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--only", nargs="*", choices=("complete_journey", "w1"))
    options.add_argument("--config", type=Path, default=Path("examples/complete_journey.toml"))
    options.add_argument("--days", type=float, default=30, help="of training, Complete Journey")
    options.add_argument("--test", type=int, default=1000, help="households that ask")
    options.add_argument("--users", type=int, default=41_000, help="of W1")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    out: dict[str, Any] = {}
    for data in given.only or ("complete_journey", "w1"):
        rows: dict[str, list[dict[str, float]]] = {}
        try:
            if data == "w1":
                source, variants = world(given.users), of_world
            else:
                source, variants = journey(given.config, given.days, given.test), of_journey
            for seed, samples, asked in source:
                torch.set_num_threads(given.threads)
                for name, settings in variants(seed).items():
                    rows.setdefault(name, []).append(judge(settings, samples, asked))
                    shown = {key: round(value, 4) for key, value in rows[name][-1].items()}
                    print(f"{data}, seed {seed}, {name}: {shown}", flush=True)
                if seed == given.seeds:
                    break
        except HeadraceError as error:
            sys.exit(f"error: {error}")
        out[data] = {name: table(found) for name, found in rows.items()}
    figures = {"seeds": given.seeds, "days": given.days, "users": given.users, "data": out}
    _common.finish("foil_quality", figures, save=given.save)


if __name__ == "__main__":
    main()
