"""Train one pre-ranker or ranker, and judge it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..app import Scoring
from ..calibration import Calibration
from ..evaluation import metrics
from ..nn.pointwise import Pointwise
from ..samples import Drawn, Part, Samples
from ..samples.batches import RankingBatches
from ..training import Trainer

Array = NDArray[Any]
VALID_REQUESTS = 4_000  # most requests that a validation looks at
CHUNK = 256  # requests featurised at a time


def learn(
    model: Pointwise,
    settings: Scoring,
    samples: Samples,
    trainer: Trainer,
    judge: Judge,
    name: str,
) -> None:
    """Train a pre-ranker or ranker in place, judged on the validation period."""
    batches = labelled(model, settings, samples)
    trainer.fit(model, batches, settings.training, name=name, validate=judge)


def labelled(model: Pointwise, settings: Scoring, samples: Samples) -> RankingBatches:
    """The training batches of what a model reads, for which it is prepared."""
    batches = samples.ranking(
        "train",
        settings.requests_per_batch,
        hits=model.reads_hits,
        sequences=model.reads_sequences,
    )
    model.prepare(batches)
    return batches


class Judge:
    """Scores pointwise models on the exposures of a period, by default that of validation."""

    def __init__(self, samples: Samples, part: Part = "valid") -> None:
        self._samples = samples
        requests = some(samples.requests(part), VALID_REQUESTS, samples.seed)
        self._drawn = exposures(samples, requests)

    def __call__(self, model: nn.Module) -> float:
        """GAUC of the last task: how well each user's exposures are ordered."""
        if not isinstance(model, Pointwise):
            raise TypeError("only pointwise models are judged here")
        probability_NT, label_NT, user_N, weight_N = predict(model, self._samples, self._drawn)
        return metrics.gauc(user_N, label_NT[:, -1], probability_NT[:, -1], weight_N).gauc

    def calibrate(self, model: Pointwise) -> Calibration:
        """Fit a calibration to a trained model."""
        probability_NT, label_NT, _, weight_N = predict(model, self._samples, self._drawn)
        return Calibration.fit(probability_NT, label_NT, weight_N)


def exposures(samples: Samples, requests: Array) -> list[Drawn]:
    """Labelled exposures of requests, in chunks; where the log has none, sampled candidates."""
    shown = samples.log.manifest.num_groups > 0
    return [
        samples.draw(requests[at : at + CHUNK], seed=samples.seed, exposures_only=shown)
        for at in range(0, len(requests), CHUNK)
    ]


class Predicted(NamedTuple):
    """What a model says of drawn candidates, and what became of them."""

    probability_NT: Tensor
    label_NT: Tensor
    user_N: Tensor
    weight_N: Tensor


def predict(model: Pointwise, samples: Samples, drawn: list[Drawn]) -> Predicted:
    """A model's probabilities of drawn candidates, uncalibrated."""
    probability: list[Tensor] = []
    label: list[Tensor] = []
    user: list[Tensor] = []
    for part in drawn:
        batch = samples.batch(part, hits=model.reads_hits, sequences=model.reads_sequences)
        probability.append(model.score(batch.requests, batch.candidates))
        label.append(torch.stack([batch.labels[t] for t in model.tasks], dim=1))
        user.append(batch.candidates.item_id.spread(batch.requests.user))
    weight = torch.cat([part.weight for part in drawn])
    return Predicted(torch.cat(probability), torch.cat(label), torch.cat(user), weight)


def some(rows: Array, most: int, seed: int) -> Array:
    """At most so many of the rows, in order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
