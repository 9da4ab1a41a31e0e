"""The BentoML shell of the marketplace: the model beside it, one app, the lifecycle.

Everything heavy is imported inside `__init__`, because the master process, which only
watches the workers, imports this module too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bentoml

from aiqleads.api.preflight import check
from aiqleads.errors import AIQLeadsError
from aiqleads.settings import Settings

HERE = Path(__file__).resolve().parent
SCORER = HERE / "scorer"
SETTINGS = Settings()
#: paths that BentoML answers itself, with an empty text
PROBES = {"/livez", "/healthz", "/readyz"}
#: above the longest card payment: a payment is never cut off half way
REQUEST_SECONDS = 60


class Door:
    """Leads every request but the probes straight to the marketplace's app.

    BentoML's own pages (/docs.json, /schema.json, /) stay unseen, so there is one OpenAPI
    document and one form of error. Until the app is made, BentoML says that it is not ready.
    """

    app: Any = None

    def __init__(self, bento: Any) -> None:
        self._bento = bento

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one request."""
        probing = scope.get("method") in ("GET", "HEAD") and scope.get("path") in PROBES
        inside = Door.app is not None and scope["type"] == "http" and not probing
        await (Door.app if inside else self._bento)(scope, receive, send)


@bentoml.service(
    name="marketplace",
    workers=SETTINGS.workers,
    envs=[{"name": "OMP_NUM_THREADS", "value": "1"}],
    traffic={"timeout": REQUEST_SECONDS},
    # Measured per request: access log and tracing cost more than the ranking itself, and
    # BentoML's metrics are labelled by raw path; the app has its own, by route template.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
class Marketplace:
    """Ranks, holds and sells real-estate leads; see /openapi.json."""

    def __init__(self) -> None:
        from aiqleads.api.app import create_app
        from aiqleads.api.log import configure
        from aiqleads.api.state import ServiceState

        configure(SETTINGS)
        self._state = ServiceState.open(SETTINGS, SCORER)
        Door.app = create_app(self._state)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def find_everything() -> None:
        """Ends the start with one line and code 2 when something that it needs is missing."""
        try:
            check(SETTINGS, SCORER)
        except AIQLeadsError as error:
            print(f"aiqleads: {error.detail}", file=sys.stderr)
            raise SystemExit(2) from None

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Lets go of files and connections."""
        self._state.close()


Marketplace.add_asgi_middleware(Door)  # type: ignore[attr-defined]
