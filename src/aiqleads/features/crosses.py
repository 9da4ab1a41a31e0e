"""Features of an agent and a lead together: the only ones that are computed in a request.

Each function takes two mappings of ingredient names (see `catalog`) to Ibis columns, when a
training frame is built, or to float64 numbers and arrays, when a request is answered. It
uses nothing but + - * / and magnitudes: IEEE 754 rounds those the same everywhere, so both
ways give the same bits. A cross is missing where one of its ingredients is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiqleads.features.catalog import CROSS_FEATURES, PAIR_INGREDIENTS

Ingredients = Mapping[str, Any]
Cross = Callable[[Ingredients, Ingredients], Any]

_M2_PER_KM2 = 1_000_000.0


def _size(x: Any) -> Any:
    return x.abs() if hasattr(x, "abs") else abs(x)


def _above_zero(x: Any) -> Any:
    return (x + _size(x)) / 2.0


def _smaller(x: Any, y: Any) -> Any:
    return (x + y - _size(x - y)) / 2.0


def _apart_km2(agent: Ingredients, lead: Ingredients, place: str) -> Any:
    east, north = lead["x_m"] - agent[f"{place}_x_m"], lead["y_m"] - agent[f"{place}_y_m"]
    return (east * east + north * north) / _M2_PER_KM2


def home_distance_km2(agent: Ingredients, lead: Ingredients) -> Any:
    """Squared distance to the agent's declared home."""
    return _apart_km2(agent, lead, "home")


def engaged_distance_km2(agent: Ingredients, lead: Ingredients) -> Any:
    """Squared distance to the centre of the agent's engagement."""
    return _apart_km2(agent, lead, "engaged")


def engaged_distance_scaled(agent: Ingredients, lead: Ingredients) -> Any:
    """The same over how widely the engagement is spread."""
    return engaged_distance_km2(agent, lead) / (agent["engaged_spread_m2"] / _M2_PER_KM2)


def second_distance_km2(agent: Ingredients, lead: Ingredients) -> Any:
    """Squared distance to the centre of the engagement beyond 2 km from home."""
    return _apart_km2(agent, lead, "second")


def focus_distance_km2(agent: Ingredients, lead: Ingredients) -> Any:
    """The smaller of the squared distances to home and to the second centre."""
    return _smaller(home_distance_km2(agent, lead), second_distance_km2(agent, lead))


def ask_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """Log asking price less the mean engaged with."""
    return lead["ask_log"] - agent["engaged_log_price"]


def ask_vs_engaged_scaled(agent: Ingredients, lead: Ingredients) -> Any:
    """Its square over the variance of the prices engaged with."""
    gap = ask_vs_engaged(agent, lead)
    return gap * gap / agent["engaged_log_price_spread2"]


def ask_vs_band(agent: Ingredients, lead: Ingredients) -> Any:
    """Log asking price less the middle of the declared band."""
    return lead["ask_log"] - (agent["band_low_log"] + agent["band_high_log"]) / 2.0


def ask_outside_band(agent: Ingredients, lead: Ingredients) -> Any:
    """How far the log asking price lies outside the declared band; 0 inside."""
    below = _above_zero(agent["band_low_log"] - lead["ask_log"])
    return below + _above_zero(lead["ask_log"] - agent["band_high_log"])


def intent_match(agent: Ingredients, lead: Ingredients) -> Any:
    """Share of the agent's engagement that went to leads of this intent."""
    share, seller = agent["engaged_sell_share"], lead["seller"]
    return seller * share + (1.0 - seller) * (1.0 - share)


def quality_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """Quality less the mean engaged with."""
    return lead["grade"] - agent["engaged_quality"]


def shown_to_you(_agent: Ingredients, lead: Ingredients) -> Any:
    """Rankings of this agent that showed the lead."""
    return lead["own_shown"] * 1.0


def passed_over(_agent: Ingredients, lead: Ingredients) -> Any:
    """Attention (sum of 1/position) that the agent gave it, over one more than openings."""
    return lead["own_attention"] / (lead["own_views"] + 1.0)


def opened_by_you(_agent: Ingredients, lead: Ingredients) -> Any:
    """Openings by this agent."""
    return lead["own_views"] * 1.0


def held_by_you(_agent: Ingredients, lead: Ingredients) -> Any:
    """Holds by this agent."""
    return lead["own_holds"] * 1.0


CROSSES: tuple[Cross, ...] = (
    home_distance_km2,
    engaged_distance_km2,
    engaged_distance_scaled,
    second_distance_km2,
    focus_distance_km2,
    ask_vs_engaged,
    ask_vs_engaged_scaled,
    ask_vs_band,
    ask_outside_band,
    intent_match,
    quality_vs_engaged,
    shown_to_you,
    passed_over,
    opened_by_you,
    held_by_you,
)


def cross_matrix(
    agent: Mapping[str, float], lead: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float32]:
    """Crosses of one agent with n leads: (n, len(CROSS_FEATURES)) float32, column-major.

    agent: AGENT_INGREDIENTS as numbers. lead: LEAD_INGREDIENTS as float64 arrays (n,), and
    PAIR_INGREDIENTS where this agent and these leads have a history; without them they have
    none (all 0). Raises KeyError for another ingredient that is missing.
    """
    n = len(next(iter(lead.values())))
    both = {name: np.zeros(n) for name in PAIR_INGREDIENTS} | dict(lead)
    out = np.empty((n, len(CROSS_FEATURES)), dtype=np.float32, order="F")
    with np.errstate(invalid="ignore"):  # NaN stands for missing and says nothing new
        for column, cross in enumerate(CROSSES):
            out[:, column] = cross(agent, both)
    return out
