"""The server: a run directory over HTTP, in one process on one core."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from .. import __version__
from ..errors import ConfigError
from ..stages import Allocator
from .api import Api, one_thread
from .guard import Guard, handle_errors
from .metrics import Metrics
from .service import Service

GRACE_S = 10  # to finish what was begun when told to stop
BACKLOG = 128


def create_app(run: Path, allocator: Allocator | None = None) -> FastAPI:
    """The server of a trained run directory, to be run by any ASGI server, one worker.

    ``allocator`` takes the place of the configured one.

    Raises BundleError and DataError at once; what takes long and cannot fail is done after the
    start, until which /readyz answers 503.
    """
    return app_of(Service.open(run, writable=True, allocator=allocator))


def app_of(service: Service) -> FastAPI:
    """The server around a service; it closes the service when it stops."""
    metrics = Metrics(service.version, service.store, service.interests, service.steering)
    api = Api(service, metrics)
    guard = Middleware(Guard, max_body_bytes=service.settings.max_body_bytes, metrics=metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        del app
        async with api:
            yield

    app = FastAPI(
        title="headrace",
        version=__version__,
        description="Recommendations by a trained cascade, and the events it learns from.",
        lifespan=lifespan,
        middleware=[guard],
    )
    app.include_router(api.router())
    handle_errors(app)
    return app


def serve(
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allocator: Allocator | None = None,
) -> None:
    """Serve a run until told to stop by SIGINT or SIGTERM; port 0 takes a free one."""
    one_thread()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with _listen(host, port) as listener:
        app = create_app(run, allocator)
        place = "{}:{}".format(*listener.getsockname()[:2])
        print(f"serving {run} at http://{place}, described at http://{place}/docs", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # connections inherit it; else a body waits for the client to acknowledge the head: 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise ConfigError(
            f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port"
        ) from None
