"""Rankers on Complete Journey: logistic regression, MLP and DIN on equal samples, several seeds.

Trains each ranker of the example configuration on the days before the validation week and judges
it on the exposures of the last 14 days. Equal samples, features, epochs and dimensions; per seed,
both the weights' start and the drawn negatives differ.

    python -m benchmarks.rankers [--seeds 3] [--days 60] [--only din]
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _common
from headrace.evaluation import metrics
from headrace.evaluation.evaluate import RANK_REQUESTS
from headrace.pipeline import Judge, exposures, predict
from headrace.run import Run
from headrace.samples import Samples
from headrace.training import Trainer

EXAMPLE = Path("examples/complete_journey.toml")


def one(run: Run, base: Samples, name: str, settings: Any, seed: int) -> dict[str, float]:
    """Train one ranker from one seed and judge it."""
    config = run.app.samples
    samples = Samples(config, base.log, base.split, base.builder, base.store, seed)
    training = run.app.rank_training.training.model_copy(update={"seed": seed})
    torch.manual_seed(seed)
    model = settings.build(samples.space, config.tasks)
    size = run.app.rank_training.requests_per_batch
    batches = samples.ranking("train", size, hits=model.reads_hits)
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
    return {
        "auc": metrics.auc(label_N, p_N, weight_N),
        "gauc": metrics.gauc(user_N, label_N, p_N, weight_N).gauc,
        "logloss": metrics.logloss(label_N, p_N, weight_N),
        "pcoc": metrics.pcoc(label_N, p_N, weight_N),
        "seconds": seconds,
        "samples_per_s": history.samples / history.seconds,
    }


def main() -> None:
    """Print a table and, last, one JSON line."""
    parser = _common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=float, default=60, help="of training")
    parser.add_argument("--only", nargs="*", help="rankers by name")
    options = parser.parse_args()
    run = Run.of(EXAMPLE)
    run.ingest()
    samples_config = run.app.samples.model_copy(update={"ranking_days": options.days})
    app = run.app.model_copy(update={"samples": samples_config})
    run = dataclasses.replace(run, app=app)
    base = run.samples()
    rankers = {app.ranking.kind: app.ranking, **app.compare}
    out: dict[str, Any] = {}
    for name, settings in rankers.items():
        if options.only and name not in options.only:
            continue
        rows = [one(run, base, name, settings, seed) for seed in range(1, options.seeds + 1)]
        out[name] = {
            key: {
                "mean": float(np.mean([r[key] for r in rows])),
                "sd": float(np.std([r[key] for r in rows], ddof=1)) if len(rows) > 1 else None,
            }
            for key in rows[0]
        }
        gauc = out[name]["gauc"]
        print(f"{name}: GAUC {gauc['mean']:.4f} sd {gauc['sd'] or 0:.4f}", flush=True)
    figures = {"days": options.days, "seeds": options.seeds, "models": out}
    _common.finish("rankers", figures, save=options.save)


if __name__ == "__main__":
    main()
