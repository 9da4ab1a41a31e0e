"""Taking batches of a source back: what of them was sold, to whom, and what is owed for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select

from aiqleads.store import sources
from aiqleads.store.database import reader
from aiqleads.store.orders import SOLD
from aiqleads.store.tables import agent, order_item, orders
from aiqleads.store.transactions import writing

_MANY = 500  # keys in one IN (...)


@dataclass(frozen=True)
class SoldLead:
    """One lead of the batches in one order. price_cents: what it was sold at, to be credited.

    order_state: committed (being collected), paid, or uncollected (owed, never paid).
    """

    lead_id: str
    order_id: str
    agent_id: str
    buyer: str
    order_state: str
    price_cents: int
    currency: str
    ordered_us: int


@dataclass(frozen=True)
class Recall:
    """What came of taking batches back.

    leads: in store of them. unsold: those that nobody bought; they leave the
    recommendations with the next snapshot and can no longer be held. sold: one row a sale,
    as a lead may have several buyers. credit_cents: of all sales, by buyer and in total,
    each by currency.
    """

    source: str
    reason: str
    batches: tuple[str, ...]
    leads: int
    unsold: int
    sold: tuple[SoldLead, ...]
    credit_cents: dict[str, dict[str, int]]
    total_cents: dict[str, int]


def recall(
    leads: Engine,
    commerce: Engine,
    source: str,
    reason: str,
    now_us: int,
    *,
    batch_id: str | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
) -> Recall:
    """Takes batches back and lists their sales; safe to repeat.

    leads, commerce: the rooms. One batch, or those ingested in [since_us, until_us) (wall
    clock); all of the source without bounds. A sale that had asked a moment before may still
    be made: the same recall, repeated, lists it. UnknownName where there is no such batch.
    """
    # Marked first: from here on nothing of them can be held or checked out.
    with writing(leads) as connection:
        batches = sources.recall(
            connection,
            source,
            reason,
            now_us,
            batch_id=batch_id,
            since_us=since_us,
            until_us=until_us,
        )
        lead_ids = sources.leads_of(connection, batches)
    with reader(commerce).connect() as connection:
        sold = _sales(connection, lead_ids)
    by_buyer: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for sale in sold:
        by_buyer.setdefault(sale.agent_id, Counter())[sale.currency] += sale.price_cents
        total[sale.currency] += sale.price_cents
    return Recall(
        source=source,
        reason=reason,
        batches=tuple(batches),
        leads=len(lead_ids),
        unsold=len(lead_ids) - len({sale.lead_id for sale in sold}),
        sold=tuple(sold),
        credit_cents={agent_id: dict(cents) for agent_id, cents in sorted(by_buyer.items())},
        total_cents=dict(total),
    )


def _sales(connection: Connection, lead_ids: list[str]) -> list[SoldLead]:
    """Sales of these leads, by lead and order."""
    query = (
        select(
            order_item.c.lead_id,
            orders.c.order_id,
            orders.c.agent_id,
            agent.c.name,
            orders.c.state,
            order_item.c.price_cents,
            orders.c.currency,
            orders.c.created_us,
        )
        .join(orders, orders.c.order_id == order_item.c.order_id)
        .join(agent, agent.c.agent_id == orders.c.agent_id)
        .where(orders.c.state.in_(SOLD))
    )
    found: list[SoldLead] = []
    for at in range(0, len(lead_ids), _MANY):
        some = order_item.c.lead_id.in_(lead_ids[at : at + _MANY])
        found += [SoldLead(*row) for row in connection.execute(query.where(some))]
    return sorted(found, key=lambda sale: (sale.lead_id, sale.order_id))
