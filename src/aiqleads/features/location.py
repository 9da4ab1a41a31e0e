"""Where a lead lies: its neighbourhood (seven H3 cells of resolution 8, about 5 km2).

Raw coordinates and named areas are not features: a ranker that reads them learns who
lives where. Distances, densities and shares say what an agent needs.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from aiqleads.features.tables import Tables
from aiqleads.features.timeline import EVER, Timeline, known

WINDOWS = {"lead": (90,), "sale": (365,), "purchase": (90,), "farm": (EVER,)}

# Shares of small neighbourhoods are drawn towards one purchase in ten leads.
_PRIOR_PURCHASES, _PRIOR_LEADS = 1.0, 10.0


def events(tables: Tables) -> ir.Table:
    """Leads, sales, purchases and agents' territories, at each cell whose ring they touch."""
    leads, sales, bought = tables.leads, tables.sales, tables.interactions
    bought = bought.filter(bought.kind == "purchase").join(
        leads.select("lead_id", "near"), "lead_id"
    )
    farms = tables.agents.select("joined_market_us", touched=tables.agents.territory.unnest())
    lines = [
        _at(leads.mutate(touched=leads.near), "lead", "received_market_us"),
        _at(sales.mutate(touched=sales.near), "sale", "sold_market_us"),
        _at(bought.mutate(touched=bought.near), "purchase", "at_market_us", "arrived_market_us"),
    ]
    around = ibis.union(*lines).join(tables.rings, "touched")
    columns = ["near", "kind", "at_us", "known_us"]
    farming = _at(farms, "farm", "joined_market_us").rename(near="touched")
    return ibis.union(around.select(columns), farming.select(columns))


def _at(table: ir.Table, kind: str, at: str, arrived: str | None = None) -> ir.Table:
    told = known(table, at, arrived or at)
    return told.select("touched", "at_us", "known_us", kind=ibis.literal(kind))


def near_leads_90d(line: Timeline) -> ir.FloatingValue:
    """Leads received within the seven cells in 90 days, the lead itself among them."""
    return line.count("lead", days=90)


def near_sales_365d(line: Timeline) -> ir.FloatingValue:
    """Homes sold within the seven cells in 365 days."""
    return line.count("sale", days=365)


def near_purchases_90d(line: Timeline) -> ir.FloatingValue:
    """Lead purchases within the seven cells in 90 days."""
    return line.count("purchase", days=90)


def near_farming_agents(line: Timeline) -> ir.FloatingValue:
    """Agents who have joined and whose territory holds the lead's cell of resolution 8."""
    return line.count("farm")


COUNTED = (
    near_leads_90d,
    near_sales_365d,
    near_purchases_90d,
    near_farming_agents,
)


def near_penetration_90d(row: ir.Table) -> ir.FloatingValue:
    """(purchases + 1) / (leads + 10) in the seven cells over 90 days."""
    return (row.near_purchases_90d + _PRIOR_PURCHASES) / (row.near_leads_90d + _PRIOR_LEADS)


def centre_distance_km(row: ir.Table) -> ir.FloatingValue:
    """Kilometres (UTM) to the centre of gravity of all leads received so far."""
    east, north = row.utm_x_m - row.centre_x_m, row.utm_y_m - row.centre_y_m
    return (east * east + north * north).sqrt() / 1000.0


DERIVED = (near_penetration_90d, centre_distance_km)
