"""The contract of a feed of listings, after its columns were renamed and units converted.

Grain: one row is one listing as its source shows it. Money in cents (rent: a month's),
areas in square feet, places in degrees WGS 84, days local at midnight without a zone.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, schema
from aiqleads.contracts.reso import with_reso_names

CONTRACT_VERSION = "listing_feed 1"

#: StandardStatus of the RESO Data Dictionary 2.0, and what is said where a source says nothing
STATUSES = (
    "Active",
    "Active Under Contract",
    "Canceled",
    "Closed",
    "Coming Soon",
    "Delete",
    "Expired",
    "Hold",
    "Incomplete",
    "Pending",
    "Withdrawn",
    "Unknown",
)
_OFFER, _HOME = "listing", "home listed"
_STR, _FLOAT, _DAY = "str", "float64", "datetime64[ns]"
_MOST = 100_000_000_00
PROMISES: tuple[Promise, ...] = with_reso_names(
    (
        Promise("key", _STR, "", _OFFER, "The source's own key of the listing.", True, longest=200),
        Promise("mls_id", _STR, "", _OFFER, "Number in a multiple listing service.", longest=60),
        Promise("status", _STR, "", _OFFER, "RESO StandardStatus.", True, among=STATUSES),
        Promise("offer", _STR, "", _OFFER, "What is offered.", True, among=("sale", "rent")),
        Promise("list_price_cents", _FLOAT, "cents", _OFFER, "Price asked.", False, 100, _MOST),
        Promise("close_price_cents", _FLOAT, "cents", _OFFER, "Price paid.", False, 100, _MOST),
        Promise("listed", _DAY, "local day", _OFFER, "First day on the market."),
        Promise("closed", _DAY, "local day", _OFFER, "Day of the sale."),
        Promise("modified_us", "Int64", "us, UTC", _OFFER, "Last change at the source."),
        Promise("property_type", _STR, "", _HOME, "Kind of home.", True, longest=60),
        Promise("address", _STR, "", _HOME, "Street address in one line.", longest=200),
        Promise("unit", _STR, "", _HOME, "Unit of the building.", longest=20),
        Promise("city", _STR, "", _HOME, "Postal city.", longest=80),
        Promise("state", _STR, "", _HOME, "Two letters of the US Postal Service.", longest=2),
        Promise("zip", _STR, "", _HOME, "Five digits.", longest=5),
        Promise("beds", _FLOAT, "rooms", _HOME, "Bedrooms.", False, 0, 50),
        Promise("baths", _FLOAT, "rooms", _HOME, "Bathrooms; a half bath is 0.5.", False, 0, 50),
        Promise("living_area_sqft", _FLOAT, "sqft", _HOME, "Floor area.", False, 50, 1e6),
        Promise("lot_area_sqft", _FLOAT, "sqft", _HOME, "Area of the lot.", False, 1, 1e10),
        Promise("year_built", _FLOAT, "year", _HOME, "Year of construction.", False, 1600, 2200),
        Promise(
            "days_on_market", _FLOAT, "days", _OFFER, "As the source counts.", False, 0, 20_000
        ),
        Promise("lon", _FLOAT, "degrees", _HOME, "Longitude, WGS 84.", False, -180, 180),
        Promise("lat", _FLOAT, "degrees", _HOME, "Latitude, WGS 84.", False, -90, 90),
        Promise(
            "agent_key", _STR, "", _OFFER, "Who lists it, as the source names them.", longest=80
        ),
        Promise("demand", _STR, "", _OFFER, "Interest shown.", among=("low", "medium", "high")),
        Promise("url", _STR, "", _OFFER, "Where it is shown.", longest=2_000),
    ),
    key="ListingKey",
    mls_id="ListingId",
    status="StandardStatus",
    list_price_cents="ListPrice",
    close_price_cents="ClosePrice",
    listed="OnMarketDate",
    closed="CloseDate",
    modified_us="ModificationTimestamp",
    days_on_market="DaysOnMarket",
    agent_key="ListAgentKey",
    url="ListingURL",
)


def feed_schema() -> pa.DataFrameSchema:
    """The promises and the rules of whole rows."""

    def both_or_neither(rows: pd.DataFrame) -> pd.Series:
        return rows["lon"].isna().eq(rows["lat"].isna())

    rule = pa.Check(both_or_neither, error="lon: lon and lat, or neither", ignore_na=False)
    return schema(PROMISES, [rule])
