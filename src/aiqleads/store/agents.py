"""Agents and their API keys: a key is shown once, and only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from aiqleads.domain import Tier
from aiqleads.errors import AccessDenied, InvalidInput, UnknownName
from aiqleads.store.database import reader
from aiqleads.store.tables import agent, api_key
from aiqleads.store.transactions import writing

#: everything that a key can be allowed to do; a route that asks for none of these is public
SCOPES = {
    "leads:read": "rankings, lead search and lead details",
    "cart:write": "holds, checkout, returns and the agent's own contacts",
    "orders:read": "orders, the wallet's balance and limits",
    "wallet:write": "wallet top-ups, the agent's own limits, members",
    "delivery:write": "where bought leads are sent, and sending them again",
    "events:write": "interaction events",
    "ops": "raw scores, invariants, suppressions and the process (operators)",
}
#: what an agent's own key gets when nothing else is asked for
AGENT_SCOPES = tuple(scope for scope in SCOPES if scope != "ops")
PREFIX = "aiq_"


@dataclass(frozen=True)
class Agent:
    """An agent's account: who buys, in which market, on which tier."""

    agent_id: str
    name: str
    tier: Tier
    market: str


@dataclass(frozen=True)
class Key:
    """What is known of an API key; the key itself is not."""

    key_id: str
    agent_id: str | None
    scopes: frozenset[str]
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    member_id: str | None = None
    tier: Tier | None = None  # of its agent, where it was asked for


def add(engine: Engine, agents: Iterable[Agent], now_us: int) -> int:
    """Stores agents, renews name, tier and market of those known; returns how many were new."""
    rows = {one.agent_id: one for one in agents}
    with writing(engine) as connection:
        known = {row.agent_id: row for row in connection.execute(select(agent))}
        fresh = [one for agent_id, one in rows.items() if agent_id not in known]
        if fresh:
            connection.execute(
                insert(agent),
                [_columns(one) | {"created_us": now_us, "version": 0} for one in fresh],
            )
        for agent_id, row in known.items():
            one = rows.get(agent_id)
            if one is not None and _columns(one) != _columns(_agent(row)):
                connection.execute(
                    update(agent).where(agent.c.agent_id == agent_id).values(**_columns(one))
                )
    return len(fresh)


def get(engine: Engine, agent_id: str) -> Agent:
    """One agent; UnknownName when nobody has this id."""
    with reader(engine).connect() as connection:
        row = connection.execute(select(agent).where(agent.c.agent_id == agent_id)).first()
    if row is None:
        raise UnknownName(f"no agent '{agent_id}'")
    return _agent(row)


def all_agents(engine: Engine) -> list[Agent]:
    """Every agent, by id."""
    with reader(engine).connect() as connection:
        return [_agent(row) for row in connection.execute(select(agent).order_by(agent.c.agent_id))]


def create_key(
    engine: Engine,
    agent_id: str | None,
    scopes: Iterable[str],
    now_us: int,
    expires_us: int | None = None,
) -> tuple[str, Key]:
    """A new key of an agent (or of an operator: `None`); the only time the key is seen.

    Raises InvalidInput for an unknown scope or none, and when `ops` is asked for an
    agent's key; UnknownName for an unknown agent.
    """
    wanted = frozenset(scopes)
    unknown = sorted(wanted - SCOPES.keys())
    if unknown or not wanted:
        raise InvalidInput(f"unknown scopes {unknown}; known are {', '.join(SCOPES)}")
    if agent_id is not None:
        get(engine, agent_id)
        if "ops" in wanted:
            raise InvalidInput("the scope 'ops' is for operators' keys, which belong to no agent")
    with writing(engine) as connection:
        return new_key(connection, agent_id, wanted, now_us, expires_us=expires_us)


def new_key(
    connection: Connection,
    agent_id: str | None,
    scopes: Iterable[str],
    now_us: int,
    *,
    expires_us: int | None = None,
    member_id: str | None = None,
) -> tuple[str, Key]:
    """Writes a new key in the transaction of the caller; the only time the key is seen."""
    text = PREFIX + secrets.token_urlsafe(32)
    wanted = frozenset(scopes)
    key = Key(f"k_{secrets.token_hex(6)}", agent_id, wanted, now_us, expires_us, None, member_id)
    connection.execute(
        insert(api_key).values(
            key_id=key.key_id,
            key_sha256=_digest(text),
            agent_id=agent_id,
            member_id=member_id,
            scopes=" ".join(sorted(wanted)),
            created_us=now_us,
            expires_us=expires_us,
        )
    )
    return text, key


def keys_of(engine: Engine, agent_id: str | None) -> list[Key]:
    """Every key of an agent (of the operators: `None`), oldest first."""
    return keys_where(engine, api_key.c.agent_id == agent_id)


def keys_where(engine: Engine, *conditions: Any) -> list[Key]:
    """Keys that meet the conditions, oldest first."""
    query = select(api_key).where(*conditions)
    with reader(engine).connect() as connection:
        rows = connection.execute(query.order_by(api_key.c.created_us, api_key.c.key_id))
        return [_key(row) for row in rows]


def revoke_key(engine: Engine, key_id: str, now_us: int) -> None:
    """Revokes a key for good (again is harmless); UnknownName when there is none."""
    with writing(engine) as connection:
        row = connection.execute(select(api_key).where(api_key.c.key_id == key_id)).first()
        if row is None:
            raise UnknownName(f"no key '{key_id}'")
        if row.revoked_us is None:
            connection.execute(
                update(api_key).where(api_key.c.key_id == key_id).values(revoked_us=now_us)
            )


def find_key(engine: Engine, text: str) -> Key:
    """The key with this text; AccessDenied (401) when it is none of ours."""
    query = (
        select(api_key, agent.c.tier)
        .outerjoin(agent, agent.c.agent_id == api_key.c.agent_id)
        .where(api_key.c.key_sha256 == _digest(text))
    )
    with reader(engine).connect() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise AccessDenied("this API key is not known")
    return replace(_key(row), tier=Tier(row.tier) if row.tier else None)


def check_live(key: Key, now_us: int) -> None:
    """Refuses (AccessDenied, 401) a key that is revoked, or expired at `now_us` (wall clock)."""
    if key.revoked_us is not None:
        raise AccessDenied("this API key was revoked")
    if key.expires_us is not None and key.expires_us <= now_us:
        raise AccessDenied("this API key has expired")


def _digest(text: str) -> str:
    # A key is 256 random bits, so a plain hash is as good as a slow one, and can be looked up.
    return hashlib.sha256(text.encode()).hexdigest()


def _columns(one: Agent) -> dict[str, str]:
    return {
        "agent_id": one.agent_id,
        "name": one.name,
        "tier": str(one.tier),
        "market": one.market,
    }


def _agent(row: Any) -> Agent:
    return Agent(row.agent_id, row.name, Tier(row.tier), row.market)


def _key(row: Any) -> Key:
    return Key(
        row.key_id,
        row.agent_id,
        frozenset(row.scopes.split()),
        row.created_us,
        row.expires_us,
        row.revoked_us,
        row.member_id,
    )
