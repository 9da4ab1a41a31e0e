"""Bringing payments to their end, whoever asks: a request, a webhook, or the sweep.

`drive` looks at what is stored and at what Stripe says now, and does the next step, and the
next, until the payment is final or waits for somebody. Each step is safe to repeat and to
race, so a process may die anywhere: the next drive goes on.

    authorise -> commit the sale under the fencing tokens -> capture -> ledger
    hold lost, declined or too late -> the order ends -> the authorisation is voided
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Engine

from aiqleads.commerce import consent, debts, events, movements, refunds
from aiqleads.commerce.consent import CONSENT_ENDED, Register
from aiqleads.commerce.payments import (
    CardDeclined,
    CardIntent,
    NotAccepted,
    OutcomeUnknown,
    Payments,
)
from aiqleads.commerce.tally import Tally
from aiqleads.domain import US_PER_DAY, US_PER_HOUR, US_PER_SECOND
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.store import holds, ledger
from aiqleads.store import orders as rows
from aiqleads.store.database import reader
from aiqleads.store.ledger import REVENUE, STRIPE_CLEARING, Leg
from aiqleads.store.orders import DEAD, OPEN, Attempt, Order
from aiqleads.store.refunds import opened as open_refunds
from aiqleads.store.returns import Notice
from aiqleads.store.tables import webhook_inbox
from aiqleads.store.transactions import insert_missing, writing

log = structlog.get_logger(__name__)

#: how long a buyer may take to authenticate a top-up
TOPUP_DEADLINE_US = US_PER_HOUR
#: how far back a sweep lists PaymentIntents
SWEEP_US = 2 * US_PER_DAY
#: clocks of this machine and of Stripe may differ by this much
_SKEW_US = 300 * US_PER_SECOND
#: keys that one drive may spend on errors that Stripe keeps
_MOST_TRIES = 5
_UNUSABLE = "payment-method-unusable"
#: refusals of a sale whose payment is ready -> how its order ends
_NOT_TO_BE_SOLD = {
    "suppressed": CONSENT_ENDED,
    "lead-withheld": "lead-withheld",
    "lead-sold": "consent-used-up",
}
_VOIDABLE = (
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "processing",
)


@dataclass(frozen=True)
class TopUp:
    """A top-up of the wallet: open (client_secret: the bank asks), captured or voided."""

    attempt_id: str
    agent_id: str
    state: str
    amount_cents: int
    currency: str
    failure: str | None = None
    client_secret: str | None = None

    def raise_if_failed(self) -> None:
        """Raises what a top-up that came to nothing is to its buyer."""
        if self.state == "voided":
            raise refusal_of(self.failure, {"topup_id": self.attempt_id})


@dataclass(frozen=True)
class Reconciled:
    """What a sweep did: payments and refunds driven to an end, adopted from Stripe's list,
    cancelled as strays there, and still open because Stripe or the database gave no answer;
    fees, refunds and disputes that were recorded. failed: what a fault kept from its end, and
    the next sweep tries again."""

    healed: int
    adopted: int
    strays: int
    waiting: int
    recorded: int = 0
    failed: int = 0


def refusal_of(failure: str | None, extra: dict[str, Any]) -> Refused | InvalidInput:
    """The error that tells a buyer why a card payment ended without a sale."""
    if failure == _UNUSABLE:
        return InvalidInput("the payment method is not one that can be charged", **extra)
    if failure in ("hold-lost", "deadline-passed"):
        detail = "the hold ended before the payment did; nothing was charged"
        return Refused("hold-expired", detail, **extra)
    for kind, ending in _NOT_TO_BE_SOLD.items():
        if failure == ending:
            detail = "a lead may not be sold to you any more; nothing was charged"
            return Refused(kind, detail, **extra)
    if failure == "canceled":
        return Refused("payment-canceled", "the payment was cancelled", **extra)
    code = failure or "card_declined"
    detail = f"the card was declined ({code}); nothing was charged"
    return Refused("card-declined", detail, status=402, decline_code=code, **extra)


# --- orders ------------------------------------------------------------------------


def drive(
    engine: Engine,
    payments: Payments,
    order_id: str,
    now_us: int,
    *,
    register: Register | None = None,
) -> Order:
    """Takes an order as far as it can go now and returns it as it then is.

    register: asked for the consents just before the sale; without it those count that were
    noted with the hold. `client_secret` is set while the card's bank waits for the buyer.
    OutcomeUnknown when Stripe gives no answer: what was done so far stands, and a later drive
    goes on.
    """
    order, attempt = _load(engine, order_id)
    if attempt is None or attempt.state != "open":
        return order
    secret = None
    if order.state in OPEN:
        secret = _sale(engine, payments, order, attempt, now_us, register)
        order, attempt = _load(engine, order_id)
    if attempt is not None and order.state == "committed":
        _collect(engine, payments, order, attempt, now_us)
    elif attempt is not None and order.state in DEAD:
        _void(engine, payments, attempt)
    order, _ = _load(engine, order_id)
    return replace(order, client_secret=secret if order.state == "requires_action" else None)


def _load(engine: Engine, order_id: str) -> tuple[Order, Attempt | None]:
    with reader(engine).connect() as connection:
        return rows.get(connection, order_id), rows.attempt_of(connection, order_id)


def _sale(
    engine: Engine,
    payments: Payments,
    order: Order,
    attempt: Attempt,
    now_us: int,
    register: Register | None,
) -> str | None:
    """Authorises if need be and, once the money is reserved, commits the sale.

    Returns the client secret when the bank asks for the buyer.
    """
    late = order.deadline_us is not None and now_us >= order.deadline_us
    try:
        intent = _intent(engine, payments, attempt, capture=False, late=late)
    except _Unusable as problem:
        log.warning("payment refused", order_id=order.order_id, detail=str(problem))
        _end(engine, order, "failed", _UNUSABLE)
        return None
    if intent is None or (intent.status == "requires_action" and late):
        _end(engine, order, "expired", "deadline-passed")
    elif intent.status in ("requires_capture", "succeeded"):
        _commit(engine, order, now_us, register)
    elif intent.status == "requires_action":
        with writing(engine) as connection:
            rows.move(connection, order.order_id, ["pending"], "requires_action")
        return intent.client_secret
    elif intent.status == "canceled":
        _end(engine, order, "canceled", "canceled")
    elif intent.status != "processing":
        _end(engine, order, "failed", intent.error_code or "card_declined")
    return None


class _Unusable(Exception):
    """Stripe refuses to make the payment at all: nothing was created."""


def _intent(
    engine: Engine, payments: Payments, attempt: Attempt, *, capture: bool, late: bool
) -> CardIntent | None:
    """The attempt's PaymentIntent as it is now, made if it was never made.

    None when it was never made and is too late to make. After a failure that says nothing,
    Stripe's list is asked: the call may have been executed although its answer was lost or
    was a 500, which Stripe repeats for as long as the key lives.
    """
    if attempt.payment_intent is not None:
        return payments.retrieve(attempt.payment_intent)
    created_s = (attempt.created_us - _SKEW_US) // US_PER_SECOND
    if late:
        intent = payments.find(attempt.attempt_id, created_s)
        if intent is None:
            return None
    else:
        try:
            intent = payments.pay(
                key=attempt.key,
                amount_cents=attempt.amount_cents,
                currency=attempt.currency,
                payment_method=attempt.payment_method,
                attempt_id=attempt.attempt_id,
                order_id=attempt.order_id,
                capture=capture,
                off_session=attempt.purpose == rows.RECHARGE,
            )
        except NotAccepted as problem:
            raise _Unusable(problem.detail) from problem
        except CardDeclined as problem:
            if problem.intent_id is None:
                raise OutcomeUnknown("a decline that names no payment") from problem
            intent = payments.retrieve(problem.intent_id)
        except OutcomeUnknown as unknown:
            found = payments.find(attempt.attempt_id, created_s)
            if found is None and unknown.is_over:
                return _tried_anew(engine, payments, attempt, capture=capture)
            if found is None:
                raise
            intent = found
    with writing(engine) as connection:
        rows.adopt(connection, attempt.attempt_id, intent.intent_id)
    # An answer repeated under its key is as old as the key: what holds is what holds now.
    return payments.retrieve(intent.intent_id)


def _tried_anew(
    engine: Engine, payments: Payments, attempt: Attempt, *, capture: bool
) -> CardIntent | None:
    """Asks again under the next key: this one is spent, and made nothing.

    Who gives the attempt its next key goes on with it; anybody else waits for the next drive.
    """
    with writing(engine) as connection:
        is_mine = rows.try_anew(connection, attempt)
    if not is_mine or attempt.tries >= _MOST_TRIES:
        raise OutcomeUnknown("the payment service keeps an error", order_id=attempt.order_id)
    again = replace(attempt, tries=attempt.tries + 1)
    return _intent(engine, payments, again, capture=capture, late=False)


def _end(engine: Engine, order: Order, state: str, failure: str) -> None:
    """Ends an order that is not sold. Whoever moves it first decides: a sale that commits
    at the same time finds the order gone, and the other way round."""
    with writing(engine) as connection:
        rows.move(connection, order.order_id, OPEN, state, failure=failure[:60])


class _HoldLost(Exception):
    """A lead of the order is no longer held under the order's token."""


def _commit(engine: Engine, order: Order, now_us: int, register: Register | None) -> None:
    """Sells every lead of the order under its fencing token, in one transaction, or none."""
    try:
        lead_ids = [item.lead_id for item in order.items]
        found = None if register is None else register.check(lead_ids, now_us)
        with writing(engine) as connection:
            holds.lock_agent(connection, order.agent_id)
            if not rows.move(connection, order.order_id, OPEN, "committed"):
                return
            consent.lock_scarce(connection, found or {})
            agreed = consent.of_items(connection, order.order_id, order.items, found)
            rows.note_consents(connection, order.order_id, agreed)
            for item in order.items:
                key = (item.lead_id, item.slot, item.token)
                if not holds.sell(connection, key, order.agent_id, order.order_id, now_us):
                    raise _HoldLost
            events.sold(connection, order, now_us)
    except _HoldLost:
        _end(engine, order, "canceled", "hold-lost")
    except Refused as problem:
        if problem.kind not in _NOT_TO_BE_SOLD:
            raise
        _end(engine, order, "canceled", _NOT_TO_BE_SOLD[problem.kind])


def _collect(
    engine: Engine, payments: Payments, order: Order, attempt: Attempt, now_us: int
) -> None:
    """Captures the money of a sale, and records it; or records that it never came."""
    if attempt.payment_intent is None:
        raise AssertionError(f"{order.order_id} was committed without an authorisation")
    intent = payments.retrieve(attempt.payment_intent)
    if intent.status == "requires_capture":
        try:
            intent = payments.capture(attempt.payment_intent)
        except (CardDeclined, NotAccepted, OutcomeUnknown):
            # Somebody else captured it, or it was executed and the answer lost: look again.
            intent = payments.retrieve(attempt.payment_intent)
    if intent.status == "succeeded":
        _paid(engine, order, attempt, intent, now_us)
    elif intent.status == "requires_capture":
        raise OutcomeUnknown("the capture is not confirmed yet", order_id=order.order_id)
    else:
        _uncollected(engine, order, attempt, now_us)


def _paid(engine: Engine, order: Order, attempt: Attempt, intent: CardIntent, now_us: int) -> None:
    cents = intent.received_cents
    with writing(engine) as connection:
        rows.move(connection, order.order_id, ["committed"], "paid", settled_us=now_us)
        rows.close_attempt(connection, attempt.attempt_id, "captured")
        ledger.post(
            connection,
            f"capture:{intent.intent_id}",
            f"card payment of {order.order_id}",
            [Leg(STRIPE_CLEARING, cents), Leg(REVENUE, -cents)],
            order.currency,
            now_us,
        )


def _uncollected(engine: Engine, order: Order, attempt: Attempt, now_us: int) -> None:
    """The leads are known to the buyer and the money is not there: it is owed."""
    log.warning("capture refused for good", order_id=order.order_id)
    with writing(engine) as connection:
        rows.move(
            connection, order.order_id, ["committed"], "uncollected", failure="capture-refused"
        )
        rows.close_attempt(connection, attempt.attempt_id, "uncollected")
        ledger.post(
            connection,
            f"uncollected:{order.order_id}",
            f"owed for {order.order_id}",
            [
                Leg(ledger.receivable_of(order.agent_id), order.amount_cents),
                Leg(REVENUE, -order.amount_cents),
            ],
            order.currency,
            now_us,
        )


def _void(engine: Engine, payments: Payments, attempt: Attempt) -> None:
    """Gives back what an ended order had reserved, if anything; then its payment is over."""
    intent_id = attempt.payment_intent
    if intent_id is None:
        created_s = (attempt.created_us - _SKEW_US) // US_PER_SECOND
        found = payments.find(attempt.attempt_id, created_s)
        intent_id = found.intent_id if found else None
    if intent_id is not None and not _cancelled(payments, intent_id):
        log.error("money was taken for an order that ended", payment_intent=intent_id)
        return
    with writing(engine) as connection:
        if intent_id is not None:
            rows.adopt(connection, attempt.attempt_id, intent_id)
        rows.close_attempt(connection, attempt.attempt_id, "voided")


def _cancelled(payments: Payments, intent_id: str) -> bool:
    """Cancels a PaymentIntent; False when money has been taken already."""
    intent = payments.retrieve(intent_id)
    if intent.status in _VOIDABLE:
        try:
            intent = payments.cancel(intent_id)
        except (NotAccepted, OutcomeUnknown):
            intent = payments.retrieve(intent_id)
    if intent.status in _VOIDABLE:
        raise OutcomeUnknown("the cancellation is not confirmed yet")
    return intent.status == "canceled"


# --- top-ups -----------------------------------------------------------------------


def drive_topup(engine: Engine, payments: Payments, attempt_id: str, now_us: int) -> TopUp:
    """Takes a top-up as far as it can go now; the wallet is credited once, whoever drives.

    OutcomeUnknown when Stripe gives no answer.
    """
    with reader(engine).connect() as connection:
        attempt = rows.attempt(connection, attempt_id)
    if attempt is None:
        raise UnknownName(f"no top-up {attempt_id!r}")
    if attempt.state != "open":
        return _topup(attempt)
    late = now_us >= attempt.created_us + TOPUP_DEADLINE_US
    try:
        intent = _intent(engine, payments, attempt, capture=True, late=late)
    except _Unusable as problem:
        log.warning("top-up refused", topup_id=attempt_id, detail=str(problem))
        return _close_topup(engine, attempt_id, "voided", _UNUSABLE, now_us)
    if intent is None:
        return _close_topup(engine, attempt_id, "voided", "deadline-passed", now_us)
    if intent.status == "succeeded":
        return _credit(engine, attempt, intent, now_us)
    if intent.status == "processing" or (intent.status == "requires_action" and not late):
        return replace(_topup(attempt), client_secret=intent.client_secret)
    failure = "deadline-passed" if late else intent.error_code or "canceled"
    if not _cancelled(payments, intent.intent_id):
        return _credit(engine, attempt, payments.retrieve(intent.intent_id), now_us)
    return _close_topup(engine, attempt_id, "voided", failure[:60], now_us)


def _topup(attempt: Attempt) -> TopUp:
    return TopUp(
        attempt.attempt_id,
        attempt.agent_id,
        attempt.state,
        attempt.amount_cents,
        attempt.currency,
        attempt.failure,
    )


def _close_topup(
    engine: Engine, attempt_id: str, state: str, failure: str | None, now_us: int
) -> TopUp:
    with writing(engine) as connection:
        ended = rows.close_attempt(connection, attempt_id, state, failure)
        attempt = rows.attempt(connection, attempt_id)
        if ended and attempt is not None and attempt.purpose == rows.RECHARGE:
            rows.pause_recharge(connection, attempt.agent_id, failure or state)
            text = f"your wallet no longer tops itself up: {failure or state}"
            about = f"recharge-paused:{attempt_id}"
            told = Notice(about, attempt.agent_id, "recharge-paused", None, text, now_us)
            events.notify(connection, told)
    if attempt is None:
        raise AssertionError(f"{attempt_id} is gone")
    return _topup(attempt)


def _credit(engine: Engine, attempt: Attempt, intent: CardIntent, now_us: int) -> TopUp:
    cents = intent.received_cents
    with writing(engine) as connection:
        holds.lock_agent(connection, attempt.agent_id)
        rows.close_attempt(connection, attempt.attempt_id, "captured")
        ledger.post(
            connection,
            f"capture:{intent.intent_id}",
            f"top-up {attempt.attempt_id}",
            [Leg(STRIPE_CLEARING, cents), Leg(ledger.wallet_of(attempt.agent_id), -cents)],
            attempt.currency,
            now_us,
        )
        debts.pay(connection, attempt.agent_id, attempt.attempt_id, attempt.currency, now_us)
    return replace(_topup(attempt), state="captured")


# --- webhooks and the sweep --------------------------------------------------------


def _drive_attempt(
    engine: Engine, payments: Payments, attempt: Attempt, now_us: int, register: Register | None
) -> None:
    if attempt.order_id is None:
        drive_topup(engine, payments, attempt.attempt_id, now_us)
    else:
        drive(engine, payments, attempt.order_id, now_us, register=register)


def receive_webhook(
    engine: Engine,
    payments: Payments,
    body: bytes,
    signature: str | None,
    now_us: int,
    *,
    register: Register | None = None,
) -> str:
    """Takes a webhook: verified over its raw body, noted, and its payment driven.

    Only which PaymentIntent it is about is believed; its state is asked for again, so late,
    repeated or reordered events do no harm. register: as in `drive`. Returns `driven`,
    `waiting` (Stripe gave no answer; the sweep goes on) or `ignored` (not a payment of ours):
    each is a 200. Refused `webhook-signature` 400.
    """
    event = payments.verify(body, signature, now_us / US_PER_SECOND)
    row = {
        "event_id": event.event_id,
        "kind": event.kind,
        "payment_intent": event.intent_id,
        "received_us": now_us,
    }
    with writing(engine) as connection:
        insert_missing(connection, webhook_inbox, [row])
    if event.intent_id is None:
        return "ignored"
    try:
        intent = payments.retrieve(event.intent_id)
        attempt = _adopted(engine, intent)[0]
        if attempt is None:
            return "ignored"
        _drive_attempt(engine, payments, attempt, now_us, register)
        read = Tally()
        if event.is_after:
            _read_balance(engine, payments, now_us, read)
    except NotAccepted:
        return "ignored"
    except OutcomeUnknown as problem:
        log.warning("webhook waits", event_id=event.event_id, detail=problem.detail)
        return "waiting"
    return "waiting" if read.waiting or read.failed else "driven"


def _adopted(engine: Engine, intent: CardIntent) -> tuple[Attempt | None, bool]:
    """The attempt that a PaymentIntent is of, and whether it learnt so only now."""
    if intent.attempt_id is None:
        return None, False
    with reader(engine).connect() as connection:
        attempt = rows.attempt(connection, intent.attempt_id)
    if attempt is not None and _is_paid_after_all(attempt, intent):
        log.warning("top-up was paid after all", topup_id=attempt.attempt_id)
        with writing(engine) as connection:
            return attempt, rows.reopen(connection, attempt.attempt_id, intent.intent_id)
    if attempt is None or attempt.payment_intent is not None or attempt.state != "open":
        return attempt, False
    with writing(engine) as connection:
        return attempt, rows.adopt(connection, attempt.attempt_id, intent.intent_id)


def sweep(
    engine: Engine,
    payments: Payments,
    now_us: int,
    *,
    progress: Callable[[str], None] | None = None,
    register: Register | None = None,
) -> Reconciled:
    """Heals every payment: adopts what Stripe lists and we do not know, cancels what nobody
    waits for, and drives what is open. Safe at any time, beside requests and other sweeps.
    One payment that cannot be driven keeps no other from its end.

    progress: called with the id of each payment driven. register: as in `drive`.
    """
    read, driven = Tally(), Tally()
    adopted, strays = _read_listing(engine, payments, now_us, read)
    healed = _drive_open(engine, payments, now_us, driven, progress, register)
    healed += _drive_refunds(engine, payments, now_us, driven)
    recorded = _read_balance(engine, payments, now_us, read)
    failed = read.failed + driven.failed
    return Reconciled(healed, adopted, strays, driven.waiting, recorded, failed)


def _read_listing(engine: Engine, payments: Payments, now_us: int, tally: Tally) -> tuple[int, int]:
    """Adopts what Stripe lists, and cancels strays; how many of each."""
    adopted = strays = 0
    with tally.one("listing", "payments"):
        for intent in payments.since((now_us - SWEEP_US) // US_PER_SECOND):
            with tally.one("payment at Stripe", intent.intent_id):
                attempt, is_new = _adopted(engine, intent)
                adopted += is_new
                if attempt is not None and not is_new and _is_stray(attempt, intent):
                    strays += _cancelled(payments, intent.intent_id)
    return adopted, strays


def _drive_open(
    engine: Engine,
    payments: Payments,
    now_us: int,
    tally: Tally,
    progress: Callable[[str], None] | None,
    register: Register | None,
) -> int:
    """Drives every open payment; how many ended."""
    with reader(engine).connect() as connection:
        opened = rows.open_attempts(connection)
    healed = 0
    for attempt in opened:
        if progress is not None:
            progress(attempt.attempt_id)
        with tally.one("payment", attempt.attempt_id):
            _drive_attempt(engine, payments, attempt, now_us, register)
            with reader(engine).connect() as connection:
                now = rows.attempt(connection, attempt.attempt_id)
            healed += now is not None and now.state != "open"
    return healed


def _drive_refunds(engine: Engine, payments: Payments, now_us: int, tally: Tally) -> int:
    """Takes open refunds to their ends; how many ended."""
    with reader(engine).connect() as connection:
        opened = open_refunds(connection)
    ended = 0
    for each in opened:
        with tally.one("refund", each.refund_id):
            state = refunds.drive(engine, payments, each.refund_id, now_us).state
            ended += state != "open"
            tally.waiting += state == "open"
    return ended


def _read_balance(engine: Engine, payments: Payments, now_us: int, tally: Tally) -> int:
    """Records fees, refunds and disputes; how many were new. What Stripe does not tell waits."""
    new = 0
    with tally.one("balance", "movements"):
        new += movements.record(engine, payments, now_us, tally)
    with tally.one("balance", "disputes"):
        new += movements.follow_disputes(engine, payments, now_us, tally)
    return new


def _is_paid_after_all(attempt: Attempt, intent: CardIntent) -> bool:
    """A top-up that was given up unmade, and whose request reached Stripe later than that."""
    gone = attempt.order_id is None and attempt.state == "voided"
    return gone and intent.status == "succeeded"


def _is_stray(attempt: Attempt, intent: CardIntent) -> bool:
    """A PaymentIntent that still reserves money though its attempt is over, or has another."""
    if intent.status not in _VOIDABLE:
        return False
    return attempt.state != "open" or attempt.payment_intent not in (None, intent.intent_id)
