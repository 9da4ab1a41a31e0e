"""Reading orders; who has bought what decides who sees a person's contact details."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from aiqleads.errors import UnknownName
from aiqleads.store import orders as rows
from aiqleads.store.database import reader
from aiqleads.store.orders import Order


def get(engine: Engine, agent_id: str, order_id: str) -> Order:
    """One order of the agent; UnknownName when it is not there or another agent's."""
    with reader(engine).connect() as connection:
        order = rows.find(connection, order_id)
    if order is None or order.agent_id != agent_id:
        raise UnknownName(f"no order {order_id!r}")
    return order


def listing(
    engine: Engine, agent_id: str, *, limit: int = 50, before: tuple[int, str] | None = None
) -> list[Order]:
    """The agent's orders, newest first, at most `limit` of them.

    before: (created_us, order_id) of the last order of the page before this one.
    """
    with reader(engine).connect() as connection:
        return rows.of_agent(connection, agent_id, limit, before)


def bought(engine: Engine, agent_id: str, lead_ids: Sequence[str] | None = None) -> set[str]:
    """Leads (all, or of `lead_ids`) that are sold to the agent, and so open to it."""
    with reader(engine).connect() as connection:
        return rows.bought(connection, agent_id, lead_ids)
