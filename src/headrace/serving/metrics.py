"""What the server tells Prometheus."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..behavior import EventStore
from ..stages import Trace
from .interests import Interests
from .steering import Pulse, Steering

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 5)
RECOMMENDING = ("/v1/recommend", "/v1/recommend/batch")  # what the allocator steers by
LABELS = {"failures": "of"} | dict.fromkeys(("prices", "budgets", "spent"), "resource")
GROUPS = (1, 2, 4, 8, 16, 32, 64)
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


@final
class Metrics:
    """One registry. A child is made once and kept: looking one up costs more than counting."""

    def __init__(
        self,
        version: str,
        store: EventStore,
        interests: Interests | None = None,
        steering: Steering | None = None,
    ) -> None:
        self.registry, self.pulse = CollectorRegistry(), Pulse()
        ProcessCollector(registry=self.registry)
        bundle = Info("headrace_bundle", "The bundle that serves.", registry=self.registry)
        bundle.info({"version": version})
        requests = self._counter("requests", "Requests by route and status.", "route", "status")
        seconds = self._histogram("request_seconds", "Time to answer, by route.", SECONDS, "route")
        stages = self._histogram("stage_seconds", "Time by stage or channel.", SECONDS, "stage")
        counts = self._histogram(
            "candidates", "Items a request, by channel found or stage left.", COUNTS, "stage"
        )
        errors = self._counter("errors", "Errors by code.", "code")
        events = self._counter("events", "Events by what became of them.", "outcome")
        self._requests, self._seconds = functools.cache(requests.labels), _children(seconds)
        self._stages, self._counts = _children(stages), _children(counts)
        self._errors, self._events = functools.cache(errors.labels), functools.cache(events.labels)
        self.group = self._histogram("group", "Requests answered in one pass.", GROUPS)
        self._waiting = Gauge(
            "headrace_waiting", "Requests that compute or wait for it.", registry=self.registry
        )
        self.ready = Gauge("headrace_ready", "1 when warm.", registry=self.registry)
        self.registry.register(_OfStore(store))
        if interests is not None:
            self.registry.register(_OfInterests(interests))
        if steering is not None:
            self.registry.register(_OfSteering(steering))
        for outcome in ("accepted", "duplicate", "refused"):  # so that rates start at 0
            self._events(outcome)

    def trace(self, trace: Trace) -> None:
        """Count what the cascade did."""
        for stage, spent_us in trace.spent_us.items():
            self._stages(stage).observe(spent_us / 1e6)
        for found in (trace.found, trace.after):
            for stage, candidates in found.items():
                child = self._counts(stage)
                for count in candidates.item_id.lengths.tolist():
                    child.observe(count)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests(route, str(status)).inc()
        self._seconds(route).observe(seconds)
        if route in RECOMMENDING:
            self.pulse.answered(status, seconds)

    def waits(self, count: int) -> None:
        """So many requests compute or wait for it from now on."""
        self._waiting.set(count)
        self.pulse.waits(count)

    def failed(self, code: str) -> None:
        """Count an error."""
        self._errors(code).inc()

    def events(self, outcome: str, count: int) -> None:
        """Count events: accepted, duplicate or refused."""
        self._events(outcome).inc(count)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"headrace_{name}", help_text, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"headrace_{name}", help_text, labels, buckets=buckets, registry=self.registry
        )


def _children(histogram: Histogram) -> Callable[[str], Histogram]:
    return functools.cache(histogram.labels)


@final
class _OfStore(Collector):
    """What the store counts itself."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        store = self._store
        yield GaugeMetricFamily("headrace_store_bytes", "Disk the store takes.", store.size_bytes)
        yield GaugeMetricFamily("headrace_store_events", "Events since the log.", store.num_events)
        degraded = CounterMetricFamily(
            "headrace_store_degraded", "Look-ups answered from the log alone.", labels=["reason"]
        )
        for reason in {"timeout", "connection", "disk", *store.degraded}:  # rates start at 0
            degraded.add_metric([reason], store.degraded[reason])
        yield degraded


@final
class _OfInterests(Collector):
    """What the keeper of users' states counts itself."""

    def __init__(self, interests: Interests) -> None:
        self._interests = interests

    def collect(self) -> Iterable[CounterMetricFamily]:
        unrolled = CounterMetricFamily(
            "headrace_interests_unrolled",
            "Users whose history was run through, by reason.",
            labels=["reason"],
        )
        for reason in ("anonymous", "no state", "behind"):
            unrolled.add_metric([reason], self._interests.unrolled[reason])
        yield unrolled


@final
class _OfSteering(Collector):
    """What the allocator tells of itself."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, value in self._steering.state().items():
            told = f"headrace_allocation_{name}"
            if not isinstance(value, Mapping):
                yield GaugeMetricFamily(told, "Of the allocator, see GET /v1/allocation.", value)
                continue
            label = LABELS.get(name, "plan")
            family = GaugeMetricFamily(told, "Of the allocator.", labels=[label])
            for key, number in value.items():
                family.add_metric([key], number)
            yield family
