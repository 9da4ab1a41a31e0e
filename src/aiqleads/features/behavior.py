"""What happened to a lead since it came in: shown, opened, held, bought.

Functions of a `Timeline` keyed by lead, and functions of the row that their columns make;
a function's name is its feature's name.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from aiqleads.features.tables import Tables
from aiqleads.features.timeline import EVER, Timeline, first_of_each, known

#: windows in days that the functions below ask for, by kind
WINDOWS = {
    "shown": (EVER,),
    "view": (EVER, 1, 7),
    "viewer": (EVER,),
    "hold": (EVER, 7),
    "purchase": (EVER,),
    "submission": (EVER,),
}
PAIR_WINDOWS = {"shown": (EVER,), "view": (EVER,), "hold": (EVER,)}

#: A page position k gets about 1/k of the attention of the first (the usual Zipf-like
#: reading of result lists); kept in whole millionths so that sums are exact.
_MILLION = 1_000_000

# A lead that nobody has been shown is taken to be opened as often as this.
_PRIOR_VIEWS, _PRIOR_ATTENTION = 1.0, 5.0


def events(tables: Tables) -> ir.Table:
    """Everything known about leads, as events with the attention of their page position."""
    told = pair_events(tables)
    viewers = first_of_each(told.filter(told.kind == "view"), ["lead_id"], "agent_id", "viewer")
    viewers = viewers.mutate(attention=ibis.literal(0.0))
    sent = known(tables.submissions, "received_market_us", "received_market_us")
    sent = sent.mutate(kind=ibis.literal("submission"), attention=ibis.literal(0.0))
    columns = ["lead_id", "kind", "at_us", "known_us", "attention"]
    return ibis.union(*[line.select(columns) for line in (told, viewers, sent)])


def pair_events(tables: Tables) -> ir.Table:
    """The same without the count of viewers, each with its agent."""
    shown = tables.impressions.join(tables.rankings, "request_id")
    shown = shown.mutate(
        kind=ibis.literal("shown"), attention=(_MILLION // shown.position).cast("float64")
    )
    done = tables.interactions.mutate(attention=ibis.literal(0.0))
    columns = ["agent_id", "lead_id", "kind", "at_us", "known_us", "attention"]
    lines = (known(line, "at_market_us", "arrived_market_us") for line in (shown, done))
    return ibis.union(*[line.select(columns) for line in lines])


def lead_submissions(line: Timeline) -> ir.FloatingValue:
    """Times the person has sent the form so far, through any source; 0 where it is not kept."""
    return line.count("submission")


def lead_attention(line: Timeline) -> ir.FloatingValue:
    """Sum of 1/position over the rankings that showed the lead so far."""
    return line.total("attention", "shown") / float(_MILLION)


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


def hours_since_held(line: Timeline) -> ir.FloatingValue:
    """Hours since the newest hold; missing when nobody has held it."""
    return line.hours_since("hold")


COUNTED = (
    lead_submissions,
    lead_attention,
    lead_views,
    lead_views_1d,
    lead_views_7d,
    lead_viewers,
    lead_holds_7d,
    lead_purchases,
    hours_since_viewed,
    hours_since_held,
)


def hours_since_received(row: ir.Table) -> ir.FloatingValue:
    """`as_of` less the time of receipt, in hours."""
    return (row.as_of_us - row.received_market_us).cast("float64") / 3.6e9


def lead_view_rate(row: ir.Table) -> ir.FloatingValue:
    """(views + 1) / (attention + 5) so far: a page's place is allowed for."""
    return (row.lead_views + _PRIOR_VIEWS) / (row.lead_attention + _PRIOR_ATTENTION)


def lead_view_trend(row: ir.Table) -> ir.FloatingValue:
    """(views of 1 day + 1) / (views of 7 days a day + 1): above 1 interest is growing."""
    return (row.lead_views_1d + 1.0) / (row.lead_views_7d / 7.0 + 1.0)


def lead_places_left(row: ir.Table) -> ir.FloatingValue:
    """Most buyers allowed less purchases, never below 0."""
    return ibis.greatest(row.max_buyers - row.lead_purchases, 0.0)


DERIVED = (hours_since_received, lead_view_rate, lead_view_trend, lead_places_left)


# --- what one agent and one lead have been through together, ingredients of crosses ------


def own_shown(line: Timeline) -> ir.FloatingValue:
    """Rankings of this agent that showed the lead."""
    return line.count("shown")


def own_attention(line: Timeline) -> ir.FloatingValue:
    """Sum of 1/position over them."""
    return line.total("attention", "shown") / float(_MILLION)


def own_views(line: Timeline) -> ir.FloatingValue:
    """Openings by this agent."""
    return line.count("view")


def own_holds(line: Timeline) -> ir.FloatingValue:
    """Holds by this agent."""
    return line.count("hold")


PAIR_COUNTED = (own_shown, own_attention, own_views, own_holds)
