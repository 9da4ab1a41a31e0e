"""Limits that an agent sets itself: how much it buys in a span of time, and of which leads.

Caps are asked under the agent's locked row, with what is being paid for counted as bought, so
no number of requests at once goes beyond them. An hour, a day and a week reach back from now;
a month is the calendar's (UTC), as a budget is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine

from aiqleads.commerce.limits import seconds_until
from aiqleads.domain import US_PER_DAY, US_PER_HOUR, US_PER_SECOND, Intent
from aiqleads.errors import InvalidInput, Refused
from aiqleads.store import caps as rows
from aiqleads.store import holds
from aiqleads.store.caps import Bought, Cap
from aiqleads.store.database import reader
from aiqleads.store.transactions import writing

_SPANS_US = {"hour": US_PER_HOUR, "day": US_PER_DAY, "week": 7 * US_PER_DAY}
_DECEMBER = 12


@dataclass(frozen=True)
class Filters:
    """Which leads an agent lets itself hold; an empty tuple or None asks for nothing.

    max_price_cents: of the lead's own price, not of the home's.
    """

    intents: tuple[str, ...] = ()
    property_types: tuple[str, ...] = ()
    max_price_cents: int | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Filters:
        """Checks what was stored or sent; InvalidInput says what is wrong with it."""
        made = cls(
            tuple(given.get("intents") or ()),
            tuple(given.get("property_types") or ()),
            given.get("max_price_cents"),
        )
        if unknown := sorted(set(made.intents) - {str(intent) for intent in Intent}):
            raise InvalidInput(f"no intent {unknown[0]!r}")
        if made.max_price_cents is not None and made.max_price_cents <= 0:
            raise InvalidInput("max_price_cents must be positive")
        return made

    def stored(self) -> dict[str, Any]:
        """The fields that ask for something."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Use:
    """A cap and how much of it is used. frees_us: when some of that is free again (wall)."""

    cap: Cap
    used: int
    frees_us: int | None


@dataclass(frozen=True)
class Limits:
    """All that an agent has set itself, and what is used of it."""

    caps: tuple[Use, ...]
    filters: Filters


def view(engine: Engine, agent_id: str, now_us: int) -> Limits:
    """The agent's caps with their use, and its filters."""
    with reader(engine).connect() as connection:
        caps = rows.caps_of(connection, agent_id)
        bought = _bought(connection, agent_id, caps, now_us)
        filters = Filters.parse(rows.filters_of(connection, agent_id))
    return Limits(tuple(_use(cap, bought, now_us) for cap in caps), filters)


def filters_of(engine: Engine, agent_id: str) -> Filters:
    """Which leads the agent lets itself hold."""
    with reader(engine).connect() as connection:
        return Filters.parse(rows.filters_of(connection, agent_id))


def put(engine: Engine, agent_id: str, caps: Sequence[Cap], filters: Filters) -> None:
    """Replaces the agent's caps and filters; they hold from the next checkout and hold on.

    InvalidInput for a cap that is named twice or cannot be, UnknownName for a stranger.
    """
    if len({cap.name for cap in caps}) < len(caps):
        raise InvalidInput("a cap is named twice")
    for cap in caps:
        if cap.measure not in ("leads", "spend") or cap.per not in (*_SPANS_US, "month"):
            raise InvalidInput(f"there is no cap {cap.name!r}")
        if cap.most < 0:
            raise InvalidInput(f"{cap.name} is {cap.most}, must be at least 0")
    with writing(engine) as connection:
        holds.lock_agent(connection, agent_id)
        rows.replace(connection, agent_id, caps, filters.stored())


def check_lead(
    filters: Filters, lead_id: str, intent: str, property_type: str, price_cents: int
) -> None:
    """Refuses (`outside-filters`, 403) a lead that the agent has ruled out for itself."""
    dear = filters.max_price_cents is not None and price_cents > filters.max_price_cents
    for limit, value, is_out in (
        ("intents", filters.intents, bool(filters.intents) and intent not in filters.intents),
        (
            "property_types",
            filters.property_types,
            bool(filters.property_types) and property_type not in filters.property_types,
        ),
        ("max_price_cents", filters.max_price_cents, dear),
    ):
        if is_out:
            raise Refused(
                "outside-filters",
                f"the lead {lead_id} is outside what you let yourself hold: {limit}",
                status=403,
                lead_id=lead_id,
                limit=limit,
                value=list(value) if isinstance(value, tuple) else value,
                used={"intents": intent, "property_types": property_type}.get(limit, price_cents),
            )


def check_purchase(
    connection: Connection, agent_id: str, leads: Sequence[tuple[str, int]], now_us: int
) -> None:
    """Refuses (`purchase-limit-reached`, 403) what goes beyond a cap of the agent.

    leads: (lead_id, price in cents) of the order, the agent's row locked. The refusal names
    the cap that is exceeded (of several the one that frees last), its value, what is used,
    which of the leads fit, and, where the whole order will, when.
    """
    caps = rows.caps_of(connection, agent_id)
    bought = _bought(connection, agent_id, caps, now_us)
    over: list[tuple[float, Use, int]] = []
    for cap in caps:
        use = _use(cap, bought, now_us)
        asked = sum(_amount(cap, cents) for _, cents in leads)
        if use.used + asked > cap.most:
            frees_us = _frees(cap, bought, asked, now_us)
            over.append((math.inf if frees_us is None else frees_us, use, asked))
    if over:  # named is the cap that stands in the way for longest
        _, use, asked = max(over, key=lambda each: each[0])
        raise _refusal(use, asked, caps, bought, leads, now_us)


def _refusal(
    use: Use,
    asked: int,
    caps: Sequence[Cap],
    bought: Sequence[Bought],
    leads: Sequence[tuple[str, int]],
    now_us: int,
) -> Refused:
    cap, unit = use.cap, "cents" if use.cap.measure == "spend" else "leads"
    fits = _fitting(caps, bought, leads, now_us)
    frees_us = _frees(cap, bought, asked, now_us)
    retry = {} if frees_us is None else {"retry_after": seconds_until(frees_us, now_us)}
    return Refused(
        "purchase-limit-reached",
        f"{use.used} of {cap.most} {unit} per {cap.per} are used; {asked} more do not fit",
        status=403,
        limit=cap.name,
        value=cap.most,
        used=use.used,
        fits=len(fits),
        fitting_lead_ids=fits,
        **retry,
    )


def _fitting(
    caps: Sequence[Cap],
    bought: Sequence[Bought],
    leads: Sequence[tuple[str, int]],
    now_us: int,
) -> list[str]:
    """The leads of an order that all caps leave room for, in its order."""
    left = {cap.name: cap.most - _use(cap, bought, now_us).used for cap in caps}
    fits = []
    for lead_id, cents in leads:
        if all(_amount(cap, cents) <= left[cap.name] for cap in caps):
            fits.append(lead_id)
            for cap in caps:
                left[cap.name] -= _amount(cap, cents)
    return fits


def _frees(cap: Cap, bought: Sequence[Bought], asked: int, now_us: int) -> int | None:
    """When so much will fit, if nothing else is bought; None where it never will."""
    if asked > cap.most:
        return None
    if cap.per == "month":
        return next_month_us(now_us)
    inside = [each for each in bought if each.at_us >= _since(cap.per, now_us)]
    over = sum(_amount(cap, each.price_cents) for each in inside) + asked - cap.most
    for each in inside:
        over -= _amount(cap, each.price_cents)
        if over <= 0:
            return each.at_us + _SPANS_US[cap.per] + 1
    raise AssertionError(f"{cap.name} never frees")


def _use(cap: Cap, bought: Sequence[Bought], now_us: int) -> Use:
    since_us = _since(cap.per, now_us)
    inside = [each for each in bought if each.at_us >= since_us]
    frees_us = None
    if inside:
        month = cap.per == "month"
        frees_us = next_month_us(now_us) if month else inside[0].at_us + _SPANS_US[cap.per] + 1
    return Use(cap, sum(_amount(cap, each.price_cents) for each in inside), frees_us)


def _amount(cap: Cap, cents: int) -> int:
    return cents if cap.measure == "spend" else 1


def _bought(
    connection: Connection, agent_id: str, caps: Sequence[Cap], now_us: int
) -> list[Bought]:
    """What any of the caps could count."""
    if not caps:
        return []
    since_us = min(_since(cap.per, now_us) for cap in caps)
    return rows.bought_since(connection, agent_id, since_us)


def _since(per: str, now_us: int) -> int:
    return month_us(now_us) if per == "month" else now_us - _SPANS_US[per]


def month_us(now_us: int) -> int:
    """The moment at which the calendar month (UTC) of a moment began."""
    now = datetime.fromtimestamp(now_us // US_PER_SECOND, UTC)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    return int(first.timestamp()) * US_PER_SECOND


def next_month_us(now_us: int) -> int:
    """The moment at which the next calendar month (UTC) begins."""
    now = datetime.fromtimestamp(now_us // US_PER_SECOND, UTC)
    last = now.month == _DECEMBER
    first = datetime(now.year + last, 1 if last else now.month + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * US_PER_SECOND
