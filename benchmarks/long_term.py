"""Rankers on planted worlds whose only evidence lies thousands of events back.

    python -m benchmarks.long_term [--seeds 1] [--users 150] [--requests 6000] [--epochs 1]
                                   [--worlds long_term,decay] [--only "din,sim hard"] [--add]

A user of a world likes or dislikes each category of a ring for good, and sees it once in 5,600
events. Rankers learn from pages of the ring in the middle of the log and are judged on the last
days' by AUC against the drawn labels, beside the oracle that knows the chances. Worlds:
``long_term`` (all events of the category tell), ``styles`` (only those of the candidate's style
do), ``substitutes`` (evidence lies in other categories), ``decay`` (it grows stale), and
``160 events`` and ``1700 events``: ``long_term`` with a ring of twelve categories
that comes round thrice, with few and with many strangers between.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import _common
from headrace.behavior import MappedLog
from headrace.config import Kinds
from headrace.data import Batch
from headrace.evaluation import metrics
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import Log, write_log
from headrace.nn.pointwise import Pointwise
from headrace.samples import Samples, SamplesConfig
from headrace.samples.split import DAY_MS, Split
from headrace.schema import Schema
from headrace.training import Trainer, Training
from headrace.world import PRESETS, World

Array = NDArray[Any]
SCHEMA = {
    "tables": {"item": {"dim": 8}, "category": {"dim": 16}, "style": {"dim": 4}},
    "features": {
        "item": {"of": "item", "encode": "id"},
        "category": {"of": "item"},
        "style": {"of": "item"},
    },
    "sequences": {"history": {"length": 100}, "lifetime": {"length": 17_000}},
}
ATTEND = ("category", "style")
# Learning rates of tables: fast where the search has tables of its own to shape. What searches by
# the ranker's tables finds by likeness, and fast tables lose that before they learn better.
FAST, SLOW = 0.05, 0.001
MODELS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "din": ("din", FAST, {}),
    "sim hard": ("sim", FAST, {"interval_dim": 0}),
    "sim hard + time": ("sim", FAST, {}),
    "sim soft": ("sim", FAST, {"search": "soft", "search_sample": 500, "interval_dim": 0}),
    "twin": ("twin", SLOW, {}),
    "eta": ("eta", SLOW, {"interval_dim": 0}),
    "sdim": ("sdim", SLOW, {}),
    "mimn": ("mimn", FAST, {}),
    "mimn code": ("mimn", FAST, {"variant": "code", "read": "target"}),
}


@dataclass(frozen=True)
class Place:
    """A world and the models that are compared there."""

    preset: str
    models: tuple[str, ...]
    pages: int | None = None  # of the feed between two pages of the ring; default: the preset's
    ring: int | None = None  # categories that come round
    events: float | None = None  # of a user
    crowd: int = 1  # times as many users

    def config(self, seed: int, users: int) -> World.Config:
        """The preset with what is said otherwise."""
        preset = PRESETS[self.preset]
        people: dict[str, Any] = {"users": users * self.crowd}
        slate, long_term = dict(preset["slate"]), dict(preset["long_term"])
        if self.events is not None:
            people["events_per_user"] = self.events
        if self.pages is not None:
            slate["pages"] = self.pages
        if self.ring is not None:
            long_term["ring"] = self.ring
        settings = {"people": people, "slate": slate, "long_term": long_term}
        return World.Config.model_validate({"preset": self.preset, "seed": seed, **settings})


MEMORY = ("sim hard", "mimn")  # against the length of a history, all else equal
WORLDS = {
    "long_term": Place("long_term", ("din", *MEMORY, "sim hard + time", "sim soft", "twin", "eta")),
    "styles": Place("styles", ("din", "sim hard", "sim soft")),
    "substitutes": Place("substitutes", ("din", "sim hard", "sim soft")),
    "decay": Place("decay", ("din", "sim hard", "sim hard + time")),
    "160 events": Place("long_term", MEMORY, pages=1, ring=12, events=160, crowd=8),
    "1700 events": Place("long_term", MEMORY, pages=20, ring=12, events=1_700, crowd=8),
}
TRAIN_FROM = 0.6  # of the log's span: before, there is too little to remember
TEST_DAYS = 10
SIZE = 64  # requests of a batch


class Pages:
    """Batches of the exposures of some requests."""

    def __init__(self, samples: Samples, row_R: Array, seed: int) -> None:
        self._samples, self._row_R, self._seed = samples, row_R, seed

    def __len__(self) -> int:
        return -(-len(self._row_R) // SIZE)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._row_R))
        for step in range(start, len(self)):
            rows = np.sort(self._row_R[order[step * SIZE : (step + 1) * SIZE]])
            drawn = self._samples.draw(rows, seed=self._seed, exposures_only=True)
            yield self._samples.batch(drawn)


def samples_of(log: Log, seed: int) -> Samples:
    """Every exposure, nothing else."""
    config = SamplesConfig.model_validate(
        {
            "tasks": ("view",),
            "test_days": TEST_DAYS,
            "valid_days": 1,
            "negatives": {"keep_exposures": 1.0, "uniform": 0, "frequency": 0, "history": 0},
        }
    )
    split = Split.of(config, log)
    space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, split.valid_ms)
    return Samples(config, log, split, FeatureBuilder(space, log), MappedLog(log), seed)


def pages(samples: Samples, low_ms: int, high_ms: int, most: int, seed: int) -> Array:
    """Pages of the ring between two times."""
    log = samples.log
    time_R = np.asarray(log.request("time_ms"))
    ring = list(log.vocab["scene"]).index("revisit")
    chosen = np.flatnonzero(
        (time_R >= low_ms) & (time_R < high_ms) & (np.asarray(log.request("scene")) == ring)
    )
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(chosen, min(most, len(chosen)), replace=False))


def judge(model: Pointwise, test: list[Batch]) -> float:
    """AUC over all exposures."""
    score = torch.cat([model.score(b.requests, b.candidates)[:, 0] for b in test])
    return metrics.auc(_labels(test), score, torch.ones(len(score)))


def oracle(world: World, test: list[Batch]) -> float:
    """AUC of the true chances, places aside."""
    parts: list[Tensor] = []
    for batch in test:
        item = batch.candidates.item_id
        user, time_ms = (
            item.spread(x).numpy() for x in (batch.requests.user, batch.requests.time_ms)
        )
        chance = world.probability(user, time_ms, item.values.numpy())
        parts.append(torch.from_numpy(chance[:, 0]))
    return metrics.auc(_labels(test), torch.cat(parts), torch.ones(sum(map(len, parts))))


def _labels(test: list[Batch]) -> Tensor:
    return torch.cat([batch.labels["view"] for batch in test])


def one(name: str, seed: int, given: Any, only: set[str]) -> Mapping[str, float]:
    """Every model on one world."""
    world = World(WORLDS[name].config(seed, given.users))
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder) / "log", world.raw_log(), name)
        samples = samples_of(log, seed)
        first, last = log.manifest.first_ms, log.manifest.last_ms
        low, cut = first + int(TRAIN_FROM * (last - first)), last - TEST_DAYS * DAY_MS
        train = Pages(samples, pages(samples, low, cut, given.requests, seed), seed)
        rows = pages(samples, cut, last, given.requests // 4, seed)
        test = list(Pages(samples, rows, seed).epoch(0))
        out = {"oracle": oracle(world, test)}
        for label, (kind, rate, settings) in MODELS.items():
            if label not in (only or WORLDS[name].models):
                continue
            torch.manual_seed(seed)
            chosen = Kinds("headrace.ranking").find(kind).Config
            model = chosen(attend=ATTEND, **settings).build(samples.space, ("view",))
            training = Training(epochs=given.epochs, seed=seed, table_learning_rate=rate)
            Trainer().fit(model, train, training, name=label)
            model.freeze()
            out[label] = judge(model, test)
            print(f"{name}, seed {seed}, {label}: {out[label]:.4f}", flush=True)
    return out


def saved(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Worlds of an earlier run with these settings."""
    path = _common.RESULTS / "long_term.json"
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return earlier["worlds"] if settings.items() <= earlier.items() else {}


def main() -> None:
    """Print a line a model and, last, one JSON line."""
    options = _common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--users", type=int, default=150)
    options.add_argument("--requests", type=int, default=6_000, help="pages to learn from")
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument(
        "--worlds", default="long_term,substitutes,decay", help=f"of {', '.join(WORLDS)}"
    )
    options.add_argument("--only", default="", help=f"of {', '.join(MODELS)}; default by world")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--add", action="store_true", help="keep what else was saved")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    only = set(filter(None, given.only.split(",")))
    settings = {k: getattr(given, k) for k in ("seeds", "users", "requests", "epochs")}
    figures = saved(settings) if given.add else {}
    for name in given.worlds.split(","):
        runs = [one(name, seed, given, only) for seed in range(1, given.seeds + 1)]
        figures[name] = figures.get(name, {}) | {
            label: {
                "auc": round(float(np.mean([run[label] for run in runs])), 4),
                "sd": round(float(np.std([run[label] for run in runs])), 4),
            }
            for label in runs[0]
        }
    _common.finish("long_term", {**settings, "worlds": figures}, save=given.save)


if __name__ == "__main__":
    main()
