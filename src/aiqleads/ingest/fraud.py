"""Signs that nobody real stands behind a lead, each with its reason; nothing is thrown out.

Signs are weighed as independent pieces of evidence: fraud = 1 - product(1 - weight), the
noisy-or of Pearl, "Probabilistic Reasoning in Intelligent Systems" (1988), section 4.3.2.
The weights are judgements, stated here, until returned leads can teach better ones. Of a
lead whose contact is invented (the sample's) nothing is said: 0.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd

#: a contact that writes more often than this in a day is a machine, or a prank
WRITES_A_DAY = 3
#: no ZIP is wider: half of Nye County, Nevada
FAR_KM = 150.0

_DISPOSABLE = "disposable e-mail domain"
_RESERVED = "phone number reserved for fiction"
_PATTERN = "phone number of one or running digits"
_NAME = "name that nobody bears"
_PRICE = "price per square foot impossible"
_AREA = "floor area too small for its bedrooms"
_FAR = "place far from its ZIP"
_OFTEN = "same contact very often in a day"
WEIGHTS: dict[str, float] = {
    _DISPOSABLE: 0.5,
    _RESERVED: 0.6,
    _PATTERN: 0.6,
    _NAME: 0.5,
    _PRICE: 0.3,
    _AREA: 0.2,
    _FAR: 0.3,
    _OFTEN: 0.7,
}
# Cents a square foot that no market in the United States has seen, either way.
_POSSIBLE = (1_00, 20_000_00)
_SQFT_A_BEDROOM = 70  # least floor of a bedroom, International Residential Code R304.1
_FICTION = re.compile(r"55501\d\d$")
_RUNNING = ("0123456789", "1234567890", "9876543210", "0987654321")
_NOBODY = re.compile(
    r"\b(test|tester|asdf\w*|qwerty|none|n/?a|null|xxx+|abc|fake|anonymous|foo|bar|"
    r"mickey mouse|donald duck|john q public)\b|\d{3,}|(.)\2{3,}",
    re.IGNORECASE,
)


@cache
def _disposable_domains() -> frozenset[str]:
    from disposable_email_domains import blocklist

    return frozenset(blocklist)


def _text(leads: pd.DataFrame, name: str) -> pd.Series:
    """A column of texts, '' where it is missing or the frame has none."""
    if name not in leads:
        return pd.Series("", leads.index, dtype=object)
    column: pd.Series[str] = leads[name].fillna("")
    return column


def _number(leads: pd.DataFrame, name: str) -> pd.Series:
    if name not in leads:
        return pd.Series(np.nan, leads.index)
    return pd.to_numeric(leads[name], errors="coerce")


def _signs(leads: pd.DataFrame) -> dict[str, pd.Series]:
    """Which signs each lead shows, one boolean column a sign."""
    domain = _text(leads, "email").str.rpartition("@")[2].str.lower()
    digits = _text(leads, "phone").str.replace(r"\D", "", regex=True).str[-10:]
    whole = digits.str.len() == 10
    one_digit = [len(set(each[3:])) == 1 if each else False for each in digits]
    name = _text(leads, "name")
    area, beds = _number(leads, "living_area_sqft"), _number(leads, "beds")
    per_sqft = _number(leads, "ask_price_cents") / area
    return {
        _DISPOSABLE: domain.isin(_disposable_domains()),
        _RESERVED: whole & digits.str.contains(_FICTION),
        _PATTERN: whole & (digits.isin(_RUNNING) | pd.Series(one_digit, leads.index)),
        _NAME: pd.Series([bool(_NOBODY.search(each)) for each in name], leads.index),
        _PRICE: per_sqft.notna() & ~per_sqft.between(*_POSSIBLE),
        _AREA: area < beds * _SQFT_A_BEDROOM,
        _FAR: _number(leads, "zip_distance_km") > FAR_KM,
        _OFTEN: _number(leads, "same_contact_in_a_day") > WRITES_A_DAY,
    }


def fraud(leads: pd.DataFrame) -> pd.DataFrame:
    """Columns fraud (0..1, three decimals) and fraud_reasons, same index.

    leads: columns of a lead, email, phone and name, invented, and where they are known
    zip_distance_km (of its point from its ZIP's middle) and same_contact_in_a_day (how
    often the same e-mail or phone wrote in the 24 hours before).
    """
    signs = _signs(leads)
    names, weights = list(signs), np.array([WEIGHTS[name] for name in signs])
    real = (_text(leads, "invented") == "").to_numpy()
    shown = np.column_stack([sign.to_numpy(bool) for sign in signs.values()]) & real[:, None]
    certainty = 1 - np.prod(1 - weights * shown, axis=1)
    reasons = ["; ".join(names[at] for at in np.flatnonzero(row)) for row in shown]
    made = {"fraud": np.round(certainty, 3), "fraud_reasons": reasons}
    return pd.DataFrame(made, index=leads.index)
