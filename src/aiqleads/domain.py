"""Values and enums that every part shares: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

US_PER_SECOND = 1_000_000
US_PER_HOUR = 3_600 * US_PER_SECOND
US_PER_DAY = 24 * US_PER_HOUR


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
    """

    hold_minutes: int
    live_holds: int
    bulk: int
    new_lead_delay_minutes: int
    price_factor: float
    requests_per_minute: int


ENTITLEMENTS: dict[Tier, Entitlements] = {
    Tier.BASIC: Entitlements(15, 10, 5, 60, 1.00, 100),
    Tier.PRO: Entitlements(60, 50, 50, 15, 0.90, 500),
    Tier.ENTERPRISE: Entitlements(24 * 60, 500, 500, 0, 0.80, 1000),
}

#: after a hold ended unsold its agent lets the lead be for so long, minutes of the wall clock
COOL_DOWN_MINUTES = 30
