"""The wallet: prepaid credit, topped up by card, spent on leads in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from aiqleads.commerce.ids import new_id
from aiqleads.commerce.payments import UNSETTLED, OutcomeUnknown, Payments
from aiqleads.commerce.reconcile import TopUp, drive_topup
from aiqleads.errors import AIQLeadsError, InvalidInput
from aiqleads.store import holds, ledger, orders
from aiqleads.store.database import reader
from aiqleads.store.ledger import Posting
from aiqleads.store.transactions import writing

CURRENCY = "USD"
LEAST_TOPUP_CENTS = 500
MOST_TOPUP_CENTS = 1_000_000


@dataclass(frozen=True)
class Wallet:
    """An agent's credit in cents, what it owes apart from it, and its newest movements."""

    agent_id: str
    currency: str
    balance_cents: int
    receivable_cents: int
    postings: tuple[Posting, ...]


def balance(engine: Engine, agent_id: str) -> int:
    """Credit left, in cents."""
    with reader(engine).connect() as connection:
        return ledger.credit_balance(connection, ledger.wallet_of(agent_id))


def view(engine: Engine, agent_id: str, *, limit: int = 50) -> Wallet:
    """The wallet with its newest `limit` movements, newest first."""
    with reader(engine).connect() as connection:
        account = ledger.wallet_of(agent_id)
        return Wallet(
            agent_id,
            CURRENCY,
            ledger.credit_balance(connection, account),
            ledger.debit_balance(connection, ledger.receivable_of(agent_id)),
            tuple(ledger.postings(connection, account, limit)),
        )


def topup(
    engine: Engine,
    payments: Payments,
    agent_id: str,
    amount_cents: int,
    payment_method: str,
    now_us: int,
    *,
    key: str | None = None,
) -> TopUp:
    """Buys credit by card: captured at once, and in the wallet when this returns `captured`.

    amount_cents: 500 to 1,000,000. key: as in `holds.place`. The result may also be `open`
    with a client_secret (the card's bank asks for authentication: HTTP 202).
    Refused: `card-declined` 402 (decline_code), `payment-outcome-unknown` 202 (topup_id:
    reconcile will find out, and so does the same request under the same key).
    InvalidInput for an amount or a payment method that cannot be.
    """
    if not LEAST_TOPUP_CENTS <= amount_cents <= MOST_TOPUP_CENTS:
        raise InvalidInput(
            f"a top-up is {LEAST_TOPUP_CENTS} to {MOST_TOPUP_CENTS} cents, not {amount_cents}"
        )
    attempt_id = new_id("top", agent_id, key)
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        if orders.attempt(connection, attempt_id) is None:
            orders.add_attempt(
                connection,
                orders.Attempt(
                    attempt_id,
                    None,
                    agent_id,
                    attempt_id,
                    payment_method,
                    amount_cents,
                    CURRENCY,
                    None,
                    "open",
                    None,
                    now_us,
                    "topup",
                ),
            )
    try:
        made = drive_topup(engine, payments, attempt_id, now_us)
    except AIQLeadsError as problem:
        if problem.kind not in UNSETTLED:
            raise
        raise OutcomeUnknown(
            "the payment's outcome is not known yet; it will be settled", topup_id=attempt_id
        ) from problem
    made.raise_if_failed()
    return made
