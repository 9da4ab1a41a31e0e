"""Source simplyrets: answers of GET /properties."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.contracts.listing_feed import feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Payload, open_payload, payload_of
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import simplyrets

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parents[1] / "shared" / "data" / "reso" / "simplyrets_listings.json"
FEED = Feed(Market(name="toledo", title="Toledo", timezone="America/New_York"))


def parse(payload: Payload) -> Parsed:
    (chunk,) = payload.chunks(simplyrets.SOURCE.records)
    return simplyrets.parse(chunk, FEED)


def one(**fields: object) -> pd.Series:
    body = json.dumps([{"mlsId": 1, **fields}]).encode()
    return parse(payload_of(body, "one")).rows.iloc[0]


@pytest.fixture(scope="module")
def listings() -> Parsed:
    return parse(open_payload(ROOT / "data" / "feeds" / "simplyrets" / "listings.json"))


def test_listings_hold_the_contract(listings: Parsed) -> None:
    assert listings.problems.empty
    assert failures(listings.rows, feed_schema()).empty
    assert listings.columns["property.area"] == "number"


def test_a_sale_whose_baths_are_counted_by_kind_and_lot_by_sides(listings: Parsed) -> None:
    sale = listings.rows.loc[1]
    assert (sale.key, sale.mls_id, sale.offer) == ("5501", "TOL-5501", "sale")
    assert sale.status == "Active Under Contract"
    assert sale.property_type == "Single Family Residence"
    assert sale.baths == 2 + 0.75 + 0.5
    assert sale.lot_area_sqft == 60 * 120
    assert (sale.address, sale.unit, sale.state) == ("88 Birch Court", "3", "OH")
    assert sale.listed == pd.Timestamp("2026-03-02")  # 02:30 UTC is the evening before
    assert sale.modified_us == 1_773_230_400_500_000
    assert (sale.lon, sale.lat, sale.agent_key) == (-83.59, 41.65, "a-31")


def test_a_rent_that_closed(listings: Parsed) -> None:
    rent = listings.rows.loc[2]
    assert (rent.offer, rent.status, rent.property_type) == ("rent", "Closed", "Residential Lease")
    assert (rent.list_price_cents, rent.close_price_cents) == (1_250_00, 1_200_00)
    assert rent.closed == pd.Timestamp("2026-02-28")
    assert (rent.address, rent.zip, rent.baths) == ("9 Heron Way", "43611", 1)
    assert rent.lot_area_sqft == 21_780
    assert rent[["unit", "living_area_sqft", "lon", "lat"]].isna().all()


@pytest.mark.parametrize(
    ("written", "area"),
    [
        ("75X   100", 7_500),
        ("50.5' x 100'", 5_050),
        ("0.25 acres", 10_890),
        ("5,000 sqft", 5_000),
        (6_000, 6_000),
        ("Irregular", None),
        ("Corner, 3 sides", None),
        (None, None),
    ],
)
def test_lots_as_people_write_them(written: object, area: object) -> None:
    found = one(property={"lotSize": written}).lot_area_sqft
    assert (None if pd.isna(found) else found) == area


@pytest.mark.parametrize(
    ("given", "kind", "offer"),
    [
        ({"type": "RES"}, "Residential", "sale"),
        ({"type": "CND"}, "Condominium", "sale"),
        ({"type": "Rental", "subType": "Townhouse"}, "Townhouse", "rent"),
        ({"type": "MLF"}, "Multi Family", "sale"),
        ({}, "unknown", "sale"),
    ],
)
def test_types(given: dict[str, object], kind: str, offer: str) -> None:
    row = one(property=given)
    assert (row.property_type, row.offer) == (kind, offer)


@pytest.mark.shared_data
def test_the_public_demo() -> None:
    parsed = parse(open_payload(SHARED))
    rows = parsed.rows
    assert rows.key.tolist() == ["1005192", "1005221"]
    assert rows.baths.tolist() == [5 + 6 / 2, 6.5]
    assert rows.state.tolist() == ["TX", "TX"]
    assert rows.lot_area_sqft.tolist() == [127 * 146, 7_500]
    assert parsed.problems.empty
    assert failures(rows, feed_schema()).empty
