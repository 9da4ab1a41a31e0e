"""What agents owe: sales whose money never came, and top-ups that were taken back when spent.

It stands in a receivable apart from the wallet. While anything is owed its agent buys nothing;
the next credit pays it.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine

from aiqleads.errors import Refused
from aiqleads.store import holds, ledger, orders
from aiqleads.store.ledger import Leg
from aiqleads.store.orders import Order
from aiqleads.store.transactions import writing

BAD_DEBT = "bad_debt"


def check_nothing_owed(connection: Connection, agent_id: str) -> None:
    """Refused `account-frozen` 402 (owed_cents) while the agent owes anything."""
    owed = ledger.debit_balance(connection, ledger.receivable_of(agent_id))
    if owed > 0:
        raise Refused(
            "account-frozen",
            f"{owed} cents are owed; a top-up pays them, and then you can buy again",
            status=402,
            limit="owed_cents",
            value=0,
            used=owed,
            owed_cents=owed,
        )


def take_back(
    connection: Connection,
    txn_id: str,
    about: str,
    agent_id: str,
    leg: Leg,
    currency: str,
    now_us: int,
) -> bool:
    """Takes credit back out of a wallet; what was spent already is owed. See `ledger.post`.

    leg: the other side, a credit. The agent's row is locked by the caller.
    """
    cents = -leg.cents
    has = max(0, ledger.credit_balance(connection, ledger.wallet_of(agent_id)))
    parts = {
        ledger.wallet_of(agent_id): min(has, cents),
        ledger.receivable_of(agent_id): cents - min(has, cents),
    }
    legs = [Leg(name, part) for name, part in parts.items() if part]
    return ledger.post(connection, txn_id, about, [*legs, leg], currency, now_us)


def pay(connection: Connection, agent_id: str, cause: str, currency: str, now_us: int) -> int:
    """Pays out of the wallet what is owed, as far as it goes; returns the cents paid.

    Sales first, oldest first and each in full, then what is left of top-ups that were taken
    back. cause: what brought the credit; the payment's natural key. The agent's row is locked
    by the caller.
    """
    wallet, receivable = ledger.wallet_of(agent_id), ledger.receivable_of(agent_id)
    owed = ledger.debit_balance(connection, receivable)
    has = ledger.credit_balance(connection, wallet)
    if owed <= 0 or has <= 0:
        return 0
    paid = 0
    unpaid = orders.uncollected(connection, agent_id)
    of_topups = owed - sum(order.amount_cents for order in unpaid)
    for order in unpaid:
        if order.amount_cents > has - paid:
            break
        paid += order.amount_cents
        orders.move(connection, order.order_id, ["uncollected"], "paid", settled_us=now_us)
        legs = [Leg(wallet, order.amount_cents), Leg(receivable, -order.amount_cents)]
        about = f"owed for {order.order_id}"
        ledger.post(connection, f"settled:{order.order_id}", about, legs, currency, now_us)
    rest = min(of_topups, has - paid)
    if rest > 0:
        legs = [Leg(wallet, rest), Leg(receivable, -rest)]
        ledger.post(connection, f"settled:{cause}", "owed for a top-up", legs, currency, now_us)
    return paid + max(0, rest)


def write_off(engine: Engine, order_id: str, now_us: int) -> Order:
    """Gives up the money of an uncollected order; its leads stay sold.

    Refused `not-uncollected` 409 for an order in another state, UnknownName for none.
    """
    with writing(engine) as connection:
        order = orders.get(connection, order_id)
        holds.lock_agent(connection, order.agent_id)
        if not orders.move(connection, order_id, ["uncollected"], "written_off"):
            detail = f"the order is {order.state}: only an uncollected one is written off"
            raise Refused("not-uncollected", detail, state=order.state)
        ledger.post(
            connection,
            f"written-off:{order_id}",
            f"given up: {order_id}",
            [
                Leg(BAD_DEBT, order.amount_cents),
                Leg(ledger.receivable_of(order.agent_id), -order.amount_cents),
            ],
            order.currency,
            now_us,
        )
        return orders.get(connection, order_id)
