"""From raw requests to slates in raw ids: the server's work, without the HTTP around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ..app import Serving
from ..behavior import BehaviorStore, EventStore
from ..behavior.journal import Journal
from ..bundle import Bundle
from ..data import Requests
from ..errors import RequestError
from ..log import Log
from ..stages import Allocator, Fitted, Plan, Trace, sequences_read
from . import shelf, widening
from .cascade import Cascade
from .clock import Clock
from .delivery import DeliveryCounter
from .interests import Interests, Rememberer
from .pieces import Watch
from .reader import Reader, Reading, unfailing
from .shelf import Shelf
from .slate import Slates
from .steering import Steering
from .wire import Ask, Change, ItemState, Recommendation

CHANGES = "catalogue.journal"  # in the run's events/


@final
class Service:
    """Answers requests with the cascade. To be used from one thread; the store may be fed beside.

    It is the same ``Cascade.run`` as in evaluation, on requests made by the same builder. What is
    added here: raw ids, defaults, limits, filters, and a second and third search with more and
    wider channels where fewer candidates are found than the slate has places (``widening``).
    """

    def __init__(
        self,
        cascade: Cascade,
        allocator: Allocator,
        log: Log,
        store: EventStore,
        settings: Serving,
        version: str,
        *,
        tasks: Sequence[str],
        targets: Sequence[str] | None = None,
        changes: Journal | None = None,
        interests: Interests | None = None,
        delivery: DeliveryCounter | None = None,
        fallback: Mapping[str, int] | None = None,
    ) -> None:
        """Put a service together.

        ``tasks`` are the ranker's, in order. ``targets`` are the event types by which a user has
        an item, default all. ``changes`` keeps what changes in the catalogue. ``interests``
        has users' states where the ranker keeps some. ``delivery`` is to count what becomes of
        candidates; a server begins when it is warm. ``fallback`` is the plan that serves when the
        allocator fails.
        """
        self.settings, self.version, self.store, self.log = settings, version, store, log
        self.clock = Clock(settings.clock, store.last_ms)
        self.shelf = Shelf(cascade, log, store.items, changes)
        self.reader = Reader(log, store, settings, self.clock, targets)
        self.interests, self.delivery = interests, delivery
        self._slates = Slates(log, tasks)
        self.steering = Steering(allocator, fallback)
        self._widened = widening.Widening(cascade.channels, fallback or {})
        self._sequences = sequences_read(_readers(cascade, allocator, interests))
        self._observers: list[Callable[[Trace], None]] = [
            self.steering.observe,
            self._widened.observe,
        ]

    @classmethod
    def open(
        cls, run: Path, *, writable: bool = False, allocator: Allocator | None = None
    ) -> Service:
        """The service of a trained run directory; ``allocator`` in place of the configured one.

        Only one process at a time may open it ``writable``; others see the events and changes that
        were there when they opened it.
        """
        bundle = Bundle.open(run / "bundle")
        app, log = bundle.app, Log.open(run / "log")
        cascade = bundle.assemble(log)
        kept = run / "events"
        steered: Allocator = app.allocation.build() if allocator is None else allocator
        if isinstance(steered, Fitted):  # it takes up what was learnt
            steered.restore(run, tuple(app.retrieval), cascade.options)
        with ExitStack() as opened:  # what comes first is closed again if the rest cannot be opened
            store = app.serving.store.build(log, kept, app.schema_.key_events, writable=writable)
            opened.callback(store.close)
            changes = Journal(kept / CHANGES, shelf.KIND, writable=writable)
            opened.callback(changes.close)
            interests = None
            if writable and app.serving.interests and isinstance(cascade.ranker, Rememberer):
                interests = Interests.open(kept, cascade.ranker, cascade.builder, store, log)
            delivery = None
            if writable and (app.serving.delivery or cascade.builder.delivery is not None):
                clock = Clock(app.serving.clock, store.last_ms)
                delivery = DeliveryCounter(log, cascade.builder, clock.now_ms)
                opened.callback(delivery.close)
            service = cls(
                cascade,
                steered,
                log,
                store,
                app.serving,
                bundle.version,
                tasks=app.samples.tasks,
                targets=app.samples.targets,
                changes=changes,
                interests=interests,
                delivery=delivery,
                fallback=app.allocation.quota,
            )
            opened.pop_all()
        return service

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, the journal of changes, users' states, and what is counted."""
        if self.interests is not None:
            self.interests.close()
        if self.delivery is not None:
            self.delivery.close()
        self.steering.close()
        self.store.close()
        self.shelf.close()

    def add_observer(self, observe: Callable[[Trace], None]) -> None:
        """Call ``observe`` with what the cascade did, each time."""
        self._observers.append(observe)

    def recommend(
        self,
        *,
        user: str | None = None,
        k: int | None = None,
        time_ms: int | None = None,
        explain: bool = False,
    ) -> Recommendation:
        """A slate for one user, or for nobody in particular."""
        return self.answer([Ask(user=user, k=k, time_ms=time_ms, explain=explain)])[0]

    def answer(self, asks: Sequence[Ask]) -> list[Recommendation]:
        """A slate for each request. Requests with equal filters run through the cascade together.

        Raises RequestError when one of them cannot be answered as asked.
        """
        with torch.inference_mode():
            return unfailing(self._answer(*self.reader.read(asks)))

    def answer_each(self, asks: Sequence[Ask]) -> list[Recommendation | RequestError]:
        """The same for requests of callers that know nothing of each other.

        One that cannot be answered as asked has what is wrong with it in the place of its slate.
        """
        with torch.inference_mode():
            readings, store = self.reader.read_each(asks)
            read = [reading for reading in readings if isinstance(reading, Reading)]
            answers = iter(self._answer(read, store))
            return [next(answers) if isinstance(r, Reading) else r for r in readings]

    def change(self, item: str, change: Change) -> ItemState:
        """Withdraw, restore or re-price an item, from the next request on."""
        number = self.shelf.change(item, change)
        return self._slates.state(number, self.shelf.cascade.catalogue)

    def item(self, item: str) -> ItemState:
        """How an item stands."""
        return self._slates.state(self.shelf.find(item), self.shelf.cascade.catalogue)

    def requests(self, readings: Sequence[Reading], store: BehaviorStore) -> Requests:
        """What the cascade is run on."""
        builder = self.shelf.cascade.builder
        asked = self.reader.asked(readings, store)
        requests = builder.requests(asked, store, self._sequences)
        if self.interests is None:
            return requests
        return self.interests.attach(requests, lambda: builder.requests(asked, store))

    def plan(self, requests: Requests, k_B: Tensor) -> Plan:
        """The allocator's plan, made to yield ``k_B`` items a request (0: as many as it says)."""
        asked = self.steering.plan(requests)
        quota = asked.quota
        slate_B = torch.where(k_B > 0, k_B, quota["reranking"])
        preranking_B = torch.maximum(quota["preranking"], slate_B)
        retrieval_B = torch.maximum(quota["retrieval"], preranking_B)
        stages = {"retrieval": retrieval_B, "preranking": preranking_B, "reranking": slate_B}
        return self._had(Plan({**quota, **stages}, asked.note))

    def _had(self, plan: Plan) -> Plan:
        """The plan with quotas of channels no larger than the catalogue."""
        quota, cascade = plan.quota, self.shelf.cascade
        had = {name: quota[name].clamp(max=len(cascade.catalogue)) for name in cascade.channels}
        return Plan({**quota, **had}, plan.note)

    def _answer(
        self, readings: Sequence[Reading], store: BehaviorStore
    ) -> list[Recommendation | RequestError]:
        """Slates, or what is wrong with the filters of those that have them."""
        answers: dict[int, Recommendation | RequestError] = {}
        for rows in _alike(readings):
            some = [readings[row] for row in rows]
            try:
                together = self._answer_together(some, store)
            except RequestError as error:
                answers |= dict.fromkeys(rows, error)
            else:
                answers |= dict(zip(rows, together, strict=True))
        return [answers[at] for at in range(len(readings))]

    def _answer_together(
        self, readings: Sequence[Reading], store: BehaviorStore
    ) -> list[Recommendation]:
        cascade = self.shelf.under(readings[0].ask.filters, readings[0].place)
        k_B = torch.tensor([reading.ask.k or 0 for reading in readings])
        watch = Watch()
        requests = watch("requests", lambda: self.requests(readings, store))
        plan = watch("allocation", lambda: self.plan(requests, k_B))
        answers: dict[int, Recommendation] = {}
        for trace, rows in self._run(cascade, requests, plan, store):
            some = [readings[row] for row in rows]
            made = watch("slates", partial(self._answers, trace, some, cascade))
            answers |= dict(zip(rows, made, strict=True))
            whole = replace(trace, spent_us={**trace.spent_us, **watch.spent_us})
            for observe in self._observers:
                observe(whole)
            watch = Watch()
        return [answers[row] for row in range(len(readings))]

    def _answers(
        self, trace: Trace, readings: Sequence[Reading], cascade: Cascade
    ) -> list[Recommendation]:
        """What is said to the requests of a trace."""
        answers: list[Recommendation] = []
        explain = [reading.ask.explain for reading in readings]
        slates = self._slates.items(trace, explain, cascade.catalogue)
        wanted = trace.plan.quota["reranking"].tolist()
        for reading, items, count in zip(readings, slates, wanted, strict=True):
            warnings = list(reading.warnings)
            if len(items) < count:
                warnings.append(f"{len(items)} of {count} items: no more were found")
            user, known, time_ms = reading.ask.user, reading.known, reading.time_ms
            answers.append(Recommendation(user, known, time_ms, self.version, items, warnings))
        return answers

    def _run(
        self, cascade: Cascade, requests: Requests, plan: Plan, store: BehaviorStore
    ) -> Iterator[tuple[Trace, list[int]]]:
        """Run the cascade, again and wider for those with too few candidates.

        Yields traces with the rows of the requests they are of; of a request the last one counts.
        """
        rows = short = torch.arange(len(requests))
        for times in (1, *widening.TIMES):
            if times > 1:
                requests, rows = requests.take(short), rows[short]
                plan = self._had(self._widened(plan.take(short), times))
            trace = cascade.run(requests, plan, store, self.steering.revise)
            yield trace, rows.tolist()
            plan = trace.plan
            found_B = trace.after["preranking"].item_id.lengths
            short = torch.nonzero(found_B < plan.quota["reranking"])[:, 0]
            if not len(short):
                break


@dataclass(frozen=True)
class _WithState:
    """A ranker that is given states."""

    reads_sequences: Collection[str]


def _readers(
    cascade: Cascade, allocator: Allocator, interests: Interests | None
) -> Sequence[object]:
    """Who reads requests."""
    if interests is None:
        return cascade, allocator
    ranker = _WithState(interests.ranker.reads_with_state)
    others = *cascade.channels.values(), cascade.preranker, cascade.reranker, allocator
    tiers = (tier.ranker for tier in cascade.tiers.values())
    return *others, *tiers, ranker


def _alike(readings: Sequence[Reading]) -> list[list[int]]:
    """Rows of requests that one cascade can answer: those whose filters show the same items."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for at, reading in enumerate(readings):
        groups.setdefault(shelf.shown(reading.ask.filters), []).append(at)
    return list(groups.values())
