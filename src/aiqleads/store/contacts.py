"""Statements on the people whom agents know; each runs in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, delete, func, select

from aiqleads.store.bulk import parts
from aiqleads.store.tables import agent_contact, contact_day, duplicate_answer
from aiqleads.store.transactions import insert_missing


def known(connection: Connection, agent_id: str, digests: Iterable[bytes]) -> set[bytes]:
    """Which of the digests are in the agent's list."""
    query = select(agent_contact.c.digest).where(agent_contact.c.agent_id == agent_id)
    return {
        digest
        for some in parts(digests)
        for digest in connection.scalars(query.where(agent_contact.c.digest.in_(some)))
    }


def before(
    connection: Connection, agent_id: str, digests: Iterable[bytes], until_us: int
) -> dict[bytes, int]:
    """When those of the digests came into the agent's list that did so by `until_us` (wall)."""
    query = select(agent_contact.c.digest, agent_contact.c.uploaded_us).where(
        agent_contact.c.agent_id == agent_id, agent_contact.c.uploaded_us <= until_us
    )
    return {
        row.digest: row.uploaded_us
        for some in parts(digests)
        for row in connection.execute(query.where(agent_contact.c.digest.in_(some)))
    }


def add(connection: Connection, agent_id: str, digests: Collection[bytes], now_us: int) -> None:
    """Adds digests to the agent's list; one that is there keeps its time."""
    rows = [
        {"agent_id": agent_id, "digest": digest, "uploaded_us": now_us}
        for digest in sorted(digests)
    ]
    insert_missing(connection, agent_contact, rows)


def drop(connection: Connection, agent_id: str) -> int:
    """Empties the agent's list; how many there were."""
    mine = delete(agent_contact).where(agent_contact.c.agent_id == agent_id)
    return connection.execute(mine).rowcount


def stored(connection: Connection, agent_id: str) -> int:
    """How many there are in the agent's list."""
    query = select(func.count()).where(agent_contact.c.agent_id == agent_id)
    return int(connection.execute(query).scalar_one())


def uploaded(connection: Connection, agent_id: str, day_us: int) -> int:
    """How many the agent has uploaded on the day that began then."""
    query = select(contact_day.c.uploaded).where(
        contact_day.c.agent_id == agent_id, contact_day.c.day_us == day_us
    )
    return int(connection.execute(query).scalar_one_or_none() or 0)


def count_upload(connection: Connection, agent_id: str, day_us: int, count: int) -> None:
    """Adds to what the agent has uploaded on that day; under the agent's lock."""
    row = {"agent_id": agent_id, "day_us": day_us, "uploaded": 0}
    insert_missing(connection, contact_day, [row])
    mine = (contact_day.c.agent_id == agent_id, contact_day.c.day_us == day_us)
    more = contact_day.update().where(*mine)
    connection.execute(more.values(uploaded=contact_day.c.uploaded + count))


def answered(
    connection: Connection, agent_id: str, lead_ids: Sequence[str], since_us: int
) -> tuple[set[str], int]:
    """Those of the leads about which the agent was told before, and how many of any since."""
    mine = duplicate_answer.c.agent_id == agent_id
    query = select(duplicate_answer.c.lead_id).where(mine)
    told = {
        lead_id
        for some in parts(lead_ids)
        for lead_id in connection.scalars(query.where(duplicate_answer.c.lead_id.in_(some)))
    }
    count = select(func.count()).where(mine, duplicate_answer.c.answered_us >= since_us)
    return told, int(connection.execute(count).scalar_one())


def note_answers(
    connection: Connection, agent_id: str, lead_ids: Iterable[str], now_us: int
) -> None:
    """Notes that the agent is told of these leads."""
    rows = [{"agent_id": agent_id, "lead_id": each, "answered_us": now_us} for each in lead_ids]
    insert_missing(connection, duplicate_answer, rows)
