"""What must always be true of holds, orders and money, checked on live data by name.

Each check is a question that lists the offenders; none means the invariant holds. P2, P3, P4
and P6 compare with Stripe; without a payments door, or an answer, `ok` is None. C1 looks up
the consents themselves where the room `leads` is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    and_,
    case,
    distinct,
    func,
    not_,
    or_,
    select,
    text,
)

from aiqleads.commerce import events
from aiqleads.commerce.movements import BALANCE, names_of
from aiqleads.commerce.payments import CardIntent, CardRefund, Movement, OutcomeUnknown, Payments
from aiqleads.domain import ENTITLEMENTS, US_PER_DAY, US_PER_HOUR, US_PER_SECOND
from aiqleads.store import consents, ledger
from aiqleads.store.database import reader
from aiqleads.store.orders import DEAD, SOLD
from aiqleads.store.refunds import read_until
from aiqleads.store.tables import (
    account,
    agent,
    delivery_endpoint,
    entry,
    hold,
    hold_extension,
    hold_item,
    lead_return,
    lead_slot,
    order_item,
    orders,
    outbox,
    payment_attempt,
    refund,
    txn,
)

#: a payment still open this long after its deadline is a finding (P5)
OPEN_TOO_LONG_US = 2 * US_PER_HOUR
#: a revocation is dated when it was asked for, a moment before anybody can see it
REVOKED_SLACK_US = 60 * US_PER_SECOND
#: an event that nobody tried to deliver this long after its turn came is a finding (D1)
OVERDUE_US = US_PER_DAY
_SHOWN = 5
_SKEW_S = 300

ABOUT = {
    "L1": "every transaction has legs and sums to 0",
    "L2": "the database refuses to change or delete what was posted",
    "L3": "a transaction moves an account once in a direction",
    "L4": "no wallet is below zero",
    "S1": "a lead is disclosed to at most as many agents as it has slots and its person agreed to",
    "S2": "an agent has at most one held or sold slot of a lead, and buys it once",
    "S3": "what an exclusive sale kept empty is closed, and the lead has no other buyer",
    "S4": "an order's leads are all sold to it, or none",
    "S5": "what was given back was sold to who gave it back, and credited once and to the cent",
    "S6": "time bought for a hold was posted, to the cent",
    "H1": "granted intervals of a slot never overlap",
    "H2": "nothing was sold after its hold had ended",
    "H4": "tokens rise with each grant; a sold slot's token is its order item's",
    "H5": "an all-or-nothing hold has each lead that was asked for",
    "H6": "no agent holds more leads than its tier allows",
    "P1": "an order has at most one payment with money",
    "P2": "what Stripe captured is recorded",
    "P3": "what is recorded was captured, to the cent",
    "P4": "no authorisation outlives an order that ended",
    "P5": "no payment stays open too long",
    "P6": "captured less refunds, disputes and fees at Stripe equals the ledger's clearing account",
    "P7": "no more is refunded than was captured",
    "C1": "each sale notes the consent that it rests on, found in force after the lead was held",
    "D1": "what was sold to an agent with an endpoint is delivered, has its turn, or is given up",
    "D2": "each lead of a sold order has its event in the outbox, and no other order has",
}


@dataclass(frozen=True)
class Finding:
    """Whether an invariant holds (None: could not be asked), and the first offenders."""

    ok: bool | None
    about: str
    offenders: tuple[str, ...] = ()


def check(
    engine: Engine,
    payments: Payments | None = None,
    now_us: int = 0,
    *,
    leads: Engine | None = None,
) -> dict[str, Finding]:
    """Checks every invariant of this shop; keys are the names in `ABOUT`, in that order.

    payments: to compare with Stripe. now_us: wall clock, for what depends on time (H6, P5, D1).
    leads: the room, to compare what sales rest on with it.
    """
    with _one_moment(engine).connect() as connection:
        found = {name: ask(connection) for name, ask in _STORED.items()}
        found["H6"] = _too_many_holds(connection, now_us)
        found["P5"] = _open_too_long(connection, now_us)
        found["D1"] = _undelivered(connection, now_us)
        sales = _sold_by_consent(connection) if leads is not None else []
        if payments is not None:
            # Stripe out of reach is no finding: what it alone can tell stays unanswered.
            with contextlib.suppress(OutcomeUnknown):
                at_stripe = _against_stripe(connection, payments)
                found |= at_stripe | {"P7": found["P7"] + at_stripe["P7"]}
    if leads is not None:
        with reader(leads).connect() as connection:
            found["C1"] += consents.broken_sales(connection, sales, REVOKED_SLACK_US)
    return {
        name: Finding(not found[name], about, tuple(found[name][:_SHOWN]))
        if name in found
        else Finding(None, about)
        for name, about in ABOUT.items()
    }


def _one_moment(engine: Engine) -> Engine:
    """A reader whose questions all see the same moment, as SQLite's transactions do."""
    if engine.dialect.name == "sqlite":
        return reader(engine)
    return reader(engine).execution_options(isolation_level="REPEATABLE READ")


_signed = case((entry.c.direction == "debit", entry.c.amount_cents), else_=-entry.c.amount_cents)


def _unbalanced(connection: Connection) -> list[str]:
    sums = (
        select(txn.c.txn_id)
        .outerjoin(entry, entry.c.txn_id == txn.c.txn_id)
        .group_by(txn.c.txn_id, entry.c.currency)
        .having(or_(func.sum(_signed) != 0, func.count(entry.c.account_id) < 2))
    )
    return list(connection.execute(sums).scalars())


def _unguarded(connection: Connection) -> list[str]:
    wanted = {f"{table}_no_{verb}" for table in ("txn", "entry") for verb in ("update", "delete")}
    catalogue = {
        "sqlite": "select name from sqlite_master where type = 'trigger'",
        "postgresql": "select tgname from pg_trigger where tgenabled <> 'D'",
    }[connection.dialect.name]
    return sorted(wanted - set(connection.execute(text(catalogue)).scalars()))


def _moved_twice(connection: Connection) -> list[str]:
    twice = (
        select(entry.c.txn_id)
        .group_by(entry.c.txn_id, entry.c.account_id, entry.c.direction)
        .having(func.count() > 1)
    )
    return list(connection.execute(twice).scalars())


def _overdrawn(connection: Connection) -> list[str]:
    below = (
        select(entry.c.account_id)
        .join(account, account.c.account_id == entry.c.account_id)
        .where(account.c.kind == "wallet")
        .group_by(entry.c.account_id)
        .having(func.sum(_signed) > 0)
    )
    return list(connection.execute(below).scalars())


_sold_items = order_item.join(orders, orders.c.order_id == order_item.c.order_id)


def _oversold(connection: Connection) -> list[str]:
    places = (
        select(lead_slot.c.lead_id, func.count().label("n")).group_by(lead_slot.c.lead_id)
    ).subquery()
    sold = (
        select(order_item.c.lead_id, func.count().label("n"))
        .select_from(_sold_items)
        .where(orders.c.state.in_(SOLD))
        .group_by(order_item.c.lead_id)
    ).subquery()
    over = (
        select(sold.c.lead_id)
        .outerjoin(places, places.c.lead_id == sold.c.lead_id)
        .where(sold.c.n > func.coalesce(places.c.n, 0))
    )
    by_lead = _agreed(order_item.c.lead_id)
    by_consent = _agreed(order_item.c.consent_id)
    return [i for query in (over, by_lead, by_consent) for i in connection.execute(query).scalars()]


def _agreed(what: Any) -> Select[Any]:
    """Leads, or consents, with more sales than the person agreed to."""
    noted = and_(orders.c.state.in_(SOLD), order_item.c.consent_sellers.is_not(None))
    return (
        select(what)
        .select_from(_sold_items)
        .where(noted)
        .group_by(what)
        .having(func.count() > func.max(order_item.c.consent_sellers))
    )


def _unagreed(connection: Connection) -> list[str]:
    missing = (
        select(order_item.c.lead_id)
        .select_from(
            _sold_items.outerjoin(
                hold_item,
                and_(
                    hold_item.c.lead_id == order_item.c.lead_id,
                    hold_item.c.slot == order_item.c.slot,
                    hold_item.c.token == order_item.c.token,
                ),
            )
        )
        .where(
            orders.c.state.in_(SOLD),
            or_(
                order_item.c.consent_id.is_(None),
                order_item.c.consent_sellers < 1,
                order_item.c.consent_checked_us < hold_item.c.granted_us - REVOKED_SLACK_US,
            ),
        )
    )
    return list(connection.execute(missing).scalars())


def _sold_by_consent(connection: Connection) -> list[tuple[str, str, int]]:
    """(lead, submission, checked_us) of each sale, but those from before consents were noted."""
    query = (
        select(order_item.c.lead_id, order_item.c.consent_id, order_item.c.consent_checked_us)
        .select_from(_sold_items)
        .where(orders.c.state.in_(SOLD), order_item.c.consent_id != "")
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def _doubled(connection: Connection) -> list[str]:
    slots = (
        select(lead_slot.c.lead_id)
        .where(lead_slot.c.state.in_(("held", "sold")))
        .group_by(lead_slot.c.lead_id, lead_slot.c.agent_id)
        .having(func.count() > 1)
    )
    bought = (
        select(order_item.c.lead_id)
        .select_from(_sold_items)
        .where(orders.c.state.in_(SOLD))
        .group_by(order_item.c.lead_id, orders.c.agent_id)
        .having(func.count(distinct(orders.c.order_id)) > 1)
    )
    return [lead_id for query in (slots, bought) for lead_id in connection.execute(query).scalars()]


def _shared_though_exclusive(connection: Connection) -> list[str]:
    other = lead_slot.alias()
    broken = (
        select(lead_slot.c.lead_id)
        .join(hold, and_(hold.c.hold_id == lead_slot.c.hold_id, hold.c.exclusive))
        .join(
            other,
            and_(other.c.lead_id == lead_slot.c.lead_id, other.c.slot != lead_slot.c.slot),
        )
        .where(lead_slot.c.state == "sold", other.c.state != "closed")
    )
    return sorted(set(connection.execute(broken).scalars()))


def _half_sold(connection: Connection) -> list[str]:
    is_its = and_(
        lead_slot.c.state == "sold",
        lead_slot.c.order_id == order_item.c.order_id,
        lead_slot.c.agent_id == orders.c.agent_id,
        lead_slot.c.token == order_item.c.token,
    )
    joined = _sold_items.outerjoin(
        lead_slot,
        and_(lead_slot.c.lead_id == order_item.c.lead_id, lead_slot.c.slot == order_item.c.slot),
    )
    sold = func.sum(case((is_its, 1), else_=0))
    wrong = (
        select(order_item.c.order_id)
        .select_from(joined)
        .group_by(order_item.c.order_id, orders.c.state)
        .having(sold != case((orders.c.state.in_(SOLD), func.count()), else_=0))
    )
    # A sold slot that no item of its order explains, and an order that sold nothing at all.
    orphan = (
        select(lead_slot.c.order_id)
        .outerjoin(
            order_item,
            and_(
                order_item.c.order_id == lead_slot.c.order_id,
                order_item.c.lead_id == lead_slot.c.lead_id,
            ),
        )
        .where(lead_slot.c.state == "sold", order_item.c.order_id.is_(None))
    )
    empty = (
        select(orders.c.order_id)
        .outerjoin(order_item, order_item.c.order_id == orders.c.order_id)
        .where(order_item.c.order_id.is_(None))
    )
    return [str(o) for query in (wrong, orphan, empty) for o in connection.execute(query).scalars()]


def _wrong_returns(connection: Connection) -> list[str]:
    credit = entry.alias()
    of_return = and_(
        credit.c.txn_id == "return:" + lead_return.c.return_id,
        credit.c.account_id == "wallet:" + lead_return.c.agent_id,
        credit.c.direction == "credit",
        credit.c.amount_cents == lead_return.c.credit_cents,
    )
    posted = (
        select(lead_return.c.return_id)
        .outerjoin(credit, of_return)
        .group_by(lead_return.c.return_id, lead_return.c.state)
        .having(
            func.count(credit.c.txn_id) != case((lead_return.c.state == "credited", 1), else_=0)
        )
    )
    strange = (
        select(lead_return.c.return_id)
        .outerjoin(
            order_item,
            and_(
                order_item.c.order_id == lead_return.c.order_id,
                order_item.c.lead_id == lead_return.c.lead_id,
                order_item.c.price_cents == lead_return.c.credit_cents,
            ),
        )
        .outerjoin(
            orders,
            and_(
                orders.c.order_id == lead_return.c.order_id,
                orders.c.agent_id == lead_return.c.agent_id,
                orders.c.state.in_(SOLD),
            ),
        )
        .where(or_(order_item.c.order_id.is_(None), orders.c.order_id.is_(None)))
    )
    return [i for query in (posted, strange) for i in connection.execute(query).scalars()]


def _unposted_extensions(connection: Connection) -> list[str]:
    paid = and_(
        entry.c.txn_id == "extension:" + hold_extension.c.extension_id,
        entry.c.account_id == "wallet:" + hold_extension.c.agent_id,
        entry.c.direction == "debit",
        entry.c.amount_cents == hold_extension.c.price_cents,
    )
    unpaid = (
        select(hold_extension.c.extension_id).outerjoin(entry, paid).where(entry.c.txn_id.is_(None))
    )
    return list(connection.execute(unpaid).scalars())


_ended = func.coalesce(hold_item.c.ended_us, hold_item.c.until_us)


def _overlapping(connection: Connection) -> list[str]:
    before = func.lag(_ended).over(
        partition_by=(hold_item.c.lead_id, hold_item.c.slot), order_by=hold_item.c.token
    )
    grants = select(hold_item.c.hold_id, hold_item.c.granted_us, before.label("before")).subquery()
    early = select(grants.c.hold_id).where(grants.c.granted_us < grants.c.before)
    return list(connection.execute(early).scalars())


def _sold_late(connection: Connection) -> list[str]:
    late = select(hold_item.c.hold_id).where(
        hold_item.c.ended_how == "sold", hold_item.c.ended_us >= hold_item.c.until_us
    )
    return list(connection.execute(late).scalars())


def _wrong_tokens(connection: Connection) -> list[str]:
    ahead = (
        select(hold_item.c.hold_id)
        .join(
            lead_slot,
            and_(lead_slot.c.lead_id == hold_item.c.lead_id, lead_slot.c.slot == hold_item.c.slot),
        )
        .where(hold_item.c.token > lead_slot.c.token)
    )
    other = (
        select(order_item.c.order_id)
        .join(
            lead_slot,
            and_(
                lead_slot.c.lead_id == order_item.c.lead_id,
                lead_slot.c.order_id == order_item.c.order_id,
            ),
        )
        .where(or_(lead_slot.c.token != order_item.c.token, lead_slot.c.slot != order_item.c.slot))
    )
    return [i for query in (ahead, other) for i in connection.execute(query).scalars()]


def _incomplete_holds(connection: Connection) -> list[str]:
    partial = (
        select(hold.c.hold_id)
        .outerjoin(hold_item, hold_item.c.hold_id == hold.c.hold_id)
        .where(hold.c.mode == "all_or_nothing")
        .group_by(hold.c.hold_id, hold.c.asked)
        .having(func.count(hold_item.c.lead_id) != hold.c.asked)
    )
    return list(connection.execute(partial).scalars())


def _paid_twice(connection: Connection) -> list[str]:
    twice = (
        select(payment_attempt.c.order_id)
        .where(payment_attempt.c.order_id.is_not(None), payment_attempt.c.state == "captured")
        .group_by(payment_attempt.c.order_id)
        .having(func.count() > 1)
    )
    return list(connection.execute(twice).scalars())


def _over_refunded(connection: Connection) -> list[str]:
    of_order = func.coalesce(refund.c.order_id, refund.c.attempt_id)
    paid = func.coalesce(orders.c.amount_cents, payment_attempt.c.amount_cents)
    over = (
        select(of_order)
        .select_from(refund)
        .outerjoin(orders, orders.c.order_id == refund.c.order_id)
        .outerjoin(payment_attempt, payment_attempt.c.attempt_id == refund.c.attempt_id)
        .where(refund.c.state == "succeeded")
        .group_by(of_order, paid)
        .having(func.sum(refund.c.amount_cents) > paid)
    )
    return list(connection.execute(over).scalars())


def _untold(connection: Connection) -> list[str]:
    event_of = and_(
        outbox.c.kind == events.SOLD,
        outbox.c.order_id == order_item.c.order_id,
        outbox.c.lead_id == order_item.c.lead_id,
        outbox.c.agent_id == orders.c.agent_id,
    )
    is_sold = orders.c.state.in_(SOLD)
    wrong = (
        select(order_item.c.order_id)
        .select_from(_sold_items.outerjoin(outbox, event_of))
        .where(is_sold != outbox.c.event_id.is_not(None))
    )
    orphan = (
        select(outbox.c.event_id)
        .outerjoin(
            order_item,
            and_(
                order_item.c.order_id == outbox.c.order_id,
                order_item.c.lead_id == outbox.c.lead_id,
            ),
        )
        .where(outbox.c.kind == events.SOLD, order_item.c.order_id.is_(None))
    )
    return [i for query in (wrong, orphan) for i in connection.execute(query).scalars()]


_STORED: dict[str, Callable[[Connection], list[str]]] = {
    "L1": _unbalanced,
    "L2": _unguarded,
    "L3": _moved_twice,
    "L4": _overdrawn,
    "S1": _oversold,
    "S2": _doubled,
    "S3": _shared_though_exclusive,
    "S4": _half_sold,
    "S5": _wrong_returns,
    "S6": _unposted_extensions,
    "H1": _overlapping,
    "H2": _sold_late,
    "H4": _wrong_tokens,
    "H5": _incomplete_holds,
    "P1": _paid_twice,
    "P7": _over_refunded,
    "C1": _unagreed,
    "D2": _untold,
}


def _too_many_holds(connection: Connection, now_us: int) -> list[str]:
    held = (
        select(agent.c.agent_id, agent.c.tier, func.count().label("n"))
        .join(lead_slot, lead_slot.c.agent_id == agent.c.agent_id)
        .where(lead_slot.c.state == "held", lead_slot.c.held_until_us > now_us)
        .group_by(agent.c.agent_id, agent.c.tier)
    )
    allowed = {str(tier): rights.live_holds for tier, rights in ENTITLEMENTS.items()}
    return [row.agent_id for row in connection.execute(held) if row.n > allowed[row.tier]]


def _open_too_long(connection: Connection, now_us: int) -> list[str]:
    since = func.coalesce(orders.c.deadline_us, payment_attempt.c.created_us)
    stuck = (
        select(payment_attempt.c.attempt_id)
        .outerjoin(orders, orders.c.order_id == payment_attempt.c.order_id)
        .where(payment_attempt.c.state == "open", since < now_us - OPEN_TOO_LONG_US)
    )
    open_without = (
        select(orders.c.order_id)
        .outerjoin(payment_attempt, payment_attempt.c.order_id == orders.c.order_id)
        .where(
            orders.c.state.in_(("pending", "requires_action", "committed")),
            or_(payment_attempt.c.attempt_id.is_(None), not_(payment_attempt.c.state == "open")),
        )
    )
    no_refund = select(refund.c.refund_id).where(
        refund.c.state == "open", refund.c.created_us < now_us - OPEN_TOO_LONG_US
    )
    asked = (stuck, open_without, no_refund)
    return [i for query in asked for i in connection.execute(query).scalars()]


def _undelivered(connection: Connection, now_us: int) -> list[str]:
    tried = and_(outbox.c.delivered_us.is_not(None), outbox.c.attempts > 0)
    told = or_(
        and_(outbox.c.state == "delivered", tried),
        and_(outbox.c.state == "dead", outbox.c.failure.is_not(None)),
        and_(outbox.c.state == "waiting", outbox.c.next_try_us > now_us - OVERDUE_US),
    )
    lost = (
        select(outbox.c.event_id)
        .join(delivery_endpoint, delivery_endpoint.c.agent_id == outbox.c.agent_id)
        .where(outbox.c.kind == events.SOLD, not_(told))
    )
    return list(connection.execute(lost).scalars())


def _against_stripe(connection: Connection, payments: Payments) -> dict[str, list[str]]:
    """P1 to P4, P6 and P7: our payments beside the PaymentIntents that carry their ids.

    Stripe is asked after the database, so whatever is recorded must be found there. A payment
    that was still open in the database may be a step further by now: P5 watches those.
    """
    rows = connection.execute(select(payment_attempt)).all()
    over = {row.attempt_id for row in rows if row.state != "open"}
    recorded = _captures(connection)
    found = connection.execute(select(orders.c.order_id, orders.c.state))
    states = {row.order_id: row.state for row in found}
    first_s = min((row.created_us for row in rows), default=0) // US_PER_SECOND - _SKEW_S
    listed = payments.since(first_s) if rows else iter(())
    intents = [intent for intent in listed if intent.attempt_id in over]
    captured = {i.intent_id: i.received_cents for i in intents if i.received_cents > 0}
    ours = {row.payment_intent for row in rows if row.state != "open"} - {None}
    moved = payments.movements(first_s) if rows else iter(())
    movements = [each for each in moved if each.intent_id in ours]
    return {
        "P1": _paid_twice(connection) + _twice_at_stripe(intents),
        "P2": sorted(captured.keys() - recorded.keys()),
        "P3": sorted(i for i, cents in recorded.items() if captured.get(i) != cents),
        "P4": [
            i.intent_id
            for i in intents
            if i.status == "requires_capture" and states.get(i.order_id or "") in DEAD
        ],
        "P6": _clearing(connection, sum(captured.values()), movements),
        "P7": _refunded_beyond(captured, movements),
    }


def _clearing(connection: Connection, captured_cents: int, movements: list[Movement]) -> list[str]:
    """What is recorded of Stripe's movements adds up, and no reading passed over one."""
    posted = set(connection.execute(select(txn.c.txn_id)).scalars())
    expected, missed = captured_cents, []
    read_us = read_until(connection, BALANCE)
    for each in movements:
        names = names_of(each)
        fee = f"fee:{each.movement_id}"
        expected -= each.fee_cents if fee in posted else 0
        if each.about is not None:
            expected += each.amount_cents if names[0] in posted else 0
        if each.created_s * US_PER_SECOND < read_us - _SKEW_S * US_PER_SECOND:
            missed += [name for name in names if name not in posted]
    clearing = ledger.debit_balance(connection, ledger.STRIPE_CLEARING)
    wrong = [f"{expected} at Stripe, {clearing} in the ledger"]
    return missed + (wrong if expected != clearing else [])


def _refunded_beyond(captured: Mapping[str, int], movements: list[Movement]) -> list[str]:
    left = dict(captured)
    for each in movements:
        if isinstance(each.about, CardRefund) and each.intent_id is not None:
            left[each.intent_id] = left.get(each.intent_id, 0) + each.amount_cents
    return sorted(intent_id for intent_id, cents in left.items() if cents < 0)


def _captures(connection: Connection) -> dict[str, int]:
    rows = connection.execute(
        select(entry.c.txn_id, entry.c.amount_cents).where(
            entry.c.account_id == ledger.STRIPE_CLEARING, entry.c.txn_id.like("capture:%")
        )
    )
    return {row.txn_id.partition(":")[2]: row.amount_cents for row in rows}


def _twice_at_stripe(intents: list[CardIntent]) -> list[str]:
    paid = [i.order_id for i in intents if i.order_id and i.received_cents > 0]
    return sorted({order_id for order_id in paid if paid.count(order_id) > 1})
