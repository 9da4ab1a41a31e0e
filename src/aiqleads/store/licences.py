"""Licences that agents hold, as an operator looked them up: a state, a number, until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from aiqleads.store.tables import agent_licence


@dataclass(frozen=True)
class Licence:
    """A licence to deal in homes. expires_us: first moment without it (wall), None for never."""

    state: str
    number: str
    expires_us: int | None = None

    def is_valid(self, now_us: int) -> bool:
        """Whether it can be relied upon at a moment (wall us)."""
        return self.expires_us is None or now_us < self.expires_us


def of_agent(connection: Connection, agent_id: str) -> list[Licence]:
    """What is noted of an agent, by state."""
    query = select(agent_licence).where(agent_licence.c.agent_id == agent_id)
    rows = connection.execute(query.order_by(agent_licence.c.state))
    return [Licence(row.state, row.number, row.expires_us) for row in rows]


def replace(
    connection: Connection, agent_id: str, licences: Sequence[Licence], by: str, now_us: int
) -> None:
    """Notes these in the place of all that were noted. by: the operator's key."""
    connection.execute(delete(agent_licence).where(agent_licence.c.agent_id == agent_id))
    rows = [
        {"agent_id": agent_id, **vars(each), "noted_by": by, "noted_us": now_us}
        for each in licences
    ]
    if rows:
        connection.execute(insert(agent_licence), rows)
