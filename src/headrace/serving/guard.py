"""What surrounds every request: a number, a size limit, a clock, and a net under our own bugs."""

from __future__ import annotations

import logging
import time
import uuid
from typing import final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..behavior import StoreError
from ..errors import RequestError
from .feedback import OverloadError
from .metrics import Metrics
from .mistakes import in_one_line
from .shelf import UnknownItemError
from .wire import Failure, Problem

HTTP_CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
RETRY_AFTER_S = "1"
logger = logging.getLogger(__name__)


class NotReadyError(Exception):
    """The server is still warming up."""


@final
class Guard:
    """ASGI middleware; no exception leaves it."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, metrics: Metrics) -> None:
        self._app, self._max_body_bytes, self._metrics = app, max_body_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = uuid.uuid4().hex
        start, status = time.perf_counter(), 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, self._limited(scope, receive), tagged)
        except Exception:
            logger.exception("request %s: %s failed", request_id, scope["path"])
            if status == 0:
                text = "a bug of the server; its log tells more under this request_id"
                answer = failure(Request(scope), 500, "internal", text)
                await answer(scope, receive, tagged)
        route = scope.get("route")
        path = route.path if route is not None else "other"
        self._metrics.answered(path, status, time.perf_counter() - start)
        if "error" in state:
            self._metrics.failed(state["error"])

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse a body as soon as it is known to be too large."""
        most, seen = self._max_body_bytes, 0
        told = dict(scope["headers"]).get(b"content-length", b"0")

        async def limited() -> Message:
            nonlocal seen
            refuse = told.isdigit() and int(told) > most
            if not refuse:
                message = await receive()
                seen += len(message.get("body", b""))
                refuse = seen > most
                if not refuse:
                    return message
            raise HTTPException(413, f"body: more than {most} bytes; send less at a time")

        return limited


def failure(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """An error as an answer."""
    request.state.error = code
    line = " ".join(message.split()).encode(errors="replace").decode()
    content = Failure(Problem(code, line, request.state.request_id))
    return Response(orjson.dumps(content), status, headers=headers, media_type="application/json")


def handle_errors(app: FastAPI) -> None:
    """Answer every expected error in one form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        kind = request.headers.get("content-type", "")
        if isinstance(error.body, bytes) and "json" not in kind:
            text = f"content-type: {kind or 'missing'}; send application/json"
            return failure(request, 415, "content_type", text)
        text = in_one_line(error.errors())
        if any(e["type"] == "json_invalid" for e in error.errors()):
            return failure(request, 400, "malformed", text)
        return failure(request, 422, "invalid", text)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code = HTTP_CODES.get(error.status_code, "http")
        text = str(error.detail)
        if error.status_code == 404:
            text = f"{request.url.path}: no such path; see /docs"
        return failure(request, error.status_code, code, text, dict(error.headers or {}))

    @app.exception_handler(UnknownItemError)
    async def unknown_item(request: Request, error: UnknownItemError) -> Response:
        return failure(request, 404, "not_found", str(error))

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return failure(request, 422, "invalid", str(error))

    @app.exception_handler(StoreError)
    async def unwritten(request: Request, error: StoreError) -> Response:
        logger.error("request %s: %s", request.state.request_id, error)
        return failure(request, 503, "storage", str(error), {"retry-after": RETRY_AFTER_S})

    @app.exception_handler(OverloadError)
    async def overloaded(request: Request, error: OverloadError) -> Response:
        return failure(request, 503, "overloaded", str(error), {"retry-after": RETRY_AFTER_S})

    @app.exception_handler(NotReadyError)
    async def not_ready(request: Request, error: NotReadyError) -> Response:
        return failure(request, 503, "not_ready", str(error), {"retry-after": RETRY_AFTER_S})
