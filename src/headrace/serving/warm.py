"""The first requests of a server, made by itself."""

from __future__ import annotations

import numpy as np

from .service import Service
from .wire import Ask, Filters, PastEvent

ROUNDS = 3  # the second and third also fill what is cached by use


def warm_up(service: Service) -> None:
    """Run every kind of request, so that kernels are compiled and files are in memory."""
    log = service.log
    active = np.argsort(np.diff(log.event("user_offsets")), kind="stable")[-ROUNDS:]
    known = [log.users["user"][int(row)] for row in active]
    items = [log.items["item"][row] for row in (1, min(2, log.manifest.num_items - 1))]
    history = [PastEvent(item=item, type=log.manifest.event_types[0]) for item in items]
    for user in known:
        service.answer([Ask(user=user, explain=True)])
        service.answer([Ask(history=history, filters=Filters(new_to_user=True))])
        service.answer([Ask(), Ask(user=user, filters=Filters(exclude=items))])
