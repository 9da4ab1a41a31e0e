from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from aiqleads.contracts.lead_feed import PROMISES, feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.ingest.columns import contract_frame
from aiqleads.ingest.market import Market
from aiqleads.ingest.people import (
    city_point,
    clean,
    read_address,
    read_state,
    read_zip,
    tidy_name,
)
from aiqleads.ingest.reach import read_email, read_phone

_POSSIBLE = "phone possible but not assigned"


def _lead(market: Market, **given: object) -> pd.Series:
    columns = {
        "key": ["k"],
        "intent": ["buy"],
        "property_type": ["unknown"],
        "place_precision": ["none"],
        "warnings": [""],
        "test": [False],
        **{name: [value] for name, value in given.items()},
    }
    rows = contract_frame(PROMISES, columns, pd.RangeIndex(7, 8))
    made = clean(rows, market)
    assert list(made.columns) == list(rows.columns)
    assert made.index.equals(rows.index)
    assert made.dtypes.equals(rows.dtypes)
    return made.iloc[0]


@pytest.mark.parametrize(
    "written",
    [
        "4195550123",
        "419-555-0123",
        "(419) 555-0123",
        "(419)555-0123",
        "+1 419 555 0123",
        "+14195550123",
        "1-419-555-0123",
        "419.555.0123",
        " 419\u00a0555 0123 ",
        "4195550123.0",
        "p:+14195550123",
        "tel: 419 555 0123",
    ],
)
def test_phones_become_e164(tiny: Market, written: str) -> None:
    lead = _lead(tiny, phone=written)
    assert (lead["phone"], lead["warnings"]) == ("+14195550123", "")


@pytest.mark.parametrize(
    ("written", "phone", "odd"),
    [
        ("+11234567890", "+11234567890", _POSSIBLE),
        ("393-999-3922", "+13939993922", _POSSIBLE),
        ("+44 20 7946 0018", "+442079460018", ""),
        ("555-0123", "+15550123", _POSSIBLE),
        ("12", None, "phone not readable"),
        ("call me", None, "phone not readable"),
        ("4195550123 4195550124 4195550125", None, "phone not readable"),
    ],
)
def test_other_phones(tiny: Market, written: str, phone: str | None, odd: str) -> None:
    lead = _lead(tiny, phone=written)
    assert (lead["phone"], lead["warnings"]) == (phone, odd)
    assert read_phone(written) == (phone, odd)


def test_an_extension_stays_among_the_answers(tiny: Market) -> None:
    lead = _lead(tiny, phone="419-555-0123 ext. 45", answers='{"a": "b"}')
    assert lead["phone"] == "+14195550123"
    assert json.loads(lead["answers"]) == {"a": "b", "phone_extension": "45"}


@pytest.mark.parametrize("answers", ["no json", "[1]"])
def test_answers_that_are_no_object_stay_as_they_are(tiny: Market, answers: str) -> None:
    assert _lead(tiny, phone="419-555-0123 x45", answers=answers)["answers"] == answers


@pytest.mark.parametrize(
    ("written", "email"),
    [
        ("Ada.Hazel@Example.COM", "ada.hazel@example.com"),
        ("a+b@example.com", "a+b@example.com"),
        ("  a@example.com ", "a@example.com"),
        ("mailto:a@example.com", "a@example.com"),
        ("Ada <a@example.com>", "a@example.com"),
        ("a@localhost", None),
        ("a@b", None),
        ("a.@example.com", None),
        ("a@@example.com", None),
        ("none", None),
    ],
)
def test_emails(tiny: Market, written: str, email: str | None) -> None:
    lead = _lead(tiny, email=written)
    assert lead["email"] == email
    assert lead["warnings"] == ("" if email else "e-mail not usable")


def test_a_name_in_the_domain_s_own_letters_stays() -> None:
    assert read_email("Post@bücher.com") == "post@bücher.com"


def test_a_second_email_stays_among_the_answers(tiny: Market) -> None:
    lead = _lead(tiny, email="a@example.com; b@example.com")
    assert lead["email"] == "a@example.com"
    assert json.loads(lead["answers"]) == {"other_email": "b@example.com"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("  Ada   Hazel ", "Ada Hazel"),
        ("ADA HAZEL", "Ada Hazel"),
        ("ada o'brook-fenn iii", "Ada O'Brook-Fenn III"),
        ("neil mcmoss", "Neil McMoss"),
        ("Hazel, Ada", "Ada Hazel"),
        ("Ada Hazel, Jr.", "Ada Hazel, Jr."),
        ("Ada de la Cove", "Ada de la Cove"),
        ("Jose\u0301 Canal", "José Canal"),
        (" , ", None),
    ],
)
def test_names_are_tidied(written: str, name: str | None) -> None:
    assert tidy_name(" ".join(written.split())) == name


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ("oh", "OH"),
        ("Ohio", "OH"),
        ("D.C.", "DC"),
        ("new york", "NY"),
        ("US-TX", "TX"),
        ("Ontario", None),
        ("XX", None),
    ],
)
def test_states(tiny: Market, written: str, state: str | None) -> None:
    assert read_state(written) == state
    assert _lead(tiny, state=written)["warnings"] == ("" if state else "state not known")


@pytest.mark.parametrize(
    ("written", "code", "odd"),
    [
        ("43604", "43604", ""),
        ("43604-1234", "43604", ""),
        ("436041234", "43604", ""),
        ("43604.0", "43604", ""),
        ("z95838", "95838", ""),
        ("z:95838", "95838", ""),
        ("2139", "02139", "ZIP lost its leading zero"),
        ("2139.0", "02139", "ZIP lost its leading zero"),
        ("999", None, "ZIP not readable"),
        ("K1A 0B1", None, "ZIP not readable"),
    ],
)
def test_zips(written: str, code: str | None, odd: str) -> None:
    assert read_zip(written) == (code, odd)


@pytest.mark.parametrize(
    ("prose", "told"),
    [
        (
            "3000 MAPLE DR; CAMERON PARK, CA 95682",
            ("3000 MAPLE DR", None, "CAMERON PARK", "CA", "95682"),
        ),
        (
            "12 Main St Apt 4B, Toledo, OH 43604-1234",
            ("12 Main St", "4B", "Toledo", "OH", "43604"),
        ),
        ("123 N High St #5 Columbus Ohio", ("123 N High St", "5", "Columbus", "OH", None)),
        ("Toledo, OH", (None, None, "Toledo", "OH", None)),
        ("PO Box 12, Toledo Ohio 43604", ("PO Box 12", None, "Toledo", "OH", "43604")),
        # usaddress repeats a label here; the ending is read without it
        (
            "1234 Main St 1234 Main St, Toledo, OH 43604",
            ("1234 Main St 1234 Main St", None, "Toledo", "OH", "43604"),
        ),
        (
            "5 5 Oak 5 Rd 5, Unit 7",
            ("5 5 Oak 5 Rd 5", "7", None, None, None),
        ),
    ],
)
def test_addresses_in_prose(prose: str, told: tuple[str | None, ...]) -> None:
    assert tuple(read_address(prose).values()) == told


def test_prose_fills_what_is_missing_and_no_more(tiny: Market) -> None:
    lead = _lead(tiny, address="12 Main St Apt 4b, Columbus, OH 43215", city="TOLEDO", unit="#9")
    assert lead[["address", "unit", "city", "state", "zip"]].tolist() == [
        "12 Main St",
        "9",
        "Toledo",
        "OH",
        "43215",
    ]


def test_two_zips_are_told(tiny: Market) -> None:
    lead = _lead(tiny, address="12 Main St, Toledo, OH 43215", zip="43604")
    assert (lead["zip"], lead["warnings"]) == ("43604", "address names another ZIP")


def test_a_street_line_keeps_its_words(tiny: Market) -> None:
    lead = _lead(tiny, address="12 Main St, Suite 200", city="Toledo", zip="43604")
    assert lead[["address", "unit"]].tolist() == ["12 Main St", "200"]
    plain = _lead(tiny, address="12 Park Place", zip="43604")
    assert plain[["address", "unit", "city"]].tolist() == ["12 Park Place", None, None]


def test_a_place_as_given_is_a_point(tiny: Market) -> None:
    lead = _lead(tiny, lon=-83.5, lat=41.6, zip="43604")
    assert (lead["lon"], lead["lat"], lead["place_precision"]) == (-83.5, 41.6, "point")
    area = _lead(tiny, lon=-83.5, lat=41.6, place_precision="area")
    assert area["place_precision"] == "area"


def test_else_the_zip_s_centroid_else_the_city_s(tiny: Market) -> None:
    by_zip = _lead(tiny, zip="43604", city="Columbus", state="OH")
    assert by_zip["place_precision"] == "zip"
    assert (by_zip["lon"], by_zip["lat"]) == pytest.approx((-83.52, 41.65), abs=0.05)
    by_city = _lead(tiny, city="columbus", state="Ohio", zip="99999")
    assert by_city["place_precision"] == "city"
    assert (by_city["lon"], by_city["lat"]) == pytest.approx((-83.0, 39.96), abs=0.05)
    none = _lead(tiny, city="Atlantis", state="OH")
    assert none["place_precision"] == "none"
    assert np.isnan(none["lon"])


def test_a_city_without_a_state_has_to_be_the_only_one_in_the_time_zone() -> None:
    assert city_point("Toledo", None, "America/New_York") is not None
    assert city_point("Springfield", None, "America/New_York") is None
    assert city_point("St. Louis", "MO", "") == city_point("Saint Louis", "MO", "")


def test_a_city_without_a_state_may_be_of_the_market_s(tiny: Market) -> None:
    assert _lead(tiny, city="Springfield")["place_precision"] == "none"
    ohio = tiny.model_copy(update={"state": "OH"})
    lead = _lead(ohio, city="Springfield")
    assert (lead["lon"], lead["lat"]) == pytest.approx((-83.81, 39.92), abs=0.05)


def test_zero_is_no_place(tiny: Market) -> None:
    lead = _lead(tiny, lon=0.0, lat=0.0)
    assert (lead["place_precision"], lead["warnings"]) == ("none", "place 0, 0 left out")


def test_half_a_point_is_left_to_the_contract(tiny: Market) -> None:
    lead = _lead(tiny, lon=-83.5, email="a@example.com")
    broken = failures(lead.to_frame().T.astype({"lon": float, "lat": float}), feed_schema())
    assert "lon: lon and lat, or neither" in broken["rule"].tolist()


def test_what_a_source_warned_of_comes_first(tiny: Market) -> None:
    lead = _lead(tiny, warnings="budget not readable", email="none", phone="12")
    assert lead["warnings"] == "budget not readable; e-mail not usable; phone not readable"


def test_an_empty_chunk_stays_empty(tiny: Market) -> None:
    rows = contract_frame(PROMISES, {}, pd.RangeIndex(0))
    assert clean(rows, tiny).empty
