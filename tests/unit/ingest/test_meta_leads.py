from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.errors import InvalidInput
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.meta_leads import SOURCE, TO_FETCH, leadgen_ids

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "meta_leads"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
CONSENT = {"text": "Up to two agents may call me.", "version": "2026-01", "sellers": 2}
FORMS = {
    "7001": {"intent": "buy", "consent": CONSENT, "fields": {"may_be_called": "consent_text"}},
    "7002": {
        "fields": {"worum geht es": "intent", "was_ist_es_wert": "ask_price_cents"},
        "consent": CONSENT,
    },
}
Read = Callable[..., Parsed]


def test_standard_and_custom_questions_become_columns(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "form_page.json", forms=FORMS)
    lead = made.rows.loc[1]
    assert lead["key"] == "120200000000001"
    assert lead["received_us"] == 1_772_377_445_000_000
    assert (lead["name"], lead["email"], lead["phone"]) == (
        "ada HAZEL",
        "ada.hazel@example.com",
        "+14195550101",
    )
    place = lead[["address", "unit", "city", "state", "zip", "place_precision"]].tolist()
    assert place == ["12 Maple Street", "4B", "Toledo", "OH", "43604", "zip"]
    assert (lead["ask_price_cents"], lead["beds"]) == (40_000_000.0, 3.0)
    assert (lead["timeline"], lead["financing"]) == ("1-3 months", "pre-approved")
    answers = json.loads(lead["answers"])
    assert answers["favourite_rooms"] == "kitchen, porch"
    assert answers["platform"] == "ig"
    assert made.problems[made.problems["index"] == 1].empty


def test_a_box_that_the_feed_file_names_is_the_consent(read_leads: Read) -> None:
    lead = read_leads(SOURCE, FEEDS / "form_page.json", forms=FORMS).rows.loc[1]
    assert lead["consent_text"] == CONSENT["text"]
    assert (lead["consent_version"], lead["consent_sellers"]) == ("2026-01", 2.0)
    assert lead["consent_proof"] == "meta_leads:120200000000001"
    assert lead["consent_us"] == lead["received_us"]
    assert json.loads(lead["answers"])["consent box newsletter"] == "no"


def test_without_a_named_box_all_have_to_be_ticked(read_leads: Read) -> None:
    forms = {"7001": {"intent": "buy", "consent": CONSENT}}
    lead = read_leads(SOURCE, FEEDS / "form_page.json", forms=forms).rows.loc[1]
    assert lead["consent_text"] is None
    assert "consent not given" in lead["warnings"]


def test_intent_and_price_of_a_form_of_one_s_own(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "form_page.json", forms=FORMS)
    lead = made.rows.loc[2]
    assert (lead["intent"], lead["ask_price_cents"]) == ("sell", 120_000_000.0)
    assert lead["name"] == "Otto Thorn"
    assert lead["consent_text"] is None  # the box was not ticked


def test_a_test_lead_is_refused(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "form_page.json", forms=FORMS)
    assert made.rows.loc[3, "test"]
    assert (
        "test: a real submission" in made.problems.loc[made.problems["index"] == 3, "rule"].tolist()
    )


def test_a_form_without_intent_is_a_problem(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "form_page.json")
    rules = made.problems.loc[made.problems["index"] == 1, "rule"].tolist()
    assert rules == ["intent: stated by the payload or by the feed file"]


def test_a_webhook_says_what_to_fetch(read_leads: Read) -> None:
    body = FEEDS / "webhook.json"
    assert leadgen_ids(body.read_bytes()) == ["120200000000001", "120200000000002"]
    made = read_leads(SOURCE, body)
    assert made.problems["rule"].tolist() == [TO_FETCH]
    assert made.problems["value"].tolist() == ["120200000000001, 120200000000002"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"entry": 1}',
        b'{"entry": [1, {"changes": 2}, {"changes": [3, {"field": "leadgen", "value": 4}]}]}',
        b'{"entry": [{"changes": [{"field": "leadgen", "value": {"leadgen_id": null}}]}]}',
    ],
)
def test_other_bodies_announce_no_lead(body: bytes) -> None:
    assert leadgen_ids(body) == []


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ({"id": "1", "form_id": "7001"}, "answers: field_data or a webhook's entry"),
        ({"id": {}, "field_data": 5, "form_id": "7001"}, "key: present"),
        ({"id": "1", "field_data": [4, {"name": 5}], "form_id": "7001"}, "email: an e-mail or a"),
    ],
)
def test_odd_objects_are_problems(read_leads: Read, record: object, rule: str) -> None:
    made = read_leads(SOURCE, json.dumps(record).encode(), forms=FORMS)
    assert any(each.startswith(rule) for each in made.problems["rule"])


def test_a_time_that_cannot_be_read_is_a_warning(read_leads: Read) -> None:
    field = {"name": "email", "values": [{"odd": "a@example.com"}, None]}
    record = {"id": "1", "created_time": "soon", "form_id": "7001", "field_data": [field]}
    lead = read_leads(SOURCE, json.dumps(record).encode(), forms=FORMS).rows.loc[1]
    assert lead["warnings"].startswith("consent not given; time not readable") or (
        "time not readable" in lead["warnings"]
    )


def test_a_column_that_the_contract_lacks_is_refused(read_leads: Read) -> None:
    with pytest.raises(InvalidInput, match="no column 'shoe_size'"):
        read_leads(SOURCE, FEEDS / "form_page.json", fields={"shoes": "shoe_size"})


@pytest.mark.shared_data
def test_the_documentation_s_samples(read_leads: Read) -> None:
    made = read_leads(SOURCE, SHARED / "meta_lead_retrieve.json", intent="buy")
    assert made.rows.loc[1, ["name", "email"]].tolist() == ["Joe Example", "joe@example.com"]
    assert json.loads(made.rows.loc[1, "answers"])["car_make"] == "Honda"
    assert made.problems.empty
    body = SHARED / "meta_leadgen_webhook.json"
    assert leadgen_ids(body.read_bytes()) == ["444444444444"]
    assert read_leads(SOURCE, body).problems["rule"].tolist() == [TO_FETCH]
