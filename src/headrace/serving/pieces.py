"""What the cascade is put together from: rankers by tier, features by stage, a stop-watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ..behavior import BehaviorStore
from ..calibration import Calibration
from ..data import Candidates, Requests
from ..features import FeatureBuilder
from ..stages import Scorer
from .blend import Blend

T = TypeVar("T")


class CascadeScorer(Scorer, Protocol):
    """A scorer that says which features it reads, so that the cascade makes none in vain."""

    @property
    def reads_cross(self) -> Sequence[str]: ...
    @property
    def reads_hits(self) -> bool: ...


@dataclass(frozen=True)
class Tier:
    """A ranker with all that makes its word a probability; plans say whose requests it ranks."""

    ranker: CascadeScorer
    calibration: Calibration
    blend: Blend


@dataclass(frozen=True, slots=True)
class Made:
    """Some of the features of candidates; false if there are none."""

    names: Sequence[str]
    hits: bool

    def __bool__(self) -> bool:
        return bool(self.names) or self.hits

    def rest(self, rankers: Iterable[CascadeScorer]) -> Made:
        """What rankers read beyond these."""
        rankers = list(rankers)
        names = dict.fromkeys(n for r in rankers for n in r.reads_cross if n not in self.names)
        return Made(list(names), not self.hits and any(r.reads_hits for r in rankers))

    def make(
        self,
        builder: FeatureBuilder,
        requests: Requests,
        candidates: Candidates,
        store: BehaviorStore,
    ) -> Candidates:
        return builder.candidates(requests, candidates, store, hits=self.hits, names=self.names)


@dataclass
class Watch:
    """Times named pieces of work; a name used twice adds up."""

    spent_us: dict[str, int] = field(default_factory=dict[str, int])

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter_ns()
        result = work()
        spent = (time.perf_counter_ns() - start) // 1000
        self.spent_us[name] = self.spent_us.get(name, 0) + spent
        return result
