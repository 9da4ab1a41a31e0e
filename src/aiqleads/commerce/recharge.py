"""A wallet that tops itself up: below a level, by an amount, within a daily ceiling.

A recharge is a top-up under a key of its own, made under the agent's locked row, so two
workers at once make one. Nobody is there to be asked by a bank; a refusal pauses the rule and
tells the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, case, delete, func, select

from aiqleads.commerce.ids import new_id
from aiqleads.commerce.limits import seconds_until
from aiqleads.commerce.payments import UNSETTLED, Payments
from aiqleads.commerce.reconcile import drive_topup
from aiqleads.commerce.tally import Tally
from aiqleads.commerce.wallet import CURRENCY, LEAST_TOPUP_CENTS, MOST_TOPUP_CENTS
from aiqleads.domain import US_PER_DAY
from aiqleads.errors import AIQLeadsError, InvalidInput, UnknownName
from aiqleads.store import holds, ledger, orders
from aiqleads.store.database import reader
from aiqleads.store.orders import RECHARGE, Attempt
from aiqleads.store.tables import auto_recharge, entry, payment_attempt
from aiqleads.store.transactions import writing


@dataclass(frozen=True)
class Rule:
    """Below `below_cents` of credit, buy `amount_cents`, at most `daily_most_cents` in 24 hours.

    paused: why it no longer does, '' while it does.
    """

    below_cents: int
    amount_cents: int
    daily_most_cents: int
    payment_method: str
    paused: str = ""

    def check(self) -> None:
        """InvalidInput for figures that cannot be."""
        if self.below_cents < 1:
            raise InvalidInput("below_cents is at least 1")
        if not LEAST_TOPUP_CENTS <= self.amount_cents <= MOST_TOPUP_CENTS:
            raise InvalidInput(f"amount_cents is {LEAST_TOPUP_CENTS} to {MOST_TOPUP_CENTS}")
        if self.daily_most_cents < self.amount_cents:
            raise InvalidInput("daily_most_cents is at least amount_cents")


def get(engine: Engine, agent_id: str) -> Rule:
    """The agent's rule; UnknownName where it has none."""
    with reader(engine).connect() as connection:
        found = _rule(connection, agent_id)
    if found is None:
        raise UnknownName("this wallet does not top itself up")
    return found


def put(engine: Engine, agent_id: str, rule: Rule) -> None:
    """Sets the agent's rule; one that was paused begins anew. InvalidInput as `Rule.check`."""
    rule.check()
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        connection.execute(delete(auto_recharge).where(auto_recharge.c.agent_id == agent_id))
        connection.execute(auto_recharge.insert().values(agent_id=agent_id, **vars(rule)))


def drop(engine: Engine, agent_id: str) -> None:
    """Ends the agent's rule; again is harmless."""
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        connection.execute(delete(auto_recharge).where(auto_recharge.c.agent_id == agent_id))


def recharge(
    engine: Engine, payments: Payments, agent_id: str, now_us: int, *, needed_cents: int = 0
) -> bool:
    """Tops the wallet up if its rule says so; True where credit came in.

    needed_cents: what a purchase needs, which counts as a level of its own. Never raises for
    a payment: a decline pauses the rule, an unknown outcome is settled by reconcile.
    """
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        attempt_id = _open(connection, agent_id, needed_cents, now_us)
    if attempt_id is None:
        return False
    try:
        return drive_topup(engine, payments, attempt_id, now_us).state == "captured"
    except AIQLeadsError as problem:
        if problem.kind not in UNSETTLED:
            raise
        return False


def run(engine: Engine, payments: Payments, now_us: int) -> int:
    """Tops up every wallet whose rule says so; returns how many got credit.

    One that fails is logged, keeps no other from its turn, and is tried again by the next run.
    """
    with reader(engine).connect() as connection:
        low = list(connection.execute(_low).scalars())
    filled, tally = 0, Tally()
    for agent_id in low:
        with tally.one("recharge", agent_id):
            filled += recharge(engine, payments, agent_id, now_us)
    return filled


_balance = func.coalesce(
    func.sum(
        case((entry.c.direction == "credit", entry.c.amount_cents), else_=-entry.c.amount_cents)
    ),
    0,
)
_low = (
    select(auto_recharge.c.agent_id)
    .outerjoin(entry, entry.c.account_id == "wallet:" + auto_recharge.c.agent_id)
    .where(auto_recharge.c.paused == "")
    .group_by(auto_recharge.c.agent_id, auto_recharge.c.below_cents)
    .having(_balance < auto_recharge.c.below_cents)
)


def _rule(connection: Connection, agent_id: str) -> Rule | None:
    query = select(auto_recharge).where(auto_recharge.c.agent_id == agent_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Rule(
        row.below_cents, row.amount_cents, row.daily_most_cents, row.payment_method, row.paused
    )


def held_back(engine: Engine, agent_id: str, now_us: int) -> dict[str, Any]:
    """Why the rule brings no credit now: its ceiling as a refusal names one, or that it is
    paused; {} where neither is so."""
    with reader(engine).connect() as connection:
        rule, lately = _rule(connection, agent_id), _lately(_made(connection, agent_id), now_us)
    if rule is None:
        return {}
    if rule.paused:
        return {"paused": rule.paused}
    spent = sum(each.amount_cents for each in lately)
    over = spent + rule.amount_cents - rule.daily_most_cents
    if over <= 0:
        return {}
    frees_us = now_us
    for each in lately:
        if over > 0:
            over, frees_us = over - each.amount_cents, each.created_us + US_PER_DAY
    return {
        "limit": "recharge_daily_cents",
        "value": rule.daily_most_cents,
        "used": spent,
        "retry_after": seconds_until(frees_us, now_us),
    }


def _made(connection: Connection, agent_id: str) -> Sequence[Any]:
    mine = (payment_attempt.c.agent_id == agent_id, payment_attempt.c.purpose == RECHARGE)
    return connection.execute(
        select(
            payment_attempt.c.attempt_id, payment_attempt.c.state,
            payment_attempt.c.amount_cents, payment_attempt.c.created_us,
        ).where(*mine).order_by(payment_attempt.c.created_us)
    ).all()  # fmt: skip


def _lately(made: Sequence[Any], now_us: int) -> list[Any]:
    """What counts against the ceiling, oldest first."""
    since_us = now_us - US_PER_DAY
    return [each for each in made if each.created_us > since_us and each.state != "voided"]


def _open(connection: Connection, agent_id: str, needed_cents: int, now_us: int) -> str | None:
    """Writes a recharge that is due; None where none is, or one is under way."""
    rule = _rule(connection, agent_id)
    if rule is None or rule.paused:
        return None
    has = ledger.credit_balance(connection, ledger.wallet_of(agent_id))
    if has >= max(rule.below_cents, needed_cents):
        return None
    made = _made(connection, agent_id)
    spent = sum(each.amount_cents for each in _lately(made, now_us))
    under_way = any(each.state == "open" for each in made)
    if under_way or spent + rule.amount_cents > rule.daily_most_cents:
        return None
    attempt_id = new_id("top", agent_id, f"recharge:{len(made)}")
    orders.add_attempt(
        connection,
        Attempt(
            attempt_id, None, agent_id, attempt_id, rule.payment_method, rule.amount_cents,
            CURRENCY, None, "open", None, now_us, RECHARGE,
        ),
    )  # fmt: skip
    return attempt_id
