"""Time that an agent buys for a hold: a share of its leads' prices, out of the wallet.

It is part of the hold: not given back when the hold is, and no lead is held beyond its life.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, insert, select

from aiqleads.commerce.checkout import check_balance, live_items
from aiqleads.commerce.debts import check_nothing_owed
from aiqleads.commerce.ids import new_id
from aiqleads.commerce.pricing import extension_cents
from aiqleads.domain import ENTITLEMENTS, US_PER_HOUR, Tier, moment
from aiqleads.errors import Refused
from aiqleads.store import holds, ledger
from aiqleads.store.holds import Item
from aiqleads.store.ledger import REVENUE, Leg
from aiqleads.store.tables import hold_extension
from aiqleads.store.transactions import writing


@dataclass(frozen=True)
class Extension:
    """Bought time: what it cost, and when the first of the hold's leads ends now (wall us)."""

    extension_id: str
    hold_id: str
    hours: int
    price_cents: int
    currency: str
    until_us: int


def extend(
    engine: Engine,
    agent_id: str,
    hold_id: str,
    hours: int,
    ends_us: Mapping[str, int | None],
    now_us: int,
    *,
    key: str | None = None,
) -> Extension:
    """Lets every lead of a live hold run `hours` longer, for a price out of the wallet.

    ends_us: end of each lead's life (wall us), None where it has none. key: as in
    `holds.place`.

    Refused: `extension-not-allowed` 403 (limit, value: the tier's hours, used: hours bought
    for this hold already), `lead-expires-before` 409 (lead_ids), `hold-expired` 409,
    `insufficient-credits` 402, `account-frozen` 402. UnknownName for a hold that is not the
    agent's.
    """
    extension_id = new_id("ext", agent_id, key)
    with writing(engine) as connection:
        tier = holds.lock_agent(connection, agent_id)
        if key is not None and (before := _stored(connection, extension_id)) is not None:
            return before
        check_nothing_owed(connection, agent_id)
        items = live_items(connection, agent_id, [hold_id], now_us)
        _check_hours(tier, hours, _bought_hours(connection, hold_id))
        ends = [(item, item.expires_us + hours * US_PER_HOUR) for item in items]
        _check_lives(ends, ends_us)
        price_cents = extension_cents(sum(item.price_cents for item in items), hours)
        wallet = ledger.wallet_of(agent_id)
        check_balance(ledger.credit_balance(connection, wallet), price_cents)
        made = Extension(
            extension_id, hold_id, hours, price_cents, items[0].currency, min(u for _, u in ends)
        )
        connection.execute(
            insert(hold_extension).values(**vars(made), agent_id=agent_id, created_us=now_us)
        )
        legs = [Leg(wallet, price_cents), Leg(REVENUE, -price_cents)]
        about = f"{hours} h more for {hold_id}"
        ledger.post(connection, f"extension:{extension_id}", about, legs, made.currency, now_us)
        holds.prolong(connection, ends)
    return made


def _check_hours(tier: Tier, hours: int, used: int) -> None:
    allowed = ENTITLEMENTS[tier].extension_hours
    most = max(allowed, default=0)
    if hours not in allowed or used + hours > most:
        raise Refused(
            "extension-not-allowed",
            f"a hold of the {tier} tier can be made longer by {list(allowed)} hours, at most "
            f"{most} in all; {used} are used",
            status=403,
            limit="extension_hours",
            value=list(allowed),
            used=used,
            fits=[each for each in allowed if used + each <= most],
        )


def _check_lives(ends: list[tuple[Item, int]], ends_us: Mapping[str, int | None]) -> None:
    lives = {item.lead_id: ends_us.get(item.lead_id) for item, _ in ends}
    early = [item.lead_id for item, until in ends if (life := lives[item.lead_id]) and life < until]
    if early:
        detail = f"{len(early)} of the leads end before that; nothing was charged"
        first_us = min(life for lead_id in early if (life := lives[lead_id]))
        raise Refused(
            "lead-expires-before", detail, lead_ids=early, limit="lead_life", value=moment(first_us)
        )


def _bought_hours(connection: Connection, hold_id: str) -> int:
    total = select(func.coalesce(func.sum(hold_extension.c.hours), 0))
    return int(connection.execute(total.where(hold_extension.c.hold_id == hold_id)).scalar_one())


def _stored(connection: Connection, extension_id: str) -> Extension | None:
    query = select(hold_extension).where(hold_extension.c.extension_id == extension_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Extension(
        row.extension_id, row.hold_id, row.hours, row.price_cents, row.currency, row.until_us
    )
