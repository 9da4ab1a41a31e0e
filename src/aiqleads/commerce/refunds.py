"""Giving money back: an operator's refund, to the card that paid or to the wallet.

The row is stored before Stripe hears of it, so a process may die anywhere. The leads stay
sold: what the buyer knows cannot be taken back.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, Engine

from aiqleads.commerce import debts, events
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.payments import UNSETTLED, CardRefund, NotAccepted, OutcomeUnknown, Payments
from aiqleads.domain import US_PER_HOUR
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import holds, ledger, orders
from aiqleads.store import refunds as rows
from aiqleads.store.database import reader
from aiqleads.store.ledger import STRIPE_CLEARING, Leg
from aiqleads.store.orders import REFUNDABLE, Attempt
from aiqleads.store.refunds import Refund
from aiqleads.store.returns import Notice
from aiqleads.store.transactions import writing

REFUNDS = "refunds"
#: keys that one drive may spend on errors that Stripe keeps
_MOST_TRIES = 5
#: Stripe's refunds that came to nothing
_CAME_TO_NOTHING = ("failed", "canceled")


def ask(
    engine: Engine,
    payments: Payments,
    order_id: str,
    amount_cents: int | None,
    by: str,
    reason: str,
    now_us: int,
    *,
    key: str | None = None,
) -> Refund:
    """Refunds an order, or a part of it, to where its money came from.

    amount_cents: None for all that is left. by: who asked. key: as in `holds.place`. The
    refund that it returns is `succeeded`; `failed` (Stripe refused: `failure` says why) or
    `open` (Stripe gave no answer; reconcile goes on).

    Refused: `not-paid` 409, `refund-too-large` 409 (limit, value, used: what went back in
    refunds and returns). UnknownName for an order that is not there.
    """
    if amount_cents is not None and amount_cents <= 0:
        raise InvalidInput("a refund is at least 1 cent")
    refund_id = new_id("ref", order_id, key)
    with writing(engine) as connection:
        order = orders.get(connection, order_id)
        holds.lock_agent(connection, order.agent_id)
        made = rows.find(connection, refund_id)
        if made is None:
            made = _open(connection, refund_id, order_id, amount_cents, by, reason, now_us)
    if made.state != "open":
        return made
    try:
        return drive(engine, payments, refund_id, now_us)
    except Refused as problem:
        if problem.kind not in UNSETTLED:
            raise
        return made


def _open(
    connection: Connection,
    refund_id: str,
    order_id: str,
    amount_cents: int | None,
    by: str,
    reason: str,
    now_us: int,
) -> Refund:
    order = orders.get(connection, order_id)
    if order.state not in REFUNDABLE:
        raise Refused("not-paid", f"the order is {order.state}: there is nothing to refund")
    used = rows.given_back_cents(connection, order_id)
    left = order.amount_cents - used
    cents = left if amount_cents is None else amount_cents
    if not 0 < cents <= left:
        raise Refused(
            "refund-too-large",
            f"{used} of the order's {order.amount_cents} cents went back already",
            limit="order_cents",
            value=order.amount_cents,
            used=used,
            fits=left,
        )
    attempt = orders.attempt_of(connection, order_id)
    # An order that was owed and then paid out of the wallet goes back there as well.
    card = attempt.attempt_id if attempt and attempt.state == "captured" else None
    made = Refund(
        refund_id, order_id, card, order.agent_id, cents, order.currency, "open", by, reason, now_us
    )
    rows.add(connection, made)
    return made if card else succeed(connection, made, None, now_us)


def drive(engine: Engine, payments: Payments, refund_id: str, now_us: int) -> Refund:
    """Takes an open refund to its end. OutcomeUnknown when Stripe gives no answer."""
    with reader(engine).connect() as connection:
        made = _found(connection, refund_id)
        attempt = orders.attempt(connection, made.attempt_id or "")
    if made.state != "open" or attempt is None or attempt.payment_intent is None:
        return made
    try:
        at_stripe = _at_stripe(payments, made, attempt.payment_intent, now_us)
    except NotAccepted as problem:
        return _refused(engine, made, problem.detail, now_us)
    except OutcomeUnknown as unknown:
        if unknown.is_over and made.tries < _MOST_TRIES and _tried_anew(engine, made):
            return drive(engine, payments, refund_id, now_us)
        raise
    with writing(engine) as connection:
        holds.lock_agent(connection, made.agent_id)
        made = _found(connection, refund_id)
        if at_stripe.status in _CAME_TO_NOTHING and made.state == "open":
            # It may have moved money and sent it back: its balance says so, and is read.
            rows.settle(
                connection, refund_id, ("open",), "failed", now_us,
                stripe_id=at_stripe.stripe_id, failure="the bank sent it back",
            )  # fmt: skip
        elif made.state == "open":
            succeed(connection, made, at_stripe.stripe_id, now_us)
        return _found(connection, refund_id)


def _at_stripe(payments: Payments, made: Refund, intent_id: str, now_us: int) -> CardRefund:
    """The refund at Stripe, made if it was never made: by its key, or found in the list.

    Stripe forgets keys after a day, so an old refund is looked for before it is made.
    """
    is_old = now_us - made.created_us > US_PER_HOUR
    found = _listed(payments, made, intent_id) if is_old else None
    if found is not None:
        return found
    try:
        return payments.refund(
            key=orders.try_key(f"{made.refund_id}:refund", made.tries),
            intent_id=intent_id,
            amount_cents=made.amount_cents,
            refund_id=made.refund_id,
        )
    except (NotAccepted, OutcomeUnknown):
        found = _listed(payments, made, intent_id)
        if found is None:
            raise
        return found


def _tried_anew(engine: Engine, made: Refund) -> bool:
    """Gives a refund its next key: Stripe keeps an error under this one, which made nothing."""
    with writing(engine) as connection:
        return rows.try_anew(connection, made)


def _listed(payments: Payments, made: Refund, intent_id: str) -> CardRefund | None:
    listed = payments.refunds_of(intent_id)
    return next((each for each in listed if each.refund_id == made.refund_id), None)


def _refused(engine: Engine, made: Refund, why: str, now_us: int) -> Refund:
    with writing(engine) as connection:
        rows.settle(connection, made.refund_id, ("open",), "failed", now_us, failure=why)
        return _found(connection, made.refund_id)


def _found(connection: Connection, refund_id: str) -> Refund:
    made = rows.find(connection, refund_id)
    if made is None:
        raise UnknownName(f"no refund {refund_id!r}")
    return made


def listing(engine: Engine, order_id: str) -> list[Refund]:
    """Refunds of an order, oldest first."""
    with reader(engine).connect() as connection:
        return rows.of_order(connection, order_id)


# --- what a refund does to the books; the agent's row is locked by the caller ---------


def found_at_stripe(
    connection: Connection, attempt: Attempt, at_stripe: CardRefund, now_us: int
) -> bool:
    """Records money that left Stripe for a card, whoever sent it; False where it was known."""
    made = rows.by_stripe(connection, at_stripe.stripe_id)
    if made is None and at_stripe.refund_id is not None:
        made = rows.find(connection, at_stripe.refund_id)
    if made is None:
        made = Refund(
            at_stripe.stripe_id, attempt.order_id, attempt.attempt_id, attempt.agent_id,
            at_stripe.amount_cents, attempt.currency, "open", "stripe",
            "made at Stripe", now_us, at_stripe.stripe_id,
        )  # fmt: skip
        rows.add(connection, made)
    key = f"refund:{at_stripe.stripe_id}"
    if ledger.is_posted(connection, key):
        return False
    succeed(connection, made, at_stripe.stripe_id, now_us)
    return True


def succeed(connection: Connection, made: Refund, stripe_id: str | None, now_us: int) -> Refund:
    """Posts a refund, moves its order on and tells the buyer."""
    # One that is known to have come back is posted too, and told to nobody: its way back follows.
    is_new = rows.settle(
        connection, made.refund_id, ("open",), "succeeded", now_us, stripe_id=stripe_id
    )
    name = f"refund:{stripe_id or made.refund_id}"
    about = f"refund of {made.order_id or 'a top-up'}"
    cents, wallet = made.amount_cents, ledger.wallet_of(made.agent_id)
    if made.order_id is None:
        leg = Leg(STRIPE_CLEARING, -cents)
        debts.take_back(connection, name, about, made.agent_id, leg, made.currency, now_us)
    else:
        to = wallet if stripe_id is None else STRIPE_CLEARING
        legs = [Leg(REFUNDS, cents), Leg(to, -cents)]
        ledger.post(connection, name, about, legs, made.currency, now_us)
        _move_order(connection, made.order_id)
        if is_new:
            where = "wallet" if stripe_id is None else "card"
            text = f"{_money(made)} of {made.order_id} went back to your {where}"
            events.refunded(
                connection, made.agent_id, made.refund_id, made.order_id, None, text, now_us
            )
    if stripe_id is None:
        debts.pay(connection, made.agent_id, made.refund_id, made.currency, now_us)
    return replace(made, state="succeeded", stripe_id=stripe_id, settled_us=now_us)


def came_back(connection: Connection, attempt: Attempt, at_stripe: CardRefund, now_us: int) -> bool:
    """Records that the bank sent a refund back to Stripe; False where it was known."""
    made = rows.by_stripe(connection, at_stripe.stripe_id)
    key = f"refund-failed:{at_stripe.stripe_id}"
    if made is None or ledger.is_posted(connection, key):
        return False
    failure = "the bank sent it back"
    was_told = rows.settle(
        connection, made.refund_id, ("succeeded",), "failed", now_us, failure=failure
    )
    to = REFUNDS if made.order_id else ledger.wallet_of(made.agent_id)
    legs = [Leg(STRIPE_CLEARING, made.amount_cents), Leg(to, -made.amount_cents)]
    ledger.post(connection, key, f"{failure}: {made.refund_id}", legs, made.currency, now_us)
    if made.order_id is not None:
        _move_order(connection, made.order_id)
        if was_told:
            text = f"your bank sent {_money(made)} of {made.order_id} back to us"
            told_id = f"refund-failed:{made.refund_id}"
            told = Notice(told_id, made.agent_id, "refund-failed", None, text, now_us)
            events.notify(connection, told)
    else:
        debts.pay(connection, made.agent_id, key, made.currency, now_us)
    return True


def _money(made: Refund) -> str:
    return f"{made.amount_cents / 100:.2f} {made.currency}"


def _move_order(connection: Connection, order_id: str) -> None:
    """The order's state by what of it went back."""
    amount = orders.get(connection, order_id).amount_cents
    cents = rows.refunded_cents(connection, order_id, "succeeded")
    state = "paid" if cents == 0 else "refunded" if cents >= amount else "partially_refunded"
    orders.move(connection, order_id, (*REFUNDABLE, "refunded"), state)
