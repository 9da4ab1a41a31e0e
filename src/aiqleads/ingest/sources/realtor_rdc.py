"""Source `realtor_rdc`: realtor.com's Inventory Core Metrics, by state, metro, county, ZIP.

A row is a region in a month (`202208`); regions come in lower case and are written here as
names are. Some of its files end with a footnote in the first cell, which is no month and
goes to quarantine as such. Metrics keep the table's names; units, from its data dictionary:
prices usd, counts homes, `median_days_on_market` days, areas sqft, `pending_ratio` ratio,
and `_mm` and `_yy`, the changes against the month and the year before, shares.
"""

from __future__ import annotations

import pandas as pd

from aiqleads.errors import ContractBroken
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text, long_rows, zips
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source

_MONTH = "month_date_yyyymm"
#: column that names the region -> kind of region, the narrowest first
_REGIONS = {
    "postal_code": "zip",
    "county_name": "county",
    "cbsa_title": "metro",
    "state": "state",
    "country": "country",
}
_UNITS = {
    "median_listing_price": "usd",
    "average_listing_price": "usd",
    "median_listing_price_per_square_foot": "usd_per_sqft",
    "median_square_feet": "sqft",
    "median_days_on_market": "days",
    "active_listing_count": "homes",
    "new_listing_count": "homes",
    "price_increased_count": "homes",
    "price_reduced_count": "homes",
    "pending_listing_count": "homes",
    "total_listing_count": "homes",
    "price_increased_share": "share",
    "price_reduced_share": "share",
    "pending_ratio": "ratio",
}


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row for each metric that a region and month has a figure of."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    name = next((each for each in _REGIONS if each in given.columns), "state")
    wanted = {_MONTH: "period", name: "region"}
    columns.require_columns(chunk.payload.name, given.columns, wanted, "realtor.com's table")
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    period, wrong = columns.date(given[_MONTH], "period", "%Y%m")
    problems += wrong
    figures: list[tuple[str, str, pd.Series]] = []
    for column in map(str, given.columns):
        unit = _unit(column)
        if unit is not None:
            value, wrong = columns.grouped_number(given[column], "value")
            problems += wrong
            figures.append((column, unit, value))
    if not figures:
        raise ContractBroken(
            f"{chunk.payload.name}: realtor.com's table needs a metric, e.g. a column "
            "'median_listing_price'; nothing was stored"
        )
    region = columns.text(given[name])
    if _REGIONS[name] == "zip":
        region, wrong = zips(region, "region")
        problems += wrong
    else:
        region = each_text(region, _name)
    rows = long_rows(given.index, _REGIONS[name], region, period, "month", figures)
    return Parsed(rows, columns.problem_frame(problems), columns.kinds(given))


def _unit(column: str) -> str | None:
    for change in ("_mm", "_yy"):
        if column.endswith(change) and column.removesuffix(change) in _UNITS:
            return "share"
    return _UNITS.get(column)


def _name(written: str) -> str:
    """`austin-round rock, tx` -> `Austin-Round Rock, TX`."""
    place, comma, state = written.rpartition(", ")
    name = (place if comma else written).title().replace(" Of ", " of ")
    return f"{name}, {state.upper()}" if comma else name


SOURCE = Source(
    name="realtor_rdc",
    kind="series",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv",),
    records="",
    about="Monthly listings, prices and days on market by region, from realtor.com.",
    specification="https://www.realtor.com/research/data/",
    tested_on="the real history of 50 states and the District of Columbia, 2016-2022",
    parse=parse,
)
