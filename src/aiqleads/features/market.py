"""How the market around a lead moves: prices, supply, demand and competition.

An area is the lead's H3 cell of resolution 7 (about 5 km2). Every figure is as of the
exact moment asked about, not as of the start of its day: a sale counts from its own date
on, which the sources give as local midnight. Where the market has no dated sale in the
year before `as_of`, every figure from sales is missing.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from aiqleads.domain import US_PER_DAY
from aiqleads.features.lead import log_positive
from aiqleads.features.tables import Tables
from aiqleads.features.timeline import EVER, Timeline, known, presence

AREA_WINDOWS = {"lead": (30,), "sale": (90, 365), "view": (30,), "purchase": (30,), "active": (30,)}
MARKET_WINDOWS = {"lead": (EVER,), "sale": (365,)}

#: Step of logarithms that are summed: a hundredth of a percent of the price.
_LOG_STEP = 10_000
#: Subtracted first (the logarithm of about 163,000), so that squares stay small.
_LOG_ORIGIN = 12

# An area's median is drawn towards the market's as if it had this many sales of it.
_PRIOR_SALES = 5.0


def area_events(tables: Tables) -> ir.Table:
    """Sales, leads, openings, purchases and agents at work, by area."""
    leads = tables.leads.mutate(price=ibis.literal(0.0), price_squared=ibis.literal(0.0))
    price = log_positive(tables.sales.price_cents / 100.0) - _LOG_ORIGIN
    steps = (price * _LOG_STEP).round().cast("float64").fill_null(0.0)
    sales = tables.sales.mutate(price=steps, price_squared=steps * steps)
    done = known(tables.interactions, "at_market_us", "arrived_market_us")
    done = done.join(leads.select("lead_id", "area", "price", "price_squared"), "lead_id")
    active = presence(done, ["area"], "agent_id", "active", 30)
    active = active.mutate(price=ibis.literal(0.0), price_squared=ibis.literal(0.0))
    lines = [
        known(leads, "received_market_us", "received_market_us").mutate(kind=ibis.literal("lead")),
        known(sales, "sold_market_us", "sold_market_us").mutate(kind=ibis.literal("sale")),
        done.filter(done.kind.isin(("view", "purchase"))),
        active,
    ]
    columns = ["area", "kind", "at_us", "known_us", "price", "price_squared"]
    return ibis.union(*[line.select(columns) for line in lines])


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


def area_views_30d(line: Timeline) -> ir.FloatingValue:
    """Openings of the area's leads in 30 days."""
    return line.count("view", days=30)


def area_purchases_30d(line: Timeline) -> ir.FloatingValue:
    """Purchases of the area's leads in 30 days."""
    return line.count("purchase", days=30)


def area_active_agents_30d(line: Timeline) -> ir.FloatingValue:
    """Distinct agents who opened, held or bought a lead of the area in 30 days."""
    return line.count("active", days=30)


AREA_COUNTED = (
    area_sales_90d,
    area_sales_365d,
    area_price_spread_365d,
    area_leads_30d,
    area_views_30d,
    area_purchases_30d,
    area_active_agents_30d,
)


def market_events(tables: Tables) -> ir.Table:
    """Leads with their place, and sales, of the whole market."""
    leads, sales = tables.leads, tables.sales
    placed = known(leads, "received_market_us", "received_market_us").mutate(
        kind=ibis.literal("lead"),
        x_m=leads.utm_x_m.round().cast("float64"),
        y_m=leads.utm_y_m.round().cast("float64"),
    )
    sold = known(sales, "sold_market_us", "sold_market_us").mutate(
        kind=ibis.literal("sale"), x_m=ibis.literal(0.0), y_m=ibis.literal(0.0)
    )
    columns = ["kind", "at_us", "known_us", "x_m", "y_m"]
    return ibis.union(placed.select(columns), sold.select(columns))


def market_sales_365d(line: Timeline) -> ir.FloatingValue:
    """Homes sold in the market in 365 days."""
    return line.count("sale", days=365)


def centre_x_m(line: Timeline) -> ir.FloatingValue:
    """Mean easting of the leads received so far; missing before the first."""
    return line.total("x_m", "lead") / line.count("lead").nullif(0.0)


def centre_y_m(line: Timeline) -> ir.FloatingValue:
    """Mean northing of the leads received so far; missing before the first."""
    return line.total("y_m", "lead") / line.count("lead").nullif(0.0)


MARKET_COUNTED = (market_sales_365d, centre_x_m, centre_y_m)


def medians(tables: Tables, spine: ir.Table, keys: tuple[str, ...]) -> ir.Table:
    """Medians of log sale prices before each question: keys, as_of_us, p90, p365, sqft365.

    p90, p365: of the price over 90 and 365 days; sqft365: of the price a square foot.
    """
    sales = tables.sales
    told = sales.select(
        *keys,
        t_us=sales.sold_market_us,
        price=log_positive(sales.price_cents / 100.0),
        per_sqft=log_positive(sales.price_cents / 100.0) - log_positive(sales.living_area_sqft),
        asked=ibis.literal(False),
    )
    blank = ibis.null("float64")
    asked = spine.select(
        *keys, t_us=spine.as_of_us, price=blank, per_sqft=blank, asked=ibis.literal(True)
    )
    first = spine.as_of_us.min().as_scalar()
    line = ibis.union(told.filter(told.t_us >= first - 365 * US_PER_DAY), asked)

    def median(value: ir.FloatingValue, days: int) -> ir.FloatingValue:
        frame = ibis.range_window(
            group_by=list(keys) or None, order_by="t_us", preceding=(days * US_PER_DAY, 1)
        )
        return value.median().over(frame)

    line = line.mutate(
        p90=median(line.price, 90), p365=median(line.price, 365), sqft365=median(line.per_sqft, 365)
    )
    return line.filter(line.asked).select(*keys, "p90", "p365", "sqft365", as_of_us=line.t_us)


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
    ask_vs_area,
    ask_per_sqft_vs_area,
    views_vs_area,
)
