"""Holding leads: a hold keeps one slot of each lead, at a frozen price, until its time is up.

The cart is the agent's live holds; there is no second one. Expiry is a comparison at read
time: a slot whose `held_until` has come is free for every reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, select

from aiqleads.commerce.ids import new_id
from aiqleads.commerce.limits import check_bulk, no_room, room_for_holds, seconds_until
from aiqleads.commerce.pricing import Quote
from aiqleads.domain import ENTITLEMENTS, US_PER_SECOND, Tier
from aiqleads.errors import AIQLeadsError, InvalidInput, Refused, UnknownName
from aiqleads.store import holds as rows
from aiqleads.store.database import reader
from aiqleads.store.holds import Item, Slot
from aiqleads.store.tables import hold, hold_item
from aiqleads.store.transactions import writing

Mode = Literal["all_or_nothing", "best_effort"]


@dataclass(frozen=True)
class HoldLine:
    """A lead to hold and the price that the hold freezes."""

    lead_id: str
    price: Quote


@dataclass(frozen=True)
class Hold:
    """What was held: one slot of each lead until `expires_us` (wall us).

    refused: with best_effort, {lead_id, kind, detail, ..} for each lead that was not.
    """

    hold_id: str
    agent_id: str
    expires_us: int
    items: tuple[Item, ...]
    refused: tuple[dict[str, Any], ...] = ()

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


def _refusal(
    lead_id: str, slots: Sequence[Slot], agent_id: str, now_us: int
) -> AIQLeadsError | Slot:
    """The slot to take, or why there is none."""
    mine = next((slot for slot in slots if slot.agent_id == agent_id), None)
    if mine is not None and mine.is_expired(now_us):
        return mine  # its row must go first: an agent has at most one slot of a lead
    if mine is not None and mine.state == "sold":
        return Refused("lead-sold", f"you have bought {lead_id} already", yours=True)
    if mine is not None:
        wait = seconds_until(mine.held_until_us or now_us, now_us)
        detail = f"you hold {lead_id} already"
        return Refused(
            "lead-already-held", detail, yours=True, hold_id=mine.hold_id, retry_after=wait
        )
    for slot in slots:
        if slot.is_open(now_us):
            return slot
    ends = [slot.held_until_us for slot in slots if slot.held_until_us is not None]
    if ends:
        wait = seconds_until(min(ends), now_us)
        detail = f"{lead_id} is held by another agent for up to {wait} s"
        return Refused("lead-already-held", detail, yours=False, retry_after=wait)
    if slots:
        return Refused("lead-sold", f"{lead_id} is sold", yours=False)
    return UnknownName(f"no lead {lead_id!r}")


def _told(lead_id: str, problem: AIQLeadsError) -> dict[str, Any]:
    return {
        "lead_id": lead_id,
        "kind": problem.kind,
        "detail": problem.detail,
        **{name: value for name, value in problem.extra.items() if value is not None},
    }


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
) -> Hold:
    """Holds the leads for as long as the agent's tier allows, in one short transaction.

    all_or_nothing: each lead or none. best_effort: those that can be held and fit, the
    others listed in `refused`. now_us: wall clock. key: the request's idempotency key; the
    same agent and key are the same hold, however often this runs.

    Refused: `lead-already-held` 409 (retry_after seconds), `lead-sold` 409,
    `hold-limit-reached` 403 (limit, value, used, fits), `bulk-conflict` 409 (items: a reason
    for each lead) when several were named, `busy` 503. UnknownName 404 for a stranger or a
    lead without slots. InvalidInput 422 for an empty or repeating list.
    """
    asked = _asked(lines, mode)
    hold_id = new_id("hld", agent_id, key)
    with writing(engine) as connection:
        tier = rows.lock_agent(connection, agent_id)
        if key is not None and (before := _stored(connection, hold_id, now_us)) is not None:
            return before
        return _place(connection, hold_id, agent_id, tier, asked, mode, now_us)


def _place(
    connection: Connection,
    hold_id: str,
    agent_id: str,
    tier: Tier,
    asked: list[HoldLine],
    mode: Mode,
    now_us: int,
) -> Hold:
    check_bulk(tier, len(asked))
    live, frees_us = rows.live_holds(connection, agent_id, now_us)
    room = room_for_holds(tier, live)
    if room < len(asked) and (mode == "all_or_nothing" or room == 0):
        raise no_room(tier, live, len(asked), frees_us, now_us)
    slots = rows.slots_of(connection, [line.lead_id for line in asked])
    chosen: list[tuple[HoldLine, Slot]] = []
    problems: list[tuple[str, AIQLeadsError]] = []
    for line in asked:
        answer = _refusal(line.lead_id, slots.get(line.lead_id, []), agent_id, now_us)
        if isinstance(answer, Slot) and len(chosen) == room:
            answer = no_room(tier, live + room, 1, frees_us, now_us)
        if isinstance(answer, Slot):
            chosen.append((line, answer))
        else:
            problems.append((line.lead_id, answer))
    if problems and (mode == "all_or_nothing" or not chosen):
        raise _conflict(asked, problems)
    until_us = now_us + ENTITLEMENTS[tier].hold_minutes * 60 * US_PER_SECOND
    rows.add_hold(connection, hold_id, agent_id, mode, len(asked), now_us, until_us)
    items = tuple(
        rows.take(connection, slot, agent_id, hold_id, _frozen(line.price), now_us, until_us)
        for line, slot in chosen
    )
    refused = tuple(_told(lead_id, problem) for lead_id, problem in problems)
    return Hold(hold_id, agent_id, until_us, items, refused)


def _frozen(price: Quote) -> tuple[int, str, list[dict[str, Any]]]:
    return price.total_cents, price.currency, [asdict(line) for line in price.lines]


def _conflict(
    asked: Sequence[HoldLine], problems: Sequence[tuple[str, AIQLeadsError]]
) -> AIQLeadsError:
    if len(asked) == 1:
        return problems[0][1]
    return Refused(
        "bulk-conflict",
        f"{len(problems)} of {len(asked)} leads cannot be held; nothing was held",
        items=[_told(lead_id, problem) for lead_id, problem in problems],
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
    return Hold(hold_id, head.agent_id, head.expires_us, tuple(items))


def cart(engine: Engine, agent_id: str, now_us: int) -> Cart:
    """The agent's live holds, the one that ends first on top."""
    with reader(engine).connect() as connection:
        items = rows.live_items(connection, agent_id, now_us)
    grouped: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (item.expires_us, item.hold_id, item.lead_id)):
        grouped.setdefault(item.hold_id, []).append(item)
    held = tuple(
        Hold(hold_id, agent_id, min(item.expires_us for item in group), tuple(group))
        for hold_id, group in grouped.items()
    )
    return Cart(agent_id, held, now_us)


def release(
    engine: Engine, agent_id: str, hold_id: str, now_us: int, *, lead_id: str | None = None
) -> int:
    """Gives back the live leads of a hold (or the one named); returns how many.

    Safe to repeat: what has ended already is left alone. UnknownName for a hold that is not
    there, is another agent's, or never had that lead.
    """
    with writing(engine) as connection:
        rows.lock_agent(connection, agent_id)
        items = rows.items_of(connection, agent_id, [hold_id], now_us)
        if lead_id is not None:
            _had(connection, hold_id, lead_id)
        chosen = [item for item in items if item.live and lead_id in (None, item.lead_id)]
        for item in chosen:
            rows.free(connection, item, agent_id, now_us)
    return len(chosen)


def _had(connection: Connection, hold_id: str, lead_id: str) -> None:
    which = (hold_item.c.hold_id == hold_id, hold_item.c.lead_id == lead_id)
    if connection.execute(select(hold_item.c.slot).where(*which)).first() is None:
        raise UnknownName(f"hold {hold_id} has no lead {lead_id!r}")
