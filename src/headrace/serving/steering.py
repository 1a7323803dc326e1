"""The server's side of an allocator: what it is told, and what serves when it fails."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeVar, final

import numpy as np
import torch

from ..data import Requests
from ..stages import Allocator, Fitted, Plan, Revise, Reviser, Statistics, Status, Steerable, Trace

RECENT_S = 2.0  # answers that a status tells of; what is past must not be steered by for long
MOST = 5_000  # of them
COMPLAIN_S = 10.0  # between two tracebacks
COMPLAINT = "the allocator failed to %s; the fixed plan serves"
COMPLAINTS = {"measure": "failed to %s how the server stands; the allocator steers blind"}
State = Mapping[str, float | Mapping[str, float]]
T = TypeVar("T")
logger = logging.getLogger(__name__)


@final
class Steering:
    """Asks the allocator; where that fails, the fallback plan serves and the failure is counted."""

    def __init__(self, allocator: Allocator, fallback: Mapping[str, int] | None = None) -> None:
        """``fallback`` is the plan to serve by; without one, failures are the caller's."""
        self.allocator, self._fallback = allocator, fallback
        self.failures: Counter[str] = Counter()
        self._complained_s, self._rehearses = -COMPLAIN_S, False

    @property
    def revise(self) -> Revise | None:
        """The allocator's second look, if it takes one."""
        return self._revise if isinstance(self.allocator, Reviser) else None

    def plan(self, requests: Requests) -> Plan:
        """The allocator's plan, or the fallback."""
        plan = self._try("plan", lambda: self.allocator.plan(requests))
        return plan or Plan.constant(self._fallback or {}, len(requests))

    def observe(self, trace: Trace) -> None:
        """Let the allocator see what the cascade did."""
        if not self._rehearses:
            self._try("observe", lambda: self.allocator.observe(trace))

    @contextmanager
    def rehearsal(self) -> Generator[None]:
        """What is served meanwhile is made up: the allocator plans it, and then forgets it."""
        self._rehearses, allocator = True, self.allocator
        try:
            yield
        finally:
            self._rehearses = False
            if isinstance(allocator, Fitted):
                self._try("forget", allocator.forget)

    def measured(self, read: Callable[[], Status]) -> Status:
        """What is read; where that fails nothing is known, and the allocator must do without."""
        return self._try("measure", read) or Status()

    def steer(self, status: Status) -> None:
        """Tell the allocator how the system stands, if it heeds that."""
        allocator = self.allocator
        if isinstance(allocator, Steerable):
            self._try("steer", lambda: allocator.steer(status))

    def state(self) -> State:
        """What the allocator tells of itself; nothing if it has nothing to tell."""
        allocator = self.allocator
        told = self._try("state", allocator.state) if isinstance(allocator, Steerable) else None
        counts = dict(self.failures)  # another thread may add a name meanwhile
        failures = {name: float(n) for name, n in counts.items()}
        return {**(told or {}), "failures": failures}

    def close(self) -> None:
        """Let the allocator write what it has left."""
        allocator = self.allocator
        if isinstance(allocator, Fitted):
            self._try("close", allocator.close)

    def _revise(self, plan: Plan, statistics: Statistics) -> Plan:
        allocator = self.allocator
        if isinstance(allocator, Reviser):
            plan = self._try("revise", lambda: allocator.revise(plan, statistics)) or plan
        quota = plan.quota
        enough_B = torch.maximum(quota["preranking"], quota["reranking"])  # to fill the slate
        return Plan({**quota, "preranking": enough_B}, plan.note)

    def _try(self, name: str, work: Callable[[], T]) -> T | None:
        """What the allocator answers; none, counted and told in the log, where it fails."""
        try:
            return work()
        except Exception:
            if self._fallback is None:
                raise
            self.failures[name] += 1
            now_s = time.monotonic()
            if now_s - self._complained_s >= COMPLAIN_S:
                self._complained_s = now_s
                logger.exception(COMPLAINTS.get(name, COMPLAINT), name)
            return None


@final
class Pulse:
    """How the server has been in the last seconds. To be used from one thread."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float, bool]] = deque(maxlen=MOST)
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()
        self._waiting, self._since_s, self._waited_s = 0, self._wall_s, 0.0

    def waits(self, count: int) -> None:
        """Take notice that so many requests compute or wait for it from now on."""
        now_s = time.monotonic()
        self._waited_s += self._waiting * (now_s - self._since_s)
        self._waiting, self._since_s = count, now_s

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers.append((time.monotonic(), seconds, status >= 500))

    def status(self) -> Status:
        """Sum up, and start the next stretch of processor time and of waiting.

        Without an answer in the last seconds nothing is known of latency and errors. How many wait
        is the mean of the stretch: they come and go in groups, so that one look tells little.
        """
        self.waits(self._waiting)
        wall_s, cpu_s = time.monotonic(), time.process_time()
        took_s = wall_s - self._wall_s
        cpu = (cpu_s - self._cpu_s) / took_s if took_s > 0 else None
        waiting = self._waited_s / took_s if took_s > 0 else float(self._waiting)
        self._wall_s, self._cpu_s, self._waited_s = wall_s, cpu_s, 0.0
        while self._answers and self._answers[0][0] < wall_s - RECENT_S:
            self._answers.popleft()
        well_s = [seconds for _, seconds, failed in self._answers if not failed]
        errors = 1 - len(well_s) / len(self._answers) if self._answers else None
        p99_ms = 1000 * float(np.quantile(well_s, 0.99)) if well_s else None
        return Status(p99_ms, waiting, cpu, errors)
