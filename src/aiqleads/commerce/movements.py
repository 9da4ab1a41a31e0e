"""Reading Stripe's balance: fees, refunds and disputes, each recorded once, whoever made it.

A webhook only says when to look. What is recorded is what the balance transactions say, so a
webhook that never came costs no cent: the sweep reads from where the last reading ended.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Connection, Engine, func, select

from aiqleads.commerce import debts, refunds
from aiqleads.commerce.payments import CardDispute, CardRefund, Movement, Payments
from aiqleads.commerce.tally import Tally
from aiqleads.domain import US_PER_SECOND
from aiqleads.store import holds, ledger, orders
from aiqleads.store import refunds as rows
from aiqleads.store.database import reader
from aiqleads.store.ledger import STRIPE_CLEARING, Leg
from aiqleads.store.orders import REFUNDABLE, Attempt
from aiqleads.store.refunds import Dispute
from aiqleads.store.tables import payment_attempt
from aiqleads.store.transactions import writing

log = structlog.get_logger(__name__)

STRIPE_FEES = "stripe_fees"
#: in the bank's hands until it decides
DISPUTES = "disputes"
#: lost to buyers' banks
CHARGEBACKS = "chargebacks"
#: the bookmark up to which Stripe's balance was read
BALANCE = "stripe_balance"
_SKEW_US = 300 * US_PER_SECOND


def record(engine: Engine, payments: Payments, now_us: int, tally: Tally) -> int:
    """Records what moved at Stripe since the last reading; returns how much was new.

    A movement of a payment that is still open here waits, or one that cannot be recorded
    (`tally`), and so does the bookmark.
    OutcomeUnknown when Stripe gives no answer; nothing is lost, the next call reads on.
    """
    since_us = _since_us(engine)
    if since_us is None:
        return 0
    # Oldest first: a dispute is opened before it is won.
    found = list(payments.movements((since_us - _SKEW_US) // US_PER_SECOND))[::-1]
    new, waits = 0, set[str | None]()
    for movement in found:
        if movement.intent_id in waits:
            continue  # never before what went before it
        waits.add(movement.intent_id)
        with tally.one("movement", movement.movement_id):
            attempt = _attempt_of(engine, movement)
            if attempt is not None and attempt.state == "open":
                continue
            new += attempt is not None and _record(engine, attempt, movement, now_us)
            waits.remove(movement.intent_id)
    if not waits:
        with writing(engine) as connection:
            rows.mark(connection, BALANCE, now_us)
    return new


def _attempt_of(engine: Engine, movement: Movement) -> Attempt | None:
    """The payment that a movement is of; None where it is none of an agent, as a payout is."""
    if movement.intent_id is None:
        return None
    with reader(engine).connect() as connection:
        return orders.attempt_by_intent(connection, movement.intent_id)


def _since_us(engine: Engine) -> int | None:
    """Where to read on; None where there was no payment yet."""
    with reader(engine).connect() as connection:
        first = connection.execute(select(func.min(payment_attempt.c.created_us))).scalar()
        return rows.read_until(connection, BALANCE) or first


def names_of(movement: Movement) -> list[str]:
    """Ledger transactions that record a movement; of a charge its fee alone (the capture is
    recorded by `reconcile`)."""
    about, names = movement.about, []
    if isinstance(about, CardRefund):
        names.append(
            f"{'refund' if movement.amount_cents < 0 else 'refund-failed'}:{about.stripe_id}"
        )
    elif isinstance(about, CardDispute):
        names.append(
            f"{'dispute' if movement.amount_cents < 0 else 'dispute-won'}:{about.dispute_id}"
        )
    return names + ([f"fee:{movement.movement_id}"] if movement.fee_cents else [])


def _record(engine: Engine, attempt: Attempt, movement: Movement, now_us: int) -> bool:
    with reader(engine).connect() as connection:
        if all(ledger.is_posted(connection, name) for name in names_of(movement)):
            return False
    with writing(engine) as connection:
        holds.lock_agent(connection, attempt.agent_id)
        if movement.fee_cents:
            _fee(connection, attempt, movement, now_us)
        out, about = movement.amount_cents < 0, movement.about
        if isinstance(about, CardRefund):
            made = refunds.found_at_stripe if out else refunds.came_back
            made(connection, attempt, about, now_us)
        elif isinstance(about, CardDispute):
            (_disputed if out else _won)(connection, attempt, about, now_us)
    return True


def _fee(connection: Connection, attempt: Attempt, movement: Movement, now_us: int) -> None:
    legs = [Leg(STRIPE_FEES, movement.fee_cents), Leg(STRIPE_CLEARING, -movement.fee_cents)]
    about = f"Stripe's fee of {attempt.attempt_id}"
    name = f"fee:{movement.movement_id}"
    ledger.post(connection, name, about, legs, attempt.currency, now_us)


def _disputed(connection: Connection, attempt: Attempt, about: CardDispute, now_us: int) -> None:
    """The bank took the money: of a sale it is in dispute, of a top-up its credit goes."""
    made = Dispute(
        about.dispute_id, attempt.attempt_id, attempt.order_id, attempt.agent_id,
        about.amount_cents, attempt.currency, "open", about.reason[:60], now_us,
    )  # fmt: skip
    if not rows.open_dispute(connection, made):
        return
    log.warning("payment_disputed", dispute_id=made.dispute_id, attempt_id=attempt.attempt_id)
    name, text = f"dispute:{about.dispute_id}", f"dispute of {attempt.order_id or 'a top-up'}"
    leg = Leg(STRIPE_CLEARING, -about.amount_cents)
    if attempt.order_id is None:
        debts.take_back(connection, name, text, attempt.agent_id, leg, attempt.currency, now_us)
        return
    legs = [Leg(DISPUTES, about.amount_cents), leg]
    ledger.post(connection, name, text, legs, attempt.currency, now_us)
    orders.move(connection, attempt.order_id, (*REFUNDABLE, "refunded"), "disputed")


def _won(connection: Connection, attempt: Attempt, about: CardDispute, now_us: int) -> None:
    """The bank gave the money back."""
    name, text = f"dispute-won:{about.dispute_id}", f"won: {attempt.order_id or 'a top-up'}"
    to = DISPUTES if attempt.order_id else ledger.wallet_of(attempt.agent_id)
    legs = [Leg(STRIPE_CLEARING, about.amount_cents), Leg(to, -about.amount_cents)]
    ledger.post(connection, name, text, legs, attempt.currency, now_us)
    rows.close_dispute(connection, about.dispute_id, "won", now_us)
    if attempt.order_id is None:
        debts.pay(connection, attempt.agent_id, name, attempt.currency, now_us)
    else:
        orders.move(connection, attempt.order_id, ["disputed"], "won")


def follow_disputes(engine: Engine, payments: Payments, now_us: int, tally: Tally) -> int:
    """Ends the open disputes that the bank decided against us; returns how many.

    Nothing moves at Stripe when a dispute is lost, so its balance does not tell.
    """
    with reader(engine).connect() as connection:
        opened = rows.disputes(connection, state="open")
    lost = 0
    for each in opened:
        with tally.one("dispute", each.dispute_id):
            if payments.dispute(each.dispute_id).state == "lost":
                lost += _lost(engine, each, now_us)
    return lost


def _lost(engine: Engine, each: Dispute, now_us: int) -> bool:
    with writing(engine) as connection:
        holds.lock_agent(connection, each.agent_id)
        if not rows.close_dispute(connection, each.dispute_id, "lost", now_us):
            return False
        if each.order_id is not None:
            orders.move(connection, each.order_id, ["disputed"], "lost")
            legs = [Leg(CHARGEBACKS, each.amount_cents), Leg(DISPUTES, -each.amount_cents)]
            name = f"dispute-lost:{each.dispute_id}"
            ledger.post(connection, name, f"lost: {each.order_id}", legs, each.currency, now_us)
        return True
