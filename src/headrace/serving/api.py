"""The HTTP interface: which path does what, and on which thread."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar, final

import faiss
import orjson
import torch
from fastapi import APIRouter, Body
from fastapi.responses import Response

from ..behavior import StoreError
from ..errors import RequestError
from . import wire
from .feedback import Feedback, OverloadError
from .gather import Gather
from .guard import NotReadyError
from .metrics import Metrics
from .service import Service
from .warm import warm_up
from .wire import Ask, AskBatch, Change, Events, OneOrMany

T = TypeVar("T")
STEER_S = 0.25  # between two looks at how the server stands
WAITING = 64  # requests that may wait for the compute thread; more would all come too late
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": wire.Failure} for code in (400, 413, 415, 422, 500, 503)
}
logger = logging.getLogger(__name__)


@final
class Api:
    """Handlers. All computation is on one thread, so that health and metrics always answer.

    More threads would not help: a core is busy with one cascade, and PyTorch's threads beside a
    busy neighbour take many times as long as one alone. More cores want more processes.
    """

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics
        interests = service.interests
        follow = None if interests is None else interests.follow
        self._feedback = Feedback(service.store, service.log, service.clock, follow)
        self._thread = ThreadPoolExecutor(1, "compute", one_thread)
        most = service.settings.max_group
        self._gather = Gather(service, self._thread, most, metrics.group.observe)
        self._ready, self._waiting = False, 0
        self._problem = "warming up; try again in a moment"

    def router(self) -> APIRouter:
        """All paths."""
        router = APIRouter()
        post = partial(router.add_api_route, methods=["POST"], responses=FAILURES)
        answer = {200: {"model": wire.Recommendation}}
        post("/v1/recommend", self.recommend, responses={**FAILURES, **answer})
        answers = {200: {"model": wire.Recommendations}}
        post("/v1/recommend/batch", self.recommend_batch, responses={**FAILURES, **answers})
        post("/v1/events", self.events)
        state = {200: {"model": wire.ItemState}, 404: {"model": wire.Failure}}
        post("/v1/items/{item}", self.change_item, responses={**FAILURES, **state})
        get = partial(router.add_api_route, methods=["GET"])
        get("/v1/items/{item}", self.item, responses={**FAILURES, **state})
        get("/healthz", self.healthz)
        get("/readyz", self.readyz, responses={503: {"model": wire.Failure}})
        get("/v1/allocation", self.allocation)
        get("/metrics", self.metrics)
        return router

    async def __aenter__(self) -> Api:
        self._warming = asyncio.create_task(self._warm())
        self._steering = asyncio.create_task(self._steer())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what was begun and close the journals."""
        self._ready = False
        self._metrics.ready.set(0)
        self._steering.cancel()
        await self._warming
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._feedback.close)
        self._service.close()

    async def _warm(self) -> None:
        """Run everything once, so that no caller pays for compilation; then be ready."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, warm_up, self._service)
        except Exception:
            logger.exception("warm-up failed; the server stays not ready")
            self._problem = "warm-up failed; see the server's log"
            return
        gc.collect()
        gc.freeze()  # what lives now lives on: later collections need not walk it
        self._service.add_observer(self._metrics.trace)
        if self._service.delivery is not None:
            self._service.add_observer(self._service.delivery.observe)
        self._ready = True
        self._metrics.ready.set(1)

    async def _steer(self) -> None:
        """Tell the allocator how the server stands, as long as it runs."""
        steering = self._service.steering
        while True:
            await asyncio.sleep(STEER_S)
            status = steering.measured(self._metrics.pulse.status)
            if self._ready:
                steering.steer(status)

    async def recommend(self, ask: Ask) -> Response:
        """Recommend for a user, or for an anonymous visitor with an inline history."""
        return _json(await self._turn(lambda: self._gather.submit(ask)))

    async def recommend_batch(self, batch: AskBatch) -> Response:
        """Answer several requests together; if one is wrong, none is answered."""
        most = self._service.settings.max_batch
        if len(batch.requests) > most:
            raise RequestError(f"requests: {len(batch.requests)} of them; at most {most}")
        answers = await self._compute(lambda: self._service.answer(batch.requests))
        return _json(wire.Recommendations(answers))

    async def events(self, body: Annotated[OneOrMany, Body()]) -> Response:
        """Keep what users did: one event, or several under "events", all of them or none.

        They are on disk and visible to the next request when this is answered.
        """
        events = body.events if isinstance(body, Events) else [body]
        try:
            self._must_be_ready()
            receipt = await asyncio.wrap_future(self._feedback.submit(events))
        except (NotReadyError, RequestError, OverloadError, StoreError):
            self._metrics.events("refused", len(events))
            raise
        self._metrics.events("accepted", receipt.accepted)
        self._metrics.events("duplicate", receipt.duplicates)
        return _json(receipt._asdict())

    async def change_item(self, item: str, change: Change) -> Response:
        """Withdraw or restore an item, or set its price, bid and other numbers."""
        return _json(await self._compute(lambda: self._service.change(item, change)))

    async def item(self, item: str) -> Response:
        """Tell whether an item is on sale, and its numbers."""
        return _json(await self._compute(lambda: self._service.item(item)))

    async def healthz(self) -> Response:
        """Tell that the process lives."""
        return _json({"status": "ok"})

    async def readyz(self) -> Response:
        """Tell whether it answers requests, and with which bundle."""
        self._must_be_ready()
        return _json({"status": "ready", "version": self._service.version})

    async def allocation(self) -> Response:
        """Tell what the allocator does: price, power, budget, spend, mix of plans."""
        return _json(self._service.steering.state())

    async def metrics(self) -> Response:
        """Tell Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    def _must_be_ready(self) -> None:
        if not self._ready:
            raise NotReadyError(self._problem)

    async def _compute(self, work: Callable[[], T]) -> T:
        return await self._turn(lambda: self._thread.submit(work))

    async def _turn(self, begin: Callable[[], Future[T]]) -> T:
        """Begin what the compute thread does in its turn, unless too much waits for it already."""
        self._must_be_ready()
        if self._waiting >= WAITING:
            raise OverloadError(f"{self._waiting} requests wait already; retry")
        self._waiting += 1
        self._metrics.waits(self._waiting)
        try:
            return await asyncio.wrap_future(begin())
        finally:
            self._waiting -= 1
            self._metrics.waits(self._waiting)


def one_thread() -> None:
    """Let the calling thread compute alone."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
