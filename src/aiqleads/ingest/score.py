"""Quality of a lead, 0 to 1: how well it can be reached, placed and judged.

The points that a lead earns over those it could earn; each point not earned is a reason
in plain words. Of a buyer nobody asks for an exact place, a lot or a year. No word of the
person's name, no date and no repeat enters: the quality of a lead is the same on the day
it comes as a month later. Signs of fraud (see `fraud`) lower what it earned.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiqleads.domain import Intent
from aiqleads.ingest.fraud import fraud

#: what earns points: reason when it is not so, points
POINTS: dict[str, float] = {
    "no e-mail": 0.15,
    "no phone": 0.20,
    "no exact place": 0.20,
    "bedrooms not known": 0.08,
    "bathrooms not known": 0.08,
    "floor area not known": 0.12,
    "lot not known": 0.05,
    "year built not known": 0.05,
    "price per square foot out of the ordinary": 0.07,
}
#: what only a seller can tell
SELLERS_ONLY = ("no exact place", "lot not known", "year built not known")
#: ordinary asking price, in cents a square foot, both included. Bounds that are fixed and
#: wide: a median of the batch would tie a lead's quality to what else came with it.
_ORDINARY = (10_00, 1_500_00)


def _holds(leads: pd.DataFrame) -> dict[str, pd.Series]:
    per_sqft = leads["ask_price_cents"].astype("float64") / leads["living_area_sqft"]
    return {
        "no e-mail": leads["email"].fillna("") != "",
        "no phone": leads["phone"].fillna("") != "",
        "no exact place": leads["place_precision"] == "point",
        "bedrooms not known": leads["beds"].notna(),
        "bathrooms not known": leads["baths"].notna(),
        "floor area not known": leads["living_area_sqft"].notna(),
        "lot not known": leads["lot_area_sqft"].notna(),
        "year built not known": leads["year_built"].notna(),
        "price per square foot out of the ordinary": per_sqft.between(*_ORDINARY),
    }


def score(leads: pd.DataFrame) -> pd.DataFrame:
    """Columns quality (0..1, three decimals), quality_reasons, fraud, fraud_reasons.

    leads: columns of a lead plus name, email and phone ('' or missing for none), and
    warnings ('; ' between) where its source had some: they are told among the reasons.
    """
    holds = _holds(leads)
    names, points = list(POINTS), np.array(list(POINTS.values()))
    holds_at = np.column_stack([holds[reason].to_numpy(bool) for reason in names])
    sellers_only = np.array([reason in SELLERS_ONLY for reason in names])
    asked = ~sellers_only | (leads["intent"] == Intent.SELL).to_numpy()[:, None]
    earned = (points * (asked & holds_at)).sum(axis=1) / (points * asked).sum(axis=1)
    odd = fraud(leads)
    made = {
        "quality": np.round(earned * (1 - odd["fraud"].to_numpy()), 3),
        "quality_reasons": _reasons(leads, asked & ~holds_at, names),
        "fraud": odd["fraud"],
        "fraud_reasons": odd["fraud_reasons"],
    }
    return pd.DataFrame(made, index=leads.index)


def _reasons(leads: pd.DataFrame, lacks: np.ndarray, names: list[str]) -> list[str]:
    warnings = leads["warnings"] if "warnings" in leads else [""] * len(leads)
    told = []
    for row, warning in zip(lacks, warnings, strict=True):
        own = [names[at] for at in np.flatnonzero(row)]
        told.append("; ".join([*own, warning] if warning else own))
    return told
