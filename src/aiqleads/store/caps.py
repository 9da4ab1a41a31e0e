"""Statements on the limits that agents set themselves; each runs in a caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from aiqleads.store.orders import OPEN, SOLD
from aiqleads.store.prepared import Prepared
from aiqleads.store.tables import agent_cap, agent_filter, order_item, orders

_caps_of = Prepared(
    select(agent_cap)
    .where(agent_cap.c.agent_id == bindparam("who"))
    .order_by(agent_cap.c.measure, agent_cap.c.per)
)


@dataclass(frozen=True)
class Cap:
    """At most so many leads (measure `leads`) or cents (`spend`) per hour, day, week or month."""

    measure: str
    per: str
    most: int

    @property
    def name(self) -> str:
        """As refusals name it: leads_per_day, spend_per_month, .."""
        return f"{self.measure}_per_{self.per}"


@dataclass(frozen=True)
class Bought:
    """A lead bought, or being paid for: its price, and when the order was placed (wall us)."""

    price_cents: int
    at_us: int


def caps_of(connection: Connection, agent_id: str) -> list[Cap]:
    """The agent's caps, by measure and span."""
    rows = _caps_of.rows(connection, {"who": agent_id})
    return [Cap(row.measure, row.per, row.most) for row in rows]


def filters_of(connection: Connection, agent_id: str) -> dict[str, Any]:
    """The agent's filters as they were stored; empty where it has none."""
    query = select(agent_filter.c.content).where(agent_filter.c.agent_id == agent_id)
    content = connection.execute(query).scalar_one_or_none()
    return {} if content is None else dict(json.loads(content))


def replace(
    connection: Connection, agent_id: str, caps: Iterable[Cap], filters: Mapping[str, Any]
) -> None:
    """Puts these caps and filters in the place of all that the agent had."""
    for table in (agent_cap, agent_filter):
        connection.execute(delete(table).where(table.c.agent_id == agent_id))
    rows = [
        {"agent_id": agent_id, "measure": cap.measure, "per": cap.per, "most": cap.most}
        for cap in caps
    ]
    if rows:
        connection.execute(insert(agent_cap), rows)
    if filters:
        content = json.dumps(dict(filters), sort_keys=True)
        connection.execute(insert(agent_filter).values(agent_id=agent_id, content=content))


def bought_since(connection: Connection, agent_id: str, since_us: int) -> list[Bought]:
    """Every lead of the agent's orders since then that is sold or under payment, oldest first."""
    rows = connection.execute(
        select(order_item.c.price_cents, orders.c.created_us)
        .join(orders, orders.c.order_id == order_item.c.order_id)
        .where(
            orders.c.agent_id == agent_id,
            orders.c.created_us >= since_us,
            orders.c.state.in_((*OPEN, *SOLD)),
        )
        .order_by(orders.c.created_us)
    )
    return [Bought(row.price_cents, row.created_us) for row in rows]
