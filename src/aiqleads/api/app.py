"""Puts the app together: routes, errors, the edge, one OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Response

from aiqleads.api import (
    consents,
    delivery,
    feeds,
    money,
    operations,
    problems,
    ranking,
    seats,
    shop,
)
from aiqleads.api.auth import KeyRing
from aiqleads.api.edge import Edge
from aiqleads.api.openapi import describe
from aiqleads.api.rates import Rates
from aiqleads.api.state import ServiceState

probes = APIRouter(tags=["operations"])


@probes.get("/livez", response_class=Response)
@probes.get("/healthz", response_class=Response, include_in_schema=False)
async def livez() -> Response:
    """Says that the process is alive."""
    return Response("\n", media_type="text/plain")


@probes.get("/readyz", response_class=Response)
async def readyz() -> Response:
    """Says that the process can serve: it has a model and a snapshot."""
    return Response("\n", media_type="text/plain")


def create_app(state: ServiceState) -> FastAPI:
    """The marketplace over HTTP, for BentoML or bare uvicorn; the state stays the caller's."""
    # FastAPI's own documents and pages are off: /openapi.json below is the only one.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = state
    app.state.keys = KeyRing()
    app.state.rates = Rates()
    problems.install(app)
    # What is told of leads.csv must come before leads/{lead_id}.
    for part in (delivery, ranking, shop, money, seats, consents, feeds, operations):
        app.include_router(part.router)
    app.include_router(probes)
    document: dict[str, Any] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        if not document:
            document.update(describe(app, state.notice))
        return document

    app.add_middleware(Edge, headers={"X-AIQLeads-Notice": state.notice})
    return app
