"""From a raw request to a slate in raw ids: the server's work, without the HTTP around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..app import Serving
from ..behavior import EVERY_TYPE, BehaviorStore, LiveStore, Overlay, Tail, live
from ..behavior.journal import Journal
from ..bundle import Bundle
from ..data import Ragged, Requests
from ..errors import RequestError, suggest
from ..features.build import DAY_MS, Asked
from ..log import Log
from ..ops import ragged
from ..stages import Allocator, Plan, Trace
from . import shelf
from .cascade import Cascade
from .clock import Clock
from .context import Contexts, Situation
from .shelf import Shelf
from .slate import Slates
from .wire import Ask, Change, Filters, ItemState, PastEvent, Recommendation

ANONYMOUS = 1 << 40  # the user numbers of inline histories: far beyond any log's
WIDER = (1, 4, 64)  # what channel quotas are multiplied by until enough is found
EVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Reading:
    """One request in numbers of the log."""

    user: int
    known: bool
    time_ms: int
    situation: Situation
    exclude: list[int]
    tail: Tail | None
    warnings: list[str]


@final
class Service:
    """Answers requests with the cascade. To be used from one thread; the store may be fed beside.

    The same ``Cascade.run`` as in evaluation, on requests made by the same builder. What is added
    here: raw ids, defaults, limits, filters, and a second and third search with wider channels
    where fewer candidates are found than the slate has places.
    """

    def __init__(
        self,
        cascade: Cascade,
        allocator: Allocator,
        log: Log,
        store: LiveStore,
        settings: Serving,
        version: str,
        *,
        tasks: Sequence[str],
        targets: Sequence[str] | None = None,
        changes: Journal | None = None,
        observe: Callable[[Trace], None] | None = None,
    ) -> None:
        """Put a service together.

        ``tasks`` are the ranker's, in order. ``targets`` are the event types by which a user has
        an item, default all. ``changes`` keeps what changes in the catalogue; ``observe`` sees
        what the cascade did.
        """
        self.settings, self.version, self.store = settings, version, store
        self.clock = Clock(settings.clock, store.last_ms)
        self.types = log.manifest.event_types
        self._allocator, self._observe = allocator, observe
        self._contexts = Contexts(log)
        self._shelf = Shelf(cascade, log, store.items, changes)
        self._slates = Slates(log, tasks, version)
        self._taken = (
            EVERY_TYPE if targets is None else sum(1 << log.type_code(name) for name in targets)
        )

    @classmethod
    def open(
        cls,
        run: Path,
        *,
        writable: bool = False,
        observe: Callable[[Trace], None] | None = None,
    ) -> Service:
        """The service of a trained run directory.

        Only one process at a time may open it ``writable``; others see the events and changes that
        were there when they opened it.
        """
        bundle = Bundle.open(run / "bundle")
        log = Log.open(run / "log")
        cascade = bundle.assemble(log)
        events = Journal(run / "events" / "events.journal", live.KIND, writable=writable)
        changes = Journal(run / "events" / "catalogue.journal", shelf.KIND, writable=writable)
        app = bundle.app
        return cls(
            cascade,
            app.allocation.build(),
            log,
            LiveStore(log, events),
            app.serving,
            bundle.version,
            tasks=app.samples.tasks,
            targets=app.samples.targets,
            changes=changes,
            observe=observe,
        )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the journals."""
        self.store.close()
        self._shelf.close()

    def recommend(
        self, *, user: str | None = None, k: int | None = None, explain: bool = False
    ) -> Recommendation:
        """A slate for one user, or for nobody in particular."""
        return self.answer([Ask(user=user, k=k, explain=explain)])[0]

    def answer(self, asks: Sequence[Ask]) -> list[Recommendation]:
        """A slate for each request. Requests with equal filters run through the cascade together.

        Raises RequestError when one of them cannot be answered as asked.
        """
        for at, ask in enumerate(asks):
            self._check(ask, f"requests[{at}]." if len(asks) > 1 else "")
        with torch.no_grad():
            readings = [self._read(ask, ANONYMOUS + at) for at, ask in enumerate(asks)]
            tails = {r.user: r.tail for r in readings if r.tail is not None}
            store = Overlay(self.store, tails) if tails else self.store
            answers: dict[int, Recommendation] = {}
            for rows in _alike(asks):
                answers |= self._together(rows, asks, readings, store)
        return [answers[at] for at in range(len(asks))]

    def change(self, item: str, change: Change) -> ItemState:
        """Withdraw, restore or re-price an item, from the next request on."""
        return self._shelf.change(item, change)

    def item(self, item: str) -> ItemState:
        """How an item stands."""
        return self._shelf.look_up(item)

    def cascade(self, filters: Filters) -> Cascade:
        """The cascade that answers requests with these filters now."""
        return self._shelf.under(filters)

    def requests(self, ask: Ask) -> Requests:
        """What the cascade is run on for a request without an inline history."""
        reading = self._read(ask, ANONYMOUS)
        return self._requests([ask], [reading], self.store)

    def plan(self, requests: Requests, k_B: Tensor, wider: int = 1) -> Plan:
        """The allocator's plan, made to yield ``k_B`` items a request (0: as many as it says)."""
        quota = dict(self._allocator.plan(requests).quota)
        slate_B = torch.where(k_B > 0, k_B, quota.pop("reranking"))
        preranking_B = torch.maximum(quota.pop("preranking"), slate_B)
        retrieval_B = torch.maximum(quota.pop("retrieval"), preranking_B)
        most = len(self._shelf.cascade.catalogue)
        channels = {name: (quota_B * wider).clamp(max=most) for name, quota_B in quota.items()}
        stages = {"retrieval": retrieval_B, "preranking": preranking_B, "reranking": slate_B}
        return Plan({**channels, **stages})

    def _check(self, ask: Ask, place: str) -> None:
        settings = self.settings
        if ask.k is not None and ask.k > settings.max_k:
            raise RequestError(f"{place}k: {ask.k} is too long a slate; at most {settings.max_k}")
        if ask.user is not None and ask.history is not None:
            raise RequestError(
                f"{place}history: for anonymous visitors only; send events of users to /v1/events"
            )
        if ask.history is not None and len(ask.history) > settings.max_history:
            raise RequestError(
                f"{place}history: {len(ask.history)} events; at most {settings.max_history}"
            )
        latest = self.clock.now_ms() + DAY_MS
        for time_ms in (ask.time_ms, *(e.time_ms for e in ask.history or ())):
            if time_ms is not None and time_ms > latest:
                raise RequestError(
                    f"{place}time_ms: {time_ms} lies more than a day ahead; is it in milliseconds?"
                )

    def _read(self, ask: Ask, anonymous: int) -> _Reading:
        warnings: list[str] = []
        user = self.store.user(ask.user) if ask.user is not None else 0
        now = self.clock.now_ms()
        if ask.time_ms is not None:
            time_ms = ask.time_ms
        else:
            time_ms = max(now, self.store.newest_ms(user) + 1) if user else now
        tail = self._tail(ask.history, time_ms, warnings) if ask.history else None
        situation = self._contexts.situation(ask.context, user, warnings)
        exclude = [self.store.items.row(raw) for raw in ask.filters.exclude]
        for raw, row in zip(ask.filters.exclude, exclude, strict=True):
            if row == 0:
                warnings.append(f"filters.exclude: no item {raw!r} in the log")
        return _Reading(
            anonymous if tail is not None else user,
            user > 0,
            time_ms,
            situation,
            [row for row in exclude if row],
            tail,
            warnings,
        )

    def _tail(
        self, history: Sequence[PastEvent], time_ms: int, warnings: list[str]
    ) -> Tail | None:
        rows = self.store.items.rows([event.item for event in history])
        unknown = [e.item for e, row in zip(history, rows.tolist(), strict=True) if row == 0]
        if unknown:
            names = ", ".join(repr(name) for name in unknown[:5])
            warnings.append(f"history: {len(unknown)} items unknown and left out: {names}")
        size = len(history)
        times = [
            time_ms - size + at if event.time_ms is None else event.time_ms
            for at, event in enumerate(history)
        ]
        kept = np.flatnonzero(rows)
        if not len(kept):
            return None
        item = rows[kept]
        return Tail.of(
            item,
            self._slates.category_I[item],
            np.array([self._type(event.type) for event in history])[kept],
            np.array(times)[kept],
            np.array([event.value for event in history], np.float32)[kept],
        )

    def _type(self, name: str | None) -> int:
        if name is None and len(self.types) == 1:
            return 0
        if name not in self.types:
            near = suggest(name or "", self.types)
            raise RequestError(f"history.type: no event type {name!r} in the log; {near}")
        return self.types.index(name)

    def _together(
        self,
        rows: Sequence[int],
        asks: Sequence[Ask],
        readings: Sequence[_Reading],
        store: BehaviorStore,
    ) -> Mapping[int, Recommendation]:
        """Answer requests with equal filters."""
        some, read = [asks[i] for i in rows], [readings[i] for i in rows]
        requests = self._requests(some, read, store)
        k_B = torch.tensor([ask.k or 0 for ask in some])
        served = self._run(self._shelf.under(some[0].filters), requests, k_B, store)
        answers: dict[int, Recommendation] = {}
        for row, ask, reading, (trace, at) in zip(rows, some, read, served, strict=True):
            items = self._slates.items(trace, at, explain=ask.explain)
            wanted = int(trace.plan.quota["reranking"][at])
            if len(items) < wanted:
                reading.warnings.append(f"only {len(items)} of {wanted} items found")
            answers[row] = Recommendation(
                ask.user, reading.known, reading.time_ms, self.version, items, reading.warnings
            )
        return answers

    def _requests(
        self, asks: Sequence[Ask], readings: Sequence[_Reading], store: BehaviorStore
    ) -> Requests:
        user_B = np.array([r.user for r in readings], np.int64)
        time_B = np.array([r.time_ms for r in readings], np.int64)
        exclude = [
            torch.tensor(r.exclude + self._had(ask.filters, r, store), dtype=torch.int64)
            for ask, r in zip(asks, readings, strict=True)
        ]
        codes = np.array([r.situation.codes for r in readings], np.int64).T
        asked = Asked(
            user_B,
            time_B,
            dict(zip(self._contexts.names, codes, strict=True)),
            np.array([r.situation.group for r in readings], np.int64),
            Ragged.of(exclude),
        )
        return self._shelf.cascade.builder.requests(asked, store)

    def _had(self, filters: Filters, reading: _Reading, store: BehaviorStore) -> list[int]:
        """What the user ever took, if that is to be left out."""
        if not filters.new_to_user:
            return []
        user, before = np.array([reading.user]), np.array([reading.time_ms])
        return np.unique(store.latest(user, before, EVER, self._taken).item).tolist()

    def _run(
        self, cascade: Cascade, requests: Requests, k_B: Tensor, store: BehaviorStore
    ) -> list[tuple[Trace, int]]:
        """Run the cascade, again and wider for those with too few candidates.

        Returns, for each request, the last trace it is in and its row there.
        """
        served: dict[int, tuple[Trace, int]] = {}
        rows = torch.arange(len(requests))
        for wider in WIDER:
            some = requests.take(rows) if len(rows) < len(requests) else requests
            trace = cascade.run(some, self.plan(some, k_B[rows], wider), store)
            if self._observe is not None:
                self._observe(trace)
            self._allocator.observe(trace)
            served |= {row: (trace, at) for at, row in enumerate(rows.tolist())}
            candidates = trace.after["preranking"].item_id.lengths
            rows = rows[candidates < trace.plan.quota["reranking"]]
            if not len(rows):
                break
        return [served[row] for row in range(len(requests))]


def _alike(asks: Sequence[Ask]) -> list[list[int]]:
    """Rows of requests that one cascade can answer: those whose filters show the same items."""
    groups: dict[str, list[int]] = {}
    for at, ask in enumerate(asks):
        key = ask.filters.model_dump_json(include={"categories", "not_categories", "price_max"})
        groups.setdefault(key, []).append(at)
    return list(groups.values())
