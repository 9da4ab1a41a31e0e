"""Values and enums that every part shares: no clock, and no I/O but `tiers.toml` at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiqleads.errors import InvalidInput
from aiqleads.shop_files import Table, read

US_PER_SECOND = 1_000_000
US_PER_HOUR = 3_600 * US_PER_SECOND
US_PER_DAY = 24 * US_PER_HOUR


def midnight_us(day: date) -> int:
    """The start of a day (UTC), microseconds since the epoch."""
    return (day - date(1970, 1, 1)).days * US_PER_DAY


def day_of(us: int) -> date:
    """The day (UTC) in which a moment lies."""
    return date(1970, 1, 1) + timedelta(days=us // US_PER_DAY)


def moment(us: int) -> str:
    """ISO 8601 in UTC of microseconds since the epoch, to the second."""
    return datetime.fromtimestamp(us // US_PER_SECOND, UTC).isoformat().replace("+00:00", "Z")


class Intent(StrEnum):
    """What the person behind a lead wants to do."""

    SELL = "sell"
    BUY = "buy"


class Tier(StrEnum):
    """What an agent subscribes to, cheapest first; the order is the feature's code."""

    BASIC = "basic"
    PRO = "pro"
    ENTERPRISE = "enterprise"

    @property
    def code(self) -> int:
        """Ordinal of the tier: 0 basic, 1 pro, 2 enterprise."""
        return list(Tier).index(self)


class InteractionKind(StrEnum):
    """What an agent did with a lead that a ranking showed."""

    VIEW = "view"
    HOLD = "hold"
    RELEASE = "release"
    PURCHASE = "purchase"
    RETURN = "return"


@dataclass(frozen=True)
class Entitlements:
    """What a tier may do; commerce and recommend both read it.

    hold_minutes: life of a hold (wall clock), and all that one lead may be held for free.
    live_holds: at the same time.
    bulk: leads per call. new_lead_delay_minutes: age at which a lead first shows
    (market clock). price_factor: multiplies the lead's price. requests_per_minute: per key.
    seats: members who may act for the account. extension_hours: by how much a hold can be
    made longer, for a price; the last is also the most in all.
    """

    hold_minutes: int
    live_holds: int
    bulk: int
    new_lead_delay_minutes: int
    price_factor: float
    requests_per_minute: int
    seats: int
    extension_hours: tuple[int, ...]


@dataclass(frozen=True)
class Tiers:
    """What stands in `tiers.toml`, checked.

    cool_down_minutes: after a hold ended unsold its agent lets the lead be for so long, minutes
    of the wall clock.
    """

    version: str
    cool_down_minutes: int
    entitlements: dict[Tier, Entitlements]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Tiers:
        """Builds the tiers from TOML; InvalidInput says which figure cannot be."""
        top = Table("tiers.toml", raw, ["version", "cool_down_minutes", *Tier])
        made = cls(
            version=top.text("version"),
            cool_down_minutes=top.whole("cool_down_minutes", 0),
            entitlements={tier: _rights(top.table(tier, _RIGHTS)) for tier in Tier},
        )
        made._check()
        return made

    def _check(self) -> None:
        below: Entitlements | None = None
        for tier, rights in self.entitlements.items():
            whole = {n: v for n, v in vars(rights).items() if n not in _NOT_WHOLE}
            if rights.bulk > rights.live_holds:
                raise InvalidInput(f"tiers.toml: bulk of {tier} is more than its live_holds")
            hours = rights.extension_hours
            if sorted(set(hours)) != list(hours) or any(type(h) is not int or h < 1 for h in hours):
                raise InvalidInput(f"tiers.toml: extension_hours of {tier} cannot be {hours!r}")
            if below is not None and not set(below.extension_hours) <= set(hours):
                raise InvalidInput(
                    f"tiers.toml: {tier} has a worse extension_hours than the tier below"
                )
            for name in (*whole, "price_factor") if below is not None else ():
                gains = getattr(rights, name) - getattr(below, name)
                if gains > 0 if name in _LESS_IS_MORE else gains < 0:
                    raise InvalidInput(f"tiers.toml: {tier} has a worse {name} than the tier below")
            below = rights


def _rights(table: Table) -> Entitlements:
    whole = [name for name in _RIGHTS if name not in _NOT_WHOLE]
    if not isinstance(hours := table.raw["extension_hours"], list):
        raise table.wrong("extension_hours", "must be a list")
    if not 0.0 < (factor := table.number("price_factor")) <= 1.0:
        raise table.wrong("price_factor", f"is {factor!r}, is not in (0, 1]")
    return Entitlements(
        **{name: table.whole(name, int(name != "new_lead_delay_minutes")) for name in whole},
        price_factor=factor,
        extension_hours=tuple(hours),
    )


_RIGHTS = tuple(each.name for each in fields(Entitlements))
_NOT_WHOLE = ("price_factor", "extension_hours")
_LESS_IS_MORE = ("new_lead_delay_minutes", "price_factor")
TIERS = Tiers.parse(read(Path(__file__).with_name("tiers.toml")))
ENTITLEMENTS = TIERS.entitlements
COOL_DOWN_MINUTES = TIERS.cool_down_minutes
