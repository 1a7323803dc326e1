"""What models that could pre-rank are measured by: exposures, the ranker, and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..data import Candidates, Requests
from ..evaluation import lists, metrics
from ..evaluation.consistency import FAVOURITES
from ..nn.pointwise import Pointwise
from ..pipeline.learning import Judge, some
from ..samples import Part, Samples
from ..serving.cascade import Cascade
from ..stages import Scorer
from .costing import Request, Speed

KEPT = 50  # of a pre-ranker's first, in which the ranker's favourites are looked for
REQUESTS = 256  # on which pre-ranker and ranker are compared
CHUNK = 32


class Quality(NamedTuple):
    """How well a model orders."""

    gauc: float  # of exposures
    hit: float  # share of the ranker's first 10 among its own first 50


@dataclass(frozen=True, slots=True)
class Asked:
    """What retrieval found for some requests, and what the ranker alone makes of it."""

    cascade: Cascade
    requests: Requests
    found: Candidates  # with all features
    fine_N: Tensor

    def hit(self, model: Scorer, kept: int = KEPT) -> metrics.Floats:  # (B,)
        """Share of the ranker's favourites among a model's first ``kept``."""
        rough_N = self.cascade.worth(model.score(self.requests, self.found), self.found)
        agreed = lists.agreement(rough_N, self.fine_N, self.found.item_id.offsets, FAVOURITES)
        return agreed.recall(kept)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Requests of one part of the log, by which all models are measured alike."""

    judge: Judge
    request: Request
    asked: tuple[Asked, ...]

    @classmethod
    def of(
        cls, cascade: Cascade, quota: Mapping[str, int], samples: Samples, part: Part = "valid"
    ) -> Yardstick:
        """Measure on a part, with what a cascade retrieves and its ranker says."""
        rows = some(samples.first_requests(part)[0], REQUESTS, samples.seed)
        chunks = np.array_split(rows, max(1, len(rows) // CHUNK))
        asked = tuple(_asked(cascade, quota, samples, chunk) for chunk in chunks)
        return cls(Judge(samples, part), Request.of(samples), asked)

    def quality(self, model: Pointwise) -> Quality:
        """How well a model orders exposures and candidates."""
        hits = np.concatenate([each.hit(model) for each in self.asked])
        return Quality(self.judge(model), metrics.mean(hits))

    def speed(self, model: Pointwise) -> Speed:
        """How long a frozen model takes."""
        return self.request.speed(model)


def _asked(cascade: Cascade, quota: Mapping[str, int], samples: Samples, rows: np.ndarray) -> Asked:
    requests = samples.features(rows)
    merged = cascade.retrieved(quota, requests)
    hits = cascade.ranker.reads_hits or cascade.preranker.reads_hits
    merged = cascade.builder.candidates(requests, merged, samples.store, hits=hits)
    own_NT = cascade.calibration.apply(cascade.ranker.score(requests, merged))
    return Asked(cascade, requests, merged, cascade.worth(own_NT, merged))
