"""What a lead says of itself: functions of its row, named like their features."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir


def is_seller(row: ir.Table) -> ir.FloatingValue:
    """1 for a person who wants to sell, 0 for one who wants to buy."""
    return (row.intent == "sell").ifelse(1.0, 0.0)


def log_ask_price(row: ir.Table) -> ir.FloatingValue:
    """Natural logarithm of the asking price (a buyer's: the top of the budget)."""
    return log_positive(row.ask_price_cents / 100.0)


def beds(row: ir.Table) -> ir.FloatingValue:
    """Bedrooms of the home, or wanted by the buyer."""
    return row.beds


def log_living_area(row: ir.Table) -> ir.FloatingValue:
    """Natural logarithm of the living area."""
    return log_positive(row.living_area_sqft)


def log_lot_area(row: ir.Table) -> ir.FloatingValue:
    """Natural logarithm of the lot's area."""
    return log_positive(row.lot_area_sqft)


def year_built(row: ir.Table) -> ir.FloatingValue:
    """Year in which the home was built."""
    return row.year_built


def quality(row: ir.Table) -> ir.FloatingValue:
    """Quality score given at ingest."""
    return row.quality


def max_buyers(row: ir.Table) -> ir.FloatingValue:
    """Most agents who may buy the lead."""
    return row.max_buyers


def log_positive(value: ir.NumericValue) -> ir.FloatingValue:
    """Natural logarithm; missing for what is not above zero."""
    return (value > 0).ifelse(value, ibis.null("float64")).ln()


DERIVED = (
    is_seller,
    log_ask_price,
    beds,
    log_living_area,
    log_lot_area,
    year_built,
    quality,
    max_buyers,
)
