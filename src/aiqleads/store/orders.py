"""Statements on orders and payment attempts; each runs in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from aiqleads.errors import UnknownName
from aiqleads.store.consents import Consent
from aiqleads.store.holds import consent_columns, consent_of
from aiqleads.store.prepared import Prepared
from aiqleads.store.tables import auto_recharge, order_item, orders, payment_attempt

#: a card payment is under way, nothing is sold yet
OPEN = ("pending", "requires_action")
#: the leads are the buyer's
SOLD = (
    "committed", "paid", "uncollected", "written_off", "partially_refunded", "refunded",
    "disputed", "won", "lost",
)  # fmt: skip
#: what a top-up is for that its wallet made by itself
RECHARGE = "recharge"
#: the money for it came, whatever became of it later
SETTLED = ("paid", "partially_refunded", "refunded", "disputed", "won", "lost")
#: some of the money is there, and may be given back
REFUNDABLE = ("paid", "partially_refunded", "won")
#: nothing was sold and no money may stay reserved
DEAD = ("failed", "canceled", "expired")


@dataclass(frozen=True)
class OrderItem:
    """A lead in an order: the slot and the fencing token it was held under, and its price.

    consent: what its sale rests on; none while it is not sold.
    """

    lead_id: str
    slot: int
    token: int
    price_cents: int
    consent: Consent | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Order:
    """What an agent buys in one checkout.

    state: pending -> requires_action -> committed -> paid -> (partially_)refunded |
    disputed -> won | lost; committed -> uncollected (sold, but the card's money never came)
    -> paid | written_off; pending or requires_action -> failed | canceled | expired. The
    items are sold in the states of `SOLD`, and in no other.
    deadline_us: until when a card payment may commit the sale. failure: why it ended badly
    (a decline code, hold-lost, deadline-passed, ...). client_secret: for the browser, only
    while the card's bank asks for authentication.
    """

    order_id: str
    agent_id: str
    state: str
    pay_with: str
    amount_cents: int
    currency: str
    created_us: int
    deadline_us: int | None = None
    settled_us: int | None = None
    failure: str | None = None
    items: tuple[OrderItem, ...] = ()
    client_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Attempt:
    """One card payment, of an order or (order_id none) of a wallet top-up.

    state: open until Stripe's answer is final, then captured, voided or uncollected.
    purpose: order, topup, or recharge for a top-up that nobody asked for at that moment.
    """

    attempt_id: str
    order_id: str | None
    agent_id: str
    idempotency_prefix: str
    payment_method: str
    amount_cents: int
    currency: str
    payment_intent: str | None
    state: str
    failure: str | None
    created_us: int
    purpose: str = "order"
    tries: int = 0

    @property
    def key(self) -> str:
        """Idempotency key under which Stripe is asked for the payment."""
        return try_key(f"{self.idempotency_prefix}:pay", self.tries)


_add_order = Prepared(insert(orders))
_add_item = Prepared(insert(order_item))
_find = Prepared(select(orders).where(orders.c.order_id == bindparam("of")))
_items_of = Prepared(
    select(order_item)
    .where(order_item.c.order_id.in_(bindparam("of", expanding=True)))
    .order_by(order_item.c.lead_id, order_item.c.slot),
    lists=["of"],
)
_disclosed = Prepared(
    select(order_item.c.lead_id, order_item.c.consent_id)
    .join(orders, orders.c.order_id == order_item.c.order_id)
    .where(
        orders.c.state.in_(SOLD),
        orders.c.order_id != bindparam("without"),
        or_(
            order_item.c.lead_id.in_(bindparam("leads", expanding=True)),
            order_item.c.consent_id.in_(bindparam("consents", expanding=True)),
        ),
    ),
    lists=["leads", "consents"],
)


def try_key(key: str, tries: int) -> str:
    """The key of a try: the first is the key itself."""
    return f"{key}:{tries}" if tries else key


def add(connection: Connection, order: Order) -> None:
    """Writes an order with its items."""
    _add_order.run(connection, vars(order))
    items = [
        {"order_id": order.order_id, **vars(item), **consent_columns(item.consent)}
        for item in order.items
    ]
    _add_item.many(connection, items)


def _items(connection: Connection, order_ids: Sequence[str]) -> dict[str, list[OrderItem]]:
    found: dict[str, list[OrderItem]] = {order_id: [] for order_id in order_ids}
    for row in _items_of.rows(connection, {"of": order_ids}):
        item = OrderItem(row.lead_id, row.slot, row.token, row.price_cents, consent_of(row))
        found[row.order_id].append(item)
    return found


def note_consents(connection: Connection, order_id: str, consents: Mapping[str, Consent]) -> None:
    """Notes with the items of an order what their sale rests on; consents: by lead."""
    for lead_id, consent in consents.items():
        mine = (order_item.c.order_id == order_id, order_item.c.lead_id == lead_id)
        connection.execute(update(order_item).where(*mine).values(**consent_columns(consent)))


def disclosed(
    connection: Connection, lead_ids: Sequence[str], consent_ids: Sequence[str], *, without: str
) -> list[tuple[str, str | None]]:
    """(lead, consent) of each sale of one of these leads or by one of these consents.

    without: an order that is left out.
    """
    given = {"leads": lead_ids, "consents": consent_ids, "without": without}
    return [(row.lead_id, row.consent_id) for row in _disclosed.rows(connection, given)]


def _orders(connection: Connection, rows: Sequence[Any]) -> list[Order]:
    items = _items(connection, [row.order_id for row in rows])
    return [
        Order(
            row.order_id,
            row.agent_id,
            row.state,
            row.pay_with,
            row.amount_cents,
            row.currency,
            row.created_us,
            row.deadline_us,
            row.settled_us,
            row.failure,
            tuple(items[row.order_id]),
        )
        for row in rows
    ]


def find(connection: Connection, order_id: str) -> Order | None:
    """The order with its items, or None."""
    found = _orders(connection, _find.rows(connection, {"of": order_id}))
    return found[0] if found else None


def get(connection: Connection, order_id: str) -> Order:
    """The order with its items; UnknownName when there is none."""
    order = find(connection, order_id)
    if order is None:
        raise UnknownName(f"no order {order_id!r}")
    return order


def of_agent(
    connection: Connection, agent_id: str, limit: int, before: tuple[int, str] | None
) -> list[Order]:
    """An agent's orders, newest first; `before` is (created_us, order_id) of a page's last."""
    mine = select(orders).where(orders.c.agent_id == agent_id)
    if before is not None:
        created_us, order_id = before
        mine = mine.where(
            (orders.c.created_us < created_us)
            | ((orders.c.created_us == created_us) & (orders.c.order_id < order_id))
        )
    newest = mine.order_by(orders.c.created_us.desc(), orders.c.order_id.desc()).limit(limit)
    return _orders(connection, connection.execute(newest).all())


def bought(connection: Connection, agent_id: str, lead_ids: Sequence[str] | None) -> set[str]:
    """Leads sold to the agent (all of them, or those among `lead_ids`)."""
    mine = (
        select(order_item.c.lead_id)
        .join(orders, orders.c.order_id == order_item.c.order_id)
        .where(orders.c.agent_id == agent_id, orders.c.state.in_(SOLD))
    )
    if lead_ids is not None:
        mine = mine.where(order_item.c.lead_id.in_(lead_ids))
    return set(connection.execute(mine).scalars())


def move(
    connection: Connection,
    order_id: str,
    sources: Sequence[str],
    target: str,
    *,
    settled_us: int | None = None,
    failure: str | None = None,
) -> bool:
    """Moves an order from one of `sources` to `target`; False if it was in none of them.

    settled_us, failure: set where they are given.
    """
    given = {"settled_us": settled_us, "failure": failure}
    changed = connection.execute(
        update(orders)
        .where(orders.c.order_id == order_id, orders.c.state.in_(sources))
        .values(state=target, **{name: to for name, to in given.items() if to is not None})
    )
    return changed.rowcount == 1


def add_attempt(connection: Connection, attempt: Attempt) -> None:
    """Writes a payment attempt, with its idempotency prefix, before Stripe hears of it."""
    connection.execute(
        insert(payment_attempt).values(
            attempt_id=attempt.attempt_id,
            order_id=attempt.order_id,
            agent_id=attempt.agent_id,
            purpose=attempt.purpose,
            idempotency_prefix=attempt.idempotency_prefix,
            payment_method=attempt.payment_method,
            amount_cents=attempt.amount_cents,
            currency=attempt.currency,
            state=attempt.state,
            created_us=attempt.created_us,
        )
    )


def _attempts(connection: Connection, *conditions: Any) -> list[Attempt]:
    rows = connection.execute(
        select(payment_attempt).where(*conditions).order_by(payment_attempt.c.created_us)
    )
    return [
        Attempt(
            row.attempt_id,
            row.order_id,
            row.agent_id,
            row.idempotency_prefix,
            row.payment_method,
            row.amount_cents,
            row.currency,
            row.payment_intent,
            row.state,
            row.failure,
            row.created_us,
            row.purpose,
            row.tries,
        )
        for row in rows
    ]


def attempt(connection: Connection, attempt_id: str) -> Attempt | None:
    """A payment attempt by its id, or None."""
    found = _attempts(connection, payment_attempt.c.attempt_id == attempt_id)
    return found[0] if found else None


def attempt_of(connection: Connection, order_id: str) -> Attempt | None:
    """The card payment of an order; None for one that the wallet paid."""
    found = _attempts(connection, payment_attempt.c.order_id == order_id)
    return found[0] if found else None


def attempt_by_intent(connection: Connection, payment_intent: str) -> Attempt | None:
    """The payment attempt that made a PaymentIntent, or None."""
    found = _attempts(connection, payment_attempt.c.payment_intent == payment_intent)
    return found[0] if found else None


def uncollected(connection: Connection, agent_id: str) -> list[Order]:
    """The agent's orders whose money never came, oldest first."""
    owed = select(orders).where(orders.c.agent_id == agent_id, orders.c.state == "uncollected")
    ordered = owed.order_by(orders.c.created_us, orders.c.order_id)
    return _orders(connection, connection.execute(ordered).all())


def pause_recharge(connection: Connection, agent_id: str, why: str) -> None:
    """Stops a wallet from topping itself up until its rule is set anew."""
    mine = auto_recharge.c.agent_id == agent_id
    connection.execute(update(auto_recharge).where(mine).values(paused=why[:60]))


def open_attempts(connection: Connection) -> list[Attempt]:
    """Every payment whose end Stripe has not told yet, oldest first."""
    return _attempts(connection, payment_attempt.c.state == "open")


def adopt(connection: Connection, attempt_id: str, payment_intent: str) -> bool:
    """Notes which PaymentIntent an attempt made; False when it has one already."""
    changed = connection.execute(
        update(payment_attempt)
        .where(
            payment_attempt.c.attempt_id == attempt_id,
            payment_attempt.c.payment_intent.is_(None),
        )
        .values(payment_intent=payment_intent)
    )
    return changed.rowcount == 1


def reopen(connection: Connection, attempt_id: str, payment_intent: str) -> bool:
    """Opens a voided attempt again, whose money turned out to be taken; False if it is not
    voided, or had another PaymentIntent."""
    mine = payment_attempt.c.payment_intent
    changed = connection.execute(
        update(payment_attempt)
        .where(
            payment_attempt.c.attempt_id == attempt_id,
            payment_attempt.c.state == "voided",
            or_(mine.is_(None), mine == payment_intent),
        )
        .values(state="open", failure=None, payment_intent=payment_intent)
    )
    return changed.rowcount == 1


def try_anew(connection: Connection, made: Attempt) -> bool:
    """Gives an attempt its next key, when Stripe keeps an error under this one; False where
    somebody else has, or the attempt has its PaymentIntent by now."""
    same = (
        payment_attempt.c.attempt_id == made.attempt_id,
        payment_attempt.c.tries == made.tries,
        payment_attempt.c.payment_intent.is_(None),
    )
    changed = connection.execute(update(payment_attempt).where(*same).values(tries=made.tries + 1))
    return changed.rowcount == 1


def close_attempt(
    connection: Connection, attempt_id: str, state: str, failure: str | None = None
) -> bool:
    """Ends an open attempt as captured, voided or uncollected; False if it had ended."""
    changed = connection.execute(
        update(payment_attempt)
        .where(payment_attempt.c.attempt_id == attempt_id, payment_attempt.c.state == "open")
        .values(state=state, failure=failure)
    )
    return changed.rowcount == 1
