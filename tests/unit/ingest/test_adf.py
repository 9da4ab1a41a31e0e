from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.adf import ABOUT_A_VEHICLE, SOURCE

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "adf"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
Read = Callable[..., Parsed]
MAIL = (FEEDS / "mail.eml").read_bytes()


def _rules(made: Parsed, row: int) -> list[str]:
    return list(made.problems.loc[made.problems["index"] == row, "rule"])


def test_a_prospect_about_a_home(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "prospects.xml")
    lead = made.rows.loc[1]
    assert _rules(made, 1) == []
    assert lead["key"] == "HomesWeb:HW-1001"
    assert lead["received_us"] == 1_772_543_700_000_000
    assert lead[["name", "email", "phone"]].tolist() == [
        "Vera M. Garnet",
        "vera@example.com",
        "+14195550105",  # the preferred one of three
    ]
    assert lead[["address", "unit", "city", "state", "zip"]].tolist() == [
        "40 Birch Ave Rear house",
        "3",
        "Toledo",
        "OH",
        "43609",
    ]
    assert lead[["intent", "property_type", "financing", "timeline"]].tolist() == [
        "buy",
        "Condominium",
        "cash",
        "3-6 months",
    ]
    assert lead["ask_price_cents"] == 18_500_000.0
    answers = json.loads(lead["answers"])
    assert answers["phone"] == "419-555-0104, 419-555-0199"
    assert answers["message"] == "Please call\nafter six."


def test_a_seller_without_a_time_or_an_id(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "prospects.xml")
    lead = made.rows.loc[2]
    assert _rules(made, 2) == []
    assert (lead["intent"], lead["property_type"]) == ("sell", "Single Family Residence")
    assert lead["key"].startswith("sha256:")
    assert lead["warnings"] == "time not readable"


def test_vehicles_and_leases_are_refused(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "prospects.xml")
    assert _rules(made, 3) == [ABOUT_A_VEHICLE]
    assert _rules(made, 4) == ["intent: to buy or to sell, not to rent"]


def test_a_mail_may_carry_it(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "mail.eml", intent="buy")
    assert made.problems.empty
    assert made.rows.loc[1, ["key", "name", "email"]].tolist() == [
        "Mailer:77",
        "José Canal",
        "jose@example.com",
    ]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (MAIL.replace(b"<adf>", b"<afd>"), "key: a mail with ADF in it"),
        (MAIL.replace(b"</prospect>", b""), "key: ADF that is well-formed XML"),
        (MAIL.replace(b"prospect>", b"prospekt>"), "key: one prospect in a mail"),
        (MAIL.replace(b"customer>", b"client>"), "key: a prospect with a customer"),
        (
            MAIL.replace(b"<adf>", b'<adf><!DOCTYPE a [<!ENTITY b "c">]>'),
            "key: ADF that is well-formed XML",
        ),
    ],
)
def test_broken_mails_are_problems(read_leads: Read, body: bytes, rule: str) -> None:
    assert read_leads(SOURCE, body, intent="buy").problems["rule"].tolist() == [rule]


def test_an_unknown_character_set_is_read_as_utf_8(read_leads: Read) -> None:
    body = MAIL.replace(b'"utf-8"', b'"klingon"')
    assert read_leads(SOURCE, body, intent="buy").rows.loc[1, "name"] == "José Canal"


def test_a_price_that_is_none_is_a_warning(read_leads: Read) -> None:
    body = (FEEDS / "prospects.xml").read_bytes().replace(b"$185,000.00", b"call us")
    lead = read_leads(SOURCE, body).rows.loc[1]
    assert "ask_price not readable" in lead["warnings"]


@pytest.mark.shared_data
def test_the_published_example_is_about_a_car(read_leads: Read) -> None:
    made = read_leads(SOURCE, SHARED / "adf_1.0_lead.xml")
    assert made.problems["rule"].tolist() == [ABOUT_A_VEHICLE]
    assert made.problems["value"].tolist() == ["1999 Chevrolet Blazer"]
