"""What anybody may know of a lead before it is bought: a coarsened place, rounded facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiqleads.domain import US_PER_HOUR, moment
from aiqleads.geo.privacy import WITHHELD
from aiqleads.recommend.snapshot import LEAD_FACTS, Snapshot

#: prices are shown to the nearest of these, areas and years to the nearest below
PRICE_STEP_CENTS = 1_000_000
AREA_STEP_SQFT = 100
YEAR_STEP = 10


@dataclass(frozen=True)
class Card:
    """A lead before purchase; prices in cents, times on the market clock.

    cell: H3 index, shared by at least five leads on offer; None where even the coarsest is not.
    received, available_until: the full hour before. quality: 0 to 1 in tenths.
    """

    lead_id: str
    intent: str
    property_type: str
    ask_price_about_cents: int
    currency: str
    beds: int | None
    baths: float | None
    living_area_about_sqft: int | None
    built_about: int | None
    quality: float
    max_buyers: int
    cell: str | None
    received: str
    available_until: str


def shown_price(cents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Asking prices as they are shown: to the nearest step, at least one step, shape kept."""
    steps = np.maximum((cents + PRICE_STEP_CENTS // 2) // PRICE_STEP_CENTS, 1)
    return np.asarray(steps * PRICE_STEP_CENTS, dtype=np.int64)


def shown_quality(quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quality as it is shown: in tenths, shape kept."""
    return np.asarray(np.round(quality, 1), dtype=np.float64)


def shown_received(received_market_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Arrivals as they are shown: the full hour before, microseconds, shape kept."""
    return np.asarray(received_market_us // US_PER_HOUR * US_PER_HOUR, dtype=np.int64)


def card(snapshot: Snapshot, row: int) -> Card:
    """The card of the lead in this place of a snapshot."""
    fact = {name: snapshot.columns[name][row] for name in LEAD_FACTS}
    manifest = snapshot.manifest
    cell = int(fact["shown_cell"])
    return Card(
        lead_id=snapshot.lead_id(row),
        intent=manifest.intents[int(fact["intent"])],
        property_type=manifest.property_types[int(fact["property_type"])],
        ask_price_about_cents=int(fact["shown_price_cents"]),
        currency=manifest.currency,
        beds=_floor(fact["beds"], 1),
        baths=None if np.isnan(fact["baths"]) else round(float(fact["baths"]) * 2) / 2,
        living_area_about_sqft=_floor(fact["living_area_sqft"], AREA_STEP_SQFT),
        built_about=_floor(fact["year_built"], YEAR_STEP),
        quality=float(shown_quality(fact["quality"])),
        max_buyers=int(fact["max_buyers"]),
        cell=None if cell == WITHHELD else format(cell, "x"),
        received=_hour(fact["received_market_us"]),
        available_until=_hour(fact["expires_market_us"]),
    )


def _hour(us: int) -> str:
    return moment(int(us) // US_PER_HOUR * US_PER_HOUR)


def _floor(value: float, step: int) -> int | None:
    return None if np.isnan(value) else int(value // step * step)
