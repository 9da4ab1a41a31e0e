"""The contract of a feed of sales, after its columns were renamed and its units converted.

Grain: one row is one sale. Money is in cents, areas in square feet, places in degrees
WGS 84, the sale's day is the local day at midnight without a zone.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, schema
from aiqleads.contracts.reso import with_reso_names

CONTRACT_VERSION = "sale_feed 1"

_SALE, _HOME = "sale", "home sold"
PROMISES: tuple[Promise, ...] = with_reso_names(
    (
        Promise("key", "str", "", _SALE, "The feed's own key of the sale, where it has one."),
        Promise(
            "price_cents", "float64", "cents", _SALE, "What was paid.", True, 1, 100_000_000_00
        ),
        Promise("sold", "datetime64[ns]", "local day", _SALE, "Day of the sale."),
        Promise("lon", "float64", "degrees", _HOME, "Longitude, WGS 84.", False, -180, 180),
        Promise("lat", "float64", "degrees", _HOME, "Latitude, WGS 84.", False, -90, 90),
        Promise("beds", "float64", "rooms", _HOME, "Bedrooms.", False, 0, 50),
        Promise("baths", "float64", "rooms", _HOME, "Bathrooms; a half bath is 0.5.", False, 0, 50),
        Promise("living_area_sqft", "float64", "sqft", _HOME, "Floor area.", False, 100, 50_000),
        Promise("lot_area_sqft", "float64", "sqft", _HOME, "Area of the lot.", False, 100, 1e8),
        Promise("garage_area_sqft", "float64", "sqft", _HOME, "Area of garages.", False, 0, 20_000),
        Promise("rooms", "float64", "rooms", _HOME, "Rooms in all.", False, 0, 100),
        Promise("year_built", "float64", "year", _HOME, "Year of construction.", False, 1600, 2200),
        Promise(
            "property_type",
            "str",
            "",
            _HOME,
            "Kind of home, as the feed names it.",
            True,
            longest=40,
        ),
    ),
    key="ListingKey",
    price_cents="ClosePrice",
    sold="CloseDate",
)


@dataclass(frozen=True)
class FeedLimits:
    """What holds for the feed of one market beyond the promises.

    bounds: (west, south, east, north) in degrees, where its places may lie. min_price: in
    `currency`; less is no open-market sale. dated: whether the feed gives sale dates.
    """

    market: str
    currency: str
    min_price: float
    dated: bool
    bounds: tuple[float, float, float, float]


def _both_or_neither(rows: pd.DataFrame) -> pd.Series:
    return rows["lon"].isna().eq(rows["lat"].isna())


def _built_first(rows: pd.DataFrame) -> pd.Series:
    # Homes are sold before they are finished, but not years before.
    ahead: pd.Series[float] = rows["year_built"] - rows["sold"].dt.year
    return ahead.isna() | (ahead <= 2)


def feed_schema(limits: FeedLimits) -> pa.DataFrameSchema:
    """The promises, and whole-row checks for this market; the text names the column."""
    west, south, east, north = limits.bounds
    least = limits.min_price * 100

    def in_market(rows: pd.DataFrame) -> pd.Series:
        near = rows["lon"].between(west, east) & rows["lat"].between(south, north)
        return near | rows["lon"].isna() | rows["lat"].isna()

    def open_market(rows: pd.DataFrame) -> pd.Series:
        return rows["price_cents"].isna() | (rows["price_cents"] >= least)

    def dated(rows: pd.DataFrame) -> pd.Series:
        return rows["sold"].notna()

    rules = {
        "lon: lon and lat, or neither": _both_or_neither,
        f"lat: within the zone of {limits.market}": in_market,
        f"price_cents: an open-market price, from {limits.min_price:,.0f} {limits.currency}": (
            open_market
        ),
        "year_built: at most 2 years after the sale": _built_first,
    }
    if limits.dated:
        rules["sold: present"] = dated
    checks = [pa.Check(rule, error=text, ignore_na=False) for text, rule in rules.items()]
    return schema(PROMISES, checks)
