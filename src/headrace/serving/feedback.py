"""Events in: checked against the log, written by one thread, as many together as have come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import final

from ..behavior import EventStore, RawEvent, Receipt
from ..errors import HeadraceError, RequestError, suggest
from ..features.build import DAY_MS
from ..log import Log
from .clock import Clock
from .wire import Event

WAITING = 1_000  # batches that may wait for the disk
GROUP = 256  # batches written together at most
NAMED = 5  # wrong ids that a message tells


class OverloadError(HeadraceError):
    """More work waits than can be done in time."""


@dataclass(frozen=True, slots=True)
class _Batch:
    events: Sequence[RawEvent]
    done: Future[Receipt] = field(default_factory=Future[Receipt])


@final
class Feedback:
    """Takes events from any thread; a batch is kept as a whole or not at all.

    The disk is waited for once for all batches that came while it was busy (group commit), so that
    throughput grows with load while each caller still waits for its own events.
    """

    def __init__(
        self, store: EventStore, log: Log, clock: Clock, then: Callable[[], None] | None = None
    ) -> None:
        """``then`` is called by the writer after each write, before anyone is told of it."""
        self._store, self._clock, self._then = store, clock, then
        self._types: Mapping[str, int] = {n: i for i, n in enumerate(log.manifest.event_types)}
        self._waiting: queue.Queue[_Batch | None] = queue.Queue(WAITING)
        self._door, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._write, name="feedback", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Event]) -> Future[Receipt]:
        """Check a batch and hand it to the writer; done when it is on disk and visible.

        Raises RequestError on an item or type that the log does not have and on times to come,
        OverloadError when the disk does not keep up. The future fails with StoreError when the
        events cannot be written.
        """
        now = self._clock.now_ms()
        self._check(events, now)
        batch = _Batch(
            [
                RawEvent(
                    e.event_id,
                    e.user,
                    e.item,
                    e.type,
                    now if e.time_ms is None else e.time_ms,
                    e.value,
                )
                for e in events
            ]
        )
        with self._door:
            if self._closed:
                raise OverloadError("the server is stopping; send the events again")
            try:
                self._waiting.put_nowait(batch)
            except queue.Full:
                raise OverloadError("events come faster than the disk takes them; retry") from None
        return batch.done

    def close(self) -> None:
        """Write what waits and stop."""
        with self._door:
            self._closed = True
            self._waiting.put(None)  # the last one: nobody can come in behind it
        self._thread.join()

    def _check(self, events: Sequence[Event], now: int) -> None:
        rows = self._store.items.rows([event.item for event in events]).tolist()
        unknown = [
            f"events[{at}].item {event.item!r}"
            for at, (event, row) in enumerate(zip(events, rows, strict=True))
            if row == 0
        ]
        if unknown:
            more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
            raise RequestError(
                f"no such item in the log: {', '.join(unknown[:NAMED])}{more}; "
                "none of the events was kept"
            )
        for at, event in enumerate(events):
            if event.type not in self._types:
                near = suggest(event.type, self._types)
                raise RequestError(f"events[{at}].type: no type {event.type!r} in the log; {near}")
            if event.time_ms is not None and event.time_ms > now + DAY_MS:
                raise RequestError(
                    f"events[{at}].time_ms: {event.time_ms} lies more than a day ahead of the "
                    f"server's {now}; is it in milliseconds?"
                )

    def _write(self) -> None:
        stopping = False
        while not stopping:
            batches = [self._waiting.get()]
            while len(batches) < GROUP and not self._waiting.empty():
                batches.append(self._waiting.get())
            stopping = None in batches
            self._write_together([batch for batch in batches if batch is not None])

    def _write_together(self, batches: Sequence[_Batch]) -> None:
        try:
            receipts = self._store.append([batch.events for batch in batches])
            if self._then is not None:
                self._then()
        except Exception as error:  # it is the callers' to handle; the writer must live on
            for batch in batches:
                batch.done.set_exception(error)
        else:
            for batch, receipt in zip(batches, receipts, strict=True):
                batch.done.set_result(receipt)
