"""Leads that their buyers give back: for which reasons, how many, and what comes of it.

The price comes back as credit in the wallet. The slot stays sold, since the buyer knows the
person now; a lead that is no lead at all is closed for everybody else, and those who bought
or hold it are told. `returns.toml` holds the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from aiqleads.commerce import debts, events
from aiqleads.commerce.caps import month_us, next_month_us
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.limits import seconds_until
from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput, Refused, UnknownName
from aiqleads.shop_files import Table, read
from aiqleads.store import holds, ledger, orders, refunds
from aiqleads.store import returns as rows
from aiqleads.store.database import reader
from aiqleads.store.ledger import Leg
from aiqleads.store.returns import Notice, Return
from aiqleads.store.transactions import writing

RETURNS_ACCOUNT = "returns"
BY_RULE = "rule"
_LONGEST_EVIDENCE = 2_000


@dataclass(frozen=True)
class Reason:
    """Why a lead may be given back. by_rule: credited at once; ends_lead: for everybody."""

    about: str
    by_rule: bool
    ends_lead: bool


@dataclass(frozen=True)
class Rules:
    """What stands in `returns.toml`, checked."""

    version: str
    window_days: int
    most_per_month: int
    share_per_month: float
    reasons: dict[str, Reason]

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Rules:
        """Builds the rules from TOML; InvalidInput says which figure cannot be."""
        figures = ("version", "window_days", "most_per_month", "share_per_month", "reasons")
        top = Table("returns.toml", raw, figures)
        names = list(raw["reasons"]) if isinstance(raw["reasons"], dict) else []
        reasons = top.table("reasons", names)
        if not names:
            raise top.wrong("reasons", "must not be empty")
        return cls(
            version=top.text("version"),
            window_days=top.whole("window_days", 1),
            most_per_month=top.whole("most_per_month", 0),
            share_per_month=top.number("share_per_month", 0.0, 1.0),
            reasons={
                name: _reason(reasons.table(name, ["about", "decide", "ends_lead"]))
                for name in names
            },
        )


def _reason(table: Table) -> Reason:
    decide = table.text("decide")
    if decide not in ("rule", "operator"):
        raise table.wrong("decide", f"is {decide!r}, must be 'rule' or 'operator'")
    return Reason(table.text("about"), decide == "rule", table.flag("ends_lead"))


RULES = Rules.parse(read(Path(__file__).with_name("returns.toml")))


def ask(
    engine: Engine,
    agent_id: str,
    order_id: str,
    lead_id: str,
    reason: str,
    evidence: str,
    now_us: int,
    *,
    key: str | None = None,
) -> Return:
    """Gives a bought lead back; `credited` where the rule decides, else `waiting`.

    evidence: what the buyer has to say for it. key: as in `holds.place`.

    Refused: `return-window-over` 409, `already-returned` 409 (return_id, state), `not-paid` 409
    while the order's money is not there, `already-refunded` 409, `return-limit-reached` 403
    (limit, value, used, retry_after). UnknownName for an order or a lead that is not the
    agent's, InvalidInput for a reason that is not in the list or without a word of evidence.
    """
    known = RULES.reasons.get(reason)
    if known is None:
        raise InvalidInput(f"no reason {reason!r}; there are {', '.join(RULES.reasons)}")
    if not 0 < len(evidence.strip()) <= _LONGEST_EVIDENCE:
        raise InvalidInput(f"say what happened, in 1 to {_LONGEST_EVIDENCE} characters")
    return_id = new_id("ret", agent_id, key)
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        if key is not None and (before := rows.find(connection, return_id)) is not None:
            return before
        price_cents, currency = _checked(connection, agent_id, order_id, lead_id, now_us)
        made = Return(
            return_id, order_id, lead_id, agent_id, reason, evidence.strip(), "waiting",
            price_cents, currency, now_us,
        )  # fmt: skip
        rows.add(connection, made)
        return _credit(connection, made, BY_RULE, None, now_us) if known.by_rule else made


def decide(
    engine: Engine, return_id: str, *, credit: bool, by: str, note: str, now_us: int
) -> Return:
    """An operator's word on a return that waits. Refused `already-decided` 409 otherwise."""
    with reader(engine).connect() as connection:
        made = rows.find(connection, return_id)
    if made is None:
        raise UnknownName(f"no return {return_id!r}")
    with writing(engine) as connection:
        holds.lock_agent(connection, made.agent_id)
        made = rows.find(connection, return_id, lock=True) or made
        if made.state != "waiting":
            detail = f"the return is {made.state} already"
            raise Refused("already-decided", detail, return_id=return_id, state=made.state)
        if credit:
            return _credit(connection, made, by, note, now_us)
        rows.decide(connection, return_id, "refused", by, note, now_us)
        text = f"your return of {made.lead_id} was refused: {note}"
        _tell(connection, made.agent_id, "return-refused", made.lead_id, text, now_us)
        return replace(made, state="refused", decided_us=now_us, decided_by=by, note=note)


def waiting(engine: Engine) -> list[Return]:
    """Returns that wait for an operator, oldest first."""
    with reader(engine).connect() as connection:
        return rows.listing(connection, state="waiting")


def of_order(engine: Engine, agent_id: str, order_id: str) -> list[Return]:
    """Returns of an order of the agent, oldest first; UnknownName when it is not its."""
    with reader(engine).connect() as connection:
        order = orders.find(connection, order_id)
        if order is None or order.agent_id != agent_id:
            raise UnknownName(f"no order {order_id!r}")
        return rows.listing(connection, order_id=order_id)


def notices(engine: Engine, agent_id: str, limit: int = 50) -> list[Notice]:
    """What the agent was told, newest first."""
    with reader(engine).connect() as connection:
        return rows.notices_of(connection, agent_id, limit)


def _checked(
    connection: Connection, agent_id: str, order_id: str, lead_id: str, now_us: int
) -> tuple[int, str]:
    """What the lead cost, where it may be given back."""
    order = orders.find(connection, order_id)
    item = next((i for i in order.items if i.lead_id == lead_id), None) if order else None
    if order is None or item is None or order.agent_id != agent_id:
        raise UnknownName(f"no order {order_id!r} of yours has the lead {lead_id!r}")
    if order.state not in orders.REFUNDABLE:
        raise Refused("not-paid", f"the order is {order.state}: there is nothing to give back")
    before = rows.of_lead(connection, order_id, lead_id)
    if before is not None:
        detail = f"{lead_id} was given back already, and that is {before.state}"
        raise Refused("already-returned", detail, return_id=before.return_id, state=before.state)
    if now_us >= order.created_us + RULES.window_days * US_PER_DAY:
        raise Refused(
            "return-window-over",
            f"a lead can be given back for {RULES.window_days} days after its order",
            limit="return_window_days",
            value=RULES.window_days,
            used=(now_us - order.created_us) // US_PER_DAY,
        )
    if refunds.given_back_cents(connection, order_id) + item.price_cents > order.amount_cents:
        raise Refused("already-refunded", f"the price of {lead_id} was refunded already")
    _check_cap(connection, agent_id, now_us)
    return item.price_cents, order.currency


def _check_cap(connection: Connection, agent_id: str, now_us: int) -> None:
    since_us = month_us(now_us)
    used = rows.counted(connection, agent_id, since_us)
    bought = rows.bought(connection, agent_id, since_us)
    most = min(RULES.most_per_month, max(1, int(RULES.share_per_month * bought)))
    if used >= most:
        raise Refused(
            "return-limit-reached",
            f"{used} of {most} returns of this month are used",
            status=403,
            limit="returns_per_month",
            value=most,
            used=used,
            **({"retry_after": seconds_until(next_month_us(now_us), now_us)} if most else {}),
        )


def _credit(connection: Connection, made: Return, by: str, note: str | None, now_us: int) -> Return:
    """Posts the credit, once, tells the buyer, and closes a lead that is none."""
    if not rows.decide(connection, made.return_id, "credited", by, note, now_us):
        raise AssertionError(f"{made.return_id} was decided under its lock")
    ledger.post(
        connection,
        f"return:{made.return_id}",
        f"return of {made.lead_id}, {made.order_id}",
        [
            Leg(RETURNS_ACCOUNT, made.credit_cents),
            Leg(ledger.wallet_of(made.agent_id), -made.credit_cents),
        ],
        made.currency,
        now_us,
    )
    debts.pay(connection, made.agent_id, made.return_id, made.currency, now_us)
    text = f"{made.credit_cents / 100:.2f} {made.currency} for {made.lead_id} are in your wallet"
    events.refunded(
        connection, made.agent_id, made.return_id, made.order_id, made.lead_id, text, now_us
    )
    if RULES.reasons[made.reason].ends_lead:
        _end_lead(connection, made, now_us)
    return replace(made, state="credited", decided_us=now_us, decided_by=by, note=note)


def _end_lead(connection: Connection, made: Return, now_us: int) -> None:
    about = RULES.reasons[made.reason].about
    for agent_id in holds.close(connection, made.lead_id, now_us):
        text = f"your hold of {made.lead_id} ended: {about}"
        _tell(connection, agent_id, "hold-ended", made.lead_id, text, now_us)
    for agent_id in rows.buyers_of(connection, made.lead_id):
        if agent_id != made.agent_id:
            text = f"another buyer of {made.lead_id} reports: {about}"
            _tell(connection, agent_id, "lead-reported", made.lead_id, text, now_us)


def _tell(
    connection: Connection, agent_id: str, kind: str, lead_id: str, text: str, now_us: int
) -> None:
    notice_id = f"{kind}:{lead_id}:{agent_id}"
    events.notify(connection, Notice(notice_id, agent_id, kind, lead_id, text, now_us))
