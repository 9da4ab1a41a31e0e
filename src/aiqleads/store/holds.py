"""Statements on slots and holds; each runs inside a transaction of the caller.

Locks are always taken in one order: the agent's row, then an order's row, then slots by
(lead, slot). `FOR UPDATE` is left out by SQLite, whose writers come one at a time anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from aiqleads.domain import Tier
from aiqleads.errors import UnknownName
from aiqleads.store.bulk import parts
from aiqleads.store.consents import Consent
from aiqleads.store.prepared import Prepared
from aiqleads.store.tables import agent, hold, hold_item, lead_slot
from aiqleads.store.transactions import call, insert_missing


def consent_columns(consent: Consent | None) -> dict[str, Any]:
    """A consent as the columns of `hold_item` and `order_item`."""
    return {
        "consent_id": consent and consent.submission_id,
        "consent_proof": consent and consent.proof,
        "consent_sellers": consent and consent.sellers,
        "consent_checked_us": consent and consent.checked_us,
    }


def consent_of(row: Any) -> Consent | None:
    """The consent of a row of `hold_item` or `order_item`, None where none was noted."""
    if not row.consent_id:
        return None
    return Consent(row.consent_id, row.consent_proof, row.consent_sellers, row.consent_checked_us)


_at_us = bindparam("at_us", type_=BigInteger)

_lock_agent = Prepared(
    update(agent)
    .where(agent.c.agent_id == bindparam("who"))
    .values(version=agent.c.version + 1)
    .returning(agent.c.tier)
)
_kept = lead_slot.c.state.in_(("held", "blocked"))
_live = and_(lead_slot.c.state == "held", lead_slot.c.held_until_us > bindparam("now_us"))
_live_count = Prepared(
    select(func.count().label("live"), func.min(lead_slot.c.held_until_us).label("frees_us")).where(
        lead_slot.c.agent_id == bindparam("who"), _live
    )
)
_live_ends = Prepared(
    select(lead_slot.c.held_until_us)
    .where(lead_slot.c.agent_id == bindparam("who"), _live)
    .order_by(lead_slot.c.held_until_us)
)
_slots = Prepared(
    select(lead_slot)
    .where(lead_slot.c.lead_id.in_(bindparam("leads", expanding=True)))
    .order_by(lead_slot.c.lead_id, lead_slot.c.slot)
    .with_for_update(),
    lists=["leads"],
)
# A hold whose time is over ended then, whether or not anybody has written so.
_ended_us = func.coalesce(hold_item.c.ended_us, hold_item.c.until_us)
_past = (
    select(
        hold_item.c.lead_id,
        func.sum(_ended_us - hold_item.c.granted_us).label("held_us"),
        func.max(_ended_us).label("ended_us"),
    )
    .join(hold, hold.c.hold_id == hold_item.c.hold_id)
    .where(hold.c.agent_id == bindparam("who"), _ended_us <= bindparam("now_us"))
    .group_by(hold_item.c.lead_id)
)
_all_past = Prepared(_past)
_past_of = Prepared(
    _past.where(hold_item.c.lead_id.in_(bindparam("leads", expanding=True))), lists=["leads"]
)
_add_hold = Prepared(insert(hold))
_add_item = Prepared(insert(hold_item))
_end_item = Prepared(
    update(hold_item)
    .where(
        hold_item.c.lead_id == bindparam("the_lead"),
        hold_item.c.slot == bindparam("the_slot"),
        hold_item.c.token == bindparam("the_token"),
        hold_item.c.ended_us.is_(None),
    )
    .values(ended_us=bindparam("at_us"), ended_how=bindparam("how"))
)
_of_token = and_(
    lead_slot.c.lead_id == bindparam("the_lead"),
    lead_slot.c.slot == bindparam("the_slot"),
    lead_slot.c.token == bindparam("the_token"),
)
_take = Prepared(
    update(lead_slot)
    .where(_of_token)
    .values(
        state=bindparam("as_state"),
        agent_id=bindparam("who"),
        hold_id=bindparam("the_hold"),
        held_until_us=bindparam("until_us"),
        token=bindparam("new_token"),
        changed_us=bindparam("at_us"),
    )
)
_nobodys = {"agent_id": None, "hold_id": None, "held_until_us": None}
_later_us = case((lead_slot.c.changed_us > _at_us, lead_slot.c.changed_us), else_=_at_us)
# Of an exclusive hold all slots, which share its token.
_of_grant = and_(
    lead_slot.c.lead_id == bindparam("the_lead"),
    lead_slot.c.hold_id == bindparam("the_hold"),
    lead_slot.c.token == bindparam("the_token"),
)
_free = Prepared(
    update(lead_slot).where(_of_grant, _kept).values(state="free", changed_us=_later_us, **_nobodys)
)
_close_blocked = Prepared(
    update(lead_slot)
    .where(_of_grant, lead_slot.c.state == "blocked")
    .values(state="closed", changed_us=_later_us, **_nobodys)
)
_close = Prepared(
    update(lead_slot).where(_of_token).values(state="closed", changed_us=_later_us, **_nobodys)
)
_sell = Prepared(
    update(lead_slot)
    .where(_of_token, _live, lead_slot.c.agent_id == bindparam("who"))
    .values(state="sold", order_id=bindparam("the_order"), held_until_us=None)
    .returning(lead_slot.c.hold_id)
)
_items = (
    select(
        hold_item,
        hold.c.extended_us,
        hold.c.exclusive,
        lead_slot.c.held_until_us,
        and_(lead_slot.c.hold_id == hold_item.c.hold_id, _live).label("live"),
    )
    .select_from(
        hold_item.join(hold, hold.c.hold_id == hold_item.c.hold_id).join(
            lead_slot,
            and_(
                lead_slot.c.lead_id == hold_item.c.lead_id,
                lead_slot.c.slot == hold_item.c.slot,
                lead_slot.c.token == hold_item.c.token,
            ),
        )
    )
    .where(hold.c.agent_id == bindparam("who"), hold_item.c.ended_us.is_(None))
    .order_by(hold_item.c.lead_id, hold_item.c.slot)
)
_live_items = Prepared(_items.where(_live))
_locked_items = Prepared(
    _items.where(hold_item.c.hold_id.in_(bindparam("holds", expanding=True))).with_for_update(
        of=lead_slot
    ),
    lists=["holds"],
)
_history = Prepared(
    select(
        hold_item.c.lead_id,
        hold_item.c.slot,
        hold_item.c.token,
        *(hold_item.c[name] for name in consent_columns(None)),
    ).where(hold_item.c.lead_id.in_(bindparam("leads", expanding=True))),
    lists=["leads"],
)
_own_holds = Prepared(
    select(hold.c.hold_id).where(
        hold.c.agent_id == bindparam("who"),
        hold.c.hold_id.in_(bindparam("holds", expanding=True)),
    ),
    lists=["holds"],
)


@dataclass(frozen=True)
class Slot:
    """One of the `max_buyers` places of a lead, as a transaction read it."""

    lead_id: str
    slot: int
    state: str
    agent_id: str | None
    hold_id: str | None
    held_until_us: int | None
    token: int
    changed_us: int

    def is_open(self, now_us: int) -> bool:
        """Whether it can be held: free, or held by a hold that has expired."""
        return self.state == "free" or self.is_expired(now_us)

    def is_expired(self, now_us: int) -> bool:
        """Whether its hold is over though nobody has taken the slot since."""
        kept = self.state in ("held", "blocked")
        return kept and (self.held_until_us or 0) <= now_us


@dataclass(frozen=True)
class Item:
    """A lead in a hold: its slot, fencing token and frozen price; `live` at the time read.

    exclusive: the hold keeps the lead's other slots as well. consent: as it was found when the
    lead was held.
    """

    hold_id: str
    lead_id: str
    slot: int
    token: int
    price_cents: int
    currency: str
    price_lines: tuple[Mapping[str, Any], ...]
    granted_us: int
    expires_us: int
    extended: bool
    exclusive: bool
    live: bool
    consent: Consent | None = None


def lock_agent(connection: Connection, agent_id: str) -> Tier:
    """Locks the agent's row until the transaction ends; UnknownName for a stranger."""
    row = _lock_agent.one(connection, {"who": agent_id})
    if row is None:
        raise UnknownName(f"no agent {agent_id!r}")
    return Tier(row.tier)


def tier_of(connection: Connection, agent_id: str) -> Tier | None:
    """The agent's tier, without a lock; None for a stranger."""
    tier = connection.execute(select(agent.c.tier).where(agent.c.agent_id == agent_id)).scalar()
    return None if tier is None else Tier(tier)


def live_holds(connection: Connection, agent_id: str, now_us: int) -> tuple[int, int | None]:
    """How many leads the agent holds now, and when the first of these ends (wall us)."""
    row = _live_count.one(connection, {"who": agent_id, "now_us": now_us})
    return int(row.live), row.frees_us


def live_ends(connection: Connection, agent_id: str, now_us: int) -> list[int]:
    """When each lead that the agent holds now ends (wall us), first of them first."""
    rows = _live_ends.rows(connection, {"who": agent_id, "now_us": now_us})
    return [row.held_until_us for row in rows]


def slots_of(connection: Connection, lead_ids: Sequence[str]) -> dict[str, list[Slot]]:
    """Slots of the leads, locked, by lead and in order; a lead without slots is left out."""
    found: dict[str, list[Slot]] = {}
    for row in _slots.rows(connection, {"leads": lead_ids}):
        slot = Slot(
            row.lead_id,
            row.slot,
            row.state,
            row.agent_id,
            row.hold_id,
            row.held_until_us,
            row.token,
            row.changed_us,
        )
        found.setdefault(slot.lead_id, []).append(slot)
    return found


@dataclass(frozen=True)
class Past:
    """What one agent and one lead have behind them: microseconds held, and the newest end."""

    held_us: int = 0
    ended_us: int = 0


def past_of(
    connection: Connection, agent_id: str, lead_ids: Sequence[str] | None, now_us: int
) -> dict[str, Past]:
    """Ended holds of the agent, by lead (all of them for None); leads never held are left out."""
    given = {"who": agent_id, "now_us": now_us}
    if lead_ids is None:
        rows = _all_past.rows(connection, given)
    else:
        rows = _past_of.rows(connection, {**given, "leads": lead_ids})
    return {row.lead_id: Past(int(row.held_us), int(row.ended_us)) for row in rows}


def add_hold(
    connection: Connection,
    hold_id: str,
    agent_id: str,
    mode: str,
    asked: int,
    created_us: int,
    expires_us: int,
    *,
    exclusive: bool = False,
) -> None:
    """Writes a hold's head; its leads follow by `take`."""
    given = {
        "hold_id": hold_id,
        "agent_id": agent_id,
        "mode": mode,
        "asked": asked,
        "created_us": created_us,
        "expires_us": expires_us,
        "exclusive": exclusive,
        "extended_us": None,
    }
    _add_hold.run(connection, given)


_QUICK_HOLD = """
select * from quick_hold(
  %s::text, %s::text, %s::text, %s::text, %s::bigint, %s::bigint, %s::text[], %s::int[],
  %s::bigint[], %s::bigint, %s::text, %s::text, %s::text, %s::text, %s::int, %s::bigint)
"""


class QuickTiers:
    """Tiers as PostgreSQL's text of arrays, which the driver takes longer to find out.

    most: live holds of each. spans_us: how long a first hold of a lead lasts in each.
    """

    def __init__(
        self, tiers: Sequence[Tier], *, most: Sequence[int], spans_us: Sequence[int]
    ) -> None:
        self.arrays = tuple(f"{{{','.join(map(str, each))}}}" for each in (tiers, most, spans_us))


def quick_hold(
    engine: Engine,
    hold_id: str,
    agent_id: str,
    lead_id: str,
    mode: str,
    price: tuple[int, str, Sequence[Mapping[str, Any]]],
    consent: Consent | None,
    ends_us: int | None,
    now_us: int,
    tiers: QuickTiers,
) -> Item | None:
    """A hold of one slot of one lead in a single call of PostgreSQL's; its only transaction.

    ends_us: end of the lead's life. None, and nothing written, where anything at all stands in
    the way: `lock_agent`, `slots_of` and `take` do the same step by step.
    """
    cents, currency, lines = price
    proof = consent_columns(consent).values()
    sold_as = (cents, currency, json.dumps(lines), *proof)
    given = (agent_id, lead_id, hold_id, mode, now_us, ends_us, *tiers.arrays, *sold_as)
    row = call(engine, _QUICK_HOLD, given)
    if row is None or row[0] is None:
        return None
    slot, token, granted_us, until_us = row
    return Item(
        hold_id,
        lead_id,
        slot,
        token,
        cents,
        currency,
        tuple(lines),
        granted_us,
        until_us,
        extended=False,
        exclusive=False,
        live=True,
        consent=consent,
    )


@dataclass(frozen=True)
class Grant:
    """What a hold gets of a lead: its open slots, the one that is held first, and until when.

    price: (cents, currency, lines). The others of the slots are kept empty.
    """

    slots: Sequence[Slot]
    price: tuple[int, str, Sequence[Mapping[str, Any]]]
    until_us: int
    consent: Consent | None = None

    @property
    def token(self) -> int:
        """One for all its slots, above any that they had."""
        return 1 + max(slot.token for slot in self.slots)

    def starts_us(self, now_us: int) -> int:
        """No earlier than its slots last changed, whoever's clock was ahead."""
        return max(now_us, *(slot.changed_us for slot in self.slots))


def take(
    connection: Connection,
    agent_id: str,
    hold_id: str,
    grants: Sequence[Grant],
    now_us: int,
    *,
    exclusive: bool = False,
) -> tuple[Item, ...]:
    """Gives leads to a hold. An expired hold in one of their slots ends when its time ended."""
    slots = [slot for grant in grants for slot in grant.slots if slot.state == "held"]
    ended = [{**_slot_key(s), "at_us": s.held_until_us, "how": "expired"} for s in slots]
    _end_item.many(connection, ended)
    taken = [
        {
            **_slot_key(slot),
            "who": agent_id,
            "the_hold": hold_id,
            "until_us": grant.until_us,
            "at_us": grant.starts_us(now_us),
            "new_token": grant.token,
            "as_state": "blocked" if number else "held",
        }
        for grant in grants
        # The held one last: by then no other slot of the lead is held for the same agent.
        for number, slot in reversed(tuple(enumerate(grant.slots)))
    ]
    if _take.many(connection, taken) != len(taken):
        raise AssertionError(f"slots of {hold_id} changed under their lock")
    items = tuple(_item_of(hold_id, grant, now_us, exclusive=exclusive) for grant in grants)
    _add_item.many(connection, [_item_row(item) for item in items])
    return items


def _slot_key(slot: Slot) -> dict[str, Any]:
    return {"the_lead": slot.lead_id, "the_slot": slot.slot, "the_token": slot.token}


def _item_of(hold_id: str, grant: Grant, now_us: int, *, exclusive: bool) -> Item:
    cents, currency, lines = grant.price
    return Item(
        hold_id,
        grant.slots[0].lead_id,
        grant.slots[0].slot,
        grant.token,
        cents,
        currency,
        tuple(lines),
        grant.starts_us(now_us),
        grant.until_us,
        extended=False,
        exclusive=exclusive,
        live=True,
        consent=grant.consent,
    )


def _item_row(item: Item) -> dict[str, Any]:
    return {
        **vars(item),
        "price_lines": json.dumps(item.price_lines),
        "until_us": item.expires_us,
        "ended_us": None,
        "ended_how": None,
        **consent_columns(item.consent),
    }


def _item(row: Any) -> Item:
    return Item(
        row.hold_id,
        row.lead_id,
        row.slot,
        row.token,
        row.price_cents,
        row.currency,
        tuple(json.loads(row.price_lines)),
        row.granted_us,
        row.held_until_us or row.until_us,
        row.extended_us is not None,
        bool(row.exclusive),
        bool(row.live),
        consent_of(row),
    )


def live_items(connection: Connection, agent_id: str, now_us: int) -> list[Item]:
    """Every lead that the agent holds now."""
    rows = _live_items.rows(connection, {"who": agent_id, "now_us": now_us})
    return [_item(row) for row in rows]


def items_of(
    connection: Connection, agent_id: str, hold_ids: Sequence[str], now_us: int
) -> list[Item]:
    """The leads of the agent's holds that have neither been released nor sold, slots locked.

    One whose time is over is among them with `live` false. UnknownName for a hold that is
    not there or is another agent's.
    """
    given: dict[str, Any] = {"who": agent_id, "holds": hold_ids}
    known = {row.hold_id for row in _own_holds.rows(connection, given)}
    for hold_id in hold_ids:
        if hold_id not in known:
            raise UnknownName(f"no hold {hold_id!r}")
    given |= {"now_us": now_us}
    return [_item(row) for row in _locked_items.rows(connection, given)]


def _key(item: Item) -> dict[str, Any]:
    return {"the_lead": item.lead_id, "the_slot": item.slot, "the_token": item.token}


def free(connection: Connection, items: Sequence[Item], now_us: int) -> None:
    """Ends live items by their holder's wish; what they kept is free at once."""
    grants = [{**_key(item), "the_hold": item.hold_id, "at_us": now_us} for item in items]
    _free.many(connection, grants)
    ended = [{**_key(i), "at_us": max(now_us, i.granted_us), "how": "released"} for i in items]
    _end_item.many(connection, ended)


def sell(
    connection: Connection,
    key: tuple[str, int, int],
    agent_id: str,
    order_id: str,
    now_us: int,
) -> bool:
    """Turns a held slot into a sold one; `key` is (lead, slot, fencing token).

    What an exclusive hold kept empty is closed for good. False, and nothing changed, when the
    hold is over or the token is another's.
    """
    which = dict(zip(("the_lead", "the_slot", "the_token"), key, strict=True))
    given = {**which, "who": agent_id, "the_order": order_id, "now_us": now_us}
    sold = _sell.one(connection, given)
    if sold is None:
        return False
    grant = {"the_lead": key[0], "the_hold": sold.hold_id, "the_token": key[2]}
    _close_blocked.run(connection, {**grant, "at_us": now_us})
    _end_item.run(connection, {**which, "at_us": now_us, "how": "sold"})
    return True


def extend(connection: Connection, items: Iterable[Item], until_us: int, now_us: int) -> None:
    """Lets live items run until a payment's deadline, once in the life of their hold."""
    fresh = [item for item in items if not item.extended and item.expires_us < until_us]
    prolong(connection, [(item, until_us) for item in fresh])
    connection.execute(
        update(hold)
        .where(hold.c.hold_id.in_({item.hold_id for item in fresh}))
        .values(extended_us=now_us)
    )


def prolong(connection: Connection, ends: Sequence[tuple[Item, int]]) -> None:
    """Lets live items run until the times beside them (wall us)."""
    for item, until_us in ends:
        connection.execute(
            update(lead_slot).where(_of_grant, _kept).values(held_until_us=until_us),
            {"the_lead": item.lead_id, "the_hold": item.hold_id, "the_token": item.token},
        )
        connection.execute(
            update(hold_item)
            .where(hold_item.c.hold_id == item.hold_id, hold_item.c.lead_id == item.lead_id)
            .values(until_us=until_us)
        )
    for hold_id in {item.hold_id for item, _ in ends}:
        first = select(func.min(hold_item.c.until_us)).where(
            hold_item.c.hold_id == hold_id, hold_item.c.ended_us.is_(None)
        )
        connection.execute(
            update(hold).where(hold.c.hold_id == hold_id).values(expires_us=first.scalar_subquery())
        )


def missing_slots(connection: Connection, lead_ids: Sequence[str]) -> set[str]:
    """Which of the leads have no slots yet."""
    return set(lead_ids) - {
        lead_id
        for chunk in parts(lead_ids)
        for lead_id in connection.execute(
            select(lead_slot.c.lead_id).where(lead_slot.c.lead_id.in_(chunk)).distinct()
        ).scalars()
    }


def add_slots(connection: Connection, buyers: Mapping[str, int]) -> None:
    """Makes `max_buyers` free slots for each lead of `buyers`."""
    rows = [
        {"lead_id": lead_id, "slot": slot, "state": "free", "token": 0, "changed_us": 0}
        for lead_id, count in buyers.items()
        for slot in range(1, count + 1)
    ]
    insert_missing(connection, lead_slot, rows)


def close(connection: Connection, lead_id: str, now_us: int) -> list[str]:
    """Takes every slot that is not sold off the market; agents whose live hold that ended."""
    told = []
    for slot in slots_of(connection, [lead_id]).get(lead_id, []):
        if slot.state in ("sold", "closed"):
            continue
        key = {"the_lead": slot.lead_id, "the_slot": slot.slot, "the_token": slot.token}
        if slot.state == "held":
            over = slot.is_expired(now_us)
            at_us = slot.held_until_us if over else max(now_us, slot.changed_us)
            how = "expired" if over else "closed"
            _end_item.run(connection, {**key, "at_us": at_us, "how": how})
            told += [] if over or slot.agent_id is None else [slot.agent_id]
        _close.run(connection, {**key, "at_us": now_us})
    return told


class _Granted(Protocol):
    """What names one grant of a slot: an item of a hold or of an order."""

    @property
    def lead_id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def token(self) -> int: ...


def noted_consents(connection: Connection, items: Iterable[_Granted]) -> dict[str, Consent]:
    """The consents that were found when these grants were made, by lead."""
    granted = {(item.lead_id, item.slot, item.token) for item in items}
    rows = _history.rows(connection, {"leads": sorted({lead_id for lead_id, _, _ in granted})})
    noted = {
        row.lead_id: consent_of(row)
        for row in rows
        if (row.lead_id, row.slot, row.token) in granted
    }
    return {lead_id: consent for lead_id, consent in noted.items() if consent is not None}


def held_leads(connection: Connection, agent_id: str, hold_ids: Sequence[str]) -> list[str]:
    """Leads of the agent's holds that have neither been released nor sold, without a lock."""
    query = (
        select(hold_item.c.lead_id)
        .join(hold, hold.c.hold_id == hold_item.c.hold_id)
        .where(
            hold.c.agent_id == agent_id,
            hold.c.hold_id.in_(hold_ids),
            hold_item.c.ended_us.is_(None),
        )
    )
    return sorted(set(connection.execute(query).scalars()))


def places(connection: Connection, lead_ids: Sequence[str]) -> dict[str, int]:
    """How many slots each lead has, in whatever state; a lead without slots is left out."""
    counted = select(lead_slot.c.lead_id, func.count()).group_by(lead_slot.c.lead_id)
    return {
        lead_id: int(n)
        for chunk in parts(lead_ids)
        for lead_id, n in connection.execute(counted.where(lead_slot.c.lead_id.in_(chunk)))
    }


def unsold(connection: Connection, lead_ids: Sequence[str]) -> set[str]:
    """Leads that have a slot which is neither sold nor closed."""
    query = select(lead_slot.c.lead_id).where(lead_slot.c.state.in_(("free", "held", "blocked")))
    return {
        lead_id
        for chunk in parts(lead_ids)
        for lead_id in connection.execute(query.where(lead_slot.c.lead_id.in_(chunk))).scalars()
    }


def open_slots(
    connection: Connection, lead_ids: Sequence[str] | None, now_us: int
) -> dict[str, int]:
    """How many slots of each lead could be held now; leads without slots are left out."""
    is_open = or_(
        lead_slot.c.state == "free",
        and_(_kept, lead_slot.c.held_until_us <= now_us),
    )
    counted = select(lead_slot.c.lead_id, func.sum(case((is_open, 1), else_=0))).group_by(
        lead_slot.c.lead_id
    )
    if lead_ids is None:
        return {lead_id: int(n) for lead_id, n in connection.execute(counted)}
    return {
        lead_id: int(n)
        for chunk in parts(lead_ids)
        for lead_id, n in connection.execute(counted.where(lead_slot.c.lead_id.in_(chunk)))
    }


def leads_of(connection: Connection, agent_id: str, now_us: int) -> set[str]:
    """Leads that the agent has bought or holds now."""
    mine = select(lead_slot.c.lead_id).where(
        lead_slot.c.agent_id == agent_id,
        or_(lead_slot.c.state == "sold", _live),
    )
    return set(connection.execute(mine, {"now_us": now_us}).scalars())
