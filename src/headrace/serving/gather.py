"""Requests that wait at the same moment are answered together, in one pass of the cascade."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol, final

from ..errors import RequestError
from .shelf import shown
from .wire import Ask, Recommendation

Outcome = Recommendation | RequestError
logger = logging.getLogger(__name__)


class Answering(Protocol):
    """What requests are for; Service is it."""

    def answer_each(self, asks: Sequence[Ask]) -> Sequence[Outcome]: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    ask: Ask
    done: Future[Recommendation] = field(default_factory=Future[Recommendation])


@final
class Gather:
    """Collects requests while the compute thread is busy, and hands it all of them when it is free.

    Much of what a pass costs is the same for one request as for ten, so that under load the cost of
    a request falls. Nobody waits for others to come: a request that finds the thread free runs at
    once, alone. Only requests whose filters show the same items are taken together, since others
    need passes of their own; whoever has waited longest is in the next pass.
    """

    def __init__(
        self,
        service: Answering,
        thread: Executor,
        most: int,
        told: Callable[[int], None],
    ) -> None:
        """``service`` is asked on ``thread``, one thread, for at most ``most`` answers at a time.

        ``told`` is called there, too, with the size of each group before it is answered.
        """
        self._service, self._thread, self._most, self._told = service, thread, most, told
        self._waiting: deque[_Waiting] = deque()

    def submit(self, ask: Ask) -> Future[Recommendation]:
        """Answer a request in its turn; from any thread.

        The future fails with RequestError if the request cannot be answered as asked. One that is
        cancelled before its turn is not computed.
        """
        waiting = _Waiting(ask)
        self._waiting.append(waiting)
        # as many turns as requests: where an earlier turn has taken this one along, its own is void
        self._thread.submit(self._turn)
        return waiting.done

    def _turn(self) -> None:
        group = self._take()
        if group:
            self._told(len(group))
            self._answer_together(group)

    def _take(self) -> list[_Waiting]:
        """The first that waits, and those behind it that the same pass can answer."""
        group, others = list[_Waiting](), list[_Waiting]()
        while self._waiting and len(group) < self._most:
            first = self._waiting.popleft()
            if group and shown(first.ask.filters) != shown(group[0].ask.filters):
                others.append(first)
            elif first.done.set_running_or_notify_cancel():
                group.append(first)
        self._waiting.extendleft(reversed(others))
        return group

    def _answer_together(self, group: Sequence[_Waiting]) -> None:
        try:
            outcomes = self._service.answer_each([waiting.ask for waiting in group])
        except Exception as error:
            if len(group) == 1:
                group[0].done.set_exception(error)
                return
            logger.exception("%d requests failed together; each is answered alone", len(group))
            for waiting in group:
                self._answer_together([waiting])
            return
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, RequestError):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(outcome)
