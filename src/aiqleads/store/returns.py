"""Statements on returns of leads and on notices; each runs in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, insert, select, update

from aiqleads.store.bulk import parts
from aiqleads.store.orders import SOLD
from aiqleads.store.tables import lead_return, notice, order_item, orders
from aiqleads.store.transactions import insert_missing


@dataclass(frozen=True)
class Return:
    """A lead that its buyer gives back. state: waiting, credited or refused."""

    return_id: str
    order_id: str
    lead_id: str
    agent_id: str
    reason: str
    evidence: str
    state: str
    credit_cents: int
    currency: str
    asked_us: int
    decided_us: int | None = None
    decided_by: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Notice:
    """Something that an agent is told."""

    notice_id: str
    agent_id: str
    kind: str
    lead_id: str | None
    detail: str
    created_us: int


def add(connection: Connection, made: Return) -> None:
    """Writes a return."""
    connection.execute(insert(lead_return).values(**vars(made)))


def find(connection: Connection, return_id: str, *, lock: bool = False) -> Return | None:
    """A return by its id, or None."""
    query = select(lead_return).where(lead_return.c.return_id == return_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else Return(**row)


def of_lead(connection: Connection, order_id: str, lead_id: str) -> Return | None:
    """The return of a lead of an order, or None."""
    query = select(lead_return).where(
        lead_return.c.order_id == order_id, lead_return.c.lead_id == lead_id
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Return(**row)


def listing(
    connection: Connection, *, state: str | None = None, order_id: str | None = None
) -> list[Return]:
    """Returns in a state, or of an order, oldest first."""
    query = select(lead_return).order_by(lead_return.c.asked_us, lead_return.c.return_id)
    if state is not None:
        query = query.where(lead_return.c.state == state)
    if order_id is not None:
        query = query.where(lead_return.c.order_id == order_id)
    return [Return(**row) for row in connection.execute(query.limit(500)).mappings()]


def counted(connection: Connection, agent_id: str, since_us: int) -> int:
    """Returns of the agent asked for since then that were credited or may be."""
    query = select(func.count()).where(
        lead_return.c.agent_id == agent_id,
        lead_return.c.asked_us >= since_us,
        lead_return.c.state.in_(("waiting", "credited")),
    )
    return int(connection.execute(query).scalar_one())


def bought(connection: Connection, agent_id: str, since_us: int) -> int:
    """Leads that were sold to the agent since then."""
    query = (
        select(func.count())
        .select_from(order_item.join(orders, orders.c.order_id == order_item.c.order_id))
        .where(
            orders.c.agent_id == agent_id,
            orders.c.created_us >= since_us,
            orders.c.state.in_(SOLD),
        )
    )
    return int(connection.execute(query).scalar_one())


def decide(
    connection: Connection, return_id: str, state: str, by: str, note: str | None, now_us: int
) -> bool:
    """Ends a return that waits; False where it had ended."""
    changed = connection.execute(
        update(lead_return)
        .where(lead_return.c.return_id == return_id, lead_return.c.state == "waiting")
        .values(state=state, decided_us=now_us, decided_by=by, note=note)
    )
    return changed.rowcount == 1


def buyers_of(connection: Connection, lead_id: str) -> list[str]:
    """Agents to whom the lead is sold."""
    query = (
        select(orders.c.agent_id)
        .join(order_item, order_item.c.order_id == orders.c.order_id)
        .where(order_item.c.lead_id == lead_id, orders.c.state.in_(SOLD))
    )
    return sorted(set(connection.execute(query).scalars()))


def buyers_untold(connection: Connection, lead_ids: Sequence[str], kind: str) -> set[str]:
    """Of these leads those with a buyer who has no notice of that kind about it."""
    query = (
        select(order_item.c.lead_id)
        .join(orders, orders.c.order_id == order_item.c.order_id)
        .outerjoin(
            notice,
            and_(
                notice.c.agent_id == orders.c.agent_id,
                notice.c.lead_id == order_item.c.lead_id,
                notice.c.kind == kind,
            ),
        )
        .where(orders.c.state.in_(SOLD), notice.c.notice_id.is_(None))
    )
    return {
        lead_id
        for some in parts(lead_ids)
        for lead_id in connection.execute(query.where(order_item.c.lead_id.in_(some))).scalars()
    }


def tell(connection: Connection, told: Notice) -> int:
    """Writes a notice; one that is known already stays as it is. How many were new."""
    return insert_missing(connection, notice, [vars(told)])


def notices_of(connection: Connection, agent_id: str, limit: int) -> list[Notice]:
    """What the agent was told, newest first."""
    query = select(notice).where(notice.c.agent_id == agent_id)
    query = query.order_by(notice.c.created_us.desc(), notice.c.notice_id).limit(limit)
    return [Notice(**row) for row in connection.execute(query).mappings()]


def notice_of(connection: Connection, agent_id: str, notice_id: str) -> Notice | None:
    """A notice to this agent, or None."""
    which = (notice.c.notice_id == notice_id, notice.c.agent_id == agent_id)
    row = connection.execute(select(notice).where(*which)).mappings().one_or_none()
    return None if row is None else Notice(**row)
