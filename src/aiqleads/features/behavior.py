"""What happened to a lead since it came in: shown, opened, held, bought.

Functions of a `Timeline` keyed by lead, and functions of the row that their columns make;
a function's name is its feature's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ibis
import ibis.expr.types as ir

from aiqleads.features.lead import log_positive
from aiqleads.features.tables import Tables
from aiqleads.features.timeline import (
    EVER,
    Fade,
    Timeline,
    faded_weight,
    first_of_each,
    known,
    recalled,
    whole,
)

#: Fading of what is counted "lately": halves by the day, or by the week.
DAILY, WEEKLY = Fade(1.0, 7), Fade(7.0, 30)

#: windows that the functions below ask for, by kind: of where a lead was shown, and of what
#: was done, two lines since the first has many times the events and few of the questions
SHOWN_WINDOWS = {"shown": (EVER, WEEKLY)}
WINDOWS = {
    "view": (EVER, 1, 7, DAILY, WEEKLY),
    "viewer": (EVER,),
    "hold": (EVER, 7, WEEKLY),
    "purchase": (EVER, WEEKLY),
    "release": (EVER,),
    "return": (EVER,),
    "submission": (EVER,),
}

#: what an opening, a hold and a purchase say of interest, against each other
WEIGHTS = {"view": 1.0, "hold": 2.0, "purchase": 3.0}
ENGAGED = tuple(WEIGHTS)

#: A page position k gets about 1/k of the attention of the first (the usual Zipf-like
#: reading of result lists); kept in whole millionths so that sums are exact.
_MILLION = 1_000_000

#: Step of summed logarithms of fees: a hundredth of a percent.
_LOG_STEP = 10_000.0
#: Step of an agent's own faded counts.
_OWN_STEP = 1024.0

#: A lead that nobody has been shown is taken to be opened as often as this.
PRIOR_VIEWS, PRIOR_ATTENTION = 1.0, 5.0
# Of five openings one is taken to become a hold.
_PRIOR_HOLDS, _PRIOR_OPENED = 1.0, 5.0


def shown_events(tables: Tables) -> ir.Table:
    """Where leads were shown, as events.

    Values: attention of the page position (millionths of the first's), fee (steps of ln
    currency) that was quoted.
    """
    return _shown(tables).select("lead_id", "kind", "at_us", "known_us", "attention", "fee")


def events(tables: Tables) -> ir.Table:
    """What was done with leads, rivals' purchases too, with the weight of the engagement."""
    told = _done(tables)
    viewers = first_of_each(told.filter(told.kind == "view"), ["lead_id"], "agent_id", "viewer")
    sent = known(tables.submissions, "received_market_us", "received_market_us")
    sent = sent.mutate(kind=ibis.literal("submission"))
    columns = ["lead_id", "kind", "at_us", "known_us", "weight"]
    none = ibis.literal(0.0)
    lines = (told, viewers.mutate(weight=none), sent.mutate(weight=none))
    return ibis.union(*[line.select(columns) for line in lines])


def pair_events(tables: Tables) -> ir.Table:
    """What this market's own agents were shown and did, each with its agent.

    A rival's purchase belongs to the lead alone and is not among them.
    """
    columns = ["agent_id", "lead_id", "kind", "at_us", "known_us", "attention", "weight"]
    shown = _shown(tables).mutate(weight=ibis.literal(0.0))
    done = _done(tables).mutate(attention=ibis.literal(0.0))
    told = ibis.union(shown.select(columns), done.select(columns))
    return told.semi_join(tables.agents, "agent_id")


def _shown(tables: Tables) -> ir.Table:
    shown = tables.impressions.join(tables.rankings, "request_id")
    fee = whole(log_positive(shown.price_cents / 100.0) * _LOG_STEP)
    shown = shown.mutate(
        kind=ibis.literal("shown"),
        attention=(_MILLION // shown.position).cast("float64"),
        fee=fee.fill_null(0.0),
    )
    return known(shown, "at_market_us", "arrived_market_us")


def _done(tables: Tables) -> ir.Table:
    done = tables.interactions
    done = done.mutate(weight=weight_of(done.kind))
    return known(done, "at_market_us", "arrived_market_us")


def weight_of(kind: ir.StringValue) -> ir.FloatingValue:
    """Weight of an interaction's kind; 0 of those that are no engagement."""
    return ibis.cases(*((kind == name, weight) for name, weight in WEIGHTS.items()), else_=0.0)


def lead_submissions(line: Timeline) -> ir.FloatingValue:
    """Times the person has sent the form so far, through any source; 0 where it is not kept."""
    return line.count("submission")


def lead_attention(line: Timeline) -> ir.FloatingValue:
    """Sum of 1/position over the rankings that showed the lead so far."""
    return line.total("attention", "shown") / _MILLION


def lead_views(line: Timeline) -> ir.FloatingValue:
    """Openings so far."""
    return line.count("view")


def lead_views_1d(line: Timeline) -> ir.FloatingValue:
    """Openings in 1 day."""
    return line.count("view", days=1)


def lead_views_7d(line: Timeline) -> ir.FloatingValue:
    """Openings in 7 days."""
    return line.count("view", days=7)


def lead_viewers(line: Timeline) -> ir.FloatingValue:
    """Distinct agents who opened the lead so far."""
    return line.count("viewer")


def lead_holds_7d(line: Timeline) -> ir.FloatingValue:
    """Holds placed in 7 days."""
    return line.count("hold", days=7)


def lead_purchases(line: Timeline) -> ir.FloatingValue:
    """Purchases so far; a returned one stays counted, its place is not offered again."""
    return line.count("purchase")


def hours_since_viewed(line: Timeline) -> ir.FloatingValue:
    """Hours since the newest opening; missing when nobody has opened it."""
    return line.hours_since("view")


def lead_views_faded(line: Timeline) -> ir.FloatingValue:
    """Openings of 7 days, each counting half after each day."""
    return line.faded("", "view", fade=DAILY)


def lead_interest_faded(line: Timeline) -> ir.FloatingValue:
    """Openings 1, holds 2, purchases 3, of 30 days, each counting half after each week."""
    return line.faded("weight", *ENGAGED, fade=WEEKLY)


def lead_attention_faded(line: Timeline) -> ir.FloatingValue:
    """Sum of 1/position over the rankings of 30 days, each counting half after each week."""
    return line.faded("attention", "shown", fade=WEEKLY) / _MILLION


def lead_holds(line: Timeline) -> ir.FloatingValue:
    """Holds so far."""
    return line.count("hold")


def lead_declined(line: Timeline) -> ir.FloatingValue:
    """Holds let go and purchases returned so far."""
    return line.count("release", "return")


def lead_fee_level(line: Timeline) -> ir.FloatingValue:
    """Mean ln fee over the rankings that showed the lead; missing before the first."""
    return line.total("fee", "shown") / line.count("shown").nullif(0.0) / _LOG_STEP


def hours_since_bought(line: Timeline) -> ir.FloatingValue:
    """Hours since the newest purchase, a rival's too; missing when nobody has bought it."""
    return line.hours_since("purchase")


def hours_since_held(line: Timeline) -> ir.FloatingValue:
    """Hours since the newest hold; missing when nobody has held it."""
    return line.hours_since("hold")


SHOWN_COUNTED = (lead_attention, lead_attention_faded, lead_fee_level)
COUNTED = (
    lead_submissions,
    lead_views,
    lead_views_1d,
    lead_views_7d,
    lead_views_faded,
    lead_interest_faded,
    lead_viewers,
    lead_holds,
    lead_holds_7d,
    lead_declined,
    lead_purchases,
    hours_since_bought,
    hours_since_viewed,
    hours_since_held,
)


def hours_since_received(row: ir.Table) -> ir.FloatingValue:
    """`as_of` less the time of receipt, in hours."""
    return (row.as_of_us - row.received_market_us).cast("float64") / 3.6e9


def lead_view_rate(row: ir.Table) -> ir.FloatingValue:
    """(views + 1) / (attention + 5) so far: a page's place is allowed for."""
    return (row.lead_views + PRIOR_VIEWS) / (row.lead_attention + PRIOR_ATTENTION)


def lead_view_trend(row: ir.Table) -> ir.FloatingValue:
    """(views of 1 day + 1) / (views of 7 days a day + 1): above 1 interest is growing."""
    return (row.lead_views_1d + 1.0) / (row.lead_views_7d / 7.0 + 1.0)


def lead_places_left(row: ir.Table) -> ir.FloatingValue:
    """Most buyers allowed less purchases, never below 0."""
    return ibis.greatest(row.max_buyers - row.lead_purchases, 0.0)


def lead_interest_rate(row: ir.Table) -> ir.FloatingValue:
    """(faded engagement + 1) / (faded attention + 5): of the last weeks, place allowed for."""
    return (row.lead_interest_faded + PRIOR_VIEWS) / (row.lead_attention_faded + PRIOR_ATTENTION)


def lead_hold_rate(row: ir.Table) -> ir.FloatingValue:
    """(holds + 1) / (openings + 5) so far: what the page of the lead adds to its card."""
    return (row.lead_holds + _PRIOR_HOLDS) / (row.lead_views + _PRIOR_OPENED)


DERIVED = (
    hours_since_received,
    lead_view_rate,
    lead_view_trend,
    lead_places_left,
    lead_interest_rate,
    lead_hold_rate,
)


# --- what one agent and one lead have been through together, ingredients of crosses ------


def pair_counts(told: ir.Table, spine: ir.Table) -> ir.Table:
    """PAIR_COUNTED for each agent_id, lead_id, as_of_us of the spine; 0 without a history.

    told: `pair_events`, or those of the spine's pairs alone.
    """
    keys = ["agent_id", "lead_id"]
    recent = recalled(told, spine, keys, EVER)
    lately = recent.as_of_us - recent.at_us <= WEEKLY.block_us
    recent = recent.mutate(lately=lately.ifelse(faded_weight(recent, WEEKLY.half_life), 0.0))
    counted = recent.group_by([*keys, "as_of_us"]).agg(
        **{name: function(recent) for name, function in PAIR_COUNTED.items()}
    )
    rows = spine.select(*keys, "as_of_us").left_join(counted, [*keys, "as_of_us"])
    counts = {name: rows[name].fill_null(0.0) for name in PAIR_COUNTED}
    return rows.select(*keys, "as_of_us", **counts)


def own_shown(told: ir.Table) -> ir.FloatingValue:
    """Rankings of this agent that showed the lead."""
    return (told.kind == "shown").ifelse(1.0, 0.0).sum()


def own_attention(told: ir.Table) -> ir.FloatingValue:
    """Sum of 1/position over them."""
    return told.attention.sum() / _MILLION


def own_views(told: ir.Table) -> ir.FloatingValue:
    """Openings by this agent."""
    return (told.kind == "view").ifelse(1.0, 0.0).sum()


def own_holds(told: ir.Table) -> ir.FloatingValue:
    """Holds by this agent."""
    return (told.kind == "hold").ifelse(1.0, 0.0).sum()


def own_releases(told: ir.Table) -> ir.FloatingValue:
    """Holds that this agent let go."""
    return (told.kind == "release").ifelse(1.0, 0.0).sum()


def own_attention_lately(told: ir.Table) -> ir.FloatingValue:
    """Sum of 1/position over the rankings of 30 days, halved by each week of age."""
    thousandths = told.attention / (_MILLION / 1000.0)
    return whole(thousandths * told.lately * _OWN_STEP).sum() / (1000.0 * _OWN_STEP)


def own_engaged_lately(told: ir.Table) -> ir.FloatingValue:
    """Openings 1, holds 2, purchases 3, of 30 days, halved by each week of age."""
    return whole(told.weight * told.lately * _OWN_STEP).sum() / _OWN_STEP


#: functions of the rows of `recalled` at one pair and moment
PAIR_COUNTED: Mapping[str, Callable[[ir.Table], ir.FloatingValue]] = {
    function.__name__: function
    for function in (
        own_shown,
        own_attention,
        own_views,
        own_holds,
        own_releases,
        own_attention_lately,
        own_engaged_lately,
    )
}
