"""Rankers on Complete Journey: the whole line on equal samples, several seeds.

Trains each ranker on the days before the validation week and judges it on the exposures of the last
14 days: overall, and for households with 1,000 events or more. Equal samples, features, epochs,
dimensions and hidden layers; per seed, both the weights' start and the drawn negatives differ.

    python -m benchmarks.rankers [--seeds 1] [--days 30] [--only din mlp] [--add]

``mimn`` and soft search take long and are run when named. ``esmm`` is not among them: it needs a
click before the purchase, and this log has purchases only.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _common
from headrace.config import Kinds
from headrace.evaluation import metrics
from headrace.evaluation.evaluate import RANK_REQUESTS
from headrace.pipeline.learning import Judge, exposures, predict
from headrace.run import Run
from headrace.samples import Samples
from headrace.schema import Sequence
from headrace.training import Trainer

Array = NDArray[Any]
EXAMPLE = Path("examples/complete_journey.toml")
LONG = 500  # events that soft search and memories read: more takes hours
FEW = {"hits": 30, "search_sample": 50}  # with 100 and 200 a seed takes 17 minutes
SLOW = ("mimn", "sim soft")
HEAVY = 1_000  # events of a household that count as many
DIN = {"history": "recent", "attend": ("item", "category", "type"), "attention": (16,)}
DIEN = {"history": "recent", "attend": ("item", "category", "type")}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lr": ("lr", {}),
    "ls_plm": ("ls_plm", {}),
    "mlp": ("mlp", {}),
    "din": ("din", {**DIN, "activation": "prelu"}),
    "din + dice": ("din", DIN),
    "dien": ("dien", DIEN),
    "dien, no auxiliary loss": ("dien", {**DIEN, "alpha": 0.0}),
    "mimn": ("mimn", {**DIN, "long": "long"}),
    "sim hard": ("sim", {**DIN, "interval_dim": 0}),
    "sim hard + time": ("sim", DIN),
    "sim soft": ("sim", {**DIN, "search": "soft", "long": "long", **FEW}),
}


def one(run: Run, base: Samples, name: str, seed: int) -> dict[str, float]:
    """Train one ranker from one seed and judge it."""
    config, (kind, settings) = run.app.samples, VARIANTS[name]
    samples = Samples(config, base.log, base.split, base.builder, base.store, seed)
    training = run.app.rank_training.training.model_copy(update={"seed": seed})
    torch.manual_seed(seed)
    chosen = Kinds("headrace.ranking").find(kind).Config.model_validate(settings)
    model = chosen.build(samples.space, config.tasks)
    size = run.app.rank_training.requests_per_batch
    batches = samples.ranking("train", size, hits=model.reads_hits, sequences=model.reads_sequences)
    model.prepare(batches)
    judge, start = Judge(base), time.perf_counter()
    history = Trainer().fit(model, batches, training, name=f"{name} {seed}", validate=judge)
    seconds = time.perf_counter() - start
    requests = base.requests("test")
    if len(requests) > RANK_REQUESTS:
        rng = np.random.default_rng(0)
        requests = np.sort(rng.choice(requests, RANK_REQUESTS, replace=False))
    raw_NT, label_NT, user_N, weight_N = predict(model, base, exposures(base, requests))
    p_N, label_N = judge.calibrate(model).apply(raw_NT)[:, -1], label_NT[:, -1]
    columns = [x.numpy() for x in (user_N, label_N, p_N, weight_N)]
    events_U = np.diff(base.log.event("user_offsets"))
    heavy_N = events_U[columns[0]] >= HEAVY
    return {
        **judged(*columns),
        **{f"heavy_{k}": v for k, v in judged(*(x[heavy_N] for x in columns)).items()},
        "seconds": seconds,
        "samples_per_s": history.samples / history.seconds,
    }


def judged(user_N: Array, label_N: Array, p_N: Array, weight_N: Array) -> dict[str, float]:
    """Figures of some exposures."""
    return {
        "auc": metrics.auc(label_N, p_N, weight_N),
        "gauc": metrics.gauc(user_N, label_N, p_N, weight_N).gauc,
        "logloss": metrics.logloss(label_N, p_N, weight_N),
        "pcoc": metrics.pcoc(label_N, p_N, weight_N),
    }


def saved(days: float, seeds: int) -> dict[str, Any]:
    """Models of an earlier run with these settings."""
    path = _common.RESULTS / "rankers.json"
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    same = (earlier.get("days"), earlier.get("seeds")) == (days, seeds)
    return earlier["models"] if same else {}


def main() -> None:
    """Print a table and, last, one JSON line."""
    parser = _common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--days", type=float, default=30, help="of training")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="rankers by name")
    parser.add_argument("--add", action="store_true", help="keep what was saved of the others")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    run = Run.of(EXAMPLE)
    run.ingest()
    torch.set_num_threads(options.threads)
    app = run.app
    sequences = {**app.schema_.sequences, "long": Sequence(length=LONG)}
    run = dataclasses.replace(
        run,
        app=app.model_copy(
            update={
                "samples": app.samples.model_copy(update={"ranking_days": options.days}),
                "schema_": app.schema_.model_copy(update={"sequences": sequences}),
                "threads": options.threads,
            }
        ),
    )
    base = run.samples()
    out = saved(options.days, options.seeds) if options.add else {}
    for name in options.only or [name for name in VARIANTS if name not in SLOW]:
        rows = [one(run, base, name, seed) for seed in range(1, options.seeds + 1)]
        out[name] = {
            key: {
                "mean": round(float(np.mean([r[key] for r in rows])), 5),
                "sd": round(float(np.std([r[key] for r in rows], ddof=1)), 5)
                if len(rows) > 1
                else None,
            }
            for key in rows[0]
        }
        gauc = out[name]["gauc"]
        print(f"{name}: GAUC {gauc['mean']:.4f} sd {gauc['sd'] or 0:.4f}", flush=True)
    out = {name: out[name] for name in VARIANTS if name in out}
    figures = {"days": options.days, "seeds": options.seeds, "long": LONG, "models": out}
    _common.finish("rankers", figures, save=options.save)


if __name__ == "__main__":
    main()
