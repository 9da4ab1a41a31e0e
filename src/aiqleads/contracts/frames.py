"""The contracts of the frames that later stages read: leads, submissions, sales."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, failures, schema
from aiqleads.domain import Intent
from aiqleads.errors import ContractBroken

_LEAD, _HOME, _SALE = "lead", "home offered or wanted", "sale"
_INT, _FLOAT, _STR = "int64", "float64", "str"
_MARKET_US = "us, UTC, market clock"
_CELL_HIGH = 2**60 * 9 - 1  # an H3 cell: mode 1, never negative

LEADS: tuple[Promise, ...] = (
    Promise("lead_id", _STR, "", _LEAD, "Name of the lead.", True),
    Promise("market", _STR, "", _LEAD, "Market that it belongs to.", True),
    Promise("source", _STR, "", _LEAD, "Where it came from.", True),
    Promise("source_key", _STR, "", _LEAD, "The source's own key of it.", True),
    Promise("batch_id", _STR, "", _LEAD, "Batch that stored it last.", True),
    Promise("intent", _STR, "", _LEAD, "What the person wants to do.", True, among=tuple(Intent)),
    Promise("property_type", _STR, "", _HOME, "Kind of home.", True),
    Promise("received_market_us", _INT, _MARKET_US, _LEAD, "When the person wrote.", True),
    Promise("expires_market_us", _INT, _MARKET_US, _LEAD, "End of the offer.", True),
    Promise("ask_price_cents", _INT, "cents", _LEAD, "Price asked, or top of the budget.", True, 1),
    Promise("currency", _STR, "", _LEAD, "ISO 4217 code.", True),
    Promise("beds", _FLOAT, "rooms", _HOME, "Bedrooms.", False, 0, 50),
    Promise("baths", _FLOAT, "rooms", _HOME, "Bathrooms; a half bath is 0.5.", False, 0, 50),
    Promise("living_area_sqft", _FLOAT, "sqft", _HOME, "Floor area.", False, 100, 50_000),
    Promise("lot_area_sqft", _FLOAT, "sqft", _HOME, "Area of the lot.", False, 100, 1e8),
    Promise("garage_area_sqft", _FLOAT, "sqft", _HOME, "Area of garages.", False, 0, 20_000),
    Promise("rooms", _FLOAT, "rooms", _HOME, "Rooms in all.", False, 0, 100),
    Promise("year_built", _FLOAT, "year", _HOME, "Year of construction.", False, 1600, 2200),
    Promise("lon", _FLOAT, "degrees", _HOME, "Longitude, WGS 84.", True, -180, 180),
    Promise("lat", _FLOAT, "degrees", _HOME, "Latitude, WGS 84.", True, -90, 90),
    Promise(
        "place_precision",
        _STR,
        "",
        _LEAD,
        "What the place is.",
        True,
        among=("point", "zip", "city", "area"),
    ),
    Promise("cell", _INT, "H3 res 10", _HOME, "Stored cell.", True, 1, _CELL_HIGH),
    Promise("region", _STR, "", _HOME, "Named area, or H3 res-6 cell.", True),
    Promise("utm_x_m", _FLOAT, "m", _HOME, "Easting in the market's zone.", True),
    Promise("utm_y_m", _FLOAT, "m", _HOME, "Northing in the market's zone.", True),
    Promise("max_buyers", _INT, "agents", _LEAD, "How many agents may buy it.", True, 1, 3),
    Promise("submissions", _INT, "submissions", _LEAD, "Times the person wrote.", True, 1),
    Promise("quality", _FLOAT, "", _LEAD, "How complete and usable, 0 to 1.", True, 0, 1),
    Promise("quality_reasons", _STR, "", _LEAD, "What lowered the quality, in words.", True),
    Promise("invented", _STR, "", _LEAD, "Which columns are invented, or all.", True),
)

SUBMISSIONS: tuple[Promise, ...] = (
    Promise("lead_id", _STR, "", "submission", "Lead that the person wrote about.", True),
    Promise("received_market_us", _INT, _MARKET_US, "submission", "When.", True),
)

SALES: tuple[Promise, ...] = (
    Promise("sale_id", _STR, "", _SALE, "Name of the sale; it names no lead.", True),
    Promise("sold_market_us", "Int64", _MARKET_US, _SALE, "Start of the local day of sale."),
    Promise("price_cents", _INT, "cents", _SALE, "What was paid.", True, 1),
    Promise("living_area_sqft", _FLOAT, "sqft", "home sold", "Floor area.", False, 100, 50_000),
    Promise("lon", _FLOAT, "degrees", "home sold", "Longitude, WGS 84.", True, -180, 180),
    Promise("lat", _FLOAT, "degrees", "home sold", "Latitude, WGS 84.", True, -90, 90),
    Promise("cell", _INT, "H3 res 10", "home sold", "Stored cell.", True, 1, _CELL_HIGH),
    Promise("region", _STR, "", "home sold", "Named area, or H3 res-6 cell.", True),
    Promise("utm_x_m", _FLOAT, "m", "home sold", "Easting in the market's zone.", True),
    Promise("utm_y_m", _FLOAT, "m", "home sold", "Northing in the market's zone.", True),
)

FRAMES: dict[str, tuple[Promise, ...]] = {
    "leads": LEADS,
    "submissions": SUBMISSIONS,
    "sales": SALES,
}


def _offered(rows: pd.DataFrame) -> pd.Series:
    return rows["expires_market_us"] > rows["received_market_us"]


@cache
def frame_schema(name: str) -> pa.DataFrameSchema:
    """Contract of one stored frame: 'leads', 'submissions' or 'sales'."""
    checks = []
    if name == "leads":
        checks.append(pa.Check(_offered, error="expires_market_us: after received_market_us"))
    unique = {"leads": "lead_id", "sales": "sale_id"}.get(name)
    return schema(FRAMES[name], checks, unique)


def check_frame(name: str, frame: pd.DataFrame) -> None:
    """Raises ContractBroken, naming the rules, where a frame is not what it promises."""
    broken = failures(frame, frame_schema(name))
    if len(broken):
        rules = ", ".join(sorted(broken["rule"].unique())[:5])
        raise ContractBroken(f"frame {name}: {len(broken)} breaks of its contract: {rules}")
