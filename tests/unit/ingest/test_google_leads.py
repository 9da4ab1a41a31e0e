from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.google_leads import SOURCE

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "google_leads"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
FORMS = {
    "40000000000": {
        "intent": "sell",
        "property_type": "Condominium",
        "fields": {
            "Roughly, what is it worth?": "ask_price_cents",
            "QID_79": "consent_text",
        },
        "consent": {"text": "Two agents may call.", "version": "3", "sellers": 2},
    }
}
Read = Callable[..., Parsed]


def test_columns_of_the_form_become_columns(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "seller.json", forms=FORMS)
    assert made.problems.empty
    lead = made.rows.loc[1]
    assert lead["key"] == "TeSter-123-ABCDEFGHIJKLMNOP"
    assert lead["received_us"] == 1_772_445_600_000_000
    assert lead[["name", "email", "phone"]].tolist() == [
        "Nora O'Brook",
        "nora@example.com",
        "+14195550103",
    ]
    assert lead[["address", "unit", "city", "state", "zip"]].tolist() == [
        "7 Oak Dr",
        "2",
        "Toledo",
        "OH",
        "43604",
    ]
    assert (lead["intent"], lead["property_type"]) == ("sell", "Condominium")
    assert lead["ask_price_cents"] == 27_500_000.0
    assert (lead["consent_text"], lead["consent_proof"]) == (
        "Two agents may call.",
        "google_leads:TeSter-123-ABCDEFGHIJKLMNOP",
    )


def test_unknown_fields_are_kept_and_the_key_is_not(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "seller.json", forms=FORMS)
    answers = json.loads(made.rows.loc[1, "answers"])
    assert answers["QID_77"] == "no"
    assert answers["a_field_of_next_year"] == "7"
    assert answers["gcl_id"] == "made-up-click"
    assert "the-key-nobody-keeps" not in made.rows.to_json()
    assert "google_key" not in made.columns


def test_a_no_to_the_question_of_consent_is_no_consent(read_leads: Read) -> None:
    body = (FEEDS / "seller.json").read_bytes().replace(b"Yes, please", b"No")
    lead = read_leads(SOURCE, body, forms=FORMS).rows.loc[1]
    assert lead["consent_text"] is None
    assert lead["warnings"] == "consent not given"


def test_a_test_lead_is_refused(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "test.json", forms=FORMS)
    assert made.problems["rule"].tolist() == ["test: a real submission"]


@pytest.mark.parametrize(
    "record",
    [{"lead_id": "1"}, {"user_column_data": "x"}, {"user_column_data": {"column_id": "EMAIL"}}],
)
def test_a_body_without_answers_is_a_problem(read_leads: Read, record: object) -> None:
    made = read_leads(SOURCE, json.dumps(record).encode())
    assert made.problems["rule"].tolist() == ["answers: a list user_column_data"]


def test_odd_answers_are_passed_over(read_leads: Read) -> None:
    told = [
        1,
        {"string_value": "x"},
        {"column_id": "EMAIL"},
        {"column_id": "EMAIL", "string_value": 5},
    ]
    record = {"lead_id": 7, "user_column_data": told, "lead_submit_time": "noon"}
    made = read_leads(SOURCE, json.dumps(record).encode(), intent="buy")
    assert made.rows.loc[1, "key"] == "7"
    assert made.rows.loc[1, "warnings"] == "time not readable; e-mail not usable"


@pytest.mark.shared_data
def test_the_documentation_s_sample(read_leads: Read) -> None:
    made = read_leads(SOURCE, SHARED / "google_ads_lead_form.json", intent="buy")
    lead = made.rows.loc[1]
    assert made.problems.empty
    assert lead[["name", "email", "phone"]].tolist() == [
        "Jane Doe",
        "jane@example.com",
        "+11234567890",
    ]
    assert lead["warnings"] == "phone possible but not assigned"
    assert lead["place_precision"] == "none"
