from __future__ import annotations

import json

import pandas as pd
import pytest

from aiqleads.domain import Intent
from aiqleads.ingest.answers import (
    Forms,
    Submission,
    content_key,
    parsed,
    question_key,
    read_area,
    read_financing,
    read_intent,
    read_price,
    read_property_type,
    read_rooms,
    read_timeline,
    read_year,
)
from aiqleads.ingest.feeds import Feed, Options
from aiqleads.ingest.market import Market


@pytest.mark.parametrize(
    ("text", "dollars"),
    [
        ("$300k-$400k", 400_000),
        ("$300k_-_$400k", 400_000),
        ("300-400k", 400_000),
        ("$300,000 to $400,000", 400_000),
        ("under 500K", 500_000),
        ("1.2M", 1_200_000),
        ("$1 million", 1_000_000),
        ("250 thousand", 250_000),
        ("185000.50", 185_000.5),
        ("400", None),
        ("as cheap as can be", None),
    ],
)
def test_prices(text: str, dollars: float | None) -> None:
    assert read_price(text) == (None if dollars is None else dollars * 100)


@pytest.mark.parametrize(
    ("text", "rooms"),
    [
        ("3", 3),
        ("3+", 3),
        ("3-4 beds", 3),
        ("2.5", 2.5),
        ("2 1/2", 2.5),
        ("2½", 2.5),
        ("2_and_a_half", 2.5),
        ("Three", 3),
        ("studio", 0),
        ("some", None),
        ("2026", None),
    ],
)
def test_rooms(text: str, rooms: float | None) -> None:
    assert read_rooms(text) == rooms


@pytest.mark.parametrize(
    ("text", "sqft"),
    [
        ("1,800 sq ft", 1_800),
        ("1500-2000", 1_500),
        ("2k", 2_000),
        ("0.25 acres", 10_890),
        ("big", None),
    ],
)
def test_areas(text: str, sqft: float | None) -> None:
    assert read_area(text) == sqft


@pytest.mark.parametrize(("text", "year"), [("built in 1954", 1954), ("54", None)])
def test_years(text: str, year: float | None) -> None:
    assert read_year(text) == year


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ASAP", "now"),
        ("as_soon_as_possible", "now"),
        ("within 30 days", "now"),
        ("1-3_months", "1-3 months"),
        ("<90 days", "1-3 months"),
        ("in 5 months", "3-6 months"),
        ("6 to 12 months", "6-12 months"),
        ("1 year", "6-12 months"),
        ("more than 12 months", "over 12 months"),
        ("12+ months", "over 12 months"),
        ("2 years", "over 12 months"),
        ("just browsing", "just browsing"),
        ("w" * 41, None),
    ],
)
def test_timelines(text: str, words: str | None) -> None:
    assert read_timeline(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("All cash", "cash"),
        ("already_pre-approved", "pre-approved"),
        ("yes", "pre-approved"),
        ("financing-pre-approval", "pre-approved"),
        ("already-pre-qualified", "pre-qualified"),
        ("No", "loan needed"),
        ("not yet pre-approved", "loan needed"),
        ("FHA loan", "loan needed"),
        ("a rich aunt", "a rich aunt"),
        ("w" * 41, None),
    ],
)
def test_financing(text: str, words: str | None) -> None:
    assert read_financing(text) == words


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Single-family home", "Single Family Residence"),
        ("town_house", "Townhouse"),
        ("Condo", "Condominium"),
        ("duplex", "Multi Family"),
        ("manufactured home", "Mobile Home"),
        ("flat", "Apartment"),
        ("vacant land", "Unimproved Land"),
        ("castle", None),
    ],
)
def test_kinds_of_homes(text: str, kind: str | None) -> None:
    assert read_property_type(text) == kind


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Buyer", Intent.BUY),
        ("I_want_to_sell", Intent.SELL),
        ("buy and sell", None),
        ("Renter", None),
    ],
)
def test_intents(text: str, intent: Intent | None) -> None:
    assert read_intent(text) == intent


def test_questions_are_looked_up_without_case_and_signs() -> None:
    assert question_key("What's your Budget?") == "whats_your_budget"
    assert question_key("zip_code") == "zip_code"


def test_the_same_words_have_the_same_key() -> None:
    assert content_key("a  b", "c") == content_key("a b", "c")
    assert content_key("a", "b c") != content_key("a b", "c")


def _row(market: Market, told: list[tuple[str, str]], **options: object) -> pd.Series:
    forms = Forms(Feed(market, Options.model_validate({"intent": "buy", **options})))
    each = Submission(row=4, key="k", told=told, asked=forms.of("1"), received_us=5)
    return parsed([each], [], "some_source", pd.RangeIndex(4, 5), {}).rows.loc[4]


def test_the_home_asked_about_comes_before_where_the_person_lives(tiny: Market) -> None:
    row = _row(tiny, [("zip", "43604"), ("city", "Toledo"), ("property_zip", "43215")])
    assert row[["zip", "city"]].tolist() == ["43215", None]
    assert json.loads(row["answers"]) == {"city": "Toledo", "zip": "43604"}


def test_what_cannot_be_read_stays_word_for_word(tiny: Market) -> None:
    row = _row(tiny, [("Budget", "low"), ("Bedrooms", "many"), ("bedrooms", "3")])
    assert row["warnings"] == "ask_price not readable; beds not readable"
    assert json.loads(row["answers"]) == {"Budget": "low", "bedrooms": "3", "Bedrooms": "many"}


def test_two_answers_to_one_question_are_both_kept(tiny: Market) -> None:
    row = _row(tiny, [("pets", "cat"), ("pets", "dog"), ("empty", "  ")])
    assert json.loads(row["answers"]) == {"pets": "cat, dog"}


def test_a_mapped_question_comes_before_a_guessed_one(tiny: Market) -> None:
    told = [("phone", "1"), ("rueckruf", "2")]
    row = _row(tiny, told, fields={"Rueckruf": "phone"})
    assert row["phone"] == "2"
    assert json.loads(row["answers"]) == {"phone": "1"}


def test_a_certificate_is_the_proof_of_consent(tiny: Market) -> None:
    told = [("xxTrustedFormCertUrl", "https://cert.example.com/1")]
    consent = {"text": "Yes.", "version": "1", "sellers": 3, "channel": "phone"}
    row = _row(tiny, told, consent=consent)
    assert row[["consent_proof", "consent_channel"]].tolist() == [
        "https://cert.example.com/1",
        "phone",
    ]
    assert _row(tiny, told)["consent_proof"] is None


def test_a_question_of_consent_that_was_not_asked_is_not_answered(tiny: Market) -> None:
    consent = {"text": "Yes.", "version": "1", "sellers": 3}
    row = _row(tiny, [], consent=consent, fields={"agree": "consent_text"})
    assert (row["consent_text"], row["warnings"]) == (None, "consent not given")
