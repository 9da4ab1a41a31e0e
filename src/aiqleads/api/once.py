"""`Idempotency-Key`: a request that changes money or holds has one answer, however often sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from aiqleads.api.problems import from_error
from aiqleads.api.state import ServiceState
from aiqleads.commerce import idempotency
from aiqleads.errors import AIQLeadsError, Refused

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_FAULT = 500


@dataclass(frozen=True)
class OneAnswer:
    """A request's key and the digest of what it asks for."""

    key: str
    digest: str

    @property
    def seed(self) -> str:
        """What ids are derived from: a request that runs again finds what it wrote before."""
        return f"{self.key}:{self.digest}"

    def run(self, state: ServiceState, agent_id: str, work: Callable[[], Response]) -> Response:
        """The stored answer of this agent's request, or else what `work` answers, stored.

        A refusal is an answer and is stored; after a fault of ours the request may run again.
        Refused: `idempotency-mismatch` 422, `idempotency-in-progress` 409.
        """
        rooms = (state.commerce, agent_id, self.key)
        earlier = idempotency.begin(*rooms, self.digest, state.now_us())
        if earlier is not None:
            return Response(
                earlier.body, earlier.status, {REPLAYED: "true"}, media_type=earlier.media_type
            )
        try:
            answer = _answer(work)
        except BaseException:
            idempotency.forget(*rooms)
            raise
        idempotency.finish(*rooms, answer.status_code, answer.media_type or "", bytes(answer.body))
        return answer


def _answer(work: Callable[[], Response]) -> Response:
    try:
        return work()
    except AIQLeadsError as error:
        if error.status >= _FAULT:
            raise
        return from_error(error)


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
    return OneAnswer(key, digest.hexdigest())


Once = Annotated[OneAnswer, Depends(_one_answer)]
