"""What an agent declares and does: history, money, and where, what and how dear they look.

Taste is read from 90 days of engagement: an opening weighs 1, a hold 2, a purchase 3. It
starts from what the agent declares (home, price band), which counts like a few openings,
so a new agent has a taste too.
"""

from __future__ import annotations

from collections.abc import Callable

import ibis
import ibis.expr.types as ir

from aiqleads.domain import US_PER_DAY, Tier
from aiqleads.features import taste
from aiqleads.features.behavior import ENGAGED, WEEKLY, weight_of
from aiqleads.features.lead import log_positive
from aiqleads.features.tables import Tables
from aiqleads.features.taste import band_mid
from aiqleads.features.timeline import EVER, Timeline, known, whole

WINDOWS = {
    "request": (30, 90),
    "view": (30, 90, WEEKLY),
    "hold": (90, WEEKLY),
    "purchase": (90, WEEKLY),
    "release": (90,),
    "return": (90,),
}

#: for the timeline of purchases within the month of the question
MONTH_WINDOWS = {"purchase": (EVER,)}

#: Steps of summed values: places in whole metres, logarithms in ten thousandths.
_LOG_STEP = 10_000.0
#: Engagement farther than this from home tells of a second area, metres.
_ELSEWHERE_M = 2_000.0

# What is declared counts like so much engagement, and is as wide as this.
_PRIOR_WEIGHT = 3.0
_PRIOR_PLACE_M2 = 2_000.0**2
_PRIOR_LOG_PRICE2 = 0.35**2

_VALUES = (
    "shown",
    "weight",
    "east",
    "north",
    "far",
    "elsewhere",
    "elsewhere_east",
    "elsewhere_north",
    "price",
    "price_squared",
    "seller",
    "quality",
)


def events(tables: Tables) -> ir.Table:
    """Requests with the number of leads shown, and what was done with which lead."""
    pages = tables.impressions.group_by("request_id").agg(
        shown=tables.impressions.count().cast("float64")
    )
    asked = tables.rankings.left_join(pages, "request_id")
    asked = known(asked, "at_market_us", "arrived_market_us")
    asked = asked.mutate(kind=ibis.literal("request"), shown=asked.shown.fill_null(0.0))
    done = _weighed(tables)
    return ibis.union(_filled(asked), _filled(done))


def _filled(table: ir.Table) -> ir.Table:
    blank = {name: ibis.literal(0.0) for name in _VALUES if name not in table.columns}
    return table.mutate(**blank).select("agent_id", "kind", "at_us", "known_us", *_VALUES)


def _weighed(tables: Tables) -> ir.Table:
    """Interactions with whole-numbered weights times what the lead was like."""
    leads, agents = tables.leads, tables.agents
    about = leads.select(
        "lead_id",
        "utm_x_m",
        "utm_y_m",
        "quality",
        log_price=log_positive(leads.ask_price_cents / 100.0),
        sells=(leads.intent == "sell").cast("float64"),
    )
    home = agents.select("agent_id", "home_x_m", "home_y_m", mid=band_mid(agents))
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    done = done.select("agent_id", "lead_id", "kind", "at_us", "known_us")
    done = done.join(about, "lead_id").join(home, "agent_id")
    done = done.mutate(
        weight=weight_of(done.kind),
        dx=_whole(done.utm_x_m - done.home_x_m),
        dy=_whole(done.utm_y_m - done.home_y_m),
        dp=_whole((done.log_price - done.mid) * _LOG_STEP),
        quality=_whole(done.quality * _LOG_STEP),
    )
    far = done.dx * done.dx + done.dy * done.dy
    elsewhere = (far > _ELSEWHERE_M**2).ifelse(done.weight, 0.0)
    return done.select(
        "agent_id",
        "kind",
        "at_us",
        "known_us",
        "weight",
        east=done.weight * done.dx,
        north=done.weight * done.dy,
        far=done.weight * far,
        elsewhere=elsewhere,
        elsewhere_east=elsewhere * done.dx,
        elsewhere_north=elsewhere * done.dy,
        price=done.weight * done.dp,
        price_squared=done.weight * done.dp * done.dp,
        seller=done.weight * done.sells,
        quality=done.weight * done.quality,
    )


def _whole(value: ir.NumericValue) -> ir.FloatingValue:
    return whole(value).fill_null(0.0)


def _engaged(line: Timeline, value: str) -> ir.FloatingValue:
    return line.total(value, *ENGAGED, days=90)


def agent_shown_30d(line: Timeline) -> ir.FloatingValue:
    """Leads shown in 30 days."""
    return line.total("shown", "request", days=30)


def agent_views_30d(line: Timeline) -> ir.FloatingValue:
    """Leads opened in 30 days."""
    return line.count("view", days=30)


def agent_views_90d(line: Timeline) -> ir.FloatingValue:
    """Leads opened in 90 days."""
    return line.count("view", days=90)


def agent_purchases_90d(line: Timeline) -> ir.FloatingValue:
    """Leads bought in 90 days, returned ones among them."""
    return line.count("purchase", days=90)


def agent_hours_since_active(line: Timeline) -> ir.FloatingValue:
    """Hours since the newest request or interaction; missing when 90 days have none."""
    return line.hours_since(*WINDOWS, days=90)


def agent_engagement_90d(line: Timeline) -> ir.FloatingValue:
    """Weight of all engagement in 90 days (opening 1, hold 2, purchase 3)."""
    return _engaged(line, "weight")


def agent_engagement_faded(line: Timeline) -> ir.FloatingValue:
    """Weight of the engagement of 30 days, each halved by a week of age."""
    return line.faded("weight", *ENGAGED, fade=WEEKLY)


def agent_bought_faded(line: Timeline) -> ir.FloatingValue:
    """Purchases of 30 days, each halved by a week of age."""
    return line.faded("", "purchase", fade=WEEKLY)


COUNTED = (
    agent_shown_30d,
    agent_views_30d,
    agent_views_90d,
    agent_purchases_90d,
    agent_hours_since_active,
    agent_engagement_90d,
    agent_engagement_faded,
    agent_bought_faded,
)


def months(table: ir.Table, time: str) -> ir.Table:
    """The table with `month`, the number of the calendar month (UTC) of `time`."""
    moment = (table[time] // 1000).as_timestamp("ms")
    return table.mutate(month=(moment.year() * 12 + moment.month()).cast("int64"))


def month_events(tables: Tables) -> ir.Table:
    """Purchases with their fee, by agent and calendar month."""
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    done = done.filter(done.kind == "purchase").mutate(spent_cents=done.price_cents)
    columns = ["agent_id", "month", "kind", "at_us", "known_us", "spent_cents"]
    return months(done, "at_us").select(columns)


def agent_spend_this_month(line: Timeline) -> ir.FloatingValue:
    """Fees paid since the calendar month began, currency units; returns are not taken off."""
    return line.total("spent_cents", "purchase") / 100.0


MONTH_COUNTED = (agent_spend_this_month,)


def _sum(value: str) -> Callable[[Timeline], ir.FloatingValue]:
    def total(line: Timeline) -> ir.FloatingValue:
        return _engaged(line, value)

    total.__name__ = value
    return total


#: Weighted sums of taste that the functions of the row below read; none is a feature.
TASTE = tuple(_sum(name) for name in _VALUES if name not in ("shown", "weight"))


def agent_tier(row: ir.Table) -> ir.FloatingValue:
    """0 basic, 1 pro, 2 enterprise; missing for a tier that is not known."""
    known_tiers = ((row.tier == tier.value, float(tier.code)) for tier in Tier)
    return ibis.cases(*known_tiers, else_=ibis.null("float64"))


def agent_budget_left(row: ir.Table) -> ir.FloatingValue:
    """Declared monthly budget less fees of the calendar month, never below 0."""
    return ibis.greatest(row.monthly_budget_cents / 100.0 - row.agent_spend_this_month, 0.0)


def agent_budget_share_left(row: ir.Table) -> ir.FloatingValue:
    """What is left of the monthly budget over all of it; missing where none is declared."""
    return agent_budget_left(row) / (row.monthly_budget_cents / 100.0).nullif(0.0)


def agent_month_left(row: ir.Table) -> ir.FloatingValue:
    """Days until the calendar month (UTC) ends and the budget begins anew."""
    moment = (row.as_of_us // 1000).as_timestamp("ms")
    ends = moment.truncate("M") + ibis.interval(months=1)
    return (ends.epoch_seconds() * 1_000_000 - row.as_of_us).cast("float64") / US_PER_DAY


def agent_view_rate_30d(row: ir.Table) -> ir.FloatingValue:
    """(opened + 1) / (shown + 10) over 30 days."""
    return (row.agent_views_30d + 1.0) / (row.agent_shown_30d + 10.0)


def agent_buy_rate_90d(row: ir.Table) -> ir.FloatingValue:
    """(bought + 1) / (opened + 10) over 90 days."""
    return (row.agent_purchases_90d + 1.0) / (row.agent_views_90d + 10.0)


def agent_price_level(row: ir.Table) -> ir.FloatingValue:
    """Mean log asking price engaged with, from the middle of the declared band on."""
    return engaged_log_price(row)


def agent_sell_share(row: ir.Table) -> ir.FloatingValue:
    """Share of sellers in the engagement, from a half on."""
    return engaged_sell_share(row)


def agent_band_width(row: ir.Table) -> ir.FloatingValue:
    """Log of the declared band's top over its bottom."""
    return band_high_log(row) - band_low_log(row)


DERIVED = (
    agent_tier,
    agent_budget_left,
    agent_budget_share_left,
    agent_month_left,
    agent_view_rate_30d,
    agent_buy_rate_90d,
    agent_price_level,
    agent_sell_share,
    agent_band_width,
    *taste.DERIVED,
)


# --- ingredients of crosses ----------------------------------------------------------


def _evidence(row: ir.Table) -> ir.FloatingValue:
    return row.agent_engagement_90d + _PRIOR_WEIGHT


def home_x_m(row: ir.Table) -> ir.FloatingValue:
    """Easting of the declared home, metres."""
    return row.home_east_m


def home_y_m(row: ir.Table) -> ir.FloatingValue:
    """Northing of the declared home, metres."""
    return row.home_north_m


def engaged_x_m(row: ir.Table) -> ir.FloatingValue:
    """Weighted mean easting of the leads engaged with, drawn to home, metres."""
    return row.home_east_m + row.east / _evidence(row)


def engaged_y_m(row: ir.Table) -> ir.FloatingValue:
    """Weighted mean northing of the leads engaged with, drawn to home, metres."""
    return row.home_north_m + row.north / _evidence(row)


def engaged_spread_m2(row: ir.Table) -> ir.FloatingValue:
    """Mean squared distance of the engagement to its centre, from (2 km)^2 on."""
    n = _evidence(row)
    east, north = row.east / n, row.north / n
    return (row.far + _PRIOR_WEIGHT * _PRIOR_PLACE_M2) / n - (east * east + north * north)


def second_x_m(row: ir.Table) -> ir.FloatingValue:
    """Mean easting of engagement beyond 2 km from home; home itself until there is any."""
    return row.home_east_m + (row.elsewhere_east / row.elsewhere.nullif(0.0)).fill_null(0.0)


def second_y_m(row: ir.Table) -> ir.FloatingValue:
    """Mean northing of engagement beyond 2 km from home; home itself until there is any."""
    return row.home_north_m + (row.elsewhere_north / row.elsewhere.nullif(0.0)).fill_null(0.0)


def engaged_log_price(row: ir.Table) -> ir.FloatingValue:
    """Weighted mean log asking price engaged with, drawn to the declared band's middle."""
    return band_mid(row) + row.price / _evidence(row) / _LOG_STEP


def engaged_log_price_spread2(row: ir.Table) -> ir.FloatingValue:
    """Variance of the log asking price engaged with, from 0.35^2 on."""
    n = _evidence(row)
    mean = row.price / n / _LOG_STEP
    return (
        row.price_squared / (_LOG_STEP * _LOG_STEP) + _PRIOR_WEIGHT * _PRIOR_LOG_PRICE2
    ) / n - mean * mean


def band_low_log(row: ir.Table) -> ir.FloatingValue:
    """Log of the declared band's bottom."""
    return log_positive(row.price_low_cents / 100.0)


def band_high_log(row: ir.Table) -> ir.FloatingValue:
    """Log of the declared band's top."""
    return log_positive(row.price_high_cents / 100.0)


def engaged_sell_share(row: ir.Table) -> ir.FloatingValue:
    """Share of sellers in the engagement, drawn to a half."""
    return (row.seller + 0.5 * _PRIOR_WEIGHT) / _evidence(row)


def engaged_quality(row: ir.Table) -> ir.FloatingValue:
    """Mean quality engaged with; missing before the first."""
    return row.quality / row.agent_engagement_90d.nullif(0.0) / _LOG_STEP


INGREDIENTS = (
    home_x_m,
    home_y_m,
    engaged_x_m,
    engaged_y_m,
    engaged_spread_m2,
    second_x_m,
    second_y_m,
    engaged_log_price,
    engaged_log_price_spread2,
    band_low_log,
    band_high_log,
    engaged_sell_share,
    engaged_quality,
    *taste.INGREDIENTS,
)
