"""Holding leads: a hold keeps one slot of each lead, at a frozen price, until its time is up.

The cart is the agent's live holds; there is no second one. Expiry is a comparison at read
time: a slot whose `held_until` has come is free for every reader. An exclusive hold keeps all
slots of a lead: one is held, the others stand empty, and its sale closes them for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from sqlalchemy import Connection, Engine, select

from aiqleads.commerce.ids import new_id
from aiqleads.commerce.limits import (
    check_bulk,
    held_too_long,
    hold_until,
    no_room,
    room_for_holds,
    seconds_until,
)
from aiqleads.commerce.pricing import Quote
from aiqleads.domain import ENTITLEMENTS, Tier
from aiqleads.errors import AIQLeadsError, InvalidInput, Refused, UnknownName
from aiqleads.store import holds as rows
from aiqleads.store.consents import Consent
from aiqleads.store.database import reader
from aiqleads.store.holds import Grant, Item, Past, Slot
from aiqleads.store.tables import hold, hold_item
from aiqleads.store.transactions import writing

Mode = Literal["all_or_nothing", "best_effort"]


@dataclass(frozen=True)
class HoldLine:
    """A lead to hold and the price that the hold freezes.

    ends_us: end of the lead's life (wall us), which no hold outlives; None where it has none.
    consent: by which it may be sold, as it was found just now.
    """

    lead_id: str
    price: Quote
    ends_us: int | None = None
    consent: Consent | None = None


@dataclass(frozen=True)
class Hold:
    """What was held: a slot of each lead; `expires_us` (wall) is when the first of them ends.

    exclusive: all slots of each lead. refused: with best_effort, {lead_id, kind, detail, ..}
    for each lead that was not.
    """

    hold_id: str
    agent_id: str
    expires_us: int
    items: tuple[Item, ...]
    refused: tuple[dict[str, Any], ...] = ()
    exclusive: bool = False

    @property
    def total_cents(self) -> int:
        """Sum of the frozen prices."""
        return sum(item.price_cents for item in self.items)


@dataclass(frozen=True)
class Cart:
    """An agent's live holds; `now_us` is the server's time, for a countdown."""

    agent_id: str
    holds: tuple[Hold, ...]
    now_us: int

    @property
    def total_cents(self) -> int:
        """Sum of the frozen prices of everything held."""
        return sum(held.total_cents for held in self.holds)


def _slots_for(
    lead_id: str, slots: Sequence[Slot], agent_id: str, now_us: int, *, exclusive: bool
) -> AIQLeadsError | list[Slot]:
    """The slots to take, the one that is held first, or why there are none.

    An agent has at most one slot of a lead, so an expired hold's is taken again. An exclusive
    hold is held in the lead's first slot: whoever locks that one may change the others.
    """
    mine = next((slot for slot in slots if slot.agent_id == agent_id), None)
    if mine is not None and mine.state == "sold":
        return Refused("lead-sold", f"you have bought {lead_id} already", yours=True)
    if mine is not None and not mine.is_expired(now_us):
        wait = seconds_until(mine.held_until_us or now_us, now_us)
        detail = f"you hold {lead_id} already"
        return Refused(
            "lead-already-held", detail, yours=True, hold_id=mine.hold_id, retry_after=wait
        )
    open_ = [slot for slot in slots if slot.is_open(now_us)]
    if exclusive and open_ and len(open_) == len(slots):
        return open_
    if open_ and not exclusive:
        return [min(open_, key=lambda slot: slot is not mine)]
    if not slots:
        return UnknownName(f"no lead {lead_id!r}")
    return _taken(lead_id, slots, now_us, exclusive=exclusive)


def _taken(lead_id: str, slots: Sequence[Slot], now_us: int, *, exclusive: bool) -> Refused:
    gone = [slot for slot in slots if slot.state in ("sold", "closed")]
    if len(gone) == len(slots):
        return Refused("lead-sold", f"{lead_id} is sold", yours=False)
    if exclusive and gone:
        detail = f"{lead_id} is sold to somebody already; it can only be shared"
        return Refused("lead-sold", detail, yours=False)
    ends = [
        slot.held_until_us
        for slot in slots
        if slot.held_until_us is not None and slot.held_until_us > now_us
    ]
    # An exclusive hold waits for the last of them, any other for the first.
    wait = seconds_until(max(ends) if exclusive else min(ends), now_us)
    detail = f"{lead_id} is held by another agent for up to {wait} s"
    return Refused("lead-already-held", detail, yours=False, retry_after=wait)


def told(lead_id: str, problem: AIQLeadsError) -> dict[str, Any]:
    """A lead's refusal as a line in an answer about several: its figures stand beside it."""
    figures = {name: value for name, value in problem.extra.items() if value is not None}
    return {**figures, "lead_id": lead_id, "kind": problem.kind, "detail": problem.detail}


def _asked(lines: Sequence[HoldLine], mode: str) -> list[HoldLine]:
    if mode not in ("all_or_nothing", "best_effort"):
        raise InvalidInput(f"mode is {mode!r}, must be all_or_nothing or best_effort")
    if not lines:
        raise InvalidInput("no lead was named")
    if len({line.lead_id for line in lines}) < len(lines):
        raise InvalidInput("a lead is named twice")
    if any(line.price.total_cents <= 0 for line in lines):
        raise InvalidInput("a price must be positive")
    return sorted(lines, key=lambda line: line.lead_id)


def place(
    engine: Engine,
    agent_id: str,
    lines: Sequence[HoldLine],
    mode: Mode,
    now_us: int,
    *,
    key: str | None = None,
    exclusive: bool = False,
) -> Hold:
    """Holds the leads for as long as the agent's tier allows, in one short transaction.

    all_or_nothing: each lead or none. best_effort: those that can be held and fit, the
    others listed in `refused`. exclusive: every slot of each lead, or not the lead. now_us:
    wall clock. key: the request's idempotency key; the same agent and key are the same hold,
    however often this runs.

    Refused: `lead-already-held` 409 (retry_after seconds), `lead-sold` 409, `hold-cooldown` 409
    and `hold-time-used` 409 for a lead that the agent has held before, `lead-expired` 409,
    `hold-limit-reached` 403 (limit, value, used, fits), `bulk-conflict` 409 (items: a reason
    for each lead) when several were named, `busy` 503. UnknownName 404 for a stranger or a
    lead without slots. InvalidInput 422 for an empty or repeating list.
    """
    asked = _asked(lines, mode)
    hold_id = new_id("hld", agent_id, key)
    head = Hold(hold_id, agent_id, 0, (), exclusive=exclusive)
    if (
        len(asked) == 1
        and not exclusive
        and (quick := _quick(engine, head, asked[0], mode, now_us))
    ):
        return quick
    with writing(engine) as connection:
        tier = rows.lock_agent(connection, agent_id)
        if key is not None and (before := _stored(connection, hold_id, now_us)) is not None:
            return before
        return _place(connection, head, tier, asked, mode, now_us)


def _quick(engine: Engine, head: Hold, line: HoldLine, mode: Mode, now_us: int) -> Hold | None:
    """The hold, made in one call, where the database can and nothing stands in the way."""
    if engine.dialect.name != "postgresql":
        return None
    item = rows.quick_hold(
        engine,
        head.hold_id,
        head.agent_id,
        line.lead_id,
        mode,
        _frozen(line.price),
        line.consent,
        line.ends_us,
        now_us,
        _tiers(),
    )
    if item is None:
        return None
    return Hold(head.hold_id, head.agent_id, item.expires_us, (item,))


@cache
def _tiers() -> rows.QuickTiers:
    """What a first hold of a lead is in each tier that may hold one."""
    tiers = [tier for tier in Tier if ENTITLEMENTS[tier].bulk]
    return rows.QuickTiers(
        tiers,
        most=[room_for_holds(tier, 0) for tier in tiers],
        spans_us=[hold_until(tier, Past(), None, 0) for tier in tiers],
    )


def _place(
    connection: Connection,
    head: Hold,
    tier: Tier,
    asked: list[HoldLine],
    mode: Mode,
    now_us: int,
) -> Hold:
    agent_id, lead_ids = head.agent_id, [line.lead_id for line in asked]
    check_bulk(tier, len(asked))
    live, frees_us = rows.live_holds(connection, agent_id, now_us)
    room = room_for_holds(tier, live)
    if room < len(asked) and (mode == "all_or_nothing" or room == 0):
        wanted = len(asked) if mode == "all_or_nothing" else 1
        # After a change to a lower tier more may be held than fit.
        more = live + wanted - ENTITLEMENTS[tier].live_holds
        ends = rows.live_ends(connection, agent_id, now_us)[more - 1 :]
        raise no_room(tier, live, len(asked), ends[0] if ends else None, now_us)
    slots = rows.slots_of(connection, lead_ids)
    past = rows.past_of(connection, agent_id, lead_ids, now_us)
    chosen: list[Grant] = []
    problems: list[tuple[str, AIQLeadsError]] = []
    for line in asked:
        before = past.get(line.lead_id, Past())
        answer = _grant(head, tier, line, slots.get(line.lead_id, []), before, now_us)
        if isinstance(answer, Grant) and len(chosen) == room:
            soonest_us = min(each.until_us for each in chosen)
            answer = no_room(tier, live + room, 1, min(frees_us or soonest_us, soonest_us), now_us)
        if isinstance(answer, Grant):
            chosen.append(answer)
        else:
            problems.append((line.lead_id, answer))
    if problems and (mode == "all_or_nothing" or not chosen):
        raise _conflict(asked, problems)
    first_us = min(each.until_us for each in chosen)
    rows.add_hold(
        connection,
        head.hold_id,
        agent_id,
        mode,
        len(asked),
        now_us,
        first_us,
        exclusive=head.exclusive,
    )
    items = rows.take(connection, agent_id, head.hold_id, chosen, now_us, exclusive=head.exclusive)
    refused = tuple(told(lead_id, problem) for lead_id, problem in problems)
    return replace(head, expires_us=first_us, items=items, refused=refused)


def _grant(
    head: Hold, tier: Tier, line: HoldLine, slots: Sequence[Slot], past: Past, now_us: int
) -> Grant | AIQLeadsError:
    """What of a lead a hold gets, or why it gets nothing."""
    free = _slots_for(line.lead_id, slots, head.agent_id, now_us, exclusive=head.exclusive)
    if isinstance(free, AIQLeadsError):
        return free
    if problem := held_too_long(tier, line.lead_id, past, now_us):
        return problem
    until_us = hold_until(tier, past, line.ends_us, now_us)
    grant = Grant(free, _frozen(line.price), until_us, line.consent)
    if until_us <= grant.starts_us(now_us):
        return Refused("lead-expired", f"the life of {line.lead_id} is over")
    return grant


def _frozen(price: Quote) -> tuple[int, str, list[dict[str, Any]]]:
    return price.total_cents, price.currency, [vars(line) for line in price.lines]


def _conflict(
    asked: Sequence[HoldLine], problems: Sequence[tuple[str, AIQLeadsError]]
) -> AIQLeadsError:
    if len(asked) == 1:
        return problems[0][1]
    return Refused(
        "bulk-conflict",
        f"{len(problems)} of {len(asked)} leads cannot be held; nothing was held",
        items=[told(lead_id, problem) for lead_id, problem in problems],
    )


def _stored(connection: Connection, hold_id: str, now_us: int) -> Hold | None:
    """The hold that an earlier run of the same request placed, as far as it is live."""
    head = connection.execute(select(hold).where(hold.c.hold_id == hold_id)).one_or_none()
    if head is None:
        return None
    items = [
        item
        for item in rows.live_items(connection, head.agent_id, now_us)
        if item.hold_id == hold_id
    ]
    return Hold(
        hold_id, head.agent_id, head.expires_us, tuple(items), exclusive=bool(head.exclusive)
    )


def cart(engine: Engine, agent_id: str, now_us: int) -> Cart:
    """The agent's live holds, the one that ends first on top."""
    with reader(engine).connect() as connection:
        items = rows.live_items(connection, agent_id, now_us)
    grouped: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (item.expires_us, item.hold_id, item.lead_id)):
        grouped.setdefault(item.hold_id, []).append(item)
    held = tuple(
        Hold(
            hold_id,
            agent_id,
            min(item.expires_us for item in group),
            tuple(group),
            exclusive=group[0].exclusive,
        )
        for hold_id, group in grouped.items()
    )
    return Cart(agent_id, held, now_us)


def release(
    engine: Engine, agent_id: str, hold_id: str, now_us: int, *, lead_id: str | None = None
) -> int:
    """Gives back the live leads of a hold (or the one named); returns how many of them are
    given back by now, so that who asks again is told the same.

    Safe to repeat: what has ended already is left alone. UnknownName for a hold that is not
    there, is another agent's, or never had that lead.
    """
    with writing(engine) as connection:
        rows.lock_agent(connection, agent_id)
        items = rows.items_of(connection, agent_id, [hold_id], now_us)
        if lead_id is not None:
            _had(connection, hold_id, lead_id)
        chosen = [item for item in items if item.live and lead_id in (None, item.lead_id)]
        rows.free(connection, chosen, now_us)
        given = (hold_item.c.hold_id == hold_id, hold_item.c.ended_how == "released")
        freed = connection.execute(select(hold_item.c.lead_id).where(*given)).scalars().all()
    return len(freed) if lead_id is None else freed.count(lead_id)


def _had(connection: Connection, hold_id: str, lead_id: str) -> None:
    which = (hold_item.c.hold_id == hold_id, hold_item.c.lead_id == lead_id)
    if connection.execute(select(hold_item.c.slot).where(*which)).first() is None:
        raise UnknownName(f"hold {hold_id} has no lead {lead_id!r}")
