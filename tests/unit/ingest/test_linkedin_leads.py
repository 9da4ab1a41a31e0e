from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.linkedin_leads import SOURCE

FEEDS = Path(__file__).parents[2] / "data" / "feeds" / "linkedin_leads"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "lead_payloads"
FIELDS = {"501": "email", "502": "first_name", "503": "last_name", "504": "zip"}
CONSENT = {"text": "One agent may write.", "version": "1", "sellers": 1}
FORMS = {"3213": {"intent": "buy", "fields": FIELDS, "consent": CONSENT}}
Read = Callable[..., Parsed]


def test_question_ids_are_mapped_form_by_form(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "page.json", forms=FORMS)
    lead = made.rows.loc[1]
    assert lead["key"] == "resp-1-4"
    assert lead["received_us"] == 1_772_377_445_123_000
    assert lead[["name", "email", "zip", "intent"]].tolist() == [
        "Ira Fenn",
        "ira@example.com",
        "43604",
        "buy",
    ]
    assert json.loads(lead["answers"])["505"] == "a view of the river"
    assert lead["consent_text"] == "One agent may write."
    assert lead["consent_proof"] == "linkedin_leads:resp-1-4"
    assert made.problems[made.problems["index"] == 1].empty


def test_a_version_of_a_form_may_have_a_map_of_its_own(read_leads: Read) -> None:
    forms = {**FORMS, "3213,2": {"intent": "sell", "fields": {"501": "email"}}}
    lead = read_leads(SOURCE, FEEDS / "page.json", forms=forms).rows.loc[1]
    assert (lead["intent"], lead["name"]) == ("sell", None)


def test_a_response_with_its_form_needs_no_map(read_leads: Read) -> None:
    made = read_leads(SOURCE, FEEDS / "page.json", forms=FORMS)
    lead = made.rows.loc[2]
    assert lead[["name", "email", "intent"]].tolist() == ["Bea", "bea@example.com", "sell"]
    assert lead["consent_text"] is None
    assert lead["test"]
    assert made.problems.loc[made.problems["index"] == 2, "rule"].tolist() == [
        "test: a real submission"
    ]


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ({"id": "x"}, "answers: an object formResponse"),
        (
            {"leadGenFormResponse": "urn:li:leadGenFormResponse:1", "type": "LEAD_ACTION"},
            "answers: to be fetched by leadGenFormResponse",
        ),
        (
            {"id": "x", "formResponse": {"answers": 3, "consentResponses": "no"}},
            "intent: stated by the payload or by the feed file",
        ),
        (
            {"id": "x", "formResponse": {"answers": [{}]}, "submittedAt": "soon"},
            "intent: stated by the payload or by the feed file",
        ),
    ],
)
def test_other_objects_are_problems(read_leads: Read, record: object, rule: str) -> None:
    made = read_leads(SOURCE, json.dumps(record).encode())
    assert made.problems["rule"].tolist() == [rule]


@pytest.mark.shared_data
def test_the_published_event(read_leads: Read) -> None:
    fields = {"20502584796": "email", "20502643516": "first_name", "20502667260": "last_name"}
    made = read_leads(
        SOURCE,
        SHARED / "linkedin_lead_form_response.json",
        forms={"3213": {"intent": "buy", "fields": fields}},
    )
    assert made.rows.loc[1, "email"] == "test1@gmail.com"
    assert made.problems["rule"].tolist() == ["test: a real submission"]
