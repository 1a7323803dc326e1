"""The roles a part can play in the cascade, and the one that steers it.

The signatures carry the laws. A scorer returns scores, so it can neither drop nor invent an
item; a selector returns positions, so it can neither score nor invent one; a retriever never
sees another channel's result; an allocator never sees a model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from .data import Candidates, Ragged, Requests

if TYPE_CHECKING:
    from .samples import Samples


class Retriever(Protocol):
    """Find items for each request out of the whole catalogue."""

    def retrieve(self, requests: Requests, quota_B: Tensor) -> Candidates:
        """Return at most ``quota_B`` distinct items a request, none in ``requests.exclude``.

        Best first within a request; one score column ``(N, 1)`` under the key ``"score"``.
        """
        ...

    def arrays(self) -> Mapping[str, Tensor]:
        """Everything needed to restore this retriever, as plain tensors."""
        ...


@runtime_checkable
class Recountable(Protocol):
    """A retriever that can bring its counts up to date without being tuned or trained again."""

    def recount(self, samples: Samples) -> Self:
        """The same settings over all events before the test interval.

        ``fit`` counts before the validation interval, so that the merge can be fitted on that;
        what serves afterwards should know the newest week too.
        """
        ...


@runtime_checkable
class Effortful(Protocol):
    """A retriever that works less for less than some quota.

    What it finds for a small quota need not be the beginning of what it finds for a large one.
    """

    @property
    def effort_quota(self) -> int | None:
        """The quota from which on it works in full; None: it always does."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """A retriever that can be told to search less hard for as many items."""

    def retrieve_at(self, requests: Requests, quota_B: Tensor, effort_B: Tensor) -> Candidates:
        """As ``retrieve``, with a share ``(B,) float64`` in (0, 1] of its effort."""
        ...


@runtime_checkable
class Sparing(Protocol):
    """A part of any role that says which sequences it reads, so that no others are gathered.

    None, or a part that does not say, may be every sequence of the schema.
    """

    @property
    def reads_sequences(self) -> Collection[str] | None: ...


def sequences_read(parts: Iterable[object]) -> frozenset[str] | None:
    """The sequences that some parts read together; None, for all, where one does not say."""
    names: set[str] = set()
    for part in parts:
        if not isinstance(part, Sparing) or part.reads_sequences is None:
            return None
        names.update(part.reads_sequences)
    return frozenset(names)


class Scorer(Protocol):
    """Say how good each candidate is; pre-ranker and ranker are both scorers."""

    def score(self, requests: Requests, candidates: Candidates) -> Tensor: ...  # (N, T) float32


@runtime_checkable
class Narrowing(Scorer, Protocol):
    """A scorer that has a cheaper word, by which candidates are cut before their features exist."""

    @property
    def keep(self) -> int:
        """Candidates a request that are left."""
        ...

    def coarse_score(self, requests: Requests, candidates: Candidates) -> Tensor:  # (N, T)
        """The cheaper word."""
        ...


class Selector(Protocol):
    """Choose and order at most ``quota_B`` candidates a request; a re-ranker is a selector."""

    def select(self, requests: Requests, candidates: Candidates, quota_B: Tensor) -> Tensor:
        """Positions into the candidates, ``(K,) int64``, grouped by request, best first."""
        ...


@runtime_checkable
class Plainly(Protocol):
    """A selector that can be left out: what must hold of a slate holds without it, too."""

    def plain(self) -> Selector:
        """The best by value, under the same rules."""
        ...

    @property
    def worth(self) -> float | None:
        """What it adds to a slate, as a share of its value; None where nobody knows."""
        ...


PRERANKER, RANKING, RERANKER = "preranker", "ranking", "reranker"
TIER, EFFORT = "ranking.", "effort."  # what keys of plans begin with


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work each request may cost. The whole contract between control and data plane.

    Keys of ``quota``: every channel's name (items it may return), ``"retrieval"`` (distinct items
    kept by the merge), ``"preranking"`` (items handed to the ranker), ``"reranking"`` (the slate).
    Optional: ``"preranker"``, 0 where the merge's word stands for the pre-ranker's; ``"ranking"``,
    0 where the pre-ranker's word is to be the last; ``"ranking.NAME"``, 1 where the tier of that
    name ranks in the ranker's place; ``"reranker"``, 0 where the slate is the top of the ranker's
    order; ``"effort.CHANNEL"``, 1 to 100 per cent of the channel's effort.
    """

    quota: Mapping[str, Tensor]  # (B,) int64
    note: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What the allocator wants to find again in the trace, ``(B,)`` each; no one else reads it."""

    @classmethod
    def constant(cls, quota: Mapping[str, int], size: int) -> Plan:
        """The same for ``size`` requests."""
        return cls({name: torch.full((size,), count) for name, count in quota.items()})

    def take(self, rows: Tensor) -> Plan:
        """Of the requests at these rows, in this order."""
        quota, note = (
            {name: of_B[rows] for name, of_B in part.items()} for part in (self.quota, self.note)
        )
        return Plan(quota, note)


@dataclass(frozen=True, slots=True)
class Trace:
    """What the cascade did: enough to bill the plan, to learn from, and to replay."""

    plan: Plan
    spent_us: Mapping[str, int]  # stage or channel -> wall time of the whole batch
    """In a server also "requests", "allocation" and "slates": making, planning, describing them."""
    found: Mapping[str, Candidates]  # channel -> what it alone returned
    after: Mapping[str, Candidates]  # stage -> candidates that left it, with all scores so far

    @property
    def slate(self) -> Candidates:
        """What is shown."""
        return self.after["reranking"]


class Allocator(Protocol):
    """Decide what each request is worth, before it is served; learn from the trace after."""

    def plan(self, requests: Requests) -> Plan: ...

    def observe(self, trace: Trace) -> None: ...


@dataclass(frozen=True, slots=True)
class Statistics:
    """What pre-ranking told of each request, without its candidates."""

    worth: Ragged  # (N,) float32 by the pre-ranker's word, best first


Revise = Callable[[Plan, Statistics], Plan]


@runtime_checkable
class Reviser(Protocol):
    """An allocator that looks again when pre-ranking is done."""

    def revise(self, plan: Plan, statistics: Statistics) -> Plan:
        """The plan, with other quotas for what is still to come."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """How the system stands; None is what could not be measured."""

    p99_ms: float | None = None  # of answers in the last seconds
    waiting: float | None = None  # requests that compute or wait for it, on average
    cpu: float | None = None  # processor time this process used, 1 is a whole core
    errors: float | None = None  # share of answers that were errors of ours


@runtime_checkable
class Steerable(Protocol):
    """An allocator that heeds how the system stands, and tells what it does."""

    def steer(self, status: Status) -> None:
        """Take notice; called a few times a second, from any thread."""
        ...

    def state(self) -> Mapping[str, float | Mapping[str, float]]:
        """Numbers for operators: prices, limits, spend; a mapping is one number a plan."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """An allocator with something to take up from the run directory before it serves."""

    def restore(
        self, folder: Path, channels: Collection[str], options: Collection[str] = (RANKING,)
    ) -> None:
        """Take up what was learnt. ``options`` are the optional keys of plans that are obeyed.

        Raises DataError where it is missing or damaged, ConfigError where it is of another cascade.
        """
        ...

    def forget(self) -> None:
        """What was planned so far was a rehearsal: begin anew, with what was taken up."""
        ...

    def close(self) -> None:
        """Write what is left to write."""
        ...
