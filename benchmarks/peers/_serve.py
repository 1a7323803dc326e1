"""The wire between the benchmark and a contender: a line of JSON in, a line of JSON out.

Orders come by stdin, answers go by a pipe of their own, so that what a library prints spoils none.

{"do": "time", "size": 1024, "seconds": 2}   -> {"samples": .., "seconds": ..}
{"do": "time", .., "whole": true}            -> the same, assembling batches included
{"do": "fit", "size": 1024, "epochs": 2}     -> {"auc": .., "seconds": ..} on the test samples
{"do": "fit", .., "held_out": 0.1}           -> the same on the end of the training ones, held out
{"do": "memory"}                             -> {"peak_mb": ..}
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.peers._data import Array, Data

JUDGED = 4096  # samples scored at once


class Contender(Protocol):
    """A model in training."""

    about: dict[str, Any]
    """``equal``: whether its network is the one asked for; ``notes``: what was overridden or
    differs."""

    def train(self, rows: Array, size: int, *, whole: bool) -> float:
        """Learn from some samples in batches of ``size``; return the seconds that count.

        whole: assembling batches counts.
        """
        ...

    def predict(self, rows: Array) -> Array:
        """Probabilities of some samples."""
        ...


class Stepper:
    """A contender that is handed one batch at a time, ready made."""

    def batch(self, rows: Array) -> Any:
        """Whatever ``step`` takes."""
        raise NotImplementedError

    def step(self, batch: Any) -> None:
        """One step of its own training loop."""
        raise NotImplementedError

    def train(self, rows: Array, size: int, *, whole: bool) -> float:
        """See Contender."""
        assert not whole
        spent = 0.0
        for start in range(0, len(rows), size):
            batch = self.batch(rows[start : start + size])
            begun = time.perf_counter()
            self.step(batch)
            spent += time.perf_counter() - begun
        return spent


def serve(make: Callable[[Data, argparse.Namespace], Contender]) -> None:
    """Build a contender and obey."""
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--log", type=Path, help="the same samples by reference, for ours")
    options.add_argument("--model", required=True)
    options.add_argument("--length", type=int, required=True)
    options.add_argument("--threads", type=int, required=True)
    options.add_argument("--answers", type=int, required=True, help="file descriptor for them")
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--start", type=float, default=0.0, help="of tables, times Glorot's")
    options.add_argument("--tables", type=float, default=1.0, help="times the rate; ours alone")
    options.add_argument("--warmup", type=float, default=0.0, help="steps; ours alone")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    data = Data.load(given.data)
    contender = make(data, given)
    rng = np.random.default_rng(given.seed)
    _pin(given.threads)
    with os.fdopen(given.answers, "w", buffering=1) as answers:
        print(json.dumps(contender.about), file=answers)
        for line in sys.stdin:
            print(json.dumps(_obey(json.loads(line), contender, data, rng)), file=answers)


def _pin(cores: int) -> None:
    """Keep to some cores from now on, with every thread there is; those to come inherit it."""
    kept = sorted(os.sched_getaffinity(0))[:cores]
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), kept)


def _obey(
    order: dict[str, Any], contender: Contender, data: Data, rng: np.random.Generator
) -> dict[str, float]:
    if order["do"] == "memory":
        return {"peak_mb": peak_mb()}
    if order["do"] == "fit":
        train, judged = data.train, data.test
        if "held_out" in order:
            train, judged = np.split(train, [round(len(train) * (1 - order["held_out"]))])
        spent = sum(
            contender.train(rng.permutation(train), order["size"], whole=False)
            for _ in range(order["epochs"])
        )
        return {"auc": _judge(contender, data, judged), "seconds": spent}
    samples, spent, steps = 0, 0.0, 1
    while spent < order["seconds"]:
        rows = rng.choice(data.train, min(steps * order["size"], data.num_train), replace=False)
        spent += contender.train(rows, order["size"], whole=order.get("whole", False))
        samples += len(rows)
        steps = max(1, round((order["seconds"] - spent) * samples / spent / order["size"]))
    return {"samples": samples, "seconds": spent}


def _judge(contender: Contender, data: Data, rows: Array) -> float:
    """Area under the ROC curve: the chance that a positive is scored above a negative."""
    parts = [contender.predict(rows[a : a + JUDGED]) for a in range(0, len(rows), JUDGED)]
    score_N, label_N = np.concatenate(parts), data.label_N[rows]
    _, place_N, count = np.unique(score_N, return_inverse=True, return_counts=True)
    rank_N = (np.cumsum(count) - (count - 1) / 2)[place_N]
    positive = int(label_N.sum())
    above = rank_N[label_N > 0].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(label_N) - positive)))


def peak_mb() -> float:
    """The most memory this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
