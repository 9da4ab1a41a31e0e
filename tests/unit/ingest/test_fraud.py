from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiqleads.ingest.fraud import WEIGHTS, fraud
from aiqleads.ingest.score import score

REAL = {
    "intent": "sell",
    "name": "Ada Reed",
    "email": "ada@gmail.com",
    "phone": "+14193337788",
    "place_precision": "point",
    "beds": 3.0,
    "baths": 1.5,
    "living_area_sqft": 1500.0,
    "lot_area_sqft": 5000.0,
    "year_built": 1950.0,
    "ask_price_cents": 90_000_00,
    "zip_distance_km": 3.0,
    "same_contact_in_a_day": 1,
    "invented": "",
}


def _found(**other: object) -> tuple[float, str]:
    made = fraud(pd.DataFrame([{**REAL, **other}])).iloc[0]
    return made["fraud"], made["fraud_reasons"]


def test_an_ordinary_person_shows_no_sign() -> None:
    assert _found() == (0.0, "")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"email": "a@mailinator.com"}, "disposable e-mail domain"),
        ({"email": "a@Mailinator.COM"}, "disposable e-mail domain"),
        ({"phone": "+14195550123"}, "phone number reserved for fiction"),
        ({"phone": "+14192222222"}, "phone number of one or running digits"),
        ({"phone": "123-456-7890"}, "phone number of one or running digits"),
        ({"name": "Test Person"}, "name that nobody bears"),
        ({"name": "aaaa"}, "name that nobody bears"),
        ({"ask_price_cents": 10_00}, "price per square foot impossible"),
        ({"living_area_sqft": 150.0, "beds": 3.0}, "floor area too small for its bedrooms"),
        ({"zip_distance_km": 900.0}, "place far from its ZIP"),
        ({"same_contact_in_a_day": 9}, "same contact very often in a day"),
    ],
)
def test_each_sign_is_named_and_weighs_what_is_stated(
    other: dict[str, object], reason: str
) -> None:
    assert _found(**other) == (WEIGHTS[reason], reason)


@pytest.mark.parametrize("name", ["Abigail Testa", "Bart Foote", "Lee Abcarian", "Aaron Fakenham"])
def test_real_names_that_look_alike_are_left_alone(name: str) -> None:
    assert _found(name=name) == (0.0, "")


def test_signs_add_up_without_reaching_certainty() -> None:
    two, reasons = _found(email="a@mailinator.com", phone="+14195550123")
    assert two == pytest.approx(1 - 0.5 * 0.4)
    assert reasons == "disposable e-mail domain; phone number reserved for fiction"


def test_an_invented_contact_is_not_suspected() -> None:
    assert _found(phone="+14195550123", invented="contact") == (0.0, "")


def test_what_is_not_known_is_no_sign() -> None:
    nothing = dict.fromkeys(("email", "phone", "name"), None)
    numbers = dict.fromkeys(("beds", "living_area_sqft", "ask_price_cents"), np.nan)
    assert _found(**nothing, **numbers) == (0.0, "")
    bare = pd.DataFrame([{"intent": "buy", "beds": 2.0}])
    assert fraud(bare)["fraud"].tolist() == [0.0]


def test_fraud_lowers_the_quality_and_warnings_are_told() -> None:
    whole = score(pd.DataFrame([REAL])).iloc[0]
    odd = score(pd.DataFrame([{**REAL, "email": "a@mailinator.com"}])).iloc[0]
    assert (whole["quality"], odd["quality"]) == (1.0, 0.5)
    warned = score(pd.DataFrame([{**REAL, "warnings": "phone possible but not assigned"}]))
    assert warned["quality_reasons"].tolist() == ["phone possible but not assigned"]
