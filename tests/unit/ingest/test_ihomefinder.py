from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.ihomefinder import SOURCE

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "ihomefinder"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
Read = Callable[..., Parsed]


def test_the_place_is_the_listing_s(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "leads.xml")
    lead = made.rows.loc[1]
    assert lead[["address", "unit", "city", "state", "zip", "place_precision"]].tolist() == [
        "211 ELM ST",
        "5",
        "Toledo",
        "OH",
        "43604",
        "zip",
    ]
    assert lead[["name", "email", "phone", "intent"]].tolist() == [
        "Cora Heron",
        "cora@example.com",
        "+14195550111",
        "buy",
    ]
    assert lead[["ask_price_cents", "beds", "baths"]].tolist() == [21_000_000.0, 3.0, 1.5]
    answers = json.loads(lead["answers"])
    assert answers["message"] == "Is the roof new? Call me."
    assert answers["phone"] == "419-555-0112"
    assert answers["zip"] == "43560"  # where she lives
    assert answers["request"] == "Listing Information Request"


def test_date_and_time_are_the_market_s(read_leads: Read) -> None:
    rows = read_leads(SOURCE, FEEDS / "leads.xml").rows
    # 15:23:37 in New York, five hours behind before summer time begins
    assert rows.loc[1, "received_us"] == 1_772_655_817_000_000
    assert rows.loc[2, "warnings"] == "time not readable"


def test_without_a_listing_the_person_s_address_is_the_place(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "leads.xml")
    lead = made.rows.loc[2]
    assert lead[["address", "city", "state", "zip"]].tolist() == [
        "12 Plover Way",
        "Toledo",
        "OH",
        "43607",
    ]
    assert json.loads(lead["answers"])["note"] == "Just looking around"


def test_a_lead_without_a_contact_is_a_problem(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "leads.xml")
    assert made.problems[["index", "rule"]].values.tolist() == [
        [3, "key: a Lead element with a Contact"]
    ]


def test_the_same_lead_again_has_the_same_key(read_leads: Read) -> None:
    keys = [read_leads(SOURCE, FEEDS / "leads.xml").rows["key"].tolist() for _ in range(2)]
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]


@pytest.mark.shared_data
def test_the_vendor_s_sample(read_leads: Read) -> None:
    made = read_leads(SOURCE, SHARED / "ihomefinder_lead.xml")
    assert made.problems.empty
    assert made.rows.loc[1, ["name", "address", "city", "state", "zip"]].tolist() == [
        "Hillary Homebuyer",
        "3000 MAPLE DR",
        "Cameron Park",
        "CA",
        "95682",
    ]
