"""Statements on refunds, disputes and bookmarks; each runs in a transaction of the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from aiqleads.store.tables import bookmark, dispute, lead_return, refund
from aiqleads.store.transactions import insert_missing


@dataclass(frozen=True)
class Refund:
    """Money of an order (or, order_id none, of a top-up) that goes back.

    attempt_id: the card payment it goes back to, None where it goes to the wallet.
    state: open, succeeded or failed. stripe_id: Stripe's name for it.
    """

    refund_id: str
    order_id: str | None
    attempt_id: str | None
    agent_id: str
    amount_cents: int
    currency: str
    state: str
    asked_by: str
    reason: str
    created_us: int
    stripe_id: str | None = None
    failure: str | None = None
    settled_us: int | None = None
    tries: int = 0


@dataclass(frozen=True)
class Dispute:
    """A payment that its buyer's bank took back. state: open, won or lost."""

    dispute_id: str
    attempt_id: str
    order_id: str | None
    agent_id: str
    amount_cents: int
    currency: str
    state: str
    reason: str
    opened_us: int
    closed_us: int | None = None


def add(connection: Connection, made: Refund) -> None:
    """Writes a refund."""
    connection.execute(insert(refund).values(**vars(made)))


def find(connection: Connection, refund_id: str) -> Refund | None:
    """A refund by our id, or None."""
    return _one(connection, refund.c.refund_id == refund_id)


def by_stripe(connection: Connection, stripe_id: str) -> Refund | None:
    """A refund by Stripe's id, or None."""
    return _one(connection, refund.c.stripe_id == stripe_id)


def _one(connection: Connection, *conditions: Any) -> Refund | None:
    row = connection.execute(select(refund).where(*conditions)).mappings().one_or_none()
    return None if row is None else Refund(**row)


def of_order(connection: Connection, order_id: str) -> list[Refund]:
    """Refunds of an order, oldest first."""
    query = select(refund).where(refund.c.order_id == order_id)
    rows = connection.execute(query.order_by(refund.c.created_us, refund.c.refund_id))
    return [Refund(**row) for row in rows.mappings()]


def opened(connection: Connection) -> list[Refund]:
    """Refunds whose end is not known, oldest first."""
    rows = connection.execute(
        select(refund).where(refund.c.state == "open").order_by(refund.c.created_us)
    )
    return [Refund(**row) for row in rows.mappings()]


def settle(
    connection: Connection,
    refund_id: str,
    sources: tuple[str, ...],
    state: str,
    now_us: int,
    *,
    stripe_id: str | None = None,
    failure: str | None = None,
) -> bool:
    """Moves a refund from one of `sources`; False where it was in none."""
    given = {"stripe_id": stripe_id, "failure": failure}
    changed = connection.execute(
        update(refund)
        .where(refund.c.refund_id == refund_id, refund.c.state.in_(sources))
        .values(
            state=state, settled_us=now_us, **{n: to for n, to in given.items() if to is not None}
        )
    )
    return changed.rowcount == 1


def try_anew(connection: Connection, made: Refund) -> bool:
    """Gives an open refund its next key, as `orders.try_anew` does for a payment."""
    same = (refund.c.refund_id == made.refund_id, refund.c.tries == made.tries)
    changed = connection.execute(
        update(refund).where(*same, refund.c.state == "open").values(tries=made.tries + 1)
    )
    return changed.rowcount == 1


def refunded_cents(connection: Connection, order_id: str, *states: str) -> int:
    """What of an order is refunded in these states, cents."""
    total = select(func.coalesce(func.sum(refund.c.amount_cents), 0)).where(
        refund.c.order_id == order_id, refund.c.state.in_(states)
    )
    return int(connection.execute(total).scalar_one())


def given_back_cents(connection: Connection, order_id: str) -> int:
    """What of an order went back or may: refunds and returns that did not fail, cents."""
    returned = select(func.coalesce(func.sum(lead_return.c.credit_cents), 0)).where(
        lead_return.c.order_id == order_id, lead_return.c.state.in_(("waiting", "credited"))
    )
    refunded = refunded_cents(connection, order_id, "open", "succeeded")
    return refunded + int(connection.execute(returned).scalar_one())


# --- disputes ----------------------------------------------------------------------


def open_dispute(connection: Connection, made: Dispute) -> bool:
    """Writes a dispute; False where it is known."""
    return insert_missing(connection, dispute, [vars(made)]) == 1


def find_dispute(connection: Connection, dispute_id: str) -> Dispute | None:
    """A dispute by Stripe's id, or None."""
    query = select(dispute).where(dispute.c.dispute_id == dispute_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Dispute(**row)


def disputes(connection: Connection, *, state: str | None = None) -> list[Dispute]:
    """Disputes (in a state), newest first, at most 500."""
    query = select(dispute).order_by(dispute.c.opened_us.desc(), dispute.c.dispute_id)
    if state is not None:
        query = query.where(dispute.c.state == state)
    return [Dispute(**row) for row in connection.execute(query.limit(500)).mappings()]


def close_dispute(connection: Connection, dispute_id: str, state: str, now_us: int) -> bool:
    """Ends an open dispute; False where it had ended."""
    changed = connection.execute(
        update(dispute)
        .where(dispute.c.dispute_id == dispute_id, dispute.c.state == "open")
        .values(state=state, closed_us=now_us)
    )
    return changed.rowcount == 1


# --- bookmarks ---------------------------------------------------------------------


def read_until(connection: Connection, name: str) -> int:
    """Up to when something was read (wall us); 0 where it never was."""
    query = select(bookmark.c.at_us).where(bookmark.c.name == name)
    return int(connection.execute(query).scalar_one_or_none() or 0)


def mark(connection: Connection, name: str, at_us: int) -> None:
    """Sets a bookmark, never back."""
    insert_missing(connection, bookmark, [{"name": name, "at_us": at_us}])
    later = (bookmark.c.name == name, bookmark.c.at_us < at_us)
    connection.execute(update(bookmark).where(*later).values(at_us=at_us))
