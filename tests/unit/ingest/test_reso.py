"""Source reso: pages and single entities of a RESO Web API server."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.listing_feed import STATUSES, feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.ingest import terms
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Payload, open_payload, payload_of
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import reso

FEEDS = Path(__file__).resolve().parents[2] / "data" / "feeds" / "reso"
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "reso"
FEED = Feed(Market(name="toledo", title="Toledo", timezone="America/New_York"))


def parse(payload: Payload) -> Parsed:
    (chunk,) = payload.chunks(reso.SOURCE.records)
    return reso.parse(chunk, FEED)


def one(**fields: object) -> Parsed:
    return parse(payload_of(json.dumps({"ListingKey": "k", **fields}).encode(), "entity"))


def value(column: str, **fields: object) -> object:
    found = one(**fields).rows[column].iloc[0]
    return None if pd.isna(found) else found


@pytest.fixture(scope="module")
def page() -> Parsed:
    return parse(open_payload(FEEDS / "page_1.json"))


def test_a_listing_comes_in_the_units_of_the_contract(page: Parsed) -> None:
    first = page.rows.loc[1]
    assert first.key == "RX-1001"
    assert first.mls_id == "1001"
    assert (first.status, first.offer) == ("Active Under Contract", "sale")
    assert first.property_type == "Single Family Residence"
    assert first.list_price_cents == 325_000_00
    assert first.listed == pd.Timestamp("2026-03-02")
    assert first.modified_us == 1_773_068_645_678_000
    assert (first.address, first.city, first.state, first.zip) == (
        "14 N Larkspur Avenue",
        "Toledo",
        "OH",
        "43604",
    )
    assert (first.beds, first.baths, first.living_area_sqft) == (3, 2.5, 1850)
    assert first.lot_area_sqft == 0.25 * 43_560
    assert (first.lon, first.lat) == (-83.5379, 41.6528)
    assert (first.year_built, first.days_on_market, first.agent_key) == (1957, 7, "AG-7")
    assert first.url == "https://homes.example.com/RX-1001"


def test_a_sale_with_metric_area_prose_address_and_no_place(page: Parsed) -> None:
    sold = page.rows.loc[2]
    assert (sold.status, sold.close_price_cents) == ("Closed", 185_000_00)
    assert (sold.listed, sold.closed) == (pd.Timestamp("2026-01-05"), pd.Timestamp("2026-02-27"))
    assert sold.modified_us == 1_772_344_923_000_000
    assert (sold.address, sold.unit, sold.city) == ("500 Madison Ave", "4B", "Toledo")
    assert sold.living_area_sqft == pytest.approx(70 * 10.7639104167)
    assert sold[["lon", "lat", "lot_area_sqft"]].isna().all()


def test_rows_of_a_repeated_listing_all_come(page: Parsed) -> None:
    assert page.rows.key.tolist() == ["RX-1001", "RX-1002", "RX-1001"]
    assert page.problems.empty
    assert failures(page.rows, feed_schema()).empty


def test_legacy_spelling_old_names_and_nulls() -> None:
    page = parse(open_payload(FEEDS / "page_2_legacy.json"))
    lease, nothing, _ = (page.rows.loc[row] for row in (1, 2, 3))
    assert (lease.key, lease.status, lease.offer) == ("2001", "Active Under Contract", "rent")
    assert (lease.property_type, lease.address) == ("Single Family Residence", "77 Quail Ct")
    assert (lease.baths, lease.lot_area_sqft, lease.lon, lease.lat) == (2, 6000, -83.6, 41.66)
    assert (nothing.key, nothing.status, nothing.property_type) == ("RX-2002", "Unknown", "unknown")
    assert pd.isna(nothing.modified_us)


def test_what_cannot_be_read_is_missing_and_a_problem_of_its_row() -> None:
    page = parse(open_payload(FEEDS / "page_2_legacy.json"))
    assert set(page.problems["index"]) == {3}
    assert dict(zip(page.problems.column, page.problems.rule, strict=True)) == {
        "status": "status: a StandardStatus of RESO",
        "list_price_cents": "list_price_cents: an amount in dollars",
        "listed": "listed: a date",
        "state": "state: a state of the US",
        "zip": "zip: a ZIP",
        "beds": "beds: a number",
        "living_area_sqft": (
            "living_area_sqft: an area in square feet, square meters, acres or hectares"
        ),
    }
    assert page.rows.loc[3, ["status", "state", "zip", "beds"]].isna().all()


@pytest.mark.parametrize(
    ("fields", "baths"),
    [
        ({"BathroomsFull": 2, "BathroomsHalf": 1, "BathroomsTotalInteger": 3}, 2.5),
        ({"BathroomsFull": 2, "BathroomsTotalInteger": 3}, 2.5),
        ({"BathroomsFull": 2}, 2),
        ({"BathroomsTotalInteger": 3}, 3),
        ({"BathroomsHalf": 1, "BathroomsTotalInteger": 3}, 2.5),
        ({"BathroomsHalf": 2}, 1),
        ({"BathroomsFull": 1, "BathroomsThreeQuarter": 1, "BathroomsOneQuarter": 1}, 2),
        ({"BathroomsFull": 3, "BathroomsTotalInteger": 2}, 3),
        ({"BathroomsTotal": 2}, 2),
        ({"BathroomsFull": 1, "BathroomsPartial": 1}, 1.5),
        ({}, None),
    ],
)
def test_baths(fields: dict[str, object], baths: object) -> None:
    assert value("baths", **fields) == baths


@pytest.mark.parametrize(
    ("fields", "area"),
    [
        ({"LotSizeSquareFeet": 100, "LotSizeAcres": 9}, 100),
        ({"LotSizeAcres": 2}, 87_120),
        ({"LotSizeArea": 2, "LotSizeUnits": "Acres"}, 87_120),
        ({"LotSizeArea": 100, "LotSizeUnits": "SquareMeters"}, 1_076.391),
        ({"LotSizeArea": 100}, None),
        ({"LotSizeUnits": "Acres"}, None),
    ],
)
def test_lots(fields: dict[str, object], area: object) -> None:
    expected = area if area is None else pytest.approx(area, rel=1e-6)
    assert value("lot_area_sqft", **fields) == expected


@pytest.mark.parametrize(
    ("fields", "address", "unit"),
    [
        ({"UnparsedAddress": "1 Elm St, Toledo, OH 43604", "City": "Toledo"}, "1 Elm St", None),
        ({"UnparsedAddress": "1 Elm St #7", "City": "Toledo"}, "1 Elm St", "7"),
        ({"UnparsedAddress": "1 Elm St"}, "1 Elm St", None),
        ({"StreetNumber": "5"}, None, None),
        ({"StreetName": "Main"}, "Main", None),
        ({}, None, None),
    ],
)
def test_addresses(fields: dict[str, object], address: object, unit: object) -> None:
    row = one(**fields).rows.iloc[0]
    assert (row.address, row.unit) == (address, unit)


@pytest.mark.parametrize("status", [each for each in STATUSES if each != "Unknown"])
def test_every_status_in_both_spellings(status: str) -> None:
    assert value("status", StandardStatus=status) == status
    assert value("status", StandardStatus=status.replace(" ", "")) == status


def test_an_entity_is_a_page_of_one() -> None:
    parsed = one(StandardStatus="Active", **{"@odata.context": "https://x.example.com"})
    assert parsed.rows.key.tolist() == ["k"]
    assert parsed.columns["StandardStatus"] == "text"


FIELDS = ["ListPrice", "City", "LivingArea", "LotSizeUnits", "Latitude", "YearBuilt"]
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from([*FIELDS, "ListingContractDate", "Coordinates"]), ODD),
        min_size=1,
        max_size=5,
    )
)
def test_odd_values_make_problems_not_crashes(records: list[dict[str, object]]) -> None:
    body = json.dumps({"value": records}).encode()
    parsed = parse(payload_of(body, "odd"))
    assert len(parsed.rows) == len(records)
    assert set(parsed.problems["index"]) <= set(parsed.rows.index)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("bad-property-payload-all-collection", ["abc123", "abc123"]),
        ("bad-property-payload-any-collection", ["abc123", "abc123"]),
        ("good-property-payload-all-collection", ["abc123", "abc123"]),
        ("good-property-payload-any-collection", ["abc123", "abc123"]),
        ("good-property-payload-count", ["abc123"]),
        ("good-property-payload-null", ["abc123"]),
        ("good-property-payload", ["abc123"]),
    ],
)
def test_payloads_of_the_commander(name: str, keys: list[str]) -> None:
    parsed = parse(open_payload(SHARED / "payloads" / f"{name}.json"))
    assert parsed.rows.key.tolist() == keys
    assert parsed.problems.empty
    assert failures(parsed.rows, feed_schema()).empty
    expected = "Unknown" if name.endswith("null") else "Active Under Contract"
    assert set(parsed.rows.status) == {expected}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["create-fails", "create-succeeds"])
def test_bodies_of_requests_parse_and_are_told_what_they_break(name: str) -> None:
    parsed = parse(open_payload(SHARED / "payloads" / f"{name}.json"))
    assert parsed.rows.address.tolist() == ["123 Main ST"]
    assert parsed.problems.rule.tolist() == ["status: a StandardStatus of RESO"]
    rules = set(failures(parsed.rows, feed_schema()).rule)
    assert "key: present" in rules
    assert ("baths: from 0 to 50 rooms" in rules) == (name == "create-fails")


@pytest.mark.shared_data
def test_the_dictionarys_words_are_known_in_both_spellings() -> None:
    with (SHARED / "dd-2.0-lookups.csv").open(encoding="utf-8", newline="") as file:
        words = [
            (row["LookupName"], row["StandardLookupValue"], row["LegacyODataValue"])
            for row in csv.DictReader(file)
        ]
    for name, standard, legacy in words:
        if name == "StandardStatus":
            assert terms.status(legacy) == terms.status(standard) == standard
        if name in ("PropertyType", "PropertySubType"):
            assert terms.kind(legacy) == terms.kind(standard) == standard
        if name in ("AreaUnits", "LotSizeUnits"):
            assert terms.area_factor(legacy) == terms.area_factor(standard)


@pytest.mark.shared_data
def test_the_names_that_are_read_stand_in_the_dictionary() -> None:
    with (SHARED / "dd-2.0-fields.csv").open(encoding="utf-8", newline="") as file:
        names = {r["StandardName"] for r in csv.DictReader(file) if r["ResourceName"] == "Property"}
    source = Path(reso.__file__).read_text()
    older = {"ListingKeyNumeric", "ListAgentKeyNumeric", "BathroomsTotal", "Coordinates"}
    read = {name for name in names if f'"{name}"' in source}
    assert len(read) > 35
    assert not older & names
