"""The double-entry ledger: transactions that sum to zero, appended and never changed.

A wallet is what the shop owes an agent, so a credit raises it; `stripe_clearing` and a
receivable are owed to the shop, so a debit raises them; `revenue` grows by credits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, func, insert, select

from aiqleads.errors import ContractBroken
from aiqleads.store.prepared import Prepared
from aiqleads.store.tables import account, entry, txn
from aiqleads.store.transactions import insert_missing

_signed = case((entry.c.direction == "debit", entry.c.amount_cents), else_=-entry.c.amount_cents)
_balance = Prepared(
    select(func.coalesce(func.sum(_signed), 0).label("cents")).where(
        entry.c.account_id == bindparam("of")
    )
)
_add_entry = Prepared(insert(entry))

REVENUE = "revenue"
STRIPE_CLEARING = "stripe_clearing"


def wallet_of(agent_id: str) -> str:
    """Account of an agent's prepaid credit."""
    return f"wallet:{agent_id}"


def receivable_of(agent_id: str) -> str:
    """Account of what an agent owes for leads whose payment failed after the sale."""
    return f"receivable:{agent_id}"


@dataclass(frozen=True)
class Leg:
    """One side of a transaction: positive cents are a debit, negative a credit."""

    account_id: str
    cents: int


@dataclass(frozen=True)
class Posting:
    """One transaction as an account saw it; cents positive where the balance grew."""

    txn_id: str
    about: str
    cents: int
    created_us: int


def post(
    connection: Connection,
    txn_id: str,
    about: str,
    legs: Sequence[Leg],
    currency: str,
    now_us: int,
) -> bool:
    """Appends a transaction under its natural key; False when it stands there already.

    ContractBroken when the legs do not sum to zero or one of them moves nothing.
    """
    if sum(leg.cents for leg in legs) or not legs or not all(leg.cents for leg in legs):
        raise ContractBroken(f"legs of {txn_id} do not balance: {list(legs)}")
    head = {"txn_id": txn_id, "about": about, "created_us": now_us}
    if insert_missing(connection, txn, [head]) == 0:
        return False
    for name in sorted(leg.account_id for leg in legs):
        kind = name.split(":")[0]
        row = {"account_id": name, "kind": kind, "currency": currency}
        insert_missing(connection, account, [row])
    sides = [
        {
            "txn_id": txn_id,
            "account_id": leg.account_id,
            "direction": "debit" if leg.cents > 0 else "credit",
            "amount_cents": abs(leg.cents),
            "currency": currency,
        }
        for leg in legs
    ]
    _add_entry.many(connection, sides)
    return True


def is_posted(connection: Connection, txn_id: str) -> bool:
    """Whether a transaction stands in the ledger."""
    found = connection.execute(select(txn.c.txn_id).where(txn.c.txn_id == txn_id))
    return found.first() is not None


def debit_balance(connection: Connection, account_id: str) -> int:
    """Debits minus credits of an account, in cents; 0 for one that was never used."""
    return int(_balance.one(connection, {"of": account_id}).cents)


def credit_balance(connection: Connection, account_id: str) -> int:
    """Credits minus debits of an account, in cents: what a wallet has."""
    return -debit_balance(connection, account_id)


def postings(connection: Connection, account_id: str, limit: int) -> list[Posting]:
    """The newest transactions of a credit account, newest first."""
    rows = connection.execute(
        select(txn.c.txn_id, txn.c.about, (-_signed).label("cents"), txn.c.created_us)
        .join(entry, entry.c.txn_id == txn.c.txn_id)
        .where(entry.c.account_id == account_id)
        .order_by(txn.c.created_us.desc(), txn.c.txn_id)
        .limit(limit)
    )
    return [Posting(row.txn_id, row.about, int(row.cents), row.created_us) for row in rows]


def total_cents(connection: Connection) -> int:
    """The sum over the whole ledger: 0, or something is wrong."""
    return int(connection.execute(select(func.coalesce(func.sum(_signed), 0))).scalar_one())
