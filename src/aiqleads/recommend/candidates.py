"""Which leads are considered for an agent: where, what, and not before the tier may see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import ENTITLEMENTS, Intent, Tier
from aiqleads.errors import InvalidInput
from aiqleads.recommend.snapshot import AgentRow, Snapshot

Rows = NDArray[np.int64]
US_PER_MINUTE = 60_000_000
#: how far around a territory leads are looked for, in H3 res-8 grid steps of about 0.9 km
MAX_RINGS = 12


@dataclass(frozen=True)
class Filters:
    """What an agent wants to see; an empty filter lets everything through.

    Prices are compared with the price as it is shown before a purchase, never with the
    exact one: else a search by halves would find it out.
    """

    intent: Intent | None = None
    property_types: frozenset[str] = frozenset()
    min_price_cents: int | None = None
    max_price_cents: int | None = None
    min_beds: int | None = None


@dataclass(frozen=True)
class Candidates:
    """Leads to rank (places in the snapshot) and how many rings around the territory it took."""

    rows: Rows
    rings: int


def offered(
    snapshot: Snapshot, rows: Rows, filters: Filters, tier: Tier, now_market_us: int
) -> Rows:
    """Those of `rows` that are alive, open to the tier by now, and pass the filters.

    Raises InvalidInput for a property type that the market has never seen.
    """
    columns = snapshot.columns
    delay = ENTITLEMENTS[tier].new_lead_delay_minutes * US_PER_MINUTE
    keep = columns["received_market_us"][rows] <= now_market_us - delay
    keep &= columns["expires_market_us"][rows] > now_market_us
    if filters.intent is not None:
        keep &= columns["intent"][rows] == snapshot.manifest.intents.index(filters.intent)
    if filters.property_types:
        codes = [_property_code(snapshot, name) for name in sorted(filters.property_types)]
        keep &= np.isin(columns["property_type"][rows], codes)
    price = columns["shown_price_cents"]
    if filters.min_price_cents is not None:
        keep &= price[rows] >= filters.min_price_cents
    if filters.max_price_cents is not None:
        keep &= price[rows] <= filters.max_price_cents
    if filters.min_beds is not None:
        keep &= columns["beds"][rows] >= filters.min_beds  # unknown (NaN) does not pass
    return rows[keep]


def near(
    snapshot: Snapshot, agent: AgentRow, enough: int, filters: Filters, now_market_us: int
) -> Candidates:
    """Offered leads of an agent's territory, and of rings around it until there are enough."""
    parts: list[Rows] = []
    found = 0
    for ring in range(MAX_RINGS + 1):
        rows = snapshot.rows_in(snapshot.ring(agent, ring))
        rows = offered(snapshot, rows, filters, agent.tier, now_market_us)
        parts.append(rows)
        found += len(rows)
        if found >= enough:
            break
    return Candidates(np.concatenate(parts), ring)


def _property_code(snapshot: Snapshot, name: str) -> int:
    known = snapshot.manifest.property_types
    if name not in known:
        raise InvalidInput(f"unknown property type '{name}'; known are {', '.join(known)}")
    return known.index(name)
