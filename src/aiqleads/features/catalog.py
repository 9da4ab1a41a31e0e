"""Every feature of the ranker, in the order of the model's input: what it means, and to whom.

This module and `crosses` are all that serving needs of the features, so they stay light.
How a lake feature is computed stands in the module of its group, in the function of its
name; docs/data-dictionary.md is written from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aiqleads.errors import ContractBroken

Group = Literal["lead", "behavior", "location", "market", "agent", "cross"]
Grain = Literal["lead", "lead,as_of", "cell,as_of", "agent,as_of", "agent,lead,as_of"]


@dataclass(frozen=True)
class Feature:
    """One column of the model's input, float32, NaN where it is missing.

    unit: of the stored value. about: one sentence. reason: words for an agent that stay true
    whichever way the feature moved a score; empty where it is no reason to show.
    """

    name: str
    group: Group
    grain: Grain
    unit: str
    about: str
    reason: str


def _of(group: Group, grain: Grain, rows: Iterable[tuple[str, str, str, str]]) -> list[Feature]:
    return [Feature(name, group, grain, unit, about, reason) for name, unit, about, reason in rows]


_LEAD = _of(
    "lead",
    "lead",
    [
        (
            "is_seller",
            "0 or 1",
            "Whether the person wants to sell (1) or to buy (0).",
            "whether it is a seller or a buyer",
        ),
        ("log_ask_price", "ln currency", "Asking price; a buyer's top budget.", "its asking price"),
        ("beds", "rooms", "Bedrooms, offered or wanted.", "its number of bedrooms"),
        ("log_living_area", "ln sqft", "Living area.", "its living area"),
        ("log_lot_area", "ln sqft", "Area of the lot.", "its lot size"),
        ("year_built", "year", "Year in which the home was built.", "when the home was built"),
        ("quality", "0 to 1", "Quality score given at ingest.", "its quality score"),
        ("max_buyers", "agents", "Most agents who may buy the lead.", "how many agents may buy it"),
    ],
)
_BEHAVIOR = _of(
    "behavior",
    "lead,as_of",
    [
        (
            "hours_since_received",
            "hours",
            "Time since the lead came in.",
            "how recently it came in",
        ),
        (
            "lead_submissions",
            "forms",
            "Times the person has sent a form so far.",
            "how often the person has asked",
        ),
        (
            "lead_attention",
            "1/positions",
            "How prominently rankings showed the lead so far: the sum of 1/position.",
            "how prominently it was shown",
        ),
        (
            "lead_views_1d",
            "openings",
            "Openings in 1 day, by all agents.",
            "how often it was opened today",
        ),
        (
            "lead_views_7d",
            "openings",
            "Openings in 7 days, by all agents.",
            "how often it was opened this week",
        ),
        (
            "lead_view_rate",
            "ratio",
            "Openings for the attention it got so far, drawn to 1 in 5.",
            "how often agents who were shown it opened it",
        ),
        (
            "lead_view_trend",
            "ratio",
            "Openings of the last day against the week's daily pace.",
            "whether interest in it is growing",
        ),
        (
            "lead_viewers",
            "agents",
            "Distinct agents who have opened it.",
            "how many agents have looked at it",
        ),
        (
            "lead_holds_7d",
            "holds",
            "Holds placed on it in 7 days.",
            "how often it was put on hold this week",
        ),
        ("lead_places_left", "agents", "Agents who may still buy it.", "how many places are left"),
        (
            "hours_since_viewed",
            "hours",
            "Time since it was last opened.",
            "how recently it was opened",
        ),
        (
            "hours_since_held",
            "hours",
            "Time since it was last put on hold.",
            "how recently it was put on hold",
        ),
        (
            "lead_views_faded",
            "openings",
            "Openings of 7 days, each counting half after each day.",
            "how often it was opened these days",
        ),
        (
            "lead_interest_faded",
            "weight",
            "Engagement of 30 days (opening 1, hold 2, purchase 3), each halved by a week.",
            "interest in it over the last weeks",
        ),
        (
            "lead_interest_rate",
            "ratio",
            "That engagement for the attention it got lately, drawn to 1 in 5.",
            "interest in it for how prominently it was shown",
        ),
        (
            "lead_hold_rate",
            "share",
            "Holds of the openings so far, drawn to 1 in 5.",
            "how often agents who opened it held it",
        ),
        (
            "lead_declined",
            "events",
            "Holds let go and purchases returned so far.",
            "how often agents let it go",
        ),
        (
            "lead_fee_level",
            "ln currency",
            "Mean fee quoted where it was shown so far.",
            "its usual fee",
        ),
        (
            "hours_since_bought",
            "hours",
            "Time since it was last bought, by anybody.",
            "how recently it was bought",
        ),
    ],
)
_LOCATION = _of(
    "location",
    "lead,as_of",
    [
        (
            "centre_distance_km",
            "km",
            "Distance to the centre of gravity of the market's leads so far.",
            "how central it lies",
        ),
        (
            "near_leads_90d",
            "leads",
            "Leads received around it in 90 days.",
            "the supply of leads around it",
        ),
        (
            "near_sales_365d",
            "sales",
            "Homes sold around it in 365 days.",
            "homes sold around it in a year",
        ),
        (
            "near_penetration_90d",
            "share",
            "Leads bought of the leads received around it in 90 days, drawn to 1 in 10.",
            "the share of leads around it that were bought",
        ),
        (
            "near_farming_agents",
            "agents",
            "Agents whose territory holds the lead's cell.",
            "how many agents work this area",
        ),
    ],
)
_MARKET = _of(
    "market",
    "cell,as_of",
    [
        (
            "area_price",
            "ln currency",
            "Median sale price of 365 days in the area (H3 resolution 7), drawn to the market's.",
            "usual prices in the area",
        ),
        (
            "area_price_trend",
            "ln ratio",
            "Median sale price of 90 days against that of 365, drawn to the market's own change.",
            "the price trend in the area",
        ),
        (
            "area_price_spread_365d",
            "ln currency",
            "Standard deviation of log sale prices of 365 days.",
            "how far prices differ in the area",
        ),
        (
            "area_sales_90d",
            "sales",
            "Homes sold in the area in 90 days.",
            "homes sold in the area this quarter",
        ),
        (
            "area_sales_trend",
            "ratio",
            "Sales of 90 days against a quarter of the year's.",
            "whether sales in the area are picking up",
        ),
        (
            "area_leads_30d",
            "leads",
            "Leads received in the area in 30 days.",
            "the supply of leads in the area",
        ),
        (
            "area_demand_30d",
            "ratio",
            "Openings a lead in the area over 30 days.",
            "demand for leads in the area",
        ),
        (
            "area_active_agents_30d",
            "agents",
            "Distinct agents at work in the area in 30 days.",
            "how many agents are active in the area",
        ),
        (
            "area_absorption_30d",
            "share",
            "Leads bought of the leads received in the area in 30 days, drawn to 1 in 10.",
            "how fast leads in the area sell",
        ),
        (
            "area_sqft_spread_90d",
            "ln currency",
            "Standard deviation of log prices a square foot of 90 days, drawn to the market's.",
            "how much prices in the area move this quarter",
        ),
        (
            "area_sqft_spread_365d",
            "ln currency",
            "The same of 365 days.",
            "how much prices in the area move in a year",
        ),
        (
            "area_days_to_sell_90d",
            "days",
            "Mean time on offer until bought of 90 days in the area, drawn to the market's.",
            "how long leads in the area are on offer",
        ),
        (
            "area_buyer_concentration_90d",
            "0 to 1",
            "Sum of squared shares of the buyers of 90 days (Herfindahl) in the area.",
            "whether few agents buy in the area",
        ),
        (
            "area_agents_per_lead_30d",
            "ratio",
            "Agents at work for each lead received in the area in 30 days.",
            "competition for leads in the area",
        ),
        (
            "area_places_per_agent_30d",
            "ratio",
            "Places left on the area's leads of 30 days for each agent at work.",
            "places left in the area for each agent",
        ),
        (
            "area_places_left_30d",
            "places",
            "Places of the area's leads of 30 days less their purchases.",
            "places left in the area",
        ),
        (
            "area_seller_share_90d",
            "share",
            "Sellers among the area's leads of 90 days, drawn to a half.",
            "sellers and buyers in the area",
        ),
        (
            "area_inquiries_30d",
            "ratio",
            "Forms sent for each lead received in the area in 30 days.",
            "inquiries in the area",
        ),
        (
            "area_view_trend",
            "ratio",
            "Openings a day of 7 days against those of 30 in the area.",
            "whether demand in the area is growing",
        ),
    ],
) + _of(
    "market",
    "lead,as_of",
    [
        (
            "ask_vs_area",
            "ln ratio",
            "Asking price against the area's sale prices.",
            "its price against the area's",
        ),
        (
            "ask_per_sqft_vs_area",
            "ln ratio",
            "Asking price a square foot against the area's.",
            "its price a square foot against the area's",
        ),
        (
            "views_vs_area",
            "ratio",
            "Openings in 7 days against the area's openings a lead.",
            "interest in it against the area's",
        ),
    ],
)
_AGENT = _of(
    "agent",
    "agent,as_of",
    [
        ("agent_tier", "0, 1, 2", "Tier: basic, pro, enterprise.", ""),
        ("agent_hours_since_active", "hours", "Time since the newest request or interaction.", ""),
        (
            "agent_engagement_90d",
            "weight",
            "Engagement of 90 days: opening 1, hold 2, purchase 3.",
            "",
        ),
        (
            "agent_budget_left",
            "currency",
            "Declared monthly budget less fees of the calendar month.",
            "",
        ),
        (
            "agent_view_rate_30d",
            "share",
            "Leads opened of the leads shown in 30 days, drawn to 1 in 10.",
            "",
        ),
        (
            "agent_buy_rate_90d",
            "share",
            "Leads bought of the leads opened in 90 days, drawn to 1 in 10.",
            "",
        ),
        (
            "agent_price_level",
            "ln currency",
            "Mean asking price engaged with, drawn to the declared band.",
            "",
        ),
        ("agent_sell_share", "share", "Share of sellers in the engagement, drawn to a half.", ""),
        ("agent_band_width", "ln ratio", "Top of the declared price band over its bottom.", ""),
        ("agent_budget_share_left", "share", "What is left of the monthly budget.", ""),
        (
            "agent_month_left",
            "days",
            "Time until the calendar month ends and the budget begins anew.",
            "",
        ),
        ("agent_engagement_faded", "weight", "Engagement of 30 days, each halved by a week.", ""),
        ("agent_bought_faded", "purchases", "Purchases of 30 days, each halved by a week.", ""),
        (
            "agent_engaged_rate",
            "ratio",
            "Engagement for the attention shown in 120 days, fading, drawn to 1 in 5.",
            "",
        ),
        (
            "agent_focus",
            "share",
            "Share of the heaviest centre in the engagement of 120 days, fading.",
            "",
        ),
        (
            "agent_fee_level",
            "ln currency",
            "Mean fee engaged with in 120 days, drawn to the fees shown.",
            "",
        ),
    ],
)
_CROSS = _of(
    "cross",
    "agent,lead,as_of",
    [
        (
            "home_distance_km2",
            "km2",
            "Squared distance to the agent's declared home.",
            "distance to your home area",
        ),
        (
            "engaged_distance_km2",
            "km2",
            "Squared distance to the centre of the agent's engagement.",
            "distance to the leads you engaged with",
        ),
        (
            "engaged_distance_scaled",
            "ratio",
            "The same over the spread of the agent's engagement.",
            "distance to the leads you engaged with, for how widely you work",
        ),
        (
            "second_distance_km2",
            "km2",
            "Squared distance to the centre of engagement beyond 2 km from home.",
            "distance to where you work away from home",
        ),
        (
            "focus_distance_km2",
            "km2",
            "The smaller of the squared distances to home and to that centre.",
            "distance to the nearest place where you work",
        ),
        (
            "nearest_centre_km2",
            "km2",
            "The smallest squared distance to up to three centres of the agent's engagement.",
            "distance to the nearest centre of your work",
        ),
        (
            "centres_affinity",
            "0 to 1",
            "Mean nearness to home and those centres, each by its engagement.",
            "how near it lies to where you work most",
        ),
        (
            "place_looks",
            "1/positions",
            "How prominently leads around its place were shown to the agent in 120 days.",
            "how much you were shown around it",
        ),
        (
            "place_lift",
            "ratio",
            "Engagement for attention around its place, over the agent's usual.",
            "how you take leads around it",
        ),
        (
            "ask_vs_engaged",
            "ln ratio",
            "Asking price against the prices the agent engaged with.",
            "its price against those you engaged with",
        ),
        (
            "ask_vs_engaged_scaled",
            "ratio",
            "The same squared, over the variance of those prices.",
            "how its price fits those you engaged with",
        ),
        (
            "ask_vs_engaged_of_intent",
            "ln ratio",
            "Asking price against those engaged with among leads of its intent.",
            "its price against those of its kind you engaged with",
        ),
        (
            "ask_vs_engaged_of_intent_scaled",
            "ratio",
            "The same squared, over the variance of those prices.",
            "how its price fits those of its kind you engaged with",
        ),
        (
            "price_lift",
            "ratio",
            "Engagement for attention at its price seen from the band, over the agent's usual.",
            "how you take leads of its price",
        ),
        (
            "ask_vs_band",
            "ln ratio",
            "Asking price against the middle of the declared band.",
            "its price against your price band",
        ),
        (
            "ask_outside_band",
            "ln ratio",
            "How far the asking price lies outside the declared band.",
            "whether its price lies in your band",
        ),
        (
            "intent_match",
            "share",
            "Share of the agent's engagement that went to this intent.",
            "whether you engage with sellers or buyers",
        ),
        (
            "intent_lift",
            "ratio",
            "Engagement for attention with leads of its intent, over the agent's usual.",
            "how you take sellers or buyers",
        ),
        (
            "quality_vs_engaged",
            "0 to 1",
            "Quality against that of the leads engaged with.",
            "its quality against those you engaged with",
        ),
        (
            "beds_vs_engaged",
            "rooms",
            "Bedrooms against the mean engaged with.",
            "its bedrooms against those you engaged with",
        ),
        (
            "size_vs_engaged",
            "ln ratio",
            "Living area against that engaged with.",
            "its size against those you engaged with",
        ),
        (
            "fee_vs_engaged",
            "ln ratio",
            "Its usual fee against those of the leads engaged with.",
            "its fee against those you engaged with",
        ),
        (
            "fee_of_budget",
            "ratio",
            "Its usual fee over what is left of the month's budget.",
            "its fee against what is left of your budget",
        ),
        (
            "shown_to_you",
            "rankings",
            "Rankings of this agent that showed the lead before.",
            "how often you were shown it",
        ),
        (
            "passed_over",
            "1/positions",
            "How prominently it was shown to this agent for each opening and one more.",
            "how you took it when you were shown it",
        ),
        ("opened_by_you", "openings", "Openings by this agent.", "how often you opened it"),
        ("held_by_you", "holds", "Holds by this agent.", "how often you held it"),
        (
            "shown_to_you_lately",
            "1/positions",
            "How prominently it was shown to this agent in 30 days, each halved by a week.",
            "how much you were shown it lately",
        ),
        (
            "engaged_by_you_lately",
            "weight",
            "This agent's engagement with it of 30 days, each halved by a week.",
            "what you did with it lately",
        ),
        ("let_go_by_you", "holds", "Holds of it that this agent let go.", "whether you let it go"),
    ],
)

#: lead-side features first, then the agent's, then the crosses: the model's input order
FEATURES: tuple[Feature, ...] = (
    *_LEAD,
    *_BEHAVIOR,
    *_LOCATION,
    *_MARKET,
    *_AGENT,
    *_CROSS,
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
AGENT_FEATURES = tuple(feature.name for feature in _AGENT)
CROSS_FEATURES = tuple(feature.name for feature in _CROSS)
LEAD_FEATURES = FEATURE_NAMES[: -len(AGENT_FEATURES + CROSS_FEATURES)]

#: Features that belong together, for who wants to leave them out together: each family was
#: added to the features of the first release as one.
FAMILIES: dict[str, tuple[str, ...]] = {
    "lead, fading": (
        "lead_views_faded",
        "lead_interest_faded",
        "lead_interest_rate",
    ),
    "lead, what came of openings": ("lead_hold_rate", "lead_declined", "hours_since_bought"),
    "volatility": ("area_sqft_spread_90d", "area_sqft_spread_365d"),
    "competition": (
        "area_buyer_concentration_90d",
        "area_agents_per_lead_30d",
        "area_places_per_agent_30d",
    ),
    "supply and demand": (
        "area_places_left_30d",
        "area_days_to_sell_90d",
        "area_seller_share_90d",
        "area_inquiries_30d",
        "area_view_trend",
    ),
    "agent, lately": (
        "agent_engagement_faded",
        "agent_bought_faded",
        "agent_engaged_rate",
        "agent_focus",
    ),
    "budget": ("agent_budget_share_left", "agent_month_left", "fee_of_budget"),
    "fee": ("lead_fee_level", "agent_fee_level", "fee_vs_engaged"),
    "places": ("nearest_centre_km2", "centres_affinity", "place_looks", "place_lift"),
    "price by intent": ("ask_vs_engaged_of_intent", "ask_vs_engaged_of_intent_scaled"),
    "lifts": ("price_lift", "intent_lift"),
    "size": ("beds_vs_engaged", "size_vs_engaged"),
    "own history, lately": ("shown_to_you_lately", "engaged_by_you_lately", "let_go_by_you"),
}

#: centres of an agent's engagement, and areas whose engagement for attention is kept
CENTRES, PLACES = 3, 8
#: steps of price around the middle of an agent's band, and their width in ln currency
PRICE_STEPS, PRICE_STEP_LOG = 7, 0.3

#: float64 columns that crosses are made of; never an input of the model themselves
LEAD_INGREDIENTS = (
    "x_m",
    "y_m",
    "ask_log",
    "seller",
    "grade",
    "rooms",
    "size_log",
    "fee_log",
    "fee",
)
AGENT_INGREDIENTS = (
    "home_x_m",
    "home_y_m",
    "engaged_x_m",
    "engaged_y_m",
    "engaged_spread_m2",
    "second_x_m",
    "second_y_m",
    "engaged_log_price",
    "engaged_log_price_spread2",
    "band_low_log",
    "band_high_log",
    "engaged_sell_share",
    "engaged_quality",
    "engaged_rate",
    "lift_sell",
    "lift_buy",
    *(f"lift_price_{step}" for step in range(PRICE_STEPS)),
    "engaged_log_price_sell",
    "engaged_log_price_sell_spread2",
    "engaged_log_price_buy",
    "engaged_log_price_buy_spread2",
    "engaged_beds",
    "engaged_log_size",
    "engaged_log_fee",
    "budget_left",
    *(f"centre_{n}_{what}" for n in range(1, CENTRES + 1) for what in ("x_m", "y_m", "weighs")),
    *(
        f"place_{n}_{what}"
        for n in range(1, PLACES + 1)
        for what in (
            "shown_x_m",
            "shown_y_m",
            "engaged_x_m",
            "engaged_y_m",
            "looks",
            "weighs",
        )
    ),
)
#: what this agent and this lead have been through together; 0 where there is no history
PAIR_INGREDIENTS = (
    "own_shown",
    "own_attention",
    "own_views",
    "own_holds",
    "own_releases",
    "own_attention_lately",
    "own_engaged_lately",
)

#: Words that no feature's name, unit or meaning may hold, and why.
FORBIDDEN_WORDS = {
    "what the future brings": "sold_for sold_on sale_date days_until expires expiry outcome oracle",
    "an identity instead of a property": "lead_id agent_id request_id event_id email phone",
    "a protected class": (
        "race racial ethnic ethnicity color religion religious sex gender national origin "
        "familial disability handicap pregnant marital veteran age elderly"
    ),
    "a proxy of a protected class": (
        "name names surname language spanish english wealth wealthy income wage wages poverty "
        "household households family families children school church zip postcode"
    ),
}
_WORDS = {word: why for why, words in FORBIDDEN_WORDS.items() for word in words.split()}


def check(features: Iterable[Feature]) -> None:
    """Refuses a catalogue with a repeated name or a forbidden word (ContractBroken).

    This reads what a feature says of itself. What it can compute from is bounded as well:
    `tables` opens only named columns, and none of them holds such a thing.
    """
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise ContractBroken(f"two features are called {feature.name}")
        seen.add(feature.name)
        text = f"{feature.name} {feature.unit} {feature.about}".lower()
        words = set(re.findall(r"[a-z]+", text)) | set(re.findall(r"[a-z_]+", text))
        for word in sorted(words & _WORDS.keys()):
            raise ContractBroken(f"feature {feature.name} holds {word!r}: {_WORDS[word]}")


def data_dictionary() -> str:
    """The Markdown of docs/data-dictionary.md: every feature, in the model's input order."""
    lines = [
        "# Data dictionary",
        "",
        "Written by `aiqleads.features.catalog.data_dictionary()`; do not edit.",
        "",
        f"The ranker's {len(FEATURES)} inputs, in its order. Each is a float32; NaN says that it",
        "is missing. `as_of` is the moment of the request: an event counts when it had arrived",
        "before `as_of` and happened in a window `[as_of - w, as_of)`; a sale counts when its",
        "date is before `as_of`. Where the market has no dated sale in the year before, figures",
        "from sales are missing. *Drawn to* names the value that a share or a mean starts from",
        "while there is little evidence. How a feature is computed stands in the function of",
        "its name under `src/aiqleads/features/`.",
        "",
    ]
    for group in dict.fromkeys(feature.group for feature in FEATURES):
        lines += [f"## {group}", "", "| feature | grain | unit | meaning | reason shown |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| `{f.name}` | {f.grain} | {f.unit} | {f.about} | {f.reason or '-'} |"
            for f in FEATURES
            if f.group == group
        ]
        lines.append("")
    lines += [
        "## Families",
        "",
        f"The first release had {len(FEATURES) - sum(map(len, FAMILIES.values()))} of these",
        "features. The others came in families, each of which an ablation can leave out as one",
        "(`catalog.FAMILIES`).",
        "",
        "| family | features |",
        "|---|---|",
        *(f"| {name} | {', '.join(names)} |" for name, names in FAMILIES.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(data_dictionary())
