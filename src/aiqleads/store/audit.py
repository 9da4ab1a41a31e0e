"""Who changed what: appended, and never changed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, insert, select

from aiqleads.store.database import reader
from aiqleads.store.tables import audit

_LONGEST_ACTION = 200


@dataclass(frozen=True)
class Actor:
    """Whose key acted: of an agent's account, of one of its members, or of an operator."""

    key_id: str
    agent_id: str | None = None
    member_id: str | None = None


@dataclass(frozen=True)
class Act:
    """One change that was asked for, and how it was answered (an HTTP status)."""

    audit_id: str
    at_us: int
    agent_id: str | None
    member_id: str | None
    key_id: str
    action: str
    status: int


def note(connection: Connection, actor: Actor, action: str, status: int, at_us: int) -> None:
    """Appends an act, in the transaction of the caller."""
    connection.execute(
        insert(audit).values(
            audit_id=f"aud_{uuid.uuid4().hex}",
            at_us=at_us,
            **vars(actor),
            action=action[:_LONGEST_ACTION],
            status=status,
        )
    )


def listing(
    engine: Engine, agent_id: str | None, *, limit: int, before: tuple[int, str] | None = None
) -> list[Act]:
    """Acts of an agent's account (all there are for None), newest first, at most `limit`.

    before: (at_us, audit_id) of the last one of the page before.
    """
    query = select(audit)
    if agent_id is not None:
        query = query.where(audit.c.agent_id == agent_id)
    if before is not None:
        at_us, audit_id = before
        query = query.where(
            (audit.c.at_us < at_us) | ((audit.c.at_us == at_us) & (audit.c.audit_id < audit_id))
        )
    query = query.order_by(audit.c.at_us.desc(), audit.c.audit_id.desc()).limit(limit)
    with reader(engine).connect() as connection:
        return [Act(**row) for row in connection.execute(query).mappings()]
