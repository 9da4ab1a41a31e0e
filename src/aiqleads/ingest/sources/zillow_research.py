"""Source `zillow_research`: Zillow's ZHVI and ZORI, a row a region and a column a month.

Metrics, both in dollars: `home_value_index` (ZHVI: the typical home's value) and
`rent_index` (ZORI: a month's typical rent). The table does not say which it is: its name
does (`..zhvi..`, `..zori..`), and where that says nothing a row whose figures are mostly
below 15,000 dollars is taken for rents. Months are written by their last day and kept by
their first. Empty cells are months without a figure. A county, city or neighbourhood is
named with its state, as metros are (`Austin, TX` is not `Austin, MN`).
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from aiqleads.errors import ContractBroken
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text, long_rows
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source

_MONTH = re.compile(r"\d{4}-\d{2}-\d{2}")
_WANTED = {"RegionName": "region", "RegionType": "region_type", "StateName": "region"}
_TYPES = {"msa": "metro"}
_ALONE = ("country", "state", "zip")
_RENTS_BELOW = 15_000.0


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row for each region and month that has a figure."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    columns.require_columns(chunk.payload.name, given.columns, _WANTED, "Zillow's table")
    months = [str(name) for name in given.columns if _MONTH.fullmatch(str(name))]
    if not months:
        raise ContractBroken(
            f"{chunk.payload.name}: Zillow's table needs months, e.g. a column '2015-01-31'; "
            "nothing was stored"
        )
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    read = {}
    for name in months:
        read[name], wrong = columns.number(given[name], "value")
        problems += wrong
    values = pd.DataFrame(read, index=given.index)
    kind = each_text(columns.text(given["RegionType"]), lambda said: _TYPES.get(said, said))
    region = _regions(columns.text(given["RegionName"]), columns.text(given["StateName"]), kind)
    rents = _rents(chunk.payload.name, values)
    undated = pd.Series(pd.NaT, given.index)
    parts = []
    for metric, chosen in (("rent_index", rents), ("home_value_index", ~rents)):
        figures = [(month, "usd", values[month].where(chosen)) for month in months]
        rows = long_rows(given.index, kind, region, undated, "month", figures)
        parts.append(rows.assign(period=_first_days(rows["metric"]), metric=metric))
    filled = [part for part in parts if len(part)] or parts[:1]
    return Parsed(pd.concat(filled), columns.problem_frame(problems), columns.kinds(given))


def _rents(name: str, values: pd.DataFrame) -> pd.Series:
    """Whether each row's figures are rents: by the table's name, else by their size."""
    for word, rents in (("zori", True), ("zhvi", False)):
        if word in name.lower():
            return pd.Series(rents, values.index)
    return values.lt(_RENTS_BELOW).sum(axis=1) * 2 > values.notna().sum(axis=1)


def _first_days(months: pd.Series) -> pd.Series:
    codes, distinct = pd.factorize(months)
    days = pd.to_datetime(distinct, format="%Y-%m-%d", errors="coerce")
    first = days.to_numpy().astype("datetime64[M]").astype("datetime64[ns]")
    return pd.Series(first[codes] if len(first) else first, months.index)


def _regions(name: pd.Series, state: pd.Series, kind: pd.Series) -> pd.Series:
    said = np.array(name.tolist(), dtype=object)
    for at, (region, code, type_) in enumerate(zip(name, state, kind, strict=True)):
        if region and code and type_ not in _ALONE and not region.endswith(f", {code}"):
            said[at] = f"{region}, {code}"
    return pd.Series(said, name.index, dtype=object)


SOURCE = Source(
    name="zillow_research",
    kind="series",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv",),
    records="",
    about="Zillow's home value index (ZHVI) and observed rent index (ZORI) by region and month.",
    specification="https://www.zillow.com/research/data/",
    tested_on="the real ZORI of 646 metros and the nation, 2015-2024",
    parse=parse,
)
