"""Quality of a lead, 0 to 1: how well it can be reached, placed and judged.

The points that a lead earns over those it could earn; each point not earned is a reason
in plain words. Of a buyer nobody asks for an exact place, a lot or a year. No word of the
person's name, no date and no repeat enters: the quality of a lead is the same on the day
it comes as a month later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiqleads.domain import Intent

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
    per_sqft = leads["ask_price_cents"] / leads["living_area_sqft"]
    return {
        "no e-mail": leads["email"] != "",
        "no phone": leads["phone"] != "",
        "no exact place": leads["place_precision"] == "point",
        "bedrooms not known": leads["beds"].notna(),
        "bathrooms not known": leads["baths"].notna(),
        "floor area not known": leads["living_area_sqft"].notna(),
        "lot not known": leads["lot_area_sqft"].notna(),
        "year built not known": leads["year_built"].notna(),
        "price per square foot out of the ordinary": per_sqft.between(*_ORDINARY),
    }


def score(leads: pd.DataFrame) -> pd.DataFrame:
    """Columns quality (0..1, three decimals) and quality_reasons, same index.

    leads: columns of a lead plus email and phone ('' for none).
    """
    holds = _holds(leads)
    names, points = list(POINTS), np.array(list(POINTS.values()))
    holds_at = np.column_stack([holds[reason].to_numpy(bool) for reason in names])
    sellers_only = np.array([reason in SELLERS_ONLY for reason in names])
    asked = ~sellers_only | (leads["intent"] == Intent.SELL).to_numpy()[:, None]
    quality = (points * (asked & holds_at)).sum(axis=1) / (points * asked).sum(axis=1)
    lacks = asked & ~holds_at
    reasons = ["; ".join(names[at] for at in np.flatnonzero(row)) for row in lacks]
    made = {"quality": np.round(quality, 3), "quality_reasons": reasons}
    return pd.DataFrame(made, index=leads.index)
