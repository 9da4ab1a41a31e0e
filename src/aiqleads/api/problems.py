"""Every error as `application/problem+json` (RFC 9457), whoever raised it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aiqleads.errors import AIQLeadsError

MEDIA_TYPE = "application/problem+json"
#: a problem's `type` is this and the error's `kind`; stable across releases
TYPE_ROOT = "https://aiqleads.example/problems/"
#: an answer lists so many faults of a request: a body of 4 MB can have half a million
_FAULTS = 20
_WHERE = 200

_KINDS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}


class BodyTooLarge(HTTPException):
    """The request's body is larger than the service reads."""

    def __init__(self, limit_bytes: int, used_bytes: int) -> None:
        """Takes the limit, and what was announced or read so far."""
        super().__init__(413, f"the request's body is larger than {limit_bytes} bytes")
        self.figures = {"limit": "body_bytes", "value": limit_bytes, "used": used_bytes}


class ProblemResponse(JSONResponse):
    """A JSON response under the problem media type."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> ProblemResponse:
    """One problem document; `extra` members stand beside the standard ones."""
    body = {
        "type": TYPE_ROOT + kind,
        "title": _title(kind),
        "status": status,
        "detail": detail,
        **extra,
    }
    return ProblemResponse(body, status, headers)


def from_error(error: AIQLeadsError) -> ProblemResponse:
    """The problem of an error that this package raised on purpose."""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="aiqleads"'
    if "retry_after" in error.extra:
        headers["Retry-After"] = str(error.extra["retry_after"])
    elif error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.ACCEPTED):
        headers["Retry-After"] = "5"
    if error.status == HTTPStatus.ACCEPTED and "order_id" in error.extra:
        headers["Location"] = f"/v1/orders/{error.extra['order_id']}"
    return problem(error.status, error.kind, error.detail, headers=headers, **error.extra)


def from_validation(error: RequestValidationError) -> ProblemResponse:
    """A request that does not fit its schema; what was sent is not echoed (it may be private)."""
    found = error.errors()
    faults = [
        {
            "where": "/".join(str(part) for part in fault["loc"])[:_WHERE],
            "rule": fault["type"],
            "message": fault["msg"],
            **_bounds(fault),
        }
        for fault in found[:_FAULTS]
    ]
    if any(fault["rule"] == "json_invalid" for fault in faults):
        return problem(400, "malformed-json", "the request's body is not JSON", errors=faults)
    first = faults[0]
    detail = f"{first['where']}: {first['message']}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
    return problem(422, "invalid-input", detail, errors=faults)


def _bounds(fault: dict[str, Any]) -> dict[str, int | float]:
    """The figures of a rule that was broken: `le`, `max_length`, `actual_length` and such."""
    given = fault.get("ctx", {}).items()
    return {name: value for name, value in given if type(value) in (int, float)}


def from_http(error: HTTPException, request: Request) -> ProblemResponse:
    """What the framework refuses itself: an unknown path, a wrong method, and the like."""
    status = error.status_code
    details = {
        404: f"nothing is at {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    kind = _KINDS.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
    headers = dict(error.headers) if error.headers else None
    figures = error.figures if isinstance(error, BodyTooLarge) else {}
    detail = details.get(status, str(error.detail))
    return problem(status, kind, detail, headers=headers, **figures)


def unexpected() -> ProblemResponse:
    """A fault of ours; what it was stands in the log, never in the answer."""
    return problem(500, "internal-error", "this request failed by a fault of the service")


def install(app: FastAPI) -> None:
    """Makes an app answer every error with a problem document."""

    async def _ours(_request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, AIQLeadsError)
        return unexpected() if type(error) is AIQLeadsError else from_error(error)

    async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error)

    async def _http(request: Request, error: Exception) -> ProblemResponse:
        assert isinstance(error, HTTPException)
        return from_http(error, request)

    app.add_exception_handler(AIQLeadsError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _title(kind: str) -> str:
    words = kind.replace("-", " ")
    return words[:1].upper() + words[1:]
