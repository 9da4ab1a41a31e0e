"""Seats: members who act for an agent's account, each with keys of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from aiqleads.domain import ENTITLEMENTS
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import holds
from aiqleads.store.agents import AGENT_SCOPES, Key, keys_where, new_key
from aiqleads.store.database import reader
from aiqleads.store.tables import api_key, member
from aiqleads.store.transactions import writing

#: what a member may do, by its role
ROLES = {
    "admin": AGENT_SCOPES,
    "buyer": ("leads:read", "cart:write", "orders:read", "events:write"),
    "viewer": ("leads:read", "orders:read"),
}


@dataclass(frozen=True)
class Member:
    """Who has a seat; removed_us is set once it is gone."""

    member_id: str
    agent_id: str
    name: str
    role: str
    created_us: int
    removed_us: int | None = None


def add(
    engine: Engine, agent_id: str, name: str, role: str, now_us: int, member_id: str = ""
) -> tuple[Member, str]:
    """Gives somebody a seat; returns it with its key, which is seen this once.

    member_id: derived from a request's key, so that a repeat is the same seat (with a new
    key). Refused `seat-limit-reached` 403 (limit, value, used) when the tier has no more.
    InvalidInput for an unknown role.
    """
    if role not in ROLES:
        raise InvalidInput(f"no role {role!r}; there are {', '.join(ROLES)}")
    made = Member(member_id or f"mem_{secrets.token_hex(16)}", agent_id, name, role, now_us)
    with writing(engine) as connection:
        tier = holds.lock_agent(connection, agent_id)
        known = {one.member_id: one for one in _of(connection, agent_id)}
        if made.member_id not in known:
            used, most = len(known), ENTITLEMENTS[tier].seats
            if used >= most:
                raise Refused(
                    "seat-limit-reached",
                    f"{used} of {most} seats of the {tier} tier are taken; one is free when a "
                    "member is removed",
                    status=403,
                    limit="seats",
                    value=most,
                    used=used,
                )
            connection.execute(insert(member).values(**vars(made)))
        made = known.get(made.member_id, made)
        _revoke(connection, made.member_id, now_us)
        text, _ = new_key(connection, agent_id, ROLES[role], now_us, member_id=made.member_id)
    return made, text


def of_agent(engine: Engine, agent_id: str) -> list[Member]:
    """Members who have a seat, oldest first."""
    with reader(engine).connect() as connection:
        return _of(connection, agent_id)


def remove(engine: Engine, agent_id: str, member_id: str, now_us: int) -> None:
    """Takes a seat away and revokes its keys; UnknownName where the account has no such one."""
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        changed = connection.execute(
            update(member)
            .where(
                member.c.member_id == member_id,
                member.c.agent_id == agent_id,
                member.c.removed_us.is_(None),
            )
            .values(removed_us=now_us)
        )
        if not changed.rowcount:
            raise UnknownName(f"no member {member_id!r}")
        _revoke(connection, member_id, now_us)


def keys(engine: Engine, member_id: str) -> list[Key]:
    """Keys of a member, revoked ones too."""
    return keys_where(engine, api_key.c.member_id == member_id)


def _revoke(connection: Connection, member_id: str, now_us: int) -> None:
    live = (api_key.c.member_id == member_id, api_key.c.revoked_us.is_(None))
    connection.execute(update(api_key).where(*live).values(revoked_us=now_us))


def _of(connection: Connection, agent_id: str) -> list[Member]:
    query = select(member).where(member.c.agent_id == agent_id, member.c.removed_us.is_(None))
    rows: Any = connection.execute(query.order_by(member.c.created_us, member.c.member_id))
    return [Member(**row) for row in rows.mappings()]
