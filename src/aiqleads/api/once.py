"""`Idempotency-Key`: a request that changes money or holds has one answer, however often sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from aiqleads.api.auth import Caller
from aiqleads.api.problems import from_error
from aiqleads.api.state import ServiceState
from aiqleads.commerce import idempotency
from aiqleads.errors import AIQLeadsError, NotReady, Refused
from aiqleads.store import audit
from aiqleads.store.transactions import writing

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_FAULT = 500
_SEALED = "stored answer"


@dataclass(frozen=True)
class OneAnswer:
    """A request's key and the digest of what it asks for."""

    key: str
    digest: str
    action: str
    request: Request

    @property
    def seed(self) -> str:
        """What ids are derived from: a request that runs again finds what it wrote before."""
        return f"{self.key}:{self.digest}"

    def run(
        self,
        state: ServiceState,
        scope: str,
        work: Callable[[], Response],
        *,
        secret: bool = False,
    ) -> Response:
        """The stored answer of this request, or else what `work` answers, stored and audited.

        scope: whose keys these are: an agent, or an operator's key.

        secret: the answer is stored sealed under a key of its own in the vault.
        A refusal is an answer and is stored. After a fault of ours, and while the outcome of
        a payment is not known (202), the request may run again: it goes on where it stopped.
        Refused: `idempotency-mismatch` 422, `idempotency-in-progress` 409.
        """
        rooms = (state.commerce, scope, self.key)
        earlier = idempotency.begin(*rooms, self.digest, state.now_us())
        if earlier is not None:
            body = _unsealed(state, scope, earlier.body) if secret else earlier.body
            return Response(body, earlier.status, {REPLAYED: "true"}, media_type=earlier.media_type)
        try:
            answer, is_final = _answer(work)
        except BaseException:
            with suppress(Refused):
                idempotency.forget(*rooms)
            raise
        # A busy database must not turn what was done into a "nothing was changed": an answer
        # that could not be kept is made again from the ids that the key gives.
        with suppress(Refused):
            if is_final:
                body = bytes(answer.body)
                if secret:
                    (body,) = state.vault.seal([_key_id(scope)], [_SEALED], [body])
                kept = idempotency.Answer(answer.status_code, answer.media_type or "", body)
                acted = (self.request.state.caller.actor, self.action)
                idempotency.finish(*rooms, kept, state.now_us(), acted=acted)
            else:
                idempotency.forget(*rooms)
        return answer


def json_answer(answer: BaseModel, status: int = 200) -> Response:
    """An answer as it goes over the wire, and as it is kept."""
    return JSONResponse(answer.model_dump(mode="json"), status)


def note(state: ServiceState, caller: Caller, action: str) -> None:
    """Notes in the audit log what a request without a key did (a PUT says all by itself)."""
    with writing(state.commerce) as connection:
        audit.note(connection, caller.actor, action, HTTPStatus.OK, state.now_us())


def _key_id(scope: str) -> str:
    return f"answers:{scope}"


def _unsealed(state: ServiceState, scope: str, body: bytes) -> bytes:
    (text,) = state.vault.unseal([_key_id(scope)], [_SEALED], [body])
    if text is None:
        raise NotReady("the stored answer cannot be opened any more; use a new key")
    return text


def _answer(work: Callable[[], Response]) -> tuple[Response, bool]:
    """What to answer, and whether that is the last word."""
    try:
        return work(), True
    except AIQLeadsError as error:
        if error.status >= _FAULT:
            raise
        return from_error(error), error.status != HTTPStatus.ACCEPTED


async def _one_answer(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="Required: any text of yours, new for each thing you want done. Sent "
            "again with the same body, the first answer comes back.",
            max_length=255,
        ),
    ] = None,
) -> OneAnswer:
    if not key:
        raise Refused("idempotency-key-required", f"the header {HEADER} is missing", status=400)
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(await request.body())
    return OneAnswer(key, digest.hexdigest(), f"{request.method} {request.url.path}", request)


Once = Annotated[OneAnswer, Depends(_one_answer)]
