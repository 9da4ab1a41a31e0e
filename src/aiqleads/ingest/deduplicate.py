"""Finds the people who wrote twice, by what they wrote and not by where it came from.

Two submissions are one lead when their intent is the same, the later one comes within
WINDOW_US of the lead's last submission, and one of the rules holds:

- same e-mail: equal without case and without a +tag;
- same phone near: equal in the last ten digits, homes at most NEAR_M apart;
- same name near: equal without case, homes at most NEAR_M apart.

The earliest submission is the lead; one that is stored already stays the lead, whenever
it was received.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from aiqleads.domain import US_PER_DAY

WINDOW_US = 14 * US_PER_DAY
NEAR_M = 150.0
RULES = ("same e-mail", "same phone near", "same name near")

_TAG = re.compile(r"\+[^@]*(?=@)")
_NO_DIGIT = re.compile(r"\D")
_PHONE_DIGITS = 10


@dataclass(eq=False)
class _Person:
    """A lead that later submissions may belong to."""

    label: object
    x: float
    y: float
    seen_us: int


def email_key(email: str) -> str:
    """The e-mail without case and +tag, '' for none."""
    return _TAG.sub("", email.strip().casefold())


def phone_key(phone: str) -> str:
    """The last ten digits, '' where there are fewer."""
    digits = _NO_DIGIT.sub("", phone)[-_PHONE_DIGITS:]
    return digits if len(digits) == _PHONE_DIGITS else ""


def name_key(name: str) -> str:
    """The name without case and with single spaces."""
    return " ".join(name.casefold().split())


def _keys(intent: str, email: str, phone: str, name: str) -> Iterator[tuple[str, str, str]]:
    for rule, key in zip(RULES, (email_key(email), phone_key(phone), name_key(name)), strict=True):
        if key:
            yield rule, intent, key


def _match(
    known: dict[tuple[str, str, str], list[_Person]],
    keys: list[tuple[str, str, str]],
    x: float,
    y: float,
    at_us: int,
) -> tuple[_Person, str] | None:
    for key in keys:
        for person in reversed(known[key]):
            near = math.hypot(person.x - x, person.y - y) <= NEAR_M
            if abs(at_us - person.seen_us) <= WINDOW_US and (near or key[0] == RULES[0]):
                return person, key[0]
    return None


def find_repeats(submissions: pd.DataFrame) -> pd.DataFrame:
    """Which submissions repeat which lead: columns label, of, rule; one row a repeat.

    submissions: columns intent, email, phone, name, utm_x_m, utm_y_m (metres, NaN for no
    place), received_market_us, stored (bool). label and of are labels of its index. A
    stored submission is never called a repeat. The answer does not depend on the rows'
    order, except between submissions of the same microsecond, where the index decides.
    """
    # Stored leads come first, as they stay leads even when an earlier repeat turns up.
    ordered = submissions.assign(_at=submissions.index.astype(str)).sort_values(
        ["stored", "received_market_us", "_at"], ascending=[False, True, True]
    )
    known: dict[tuple[str, str, str], list[_Person]] = defaultdict(list)
    found: list[tuple[object, object, str]] = []
    columns = ["intent", "email", "phone", "name", "utm_x_m", "utm_y_m"]
    for label, intent, email, phone, name, x, y, at_us, stored in ordered[
        [*columns, "received_market_us", "stored"]
    ].itertuples(name=None):
        keys = list(_keys(intent, email, phone, name))
        match = None if stored else _match(known, keys, x, y, at_us)
        if match is None:
            person = _Person(label, x, y, at_us)
        else:
            person = match[0]
            person.seen_us = max(person.seen_us, at_us)
            found.append((label, person.label, match[1]))
        for key in keys:
            if person not in known[key]:
                known[key].append(person)
    return pd.DataFrame(found, columns=["label", "of", "rule"], dtype=object)
