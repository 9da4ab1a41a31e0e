"""The one OpenAPI document: every error as a problem, the key as the security scheme."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from aiqleads.api.once import HEADER
from aiqleads.api.problems import MEDIA_TYPE
from aiqleads.api.schemas import Problem

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ALWAYS = {
    "400": "The body is not JSON, or a header that is needed is missing.",
    "413": "The body is too large.",
    "422": "The request does not fit its schema, or names what does not exist.",
    "500": "A fault of the service.",
    "503": "Busy or not ready; nothing was changed. See Retry-After.",
}
_WITH_KEY = {
    "401": "No key, or one that is unknown, expired or revoked.",
    "403": "The key lacks the scope, or is another agent's; or a limit is reached.",
    "404": "Nothing answers to this name.",
    "429": "More requests in a minute than the tier's. See Retry-After.",
}
_WITH_PROOF = {
    "403": "The sender's proof does not hold; nothing was kept.",
    "404": "No such feed is open.",
}
_WITH_ONCE = {
    "402": "The money is not there: credit used up, or the card was declined.",
    "409": "Somebody else was first, or a request with this key is running. See Retry-After.",
}


def describe(app: FastAPI, notice: str) -> dict[str, Any]:
    """The document of an app; `notice` says what in the market is invented."""
    document = get_openapi(
        title="AIQLeads marketplace",
        version="1",
        summary="Ranks, holds and sells real-estate leads.",
        description=f"Money is in integer cents beside its currency, times are UTC. {notice}",
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Adds to an operation the problems that it may answer with."""
    said = dict(_ALWAYS)
    if operation.get("security"):
        said |= _WITH_KEY
    if path.startswith("/v1/feeds/"):
        said |= _WITH_PROOF
    for parameter in operation.get("parameters", []):
        if parameter["name"] == HEADER:
            parameter["required"] = True
            said |= _WITH_ONCE
    for status, description in said.items():
        operation["responses"][status] = {"description": description, "content": _PROBLEM}
