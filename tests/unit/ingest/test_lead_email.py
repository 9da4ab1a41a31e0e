from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.lead_email import SOURCE

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "lead_email"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
Read = Callable[..., Parsed]


def test_meta_tags_anywhere_in_the_html_part(read_leads: Read) -> None:
    consent = {"text": "The portal's terms.", "version": "7", "sellers": 1}
    made = read_leads(SOURCE, FEEDS / "meta_tags.eml", forms={"HomesWeb": {"consent": consent}})
    assert made.problems.empty
    lead = made.rows.loc[1]
    assert lead["key"] == "tags-1@homesweb.example"
    assert lead["received_us"] == 1_772_634_600_000_000
    assert lead[["name", "email", "phone", "intent"]].tolist() == [
        "José Marsh",
        "jose.marsh@example.com",
        "+14195550113",
        "buy",
    ]
    assert lead[["address", "city", "state", "zip"]].tolist() == [
        "5 Pearl Street",
        "Toledo",
        "OH",
        "43605",
    ]
    assert lead[["ask_price_cents", "timeline", "financing"]].tolist() == [
        22_500_000.0,
        "1-3 months",
        "pre-qualified",
    ]
    assert lead["consent_text"] == "The portal's terms."
    answers = json.loads(lead["answers"])
    assert answers["lead_message"] == 'Is it "quiet" there? & when can I see it?'
    assert answers["lead_mls"] == "A5712345"
    assert answers["phone_extension"] == "12"
    assert answers["lead_primary_zip"] == "43606"
    assert answers["lead_assigned_agent_email"] == "pine@example.org"


def test_labelled_lines_of_plain_text(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "labelled.eml")
    assert made.problems.empty
    lead = made.rows.loc[1]
    assert lead[["name", "email", "phone"]].tolist() == [
        "Tess Brook",
        "tess@example.com",  # to whom an answer goes
        "+14195550114",
    ]
    assert lead[["address", "unit", "zip"]].tolist() == ["18 Quarry Rd", "2", "43612"]
    assert lead[["ask_price_cents", "beds"]].tolist() == [14_990_000.0, 2.0]
    answers = json.loads(lead["answers"])
    assert answers["Message"] == "Hello,\nI would like to see it: Sunday?\nThanks"
    assert answers["subject"] == "Someone is interested in your listing"


def test_labelled_lines_in_a_table_of_html(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "table.eml")
    assert made.problems.empty
    lead = made.rows.loc[1]
    assert lead[["name", "email", "intent", "address", "city", "state"]].tolist() == [
        "Hugo Dale",
        "hugo@example.com",
        "sell",
        "77 Violet Ct",
        "Toledo",
        "OH",
    ]
    assert lead["place_precision"] == "city"
    assert lead["key"].startswith("sha256:")
    assert lead["warnings"] == "time not readable"


def test_news_are_no_lead(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "newsletter.eml")
    assert made.problems["rule"].tolist() == [
        "email: a lead's meta tags or labelled lines in the mail"
    ]


def test_a_renter_is_neither_buyer_nor_seller(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "renter.html")
    assert made.problems["rule"].tolist() == ["intent: to buy or to sell, not to rent"]


def test_the_form_may_be_the_sender_s_domain(read_leads: Read) -> None:
    forms = {"portal.example": {"intent": "sell", "property_type": "Apartment"}}
    lead = read_leads(SOURCE, FEEDS / "labelled.eml", forms=forms).rows.loc[1]
    assert (lead["intent"], lead["property_type"]) == ("sell", "Apartment")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'charset="iso-8859-1"', b'charset="klingon"'),
        (b"multipart/alternative", b"multipart/"),
        (b"Message-ID: <tags-1@homesweb.example>", b"Message-ID: <" + b"x" * 200 + b">"),
        (b"From: HomesWeb <leads@homesweb.example>", b"From: =?utf-8?q?=?= <<>,;:"),
    ],
)
def test_odd_mails_are_read_or_refused(read_leads: Read, old: bytes, new: bytes) -> None:
    body = (FEEDS / "meta_tags.eml").read_bytes()
    assert old in body
    made = read_leads(SOURCE, body.replace(old, new))
    assert len(made.rows) == 1


@pytest.mark.parametrize("name", [b"From", b"Date", b"Subject", b"Content-Type", b"Message-ID"])
@pytest.mark.parametrize("value", [b"(" * 90_000, b"1 " * 40_000, b"\xff\xc3\xa9 =?x?q?=?="])
def test_a_hostile_header_does_no_harm(read_leads: Read, name: bytes, value: bytes) -> None:
    head = b"To: intake@example.com\nMIME-Version: 1.0\n" + name + b": " + value
    made = read_leads(SOURCE, head + b"\n\nName: Tess\nEmail: tess@example.com\n")
    assert len(made.rows) == 1


def test_headers_beyond_ascii_are_read(read_leads: Read) -> None:
    head = "From: a@example.org\nSubject: {}\n\nEmail: tess@example.com\n"
    for subject in ("Für José", "=?iso-8859-1?q?F=FCr_Jos=E9?="):
        lead = read_leads(SOURCE, head.format(subject).encode()).rows.loc[1]
        assert json.loads(lead["answers"])["subject"] == "Für José"


@pytest.mark.shared_data
def test_the_specification_s_example(read_leads: Read) -> None:
    made = read_leads(SOURCE, SHARED / "topproducer_lead_email.html")
    assert made.problems.empty
    assert made.rows.loc[1, ["name", "phone", "intent"]].tolist() == [
        "John Smith",
        "+17035551212",
        "buy",
    ]
