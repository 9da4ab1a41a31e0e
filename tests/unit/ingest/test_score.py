from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiqleads.ingest.score import POINTS, SELLERS_ONLY, score

WHOLE = {
    "intent": "sell",
    "email": "a@example.com",
    "phone": "+1-419-555-0100",
    "place_precision": "point",
    "beds": 3.0,
    "baths": 1.5,
    "living_area_sqft": 1500.0,
    "lot_area_sqft": 5000.0,
    "year_built": 1950.0,
    "ask_price_cents": 90_000_00,
    "invented": "contact",
}


def _scored(**other: object) -> tuple[float, str]:
    made = score(pd.DataFrame([{**WHOLE, **other}])).iloc[0]
    return made["quality"], made["quality_reasons"]


def test_a_lead_that_lacks_nothing_has_quality_one() -> None:
    assert sum(POINTS.values()) == pytest.approx(1)
    assert _scored() == (1.0, "")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"email": ""}, "no e-mail"),
        ({"phone": ""}, "no phone"),
        ({"place_precision": "none"}, "no exact place"),
        ({"beds": np.nan}, "bedrooms not known"),
        ({"baths": np.nan}, "bathrooms not known"),
        ({"lot_area_sqft": np.nan}, "lot not known"),
        ({"year_built": np.nan}, "year built not known"),
        ({"ask_price_cents": 900_00}, "price per square foot out of the ordinary"),
        ({"ask_price_cents": 9_000_000_00}, "price per square foot out of the ordinary"),
    ],
)
def test_what_is_missing_lowers_it_by_its_points(other: dict[str, object], reason: str) -> None:
    assert _scored(**other) == (pytest.approx(1 - POINTS[reason]), reason)


def test_reasons_are_joined() -> None:
    quality, reasons = _scored(email="", living_area_sqft=np.nan)
    assert reasons == "no e-mail; floor area not known; price per square foot out of the ordinary"
    assert quality == pytest.approx(0.66)


def test_a_buyer_is_not_asked_for_what_only_a_seller_knows() -> None:
    nothing = {"place_precision": "area", "lot_area_sqft": np.nan, "year_built": np.nan}
    assert _scored(intent="buy", **nothing) == (1.0, "")
    possible = 1 - sum(POINTS[each] for each in SELLERS_ONLY)
    assert _scored(intent="buy", phone="", **nothing)[0] == pytest.approx(
        1 - POINTS["no phone"] / possible, abs=5e-4
    )


def test_the_quality_of_a_lead_does_not_hang_on_the_others() -> None:
    alone = score(pd.DataFrame([WHOLE]))
    among = score(pd.DataFrame([WHOLE, {**WHOLE, "ask_price_cents": 10**12, "phone": ""}]))
    pd.testing.assert_frame_equal(alone, among.iloc[:1])
