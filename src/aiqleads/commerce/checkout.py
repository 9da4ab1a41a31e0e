"""Buying what is held: out of the wallet in one transaction, or by card.

The card's order of work is hold -> authorise -> commit the sale under the fencing tokens ->
capture. A sale tells the buyer a person's contact details, which nothing takes back: so the
money is reserved first and taken last, and a lost hold means a void, never a refund.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine

from aiqleads.commerce import consent, events, licences
from aiqleads.commerce.caps import check_purchase
from aiqleads.commerce.consent import Register
from aiqleads.commerce.debts import check_nothing_owed
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.payments import UNSETTLED, OutcomeUnknown, Payments
from aiqleads.commerce.reconcile import drive, refusal_of
from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import AIQLeadsError, InvalidInput, Refused
from aiqleads.store import holds, ledger
from aiqleads.store import orders as rows
from aiqleads.store.consents import Consent
from aiqleads.store.database import reader
from aiqleads.store.holds import Item
from aiqleads.store.ledger import REVENUE, Leg
from aiqleads.store.orders import DEAD, SOLD, Attempt, Order, OrderItem
from aiqleads.store.transactions import writing

#: a card payment has this long; the hold is extended to it once
PAYMENT_WINDOW_US = 15 * 60 * US_PER_SECOND


def live_items(
    connection: Connection, agent_id: str, hold_ids: Sequence[str], now_us: int
) -> list[Item]:
    """All leads that the holds still have, locked, each of them live.

    Refused `hold-expired` 409 (lead_ids, hold_ids) otherwise, UnknownName for another's hold.
    """
    if not hold_ids or len(set(hold_ids)) < len(hold_ids):
        raise InvalidInput("name each hold to buy once")
    items = holds.items_of(connection, agent_id, hold_ids, now_us)
    expired = [item.lead_id for item in items if not item.live]
    empty = sorted(set(hold_ids) - {item.hold_id for item in items})
    if expired or empty:
        detail = "the hold is over: it expired, was given back, or its leads are bought"
        raise Refused("hold-expired", detail, lead_ids=expired, hold_ids=empty)
    if len({item.currency for item in items}) > 1:
        raise InvalidInput("the holds are in different currencies")
    return items


def _agreed(
    engine: Engine,
    register: Register | None,
    order_id: str,
    agent_id: str,
    hold_ids: Sequence[str],
    now_us: int,
) -> dict[str, Consent] | None:
    """Asks once more what the leads to buy may be sold by, and whether the agent has the
    licences that they take; None where nobody can be asked.

    Nothing is asked for an order that is there already: it goes on where it stopped.
    """
    if register is None:
        return None
    with reader(engine).connect() as connection:
        known = rows.find(connection, order_id) is not None
        lead_ids = [] if known else holds.held_leads(connection, agent_id, hold_ids)
        licences.check(connection, agent_id, register.states(lead_ids), now_us)
    return register.check(lead_ids, now_us)


def _order(
    order_id: str,
    agent_id: str,
    state: str,
    pay_with: str,
    items: Sequence[Item],
    now_us: int,
    agreed: Mapping[str, Consent] | None = None,
) -> Order:
    return Order(
        order_id,
        agent_id,
        state,
        pay_with,
        sum(item.price_cents for item in items),
        items[0].currency,
        now_us,
        settled_us=now_us if state == "paid" else None,
        deadline_us=None,
        items=tuple(
            OrderItem(
                item.lead_id,
                item.slot,
                item.token,
                item.price_cents,
                None if agreed is None else agreed[item.lead_id],
            )
            for item in items
        ),
    )


def pay_by_wallet(
    engine: Engine,
    agent_id: str,
    hold_ids: Sequence[str],
    now_us: int,
    *,
    key: str | None = None,
    register: Register | None = None,
) -> Order:
    """Buys every lead of the holds out of the wallet; the order it returns is `paid`.

    One transaction under the agent's locked row: tokens and balance are checked, slots sold,
    the order and the outbox written, the ledger posted. key: as in `holds.place`. register:
    asked for the consents just before; without it those count that were noted with the holds.

    Refused: `suppressed` 409 and `lead-withheld` 409 (lead_id) for a lead that may not be sold
    any more, `licence-required` 403 (lead_id, state) for one whose state the agent has no licence
    of, `insufficient-credits` 402 (balance_cents, needed_cents, missing_cents),
    `purchase-limit-reached` 403 (see `caps.check_purchase`), `account-frozen` 402 (owed_cents)
    while something is owed, `hold-expired` 409 (lead_ids,
    hold_ids), `busy` 503. UnknownName for a hold of nobody's
    or of another agent.
    """
    order_id = new_id("ord", agent_id, key)
    found = _agreed(engine, register, order_id, agent_id, hold_ids, now_us)
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        if key is not None and (before := rows.find(connection, order_id)) is not None:
            return before
        check_nothing_owed(connection, agent_id)
        consent.lock_scarce(connection, found or {})
        items = live_items(connection, agent_id, hold_ids, now_us)
        check_purchase(connection, agent_id, _prices(items), now_us)
        agreed = consent.of_items(connection, order_id, items, found)
        order = _order(order_id, agent_id, "paid", "wallet", items, now_us, agreed)
        wallet = ledger.wallet_of(agent_id)
        check_balance(ledger.credit_balance(connection, wallet), order.amount_cents)
        rows.add(connection, order)
        for item in items:
            if not holds.sell(
                connection, (item.lead_id, item.slot, item.token), agent_id, order_id, now_us
            ):
                raise Refused("hold-expired", "the hold is over", lead_ids=[item.lead_id])
        events.sold(connection, order, now_us)
        ledger.post(
            connection,
            f"wallet:{order_id}",
            f"{len(items)} leads, {order_id}",
            [Leg(wallet, order.amount_cents), Leg(REVENUE, -order.amount_cents)],
            order.currency,
            now_us,
        )
    return order


def _prices(items: Sequence[Item]) -> list[tuple[str, int]]:
    return [(item.lead_id, item.price_cents) for item in items]


def check_balance(balance_cents: int, needed_cents: int) -> None:
    """Refused `insufficient-credits` 402 where a wallet has less than is needed, cents."""
    if balance_cents < needed_cents:
        missing = needed_cents - balance_cents
        raise Refused(
            "insufficient-credits",
            f"the wallet has {balance_cents} cents; {missing} more are needed",
            status=402,
            limit="wallet_cents",
            value=balance_cents,
            used=needed_cents,
            balance_cents=balance_cents,
            needed_cents=needed_cents,
            missing_cents=missing,
        )


def pay_by_card(
    engine: Engine,
    payments: Payments,
    agent_id: str,
    hold_ids: Sequence[str],
    payment_method: str,
    now_us: int,
    *,
    key: str | None = None,
    register: Register | None = None,
) -> Order:
    """Buys every lead of the holds by card.

    The order that it returns is `paid` (HTTP 201), `committed` (201: the leads are the
    buyer's, the capture will be confirmed by reconcile), `requires_action` (202: the browser
    goes on with client_secret) or `pending` (202: the bank is still at it). key: as in
    `holds.place`; a repeat goes on where the first run stopped. register: as in
    `pay_by_wallet`; asked before Stripe hears of anything, and again before the sale.

    Refused: `suppressed`, `lead-withheld` 409 and `licence-required` 403 as in `pay_by_wallet`,
    `card-declined` 402 (decline_code), `purchase-limit-reached` 403 (before Stripe heard of
    anything),
    `hold-expired` 409 (before paying, or lost meanwhile: the authorisation is void),
    `payment-outcome-unknown` 202 (order_id: look there, or ask again under the same key),
    `busy` 503 (before Stripe heard of anything). InvalidInput for a payment method that
    cannot be charged.
    """
    order_id = new_id("ord", agent_id, key)
    _agreed(engine, register, order_id, agent_id, hold_ids, now_us)
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        if rows.find(connection, order_id) is None:
            _open_order(connection, order_id, agent_id, hold_ids, payment_method, now_us)
    try:
        order = drive(engine, payments, order_id, now_us, register=register)
    except AIQLeadsError as problem:
        if problem.kind not in UNSETTLED:
            raise
        return _unknown(engine, order_id, problem)
    if order.state in DEAD:
        raise refusal_of(order.failure, {"order_id": order_id})
    return order


def _open_order(
    connection: Connection,
    order_id: str,
    agent_id: str,
    hold_ids: Sequence[str],
    payment_method: str,
    now_us: int,
) -> None:
    """Writes the order and its attempt, keys included, before Stripe hears of anything."""
    check_nothing_owed(connection, agent_id)
    items = live_items(connection, agent_id, hold_ids, now_us)
    check_purchase(connection, agent_id, _prices(items), now_us)
    holds.extend(connection, items, now_us + PAYMENT_WINDOW_US, now_us)
    items = live_items(connection, agent_id, hold_ids, now_us)
    order = _order(order_id, agent_id, "pending", "card", items, now_us)
    deadline_us = min(item.expires_us for item in items)
    rows.add(connection, replace(order, deadline_us=deadline_us))
    rows.add_attempt(
        connection,
        Attempt(
            attempt_id=new_id("pay", agent_id, order_id),
            order_id=order_id,
            agent_id=agent_id,
            idempotency_prefix=order_id,
            payment_method=payment_method,
            amount_cents=order.amount_cents,
            currency=order.currency,
            payment_intent=None,
            state="open",
            failure=None,
            created_us=now_us,
        ),
    )


def _unknown(engine: Engine, order_id: str, problem: AIQLeadsError) -> Order:
    """What to tell a buyer when Stripe or the database does not answer: what is known so far."""
    unknown = OutcomeUnknown(
        "the payment's outcome is not known yet; it will be settled", order_id=order_id
    )
    try:
        with reader(engine).connect() as connection:
            order = rows.get(connection, order_id)
    except Refused:  # the database does not even answer that
        raise unknown from problem
    if order.state in SOLD:
        return order
    if order.state in DEAD:
        raise refusal_of(order.failure, {"order_id": order_id}) from problem
    raise unknown from problem
