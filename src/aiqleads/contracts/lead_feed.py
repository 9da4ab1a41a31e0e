"""The contract of a feed of leads, after contacts and places were brought to one form.

Grain: one row is one submission of one person. What a person said and no column holds is in
`answers`, word for word. A place is the best that the source gave, and place_precision says
how good; consent columns are all filled or all missing, and a lead without them waits.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, schema
from aiqleads.contracts.reso import with_reso_names
from aiqleads.domain import Intent

CONTRACT_VERSION = "lead_feed 1"

_LEAD, _HOME, _PERSON = "submission", "home offered or wanted", "person"
_STR, _FLOAT = "str", "float64"
_INTENTS = tuple(str(each) for each in Intent)
_COLUMNS = (
    Promise("key", _STR, "", _LEAD, "The source's own key of the submission.", True, longest=100),
    Promise("received_us", "Int64", "us, UTC", _LEAD, "When the person wrote."),
    Promise("intent", _STR, "", _LEAD, "What the person wants to do.", True, among=_INTENTS),
    Promise("name", _STR, "", _PERSON, "Full name.", longest=120),
    Promise("email", _STR, "", _PERSON, "E-mail, in lower case where that is safe.", longest=254),
    Promise("phone", _STR, "", _PERSON, "Phone number, E.164.", longest=20),
    Promise("address", _STR, "", _HOME, "Street address in one line.", longest=200),
    Promise("unit", _STR, "", _HOME, "Unit of the building.", longest=20),
    Promise("city", _STR, "", _HOME, "Postal city.", longest=80),
    Promise("state", _STR, "", _HOME, "Two letters of the US Postal Service.", longest=2),
    Promise("zip", _STR, "", _HOME, "Five digits.", longest=5),
    Promise("lon", _FLOAT, "degrees", _HOME, "Longitude, WGS 84.", False, -180, 180),
    Promise("lat", _FLOAT, "degrees", _HOME, "Latitude, WGS 84.", False, -90, 90),
    Promise(
        "place_precision",
        _STR,
        "",
        _HOME,
        "What lon and lat are.",
        True,
        among=("point", "zip", "city", "area", "none"),
    ),
    Promise("property_type", _STR, "", _HOME, "Kind of home.", True, longest=40),
    Promise(
        "ask_price_cents",
        _FLOAT,
        "cents",
        _LEAD,
        "Price asked, or top of the budget.",
        False,
        100,
        100_000_000_00,
    ),
    Promise("beds", _FLOAT, "rooms", _HOME, "Bedrooms.", False, 0, 50),
    Promise("baths", _FLOAT, "rooms", _HOME, "Bathrooms; a half bath is 0.5.", False, 0, 50),
    Promise("living_area_sqft", _FLOAT, "sqft", _HOME, "Floor area.", False, 100, 50_000),
    Promise("lot_area_sqft", _FLOAT, "sqft", _HOME, "Area of the lot.", False, 100, 1e8),
    Promise("year_built", _FLOAT, "year", _HOME, "Year of construction.", False, 1600, 2200),
    Promise("timeline", _STR, "", _LEAD, "When the person wants to act.", longest=40),
    Promise("financing", _STR, "", _LEAD, "How the person pays.", longest=40),
    Promise("answers", _STR, "", _LEAD, "Everything else they said, as JSON.", longest=20_000),
    Promise("consent_text", _STR, "", _LEAD, "What they agreed to.", longest=5_000),
    Promise("consent_version", _STR, "", _LEAD, "Version of that text.", longest=40),
    Promise("consent_channel", _STR, "", _LEAD, "Where they agreed.", longest=40),
    Promise("consent_us", "Int64", "us, UTC", _LEAD, "When they agreed."),
    Promise(
        "consent_proof", _STR, "", _LEAD, "Certificate, or the source's id of it.", longest=200
    ),
    Promise("consent_sellers", _FLOAT, "agents", _LEAD, "To how many it may go.", False, 1, 3),
    Promise("test", "bool", "", _LEAD, "Whether the sender calls it a test.", True),
    Promise("warnings", _STR, "", _LEAD, "What was odd but not wrong, '; ' between.", True),
)
#: a price is the one asked, or the most that a buyer would pay
PROMISES: tuple[Promise, ...] = with_reso_names(_COLUMNS, ask_price_cents="ListPrice")


def feed_schema(*, reachable: bool = True) -> pa.DataFrameSchema:
    """The promises and the rules of whole rows; reachable: whether a contact is asked for."""

    def real(rows: pd.DataFrame) -> pd.Series:
        return ~rows["test"].astype(bool)

    def can_be_reached(rows: pd.DataFrame) -> pd.Series:
        return rows["email"].notna() | rows["phone"].notna()

    def both_or_neither(rows: pd.DataFrame) -> pd.Series:
        return rows["lon"].isna().eq(rows["lat"].isna())

    rules = {
        "test: a real submission": real,
        "lon: lon and lat, or neither": both_or_neither,
    }
    if reachable:
        rules["email: an e-mail or a phone number that can be used"] = can_be_reached
    checks = [pa.Check(rule, error=text, ignore_na=False) for text, rule in rules.items()]
    return schema(PROMISES, checks)
