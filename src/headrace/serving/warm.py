"""The first requests of a server, made by itself."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ..behavior import RawEvent, StoreError
from ..log import Log
from .service import Service
from .wire import Ask, Filters, PastEvent

ROUNDS = 3  # the second and third also fill what is cached by use
USERS = 100  # of all sizes, after that: alone, then some in passes of ever more


def warm_up(service: Service) -> None:
    """Run every kind of request and an event, so that kernels are compiled and files in memory.

    The allocator is not told what they took and brought, and forgets them: nobody asked.
    """
    log = service.log
    log.read_ahead()
    counts = np.diff(log.event("user_offsets"))
    active = np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]
    known = [log.users["user"][int(row)] for row in active[-ROUNDS:]]
    items = [log.items["item"][row] for row in (1, min(2, log.manifest.num_items - 1))]
    history = [PastEvent(item=item, type=log.manifest.event_types[0]) for item in items]
    with service.steering.rehearsal():
        for user in known:
            service.answer([Ask(user=user, explain=True)])
            service.answer([Ask(history=history, filters=Filters(new_to_user=True))])
            service.answer([Ask(), Ask(user=user, filters=Filters(exclude=items))])
        some = active[:: max(1, len(active) // USERS)]
        asks = [Ask(user=log.users["user"][int(row)]) for row in some]
        for ask in asks:
            service.answer([ask])
        size = 2
        while size <= min(service.settings.max_group, len(asks)):
            for at in range(ROUNDS):  # much is made once for each number of rows
                service.answer(asks[at : at + size])
            size *= 2
    with suppress(StoreError):  # a store that cannot write must not keep the server from serving
        service.store.append([[_known_event(log, int(user)) for user in active[-1:]]])


def _known_event(log: Log, user: int) -> RawEvent:
    """A user's first: what the log has already changes nothing when it is sent again."""
    at = int(log.event("user_offsets")[user])
    item, kind, time_ms = (int(log.event(name)[at]) for name in ("item", "type", "time_ms"))
    kinds, raw = log.manifest.event_types, log.items["item"][item]
    return RawEvent("warm-up", log.users["user"][user], raw, kinds[kind], time_ms, 0.0)
