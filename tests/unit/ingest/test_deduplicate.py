from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.ingest.deduplicate import (
    WINDOW_US,
    email_key,
    find_repeats,
    name_key,
    phone_key,
)

FIRST = {
    "intent": "sell",
    "email": "ada.reed.1@example.com",
    "phone": "+1-419-555-0123",
    "name": "Ada Reed",
    "utm_x_m": 1000.0,
    "utm_y_m": 2000.0,
    "received_market_us": 0,
    "stored": False,
}
STRANGER = {"email": "x@example.org", "phone": "+1-734-555-0100", "name": "Otto Vale"}


def _submissions(*later: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([FIRST, *({**FIRST, **STRANGER, **each} for each in later)])


def _found(frame: pd.DataFrame) -> list[tuple[object, object, str]]:
    return list(find_repeats(frame).itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("same", "rule"),
    [
        ({"email": "Ada.Reed.1+home@EXAMPLE.com ", "utm_x_m": 9e5}, "same e-mail"),
        ({"phone": "(419) 555 0123", "utm_x_m": 1100.0}, "same phone near"),
        ({"name": "ADA  REED", "utm_y_m": 2149.0}, "same name near"),
    ],
)
def test_a_person_who_writes_again_is_found_by_a_rule(same: dict[str, object], rule: str) -> None:
    assert _found(_submissions({"received_market_us": US_PER_DAY, **same})) == [(1, 0, rule)]


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"phone": FIRST["phone"], "utm_x_m": 1200.0},
        {"name": FIRST["name"], "utm_x_m": 1200.0},
        {"name": FIRST["name"], "utm_x_m": np.nan, "utm_y_m": np.nan},
        {"email": FIRST["email"], "intent": "buy"},
        {"email": FIRST["email"], "received_market_us": WINDOW_US + 1},
        {"email": "", "phone": "", "name": ""},
        {"phone": "555-0123"},
    ],
)
def test_somebody_else_or_something_else_is_a_lead_of_its_own(other: dict[str, object]) -> None:
    assert _found(_submissions({"received_market_us": US_PER_HOUR, **other})) == []


def test_missing_contacts_never_match_each_other() -> None:
    silent = {"email": "", "phone": "", "name": ""}
    assert _found(pd.DataFrame([{**FIRST, **silent}, {**FIRST, **silent}])) == []


def test_who_writes_week_after_week_stays_one_lead() -> None:
    weekly = [{"email": FIRST["email"], "received_market_us": n * 10 * US_PER_DAY} for n in (1, 2)]
    assert [(label, of) for label, of, _ in _found(_submissions(*weekly))] == [(1, 0), (2, 0)]


def test_the_new_address_of_a_repeat_is_known_from_then_on() -> None:
    second = {"phone": FIRST["phone"], "email": "work@example.org", "received_market_us": 1}
    third = {"email": "Work@example.org", "phone": "", "received_market_us": 2, "utm_x_m": 9e5}
    assert _found(_submissions(second, third)) == [
        (1, 0, "same phone near"),
        (2, 0, "same e-mail"),
    ]


def test_the_earliest_is_the_lead_in_whatever_order_they_come() -> None:
    frame = _submissions({"email": FIRST["email"], "received_market_us": -US_PER_HOUR})
    assert _found(frame) == _found(frame.iloc[::-1]) == [(0, 1, "same e-mail")]


def test_a_stored_lead_stays_the_lead_when_an_earlier_one_turns_up() -> None:
    frame = _submissions({"email": FIRST["email"], "received_market_us": -US_PER_HOUR})
    frame["stored"] = [True, False]
    assert _found(frame) == [(1, 0, "same e-mail")]
    frame["stored"] = True
    assert _found(frame) == []


def test_keys_take_the_ways_of_writing_out() -> None:
    assert email_key(" Ada+x+y@Example.COM") == "ada@example.com"
    assert phone_key("+1 (419) 555-0123") == phone_key("419.555.0123") == "4195550123"
    assert phone_key("555-0123") == ""
    assert name_key(" ADA   Reed ") == "ada reed"
