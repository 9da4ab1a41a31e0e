from __future__ import annotations

import csv
from pathlib import Path

import pytest

from aiqleads.contracts import lead_feed, listing_feed, sale_feed
from aiqleads.contracts.promise import Promise
from aiqleads.contracts.reso import with_reso_names

FIELDS = Path(__file__).resolve().parents[4] / "shared" / "data" / "reso" / "dd-2.0-fields.csv"
LOOKUPS = FIELDS.with_name("dd-2.0-lookups.csv")


def _column(path: Path, of: dict[str, str], name: str) -> set[str]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {row[name] for row in rows if all(row[key] == value for key, value in of.items())}


def test_promises_take_the_names_of_the_dictionary() -> None:
    bare = [Promise(name, "str", "", "home", "") for name in ("city", "key", "mood")]
    assert [each.reso for each in with_reso_names(bare, key="ListingKey")] == [
        "City",
        "ListingKey",
        "",
    ]


@pytest.mark.parametrize("contract", [sale_feed, listing_feed, lead_feed])
def test_most_columns_of_homes_have_a_name_there(contract: object) -> None:
    promises: tuple[Promise, ...] = contract.PROMISES
    named = [each.name for each in promises if each.reso]
    assert {"beds", "living_area_sqft", "lon", "property_type"} <= set(named)
    assert len(named) == len({each.reso for each in promises if each.reso})


@pytest.mark.shared_data
def test_every_name_is_in_the_dictionary() -> None:
    known = _column(FIELDS, {"ResourceName": "Property"}, "StandardName")
    assert len(known) == 652
    for contract in (sale_feed, listing_feed, lead_feed):
        assert {each.reso for each in contract.PROMISES if each.reso} <= known


@pytest.mark.shared_data
def test_statuses_are_the_dictionary_s() -> None:
    known = _column(LOOKUPS, {"LookupName": "StandardStatus"}, "StandardLookupValue")
    assert set(listing_feed.STATUSES) - {"Unknown"} == known
