"""How the market around a lead moves: prices, supply, demand and competition.

An area is the lead's H3 cell of resolution 7 (about 5 km2). Every figure is as of the
exact moment asked about, not as of the start of its day: a sale counts from its own date
on, which the sources give as local midnight. Where the market has no dated sale in the
year before `as_of`, every figure from sales is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ibis
import ibis.expr.types as ir

from aiqleads.domain import US_PER_DAY
from aiqleads.features.lead import log_positive
from aiqleads.features.tables import Tables
from aiqleads.features.timeline import EVER, Timeline, known, presence, squares, whole

SALE_WINDOWS = {"sale": (90, 365)}
AREA_WINDOWS = {
    "lead": (30, 90),
    "submission": (30,),
    "view": (7, 30),
    "purchase": (30, 90),
    "taken": (30,),
    "active": (30,),
    "crowd": (EVER,),
}
MARKET_WINDOWS = {"lead": (EVER,), "sale": (90, 365), "purchase": (90,)}

#: Step of logarithms that are summed: a hundredth of a percent of the price.
_LOG_STEP = 10_000
#: Subtracted first (the logarithms of about 163,000 and of 55), so that squares stay small.
_LOG_ORIGIN, _LOG_SQFT_ORIGIN = 12, 4

# An area's median is drawn towards the market's as if it had this many sales of it; means
# and variances too.
_PRIOR_SALES = 5.0

#: values of the events of areas, each whole-numbered
_SALE_VALUES = ("price", "price_squared", "sized", "sqft", "sqft_squared")
_VALUES = ("places", "sells", "waited", "steps")


def sale_events(tables: Tables) -> ir.Table:
    """Sales by area, with the logarithm of the price and of that a square foot in steps."""
    return _filled(_sold(tables), ["area"], _SALE_VALUES)


def area_events(tables: Tables) -> ir.Table:
    """Leads, forms, openings, purchases (rivals' too) and agents at work, by area.

    `taken` is a purchase that happened to a lead: it counts for as long as its lead does, from
    the lead's receipt. `crowd` adds up to the squared purchases of each buyer of 90 days.
    """
    leads = _received(tables)
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    of_lead = leads.select("lead_id", "area", received_us=leads.at_us)
    done = done.join(of_lead, "lead_id")
    bought = done.filter(done.kind == "purchase").mutate(waited=_waited(done))
    taken = bought.mutate(kind=ibis.literal("taken"), waited=0.0)
    taken = taken.mutate(
        at_us=taken.received_us, known_us=ibis.greatest(taken.known_us, taken.received_us)
    )
    sent = known(tables.submissions, "received_market_us", "received_market_us")
    sent = sent.join(of_lead, "lead_id").mutate(kind=ibis.literal("submission"))
    lines = (
        leads,
        sent,
        done.filter(done.kind == "view"),
        bought,
        taken,
        presence(done, ["area"], "agent_id", "active", 30),
        squares(bought, ["area"], "agent_id", "crowd", 90),
    )
    return ibis.union(*[_filled(line, ["area"], _VALUES) for line in lines])


def _received(tables: Tables) -> ir.Table:
    leads = known(tables.leads, "received_market_us", "received_market_us")
    return leads.mutate(
        kind=ibis.literal("lead"),
        places=whole(leads.max_buyers).fill_null(0.0),
        sells=(leads.intent == "sell").ifelse(1.0, 0.0),
    )


def _sold(tables: Tables) -> ir.Table:
    sales = known(tables.sales, "sold_market_us", "sold_market_us")
    price = log_positive(sales.price_cents / 100.0)
    steps = whole((price - _LOG_ORIGIN) * _LOG_STEP).fill_null(0.0)
    per_sqft = price - log_positive(sales.living_area_sqft) - _LOG_SQFT_ORIGIN
    sqft = whole(per_sqft * _LOG_STEP)
    return sales.mutate(
        kind=ibis.literal("sale"),
        price=steps,
        price_squared=steps * steps,
        sized=sqft.notnull().ifelse(1.0, 0.0),
        sqft=sqft.fill_null(0.0),
        sqft_squared=(sqft * sqft).fill_null(0.0),
    )


def _waited(done: ir.Table) -> ir.FloatingValue:
    """Whole hours between a lead's receipt and what was done."""
    return whole((done.at_us - done.received_us) / 3.6e9)


def _filled(events: ir.Table, keys: list[str], values: tuple[str, ...]) -> ir.Table:
    """The events' columns, 0 for a value that they do not have."""
    told = {name: events[name] if name in events.columns else ibis.literal(0.0) for name in values}
    return events.select(
        *keys, "kind", "at_us", "known_us", **{n: v.cast("float64") for n, v in told.items()}
    )


def area_sales_90d(line: Timeline) -> ir.FloatingValue:
    """Homes sold in the area in 90 days."""
    return line.count("sale", days=90)


def area_sales_365d(line: Timeline) -> ir.FloatingValue:
    """Homes sold in the area in 365 days."""
    return line.count("sale", days=365)


def area_price_spread_365d(line: Timeline) -> ir.FloatingValue:
    """Standard deviation of the logarithm of sale prices over 365 days; missing below 2."""
    n = line.count("sale", days=365)
    total, squares = (line.total(name, "sale", days=365) for name in ("price", "price_squared"))
    many = (n > 1).ifelse(n, ibis.null("float64"))
    return (ibis.greatest(squares - total * total / many, 0.0) / (many - 1.0)).sqrt() / _LOG_STEP


def area_leads_30d(line: Timeline) -> ir.FloatingValue:
    """Leads received in the area in 30 days."""
    return line.count("lead", days=30)


def area_leads_90d(line: Timeline) -> ir.FloatingValue:
    """Leads received in the area in 90 days."""
    return line.count("lead", days=90)


def area_sellers_90d(line: Timeline) -> ir.FloatingValue:
    """Sellers among the leads received in the area in 90 days."""
    return line.total("sells", "lead", days=90)


def area_forms_30d(line: Timeline) -> ir.FloatingValue:
    """Forms sent about the area's leads in 30 days."""
    return line.count("submission", days=30)


def area_views_7d(line: Timeline) -> ir.FloatingValue:
    """Openings of the area's leads in 7 days."""
    return line.count("view", days=7)


def area_views_30d(line: Timeline) -> ir.FloatingValue:
    """Openings of the area's leads in 30 days."""
    return line.count("view", days=30)


def area_purchases_30d(line: Timeline) -> ir.FloatingValue:
    """Purchases of the area's leads in 30 days, rivals' too."""
    return line.count("purchase", days=30)


def area_purchases_90d(line: Timeline) -> ir.FloatingValue:
    """Purchases of the area's leads in 90 days, rivals' too."""
    return line.count("purchase", days=90)


def area_waited_90d(line: Timeline) -> ir.FloatingValue:
    """Hours from receipt to purchase, over the purchases of 90 days."""
    return line.total("waited", "purchase", days=90)


def area_crowd_90d(line: Timeline) -> ir.FloatingValue:
    """Squared purchases of 90 days of each buyer in the area, summed over buyers."""
    return line.total("steps", "crowd")


def area_places_left_30d(line: Timeline) -> ir.FloatingValue:
    """Places of the leads received in the area in 30 days less their purchases."""
    left = line.total("places", "lead", days=30) - line.count("taken", days=30)
    return ibis.greatest(left, 0.0)


def area_active_agents_30d(line: Timeline) -> ir.FloatingValue:
    """Distinct agents, rivals too, who opened, held or bought a lead of the area in 30 days."""
    return line.count("active", days=30)


def _sums(days: int) -> Callable[[Timeline], ir.FloatingValue]:
    """Squared deviations from the mean of log prices a square foot, in steps."""

    def sqft_squares(line: Timeline) -> ir.FloatingValue:
        n = line.total("sized", "sale", days=days)
        total, squared = (line.total(v, "sale", days=days) for v in ("sqft", "sqft_squared"))
        return ibis.greatest(squared - total * total / n.nullif(0.0), 0.0)

    sqft_squares.__name__ = f"sqft_squares_{days}d"
    return sqft_squares


def _sized(days: int) -> Callable[[Timeline], ir.FloatingValue]:
    """Sales with a price a square foot."""

    def sized(line: Timeline) -> ir.FloatingValue:
        return line.total("sized", "sale", days=days)

    sized.__name__ = f"sized_{days}d"
    return sized


#: what areas and the market have in common for spreads; none is a feature
_SPREADS = tuple(make(days) for days in (90, 365) for make in (_sums, _sized))


SALE_COUNTED = (area_sales_90d, area_sales_365d, area_price_spread_365d, *_SPREADS)
AREA_COUNTED = (
    area_leads_30d,
    area_leads_90d,
    area_sellers_90d,
    area_forms_30d,
    area_views_7d,
    area_views_30d,
    area_purchases_30d,
    area_purchases_90d,
    area_waited_90d,
    area_crowd_90d,
    area_places_left_30d,
    area_active_agents_30d,
)

_MARKET_VALUES = ("x_m", "y_m", "sized", "sqft", "sqft_squared", "waited")


def market_events(tables: Tables) -> ir.Table:
    """Leads with their place, sales and purchases of the whole market."""
    leads = _received(tables)
    placed = leads.mutate(x_m=whole(leads.utm_x_m), y_m=whole(leads.utm_y_m))
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    done = done.filter(done.kind == "purchase")
    done = done.join(leads.select("lead_id", received_us=leads.at_us), "lead_id")
    bought = done.mutate(waited=_waited(done))
    lines = (placed, _sold(tables), bought)
    return ibis.union(*[_filled(line, [], _MARKET_VALUES) for line in lines])


def market_sales_365d(line: Timeline) -> ir.FloatingValue:
    """Homes sold in the market in 365 days."""
    return line.count("sale", days=365)


def centre_x_m(line: Timeline) -> ir.FloatingValue:
    """Mean easting of the leads received so far; missing before the first."""
    return line.total("x_m", "lead") / line.count("lead").nullif(0.0)


def centre_y_m(line: Timeline) -> ir.FloatingValue:
    """Mean northing of the leads received so far; missing before the first."""
    return line.total("y_m", "lead") / line.count("lead").nullif(0.0)


def market_purchases_90d(line: Timeline) -> ir.FloatingValue:
    """Purchases in the market in 90 days."""
    return line.count("purchase", days=90)


def market_waited_90d(line: Timeline) -> ir.FloatingValue:
    """Hours from receipt to purchase, over the purchases of 90 days."""
    return line.total("waited", "purchase", days=90)


def _of_market(
    function: Callable[[Timeline], ir.FloatingValue],
) -> Callable[[Timeline], ir.FloatingValue]:
    def wide(line: Timeline) -> ir.FloatingValue:
        return function(line)

    wide.__name__ = f"market_{function.__name__}"
    return wide


MARKET_COUNTED = (
    market_sales_365d,
    centre_x_m,
    centre_y_m,
    market_purchases_90d,
    market_waited_90d,
    *(_of_market(function) for function in _SPREADS),
)


def medians(tables: Tables, spine: ir.Table, keys: tuple[str, ...]) -> ir.Table:
    """Medians of log sale prices before each question: keys, as_of_us, p90, p365, sqft365.

    p90, p365: of the price over 90 and 365 days; sqft365: of the price a square foot. Missing
    where the time before has no sale.
    """
    price = log_positive(tables.sales.price_cents / 100.0)
    per_sqft = price - log_positive(tables.sales.living_area_sqft)
    prices = _medians(tables, price, spine, keys, {"p90": 90, "p365": 365})
    return prices.join(
        _medians(tables, per_sqft, spine, keys, {"sqft365": 365}), [*keys, "as_of_us"]
    )


def _medians(
    tables: Tables,
    value: ir.FloatingValue,
    spine: ir.Table,
    keys: tuple[str, ...],
    windows: Mapping[str, int],
) -> ir.Table:
    """Medians of a value of the sales over so many days before each question, by column."""
    sales = tables.sales.mutate(value=value)
    first = spine.as_of_us.min().as_scalar()
    sales = sales.filter(sales.value.notnull())
    sales = sales.filter(sales.sold_market_us >= first - 365 * US_PER_DAY)
    told = sales.select(*keys, "value", t_us=sales.sold_market_us, asked=ibis.literal(False))
    # A question stands in the windows of later ones. As a pair of infinities it moves no median;
    # a null would not either, but an engine then counts each window's nulls one by one.
    low, high = (
        spine.select(
            *keys, value=ibis.literal(bound), t_us=spine.as_of_us, asked=ibis.literal(asked)
        )
        for bound, asked in ((float("-inf"), True), (float("inf"), False))
    )
    line = ibis.union(told, low, high)

    def median(days: int) -> ir.FloatingValue:
        frame = ibis.range_window(
            group_by=list(keys) or None, order_by="t_us", preceding=(days * US_PER_DAY, 1)
        )
        found = line.value.median().over(frame)
        none = found.isnan() | found.isinf()  # nothing but questions
        return none.ifelse(ibis.null("float64"), found)

    line = line.mutate(**{name: median(days) for name, days in windows.items()})
    return line.filter(line.asked).select(*keys, *windows, as_of_us=line.t_us)


def _blend(own: ir.FloatingValue, n: ir.FloatingValue, wide: ir.FloatingValue) -> ir.FloatingValue:
    """An area's figure of n sales drawn towards the market's as if that weighed `_PRIOR_SALES`."""
    return (own.fill_null(0.0) * own.notnull().ifelse(n, 0.0) + wide * _PRIOR_SALES) / (
        own.notnull().ifelse(n, 0.0) + _PRIOR_SALES
    )


def area_price(row: ir.Table) -> ir.FloatingValue:
    """Median log sale price of 365 days, drawn to the market's as by 5 sales."""
    return _blend(row.p365, row.area_sales_365d, row.market_p365)


def area_price_trend(row: ir.Table) -> ir.FloatingValue:
    """Median log sale price of 90 days less that of 365, drawn to the market's own change.

    The change is drawn as a whole, as by 5 sales: were each median drawn by itself, a dear
    area with few sales of late would seem to fall.
    """
    wide = row.market_p90 - row.market_p365
    return _blend(row.p90 - row.p365, row.area_sales_90d, wide)


def area_sales_trend(row: ir.Table) -> ir.FloatingValue:
    """(sales of 90 days + 1) / (a quarter of the sales of 365 days + 1)."""
    return (row.area_sales_90d + 1.0) / (row.area_sales_365d / 4.0 + 1.0)


def area_demand_30d(row: ir.Table) -> ir.FloatingValue:
    """(openings + 1) / (leads received + 1) of the area over 30 days."""
    return (row.area_views_30d + 1.0) / (row.area_leads_30d + 1.0)


def area_absorption_30d(row: ir.Table) -> ir.FloatingValue:
    """(purchases + 1) / (leads received + 10) of the area over 30 days."""
    return (row.area_purchases_30d + 1.0) / (row.area_leads_30d + 10.0)


def _spread(row: ir.Table, days: int) -> ir.FloatingValue:
    """Standard deviation of log prices a square foot, its square drawn to the market's."""
    n, wide = row[f"sized_{days}d"], row[f"market_sized_{days}d"]
    usual = row[f"market_sqft_squares_{days}d"] / (wide > 1).ifelse(
        wide - 1.0, ibis.null("float64")
    )
    squares = row[f"sqft_squares_{days}d"].fill_null(0.0) + usual * _PRIOR_SALES
    return (squares / (ibis.greatest(n - 1.0, 0.0) + _PRIOR_SALES)).sqrt() / _LOG_STEP


def area_sqft_spread_90d(row: ir.Table) -> ir.FloatingValue:
    """Standard deviation of log prices a square foot over 90 days, drawn to the market's."""
    return _spread(row, 90)


def area_sqft_spread_365d(row: ir.Table) -> ir.FloatingValue:
    """Standard deviation of log prices a square foot over 365 days, drawn to the market's."""
    return _spread(row, 365)


def area_days_to_sell_90d(row: ir.Table) -> ir.FloatingValue:
    """Mean days from receipt to purchase of 90 days, drawn to the market's as by 5."""
    usual = row.market_waited_90d / row.market_purchases_90d.nullif(0.0)
    waited = row.area_waited_90d + usual * _PRIOR_SALES
    return waited / (row.area_purchases_90d + _PRIOR_SALES) / 24.0


def area_buyer_concentration_90d(row: ir.Table) -> ir.FloatingValue:
    """Sum of the squared shares of buyers in the area's purchases of 90 days (Herfindahl).

    1 where one buyer takes all; missing without a purchase.
    """
    bought = row.area_purchases_90d.nullif(0.0)
    return row.area_crowd_90d / (bought * bought)


def area_agents_per_lead_30d(row: ir.Table) -> ir.FloatingValue:
    """(agents at work + 1) / (leads received + 1) in the area over 30 days."""
    return (row.area_active_agents_30d + 1.0) / (row.area_leads_30d + 1.0)


def area_places_per_agent_30d(row: ir.Table) -> ir.FloatingValue:
    """(places left + 1) / (agents at work + 1) in the area over 30 days."""
    return (row.area_places_left_30d + 1.0) / (row.area_active_agents_30d + 1.0)


def area_seller_share_90d(row: ir.Table) -> ir.FloatingValue:
    """(sellers + 1) / (leads + 2) of the area over 90 days."""
    return (row.area_sellers_90d + 1.0) / (row.area_leads_90d + 2.0)


def area_inquiries_30d(row: ir.Table) -> ir.FloatingValue:
    """(forms sent + 1) / (leads received + 1) in the area over 30 days."""
    return (row.area_forms_30d + 1.0) / (row.area_leads_30d + 1.0)


def area_view_trend(row: ir.Table) -> ir.FloatingValue:
    """(openings of 7 days a day + 1) / (openings of 30 days a day + 1) in the area."""
    return (row.area_views_7d / 7.0 + 1.0) / (row.area_views_30d / 30.0 + 1.0)


def ask_vs_area(row: ir.Table) -> ir.FloatingValue:
    """Log asking price less the area's price."""
    return row.log_ask_price - area_price(row)


def ask_per_sqft_vs_area(row: ir.Table) -> ir.FloatingValue:
    """Log asking price a square foot less the area's, which is drawn to the market's."""
    usual = _blend(row.sqft365, row.area_sales_365d, row.market_sqft365)
    return row.log_ask_price - row.log_living_area - usual


def views_vs_area(row: ir.Table) -> ir.FloatingValue:
    """(views of 7 days + 1) / (the area's openings a lead + 1): behaviour against demand."""
    return (row.lead_views_7d + 1.0) / (area_demand_30d(row) + 1.0)


DERIVED = (
    area_price,
    area_price_trend,
    area_sales_trend,
    area_demand_30d,
    area_absorption_30d,
    area_sqft_spread_90d,
    area_sqft_spread_365d,
    area_days_to_sell_90d,
    area_buyer_concentration_90d,
    area_agents_per_lead_30d,
    area_places_per_agent_30d,
    area_seller_share_90d,
    area_inquiries_30d,
    area_view_trend,
    ask_vs_area,
    ask_per_sqft_vs_area,
    views_vs_area,
)
