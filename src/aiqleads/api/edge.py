"""The outermost layer: body limit, metrics by route template, and the last line of defence."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiqleads.api.problems import BodyTooLarge, from_http, unexpected
from aiqleads.monitoring import metrics

#: a thousand rows of a hundred features take about 1.5 MB of JSON
BODY_LIMIT_BYTES = 4 * 1024 * 1024
# A client may send any word as its method; a label may not be any word.
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_FRAMES = 6
_DIGITS = 18  # of a length: so many are too many in any case
_log = structlog.get_logger(__name__)


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        limit_bytes: int = BODY_LIMIT_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Wraps an app; `headers` are added to every answer."""
        self._app = app
        self._limit = limit_bytes
        self._headers = [
            (name.lower().encode(), value.encode("ascii", "replace"))
            for name, value in (headers or {}).items()
            if value
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answer = time.perf_counter(), _Answer(send, self._headers)
        try:
            if _announced_bytes(scope) > self._limit:
                raise BodyTooLarge(self._limit, _announced_bytes(scope))
            await self._app(scope, _limited(receive, self._limit), answer)
        except BodyTooLarge as error:
            if not answer.status:
                await from_http(error, Request(scope))(scope, receive, answer)
        except ClientDisconnect:
            pass  # nobody waits for an answer, and it is no fault of ours
        except Exception as fault:
            _report(scope, fault)
            if not answer.status:
                await unexpected()(scope, receive, answer)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = _template(scope)
            metrics.REQUESTS.labels(method, route, answer.status).inc()
            metrics.SECONDS.labels(method, route).observe(time.perf_counter() - started)


class _Answer:
    """Passes an answer on and remembers its status; 0 until it has begun."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        await self._send(message)


def _announced_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value[:_DIGITS]) if value.isdigit() else 0
    return 0


def _limited(receive: Receive, limit: int) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise BodyTooLarge(limit, read)
        return message

    return bounded


def _template(scope: Scope) -> str:
    route: Any = scope.get("route")
    return getattr(route, "path", None) or "unmatched"


def _report(scope: Scope, fault: Exception) -> None:
    # Where it happened, never the message: a database error carries the row's values.
    metrics.FAULTS.labels(type(fault).__name__).inc()
    frames = traceback.extract_tb(fault.__traceback__)[-_FRAMES:]
    _log.error(
        "fault",
        error=type(fault).__name__,
        route=_template(scope),
        where=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )
