"""Source `redfin_datacenter`: what Redfin's Data Center exports, UTF-16 and tabs.

A row is a region in a month (`February 2012`), a figure is written as on the page:
`$160K`, `302,265`, `-1.6%`. Metrics and units, from Redfin's metric definitions:

* `median_sale_price` (usd, to the thousand), `homes_sold`, `new_listings`, `inventory`
  (homes), `days_on_market` (days, median), `average_sale_to_list` (ratio);
* with `_mom` and `_yoy`, the change against the month and the year before: a share, but of
  days on market in days, and of sale to list the difference of the two ratios.
"""

from __future__ import annotations

import pandas as pd

from aiqleads.errors import ContractBroken
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text, long_rows
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.people import read_state
from aiqleads.ingest.source import Parsed, Source

_UNITS = {
    "median sale price": "usd",
    "homes sold": "homes",
    "new listings": "homes",
    "inventory": "homes",
    "days on market": "days",
    "average sale to list": "ratio",
}
_CHANGES = (" mom", " yoy")
_IN_THEIR_UNIT = ("days on market", "average sale to list")


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row for each metric that a region and month has a figure of."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    given.columns = given.columns.astype(str).str.strip()
    wanted = {"Region": "region", "Month of Period End": "period"}
    columns.require_columns(chunk.payload.name, given.columns, wanted, "Redfin's Data Center")
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    figures: list[tuple[str, str, pd.Series]] = []
    for name in given.columns:
        unit = _unit(str(name).lower())
        if unit is not None:
            value, wrong = _figure(given[name], unit)
            problems += wrong
            figures.append((str(name).lower().replace(" ", "_"), unit, value))
    if not figures:
        raise ContractBroken(
            f"{chunk.payload.name}: Redfin's Data Center needs a metric, e.g. a column "
            "'Median Sale Price'; nothing was stored"
        )
    region = columns.text(given["Region"])
    period, wrong = columns.date(given["Month of Period End"], "period", "%B %Y")
    problems += wrong
    rows = long_rows(given.index, each_text(region, _type), region, period, "month", figures)
    return Parsed(rows, columns.problem_frame(problems), columns.kinds(given))


def _unit(name: str) -> str | None:
    """Unit of a metric or of its change; None for a column that is neither."""
    for change in _CHANGES:
        base = name.removesuffix(change)
        if base != name and base in _UNITS:
            return _UNITS[base] if base in _IN_THEIR_UNIT else "share"
    return _UNITS.get(name)


def _figure(written: pd.Series, unit: str) -> columns.Read:
    if unit == "usd":
        cents, problems = columns.money(written, "value")
        return cents / 100, problems
    if unit in ("share", "ratio"):
        return columns.percent(written, "value")
    return columns.grouped_number(written, "value")


def _type(region: str) -> str:
    lower = region.lower()
    if lower in ("national", "united states"):
        return "country"
    for ending, kind in ((" metro area", "metro"), (" county", "county")):
        if lower.endswith(ending) or f"{ending}, " in lower:
            return kind
    if lower.startswith("zip code"):
        return "zip"
    return "state" if read_state(region) else "place"


SOURCE = Source(
    name="redfin_datacenter",
    kind="series",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv",),
    records="",
    about="Monthly sales, prices and supply by region, as Redfin's Data Center exports them.",
    specification="https://www.redfin.com/news/data-center-metrics-definitions/",
    tested_on="a real export of six metros and the nation, 2012-2023",
    parse=parse,
)
