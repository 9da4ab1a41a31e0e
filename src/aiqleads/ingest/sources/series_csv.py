"""Source `series_csv`: any table of market series, read as a market file's [series] says.

A row is a region in a period, a column is a metric; docs/how-to/map-a-table.md tells how
to write the section.
"""

from __future__ import annotations

import pandas as pd

from aiqleads.errors import InvalidInput
from aiqleads.ingest import columns
from aiqleads.ingest.columns import Problem
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import joined_text, long_rows
from aiqleads.ingest.market import Market, SeriesFeed
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source


def _section(market: Market) -> SeriesFeed:
    if market.series is None:
        raise InvalidInput(f"market {market.name} has no [series] section that maps a table")
    return market.series


def _several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row for each metric that a row of the table fills; a row without any gives none."""
    section = _section(feed.market)
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    wanted = dict.fromkeys(_several(section.region), "region")
    wanted |= dict.fromkeys(_several(section.period), "period")
    wanted |= {theirs: each.metric for theirs, each in section.metrics.items()}
    who = f"market {feed.market.name}"
    columns.require_columns(chunk.payload.name, given.columns, wanted, who)
    problems: list[Problem] = columns.ragged_problems(chunk.rows, chunk.ragged)
    region = joined_text([given[name] for name in _several(section.region)])
    when = joined_text([given[name] for name in _several(section.period)])
    period, wrong = columns.date(when, "period", section.date_format)
    problems += wrong
    figures: list[tuple[str, str, pd.Series]] = []
    for theirs, each in section.metrics.items():
        value, wrong = columns.grouped_number(given[theirs], "value")
        problems += wrong
        figures.append((each.metric, each.unit, value * each.times))
    return Parsed(
        rows=long_rows(
            given.index, section.region_type, region, period, section.frequency, figures
        ),
        problems=columns.problem_frame(problems),
        columns=columns.kinds(given),
    )


SOURCE = Source(
    name="series_csv",
    kind="series",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx", "parquet"),
    records="",
    about="Market series in a table with a column a metric, as a market file maps them.",
    specification="docs/how-to/map-a-table.md",
    tested_on="monthly sales of 46 areas of Texas, 2000-2015",
    parse=parse,
    section="series",
)
