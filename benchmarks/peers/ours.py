"""headrace, by its own training loop."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.peers._data import Array, Data
from benchmarks.peers._serve import serve
from benchmarks.peers._worlds import samples_of
from headrace.config import Kinds
from headrace.data import Batch
from headrace.log import Log
from headrace.nn.pointwise import Pointwise
from headrace.samples import Samples
from headrace.training import Trainer, Training

ATTEND = ("item", "category")
SHORT = 50  # recent events of SIM
MODELS: dict[str, dict[str, Any]] = {
    "din": {"attention": (64, 16), "attention_activation": "relu"},
    "dien": {"state": 32, "alpha": 0.0},
    "sim": {
        "search": "soft",
        "attention": (64, 16),
        "attention_activation": "relu",
        "interval_dim": 0,
        "hits": 50,
        "search_dim": 16,
        "search_sample": 100,
        "apart": False,
    },
}


@dataclass
class Rows:
    """Batches of some requests, in their order."""

    samples: Samples
    request_N: Array
    size: int
    model: Pointwise

    def __len__(self) -> int:
        return -(-len(self.request_N) // self.size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """As ``RankingBatches``, but for the order."""
        for step in range(start, len(self)):
            some = np.sort(self.request_N[step * self.size : (step + 1) * self.size])
            yield batch_of(self.model, self.samples, some, epoch)


@dataclass
class Ready:
    """Batches made beforehand."""

    batches: list[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The same ones."""
        del epoch
        yield from self.batches[start:]


def batch_of(model: Pointwise, samples: Samples, request_B: Array, seed: int) -> Batch:
    """The batch of some requests, of which no more is gathered than the model reads."""
    drawn = samples.draw(request_B, seed=seed)
    return samples.batch(drawn, hits=model.reads_hits, sequences=model.reads_sequences)


def training_at(given: Namespace) -> Training:
    """One epoch."""
    return Training(
        epochs=1,
        learning_rate=given.rate,
        table_learning_rate=given.tables * given.rate,
        warmup_steps=round(given.warmup),
        seed=given.seed,
    )


class Ours:
    """A model and its trainer."""

    def __init__(self, data: Data, given: Namespace) -> None:
        torch.set_num_threads(given.threads)
        torch.manual_seed(given.seed)
        self.about = {"equal": True, "notes": ""}
        log = Log.open(given.log)
        time_ms = np.asarray(log.request("time_ms"))
        self.request_N = np.argsort(time_ms, kind="stable")
        days = (log.manifest.last_ms + 1 - time_ms[self.request_N[data.num_train]]) / 86_400_000
        lengths = {"history": given.length}
        if given.model == "sim":
            lengths = {"history": min(given.length, SHORT), "lifetime": given.length}
        self.samples = samples_of(log, lengths, float(days), given.start)
        config = Kinds("headrace.ranking").find(given.model).Config
        settings = {"attend": ATTEND, "age_dim": 0, "activation": "relu", **MODELS[given.model]}
        self.model: Pointwise = config(**settings).build(self.samples.space, ("like",))
        self.training = training_at(given)
        self.trainer = Trainer()

    def train(self, rows: Array, size: int, *, whole: bool) -> float:
        """Learn by ``Trainer.fit``; see Contender."""
        batches = Rows(self.samples, self.request_N[rows], size, self.model)
        if not whole:
            batches = Ready(list(batches.epoch(0)))
        history = self.trainer.fit(self.model, batches, self.training, name="ours")
        return history.seconds

    @torch.inference_mode()
    def predict(self, rows: Array) -> Array:
        """Probabilities, in the order of ``rows``, which are in order of time."""
        some = self.request_N[rows]
        order = np.argsort(some, kind="stable")
        batch = batch_of(self.model, self.samples, some[order], seed=1)
        score_N = np.empty(len(rows), np.float32)
        score_N[order] = self.model.score(batch.requests, batch.candidates)[:, 0].numpy()
        return score_N


if __name__ == "__main__":
    serve(Ours)
