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

from aiqleads.features.catalog import (
    CENTRES,
    CROSS_FEATURES,
    PAIR_INGREDIENTS,
    PLACES,
    PRICE_STEP_LOG,
    PRICE_STEPS,
)

Ingredients = Mapping[str, Any]
Cross = Callable[[Ingredients, Ingredients], Any]

_M2_PER_KM2 = 1_000_000.0

#: How far what happened at a place tells of another: half as much at about 1 km.
_REACH_KM2 = 1.5**2
# The declared home counts as so much engagement, and an unseen place as so much attention
# with the agent's usual engagement.
_HOME_WEIGHT, _PRIOR_LOOKS = 3.0, 5.0


def _size(x: Any) -> Any:
    return x.abs() if hasattr(x, "abs") else abs(x)


def _above_zero(x: Any) -> Any:
    return (x + _size(x)) / 2.0


def _smaller(x: Any, y: Any) -> Any:
    return (x + y - _size(x - y)) / 2.0


def _apart_km2(agent: Ingredients, lead: Ingredients, place: str) -> Any:
    east, north = lead["x_m"] - agent[f"{place}_x_m"], lead["y_m"] - agent[f"{place}_y_m"]
    return (east * east + north * north) / _M2_PER_KM2


def _near(km2: Any) -> Any:
    """1 at no distance, falling with the fourth power of the distance far away."""
    fall = 1.0 + km2 / _REACH_KM2
    return 1.0 / (fall * fall)


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


def nearest_centre_km2(agent: Ingredients, lead: Ingredients) -> Any:
    """The smallest of the squared distances to the agent's centres of engagement."""
    nearest = _apart_km2(agent, lead, "centre_1")
    for number in range(2, CENTRES + 1):
        nearest = _smaller(nearest, _apart_km2(agent, lead, f"centre_{number}"))
    return nearest


def centres_affinity(agent: Ingredients, lead: Ingredients) -> Any:
    """Mean nearness to home and the centres, each by its engagement; home counts as 3."""
    near = _near(home_distance_km2(agent, lead)) * _HOME_WEIGHT
    weight = lead["x_m"] * 0.0 + _HOME_WEIGHT
    for number in range(1, CENTRES + 1):
        weighs = agent[f"centre_{number}_weighs"]
        near = near + _near(_apart_km2(agent, lead, f"centre_{number}")) * weighs
        weight = weight + weighs
    return near / weight


def place_looks(agent: Ingredients, lead: Ingredients) -> Any:
    """Attention that the agent was shown around the lead's place."""
    looks = lead["x_m"] * 0.0
    for number in range(1, PLACES + 1):
        shown = _near(_apart_km2(agent, lead, f"place_{number}_shown"))
        looks = looks + shown * agent[f"place_{number}_looks"]
    return looks


def place_lift(agent: Ingredients, lead: Ingredients) -> Any:
    """Engagement for attention around the lead's place, over the agent's usual."""
    usual = agent["engaged_rate"]
    weight = usual * _PRIOR_LOOKS
    for number in range(1, PLACES + 1):
        done = _near(_apart_km2(agent, lead, f"place_{number}_engaged"))
        weight = weight + done * agent[f"place_{number}_weighs"]
    return weight / (place_looks(agent, lead) + _PRIOR_LOOKS) / usual


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


def ask_vs_engaged_of_intent(agent: Ingredients, lead: Ingredients) -> Any:
    """Log asking price less the mean engaged with among leads of this intent."""
    sell, buy = agent["engaged_log_price_sell"], agent["engaged_log_price_buy"]
    return lead["ask_log"] - (lead["seller"] * sell + (1.0 - lead["seller"]) * buy)


def ask_vs_engaged_of_intent_scaled(agent: Ingredients, lead: Ingredients) -> Any:
    """Its square over the variance of those prices."""
    sell = agent["engaged_log_price_sell_spread2"]
    buy = agent["engaged_log_price_buy_spread2"]
    gap = ask_vs_engaged_of_intent(agent, lead)
    return gap * gap / (lead["seller"] * sell + (1.0 - lead["seller"]) * buy)


def price_lift(agent: Ingredients, lead: Ingredients) -> Any:
    """Engagement for attention at this price seen from the band, over the agent's usual.

    Read between the two nearest price steps, as they are known at whole steps only.
    """
    top = (PRICE_STEPS - 1) / 2.0
    step = ask_vs_band(agent, lead) / PRICE_STEP_LOG
    step = _above_zero(step + top) - top
    step = top - _above_zero(top - step)
    lift = step * 0.0
    for number in range(PRICE_STEPS):
        share = _above_zero(1.0 - _size(step - (number - top)))
        lift = lift + share * agent[f"lift_price_{number}"]
    return lift


def intent_lift(agent: Ingredients, lead: Ingredients) -> Any:
    """Engagement for attention with leads of this intent, over the agent's usual."""
    seller = lead["seller"]
    return seller * agent["lift_sell"] + (1.0 - seller) * agent["lift_buy"]


def intent_match(agent: Ingredients, lead: Ingredients) -> Any:
    """Share of the agent's engagement that went to leads of this intent."""
    share, seller = agent["engaged_sell_share"], lead["seller"]
    return seller * share + (1.0 - seller) * (1.0 - share)


def quality_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """Quality less the mean engaged with."""
    return lead["grade"] - agent["engaged_quality"]


def beds_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """Bedrooms less the mean engaged with."""
    return lead["rooms"] - agent["engaged_beds"]


def size_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """Log living area less the mean engaged with."""
    return lead["size_log"] - agent["engaged_log_size"]


def fee_vs_engaged(agent: Ingredients, lead: Ingredients) -> Any:
    """The lead's usual log fee less that of the leads engaged with."""
    return lead["fee_log"] - agent["engaged_log_fee"]


def fee_of_budget(agent: Ingredients, lead: Ingredients) -> Any:
    """The lead's usual fee over what is left of the month's budget, and one unit more."""
    return lead["fee"] / (agent["budget_left"] + 1.0)


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


def shown_to_you_lately(_agent: Ingredients, lead: Ingredients) -> Any:
    """Attention of 30 days that this agent was shown it with, halved by each week of age."""
    return lead["own_attention_lately"] * 1.0


def engaged_by_you_lately(_agent: Ingredients, lead: Ingredients) -> Any:
    """Engagement of this agent with it of 30 days, halved by each week of age."""
    return lead["own_engaged_lately"] * 1.0


def let_go_by_you(_agent: Ingredients, lead: Ingredients) -> Any:
    """Holds of it that this agent let go."""
    return lead["own_releases"] * 1.0


CROSSES: tuple[Cross, ...] = (
    home_distance_km2,
    engaged_distance_km2,
    engaged_distance_scaled,
    second_distance_km2,
    focus_distance_km2,
    nearest_centre_km2,
    centres_affinity,
    place_looks,
    place_lift,
    ask_vs_engaged,
    ask_vs_engaged_scaled,
    ask_vs_engaged_of_intent,
    ask_vs_engaged_of_intent_scaled,
    price_lift,
    ask_vs_band,
    ask_outside_band,
    intent_match,
    intent_lift,
    quality_vs_engaged,
    beds_vs_engaged,
    size_vs_engaged,
    fee_vs_engaged,
    fee_of_budget,
    shown_to_you,
    passed_over,
    opened_by_you,
    held_by_you,
    shown_to_you_lately,
    engaged_by_you_lately,
    let_go_by_you,
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
