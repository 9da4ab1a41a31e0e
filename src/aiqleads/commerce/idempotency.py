"""One answer for one request: the store behind the `Idempotency-Key` header.

    earlier = begin(...)          # None: run the request; else answer with what is stored
    ... run it ...
    finish(...)                   # or `forget` after a fault of ours, or while nobody knows
                                  # the outcome, so that it may run again

A worker that dies in between leaves its row unfinished. After `TAKEOVER_US` the next request
with the same key runs it anew; ids derived from the key make that the same hold or payment.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, update

from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import InvalidInput, Refused
from aiqleads.store import audit
from aiqleads.store.audit import Actor
from aiqleads.store.tables import idempotency
from aiqleads.store.transactions import insert_missing, writing

TAKEOVER_US = 60 * US_PER_SECOND
_LONGEST_KEY = 255


@dataclass(frozen=True)
class Answer:
    """A stored answer, to be sent again with `Idempotent-Replayed: true`."""

    status: int
    media_type: str
    body: bytes


def begin(engine: Engine, scope: str, key: str, request_sha256: str, now_us: int) -> Answer | None:
    """Claims a key; None means the caller must run the request and then `finish` it.

    scope: whose key it is (an agent). request_sha256: hex digest of method, path and body.
    Refused: `idempotency-mismatch` 422 for a key that was used for another request,
    `idempotency-in-progress` 409 (retry_after) while the first one runs.
    """
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidInput(f"an Idempotency-Key has 1 to {_LONGEST_KEY} characters")
    which = (idempotency.c.scope == scope, idempotency.c.idempotency_key == key)
    row = {
        "scope": scope,
        "idempotency_key": key,
        "request_sha256": request_sha256,
        "created_us": now_us,
    }
    with writing(engine) as connection:
        if insert_missing(connection, idempotency, [row]):
            return None
        found = connection.execute(select(idempotency).where(*which).with_for_update())
        stored = found.one_or_none()
        if stored is None:  # forgotten since the insert, where writers do not queue
            raise _running()
        if stored.request_sha256 != request_sha256:
            raise Refused(
                "idempotency-mismatch", "this key was used for another request", status=422
            )
        if stored.status is not None:
            return Answer(stored.status, stored.media_type, stored.body)
        if now_us - stored.created_us < TAKEOVER_US:
            raise _running()
        connection.execute(update(idempotency).where(*which).values(created_us=now_us))
        return None


def _running() -> Refused:
    return Refused("idempotency-in-progress", "the first request with this key runs", retry_after=1)


def finish(
    engine: Engine,
    scope: str,
    key: str,
    answer: Answer,
    now_us: int,
    *,
    acted: tuple[Actor, str] | None = None,
) -> None:
    """Stores the answer of a request that `begin` let run; the first answer stays.

    acted: who asked for what, noted in the audit log with the answer.
    """
    which = (idempotency.c.scope == scope, idempotency.c.idempotency_key == key)
    with writing(engine) as connection:
        changed = connection.execute(
            update(idempotency)
            .where(*which, idempotency.c.status.is_(None))
            .values(status=answer.status, media_type=answer.media_type, body=answer.body)
        )
        if changed.rowcount and acted is not None:
            actor, action = acted
            audit.note(connection, actor, action, answer.status, now_us)


def forget(engine: Engine, scope: str, key: str) -> None:
    """Lets a request run again under its key: a fault of ours (5xx), or no outcome yet (202)."""
    which = (idempotency.c.scope == scope, idempotency.c.idempotency_key == key)
    with writing(engine) as connection:
        connection.execute(delete(idempotency).where(*which, idempotency.c.status.is_(None)))
