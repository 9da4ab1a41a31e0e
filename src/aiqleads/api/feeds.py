"""Routes that take what sources push; they only keep it, `aiqleads work` parses it.

No API key: a sender proves itself as its vendor has it (see ingest/origin.py).
"""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse

from aiqleads.api import schemas
from aiqleads.api.state import ServiceState, State
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ingest.feeds import Options, feed_options
from aiqleads.ingest.origin import challenge_answer, delivery_of, proof_of
from aiqleads.monitoring import metrics
from aiqleads.store import inbox

log = structlog.get_logger(__name__)
router = APIRouter(tags=["feeds"])
SourceName = Annotated[str, Path(max_length=40, pattern=r"^[a-z][a-z0-9_]*$")]
_ANY_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"*/*": {}}}}


@router.post(
    "/v1/feeds/{source}",
    status_code=202,
    response_model=schemas.PushAnswer,
    openapi_extra=_ANY_BODY,
)
async def take_push(source: SourceName, request: Request, state: State) -> Response:
    """Takes a body that its sender signed; the same delivery again is kept once."""
    options = await run_in_threadpool(_options, state, source)
    body = await request.body()
    answer = await run_in_threadpool(_keep, state, source, options, dict(request.headers), body)
    metrics.PUSHES.labels(source, answer.status).inc()
    return JSONResponse(answer.model_dump(), 202)


def _options(state: ServiceState, source: str) -> Options | None:
    """What the feed file says of a source; UnknownName unless it is open for pushes."""
    try:
        options = feed_options(state.settings).get(source)
    except InvalidInput as error:
        # The operator's fault: the sender is to try again, and learns nothing of the file.
        log.error("feed_file_unusable", reason=error.detail)
        raise NotReady("the feed file cannot be used") from error
    proof_of(source, options)
    return options


def _keep(
    state: ServiceState,
    source: str,
    options: Options | None,
    headers: dict[str, str],
    body: bytes,
) -> schemas.PushAnswer:
    now_us = state.now_us()
    delivery = delivery_of(source, options, headers, body, now_us)
    if not body.strip():
        raise InvalidInput("the body is empty")
    market = options.market if options else None
    if market is None:
        raise NotReady(f"the feed file says no market for the source '{source}'")
    push = inbox.Push(source, delivery, market, now_us, headers.get("content-type", ""), body)
    # Committed before the answer: a sender who was told 202 forgets what it sent.
    fresh = inbox.put(state.vault, push)
    return schemas.PushAnswer(delivery=delivery, status="accepted" if fresh else "already-accepted")


@router.get(
    "/v1/feeds/{source}",
    response_class=Response,
    responses={
        200: {
            "description": "Meta's hub.challenge as text, or LinkedIn's challengeResponse.",
            "content": {"text/plain": {}, "application/json": {}},
        }
    },
)
def verify(source: SourceName, request: Request, state: State) -> Response:
    """Answers the challenge by which a sender confirms this address."""
    answer = challenge_answer(source, _options(state, source), request.query_params)
    return PlainTextResponse(answer) if isinstance(answer, str) else JSONResponse(answer)
