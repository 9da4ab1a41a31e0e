"""What is told to an agent's own system, put into the outbox with what it is about.

The id of an event is made of its cause, so whoever sends it, and however often, sends the
same id.
"""

from __future__ import annotations

from sqlalchemy import Connection

from aiqleads.commerce.ids import new_id
from aiqleads.store import outbox
from aiqleads.store import returns as notices
from aiqleads.store.orders import Order
from aiqleads.store.outbox import Event
from aiqleads.store.returns import Notice

SOLD, REFUND, TEST, NOTICE = "lead.sold", "refund", "delivery.test", "notice"


def sold(connection: Connection, order: Order, now_us: int) -> None:
    """One event a lead of an order; in the transaction that sells them (D2)."""
    outbox.add(
        connection,
        [
            Event(
                new_id("evt", order.agent_id, f"{SOLD}|{order.order_id}|{item.lead_id}"),
                order.agent_id,
                SOLD,
                order.order_id,
                item.lead_id,
                None,
                now_us,
                now_us,
            )
            for item in order.items
        ],
    )


def refunded(
    connection: Connection,
    agent_id: str,
    refund_id: str,
    order_id: str,
    lead_id: str | None,
    detail: str,
    now_us: int,
) -> None:
    """Money of an order that went back: a notice, and one event; in the transaction that posts it.

    refund_id: of the refund, or of the return that was credited. lead_id: the order's line that
    was given back, None where the money is of the whole order. The event stands in the place of
    the notice's own, so that a receiver is told once.
    """
    told = Notice(f"{REFUND}:{refund_id}", agent_id, REFUND, lead_id, detail, now_us)
    notices.tell(connection, told)
    event = Event(
        new_id("evt", agent_id, f"{REFUND}|{refund_id}"),
        agent_id,
        REFUND,
        order_id,
        lead_id,
        told.notice_id,
        now_us,
        now_us,
    )
    outbox.add(connection, [event])


def refund_of(event: Event) -> str:
    """Which refund, or return, an event of a refund is about."""
    return (event.notice_id or "").removeprefix(f"{REFUND}:")


def notify(connection: Connection, told: Notice) -> int:
    """A notice to the agent, and the same for its own system; in its cause's transaction.

    Returns 1, or 0 for one that is known already.
    """
    new = notices.tell(connection, told)
    event = Event(
        new_id("evt", told.agent_id, f"{NOTICE}|{told.notice_id}"),
        told.agent_id,
        f"{NOTICE}.{told.kind}",
        None,
        told.lead_id,
        told.notice_id,
        told.created_us,
        told.created_us,
    )
    outbox.add(connection, [event])
    return new
