"""Source `fhfa`: the house price index of the US Federal Housing Finance Agency.

Two of its tables are read, told apart by their columns:

* `HPI_AT_metro` with a header line: metro, code, year, quarter, index and, after it, the
  index's standard error (FHFA prints it in brackets, which spreadsheets turn into a
  negative number: its sign is dropped here). `-` is a quarter without a figure.
  Metrics `house_price_index` and `house_price_index_error`, unit index.
* `hpi_master`: a row for each kind of index, place and period; metrics
  `house_price_index_<flavour>` as measured and `.._adjusted` for the season.
"""

from __future__ import annotations

import pandas as pd

from aiqleads.ingest import columns
from aiqleads.ingest.columns import Problem
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text, joined_text, long_rows
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source

_METRO = {"MSA": "region", "year": "period", "q": "period", "hpi": "value", "chg": "value"}
_MASTER = {
    "hpi_type": "metric",
    "hpi_flavor": "metric",
    "frequency": "frequency",
    "level": "region_type",
    "place_name": "region",
    "yr": "period",
    "period": "period",
    "index_nsa": "value",
    "index_sa": "value",
}
_LEVELS = {
    "msa": "metro",
    "state": "state",
    "usa or census division": "division",
    "puerto rico": "state",
}
_MONTHS = {"monthly": 1, "quarterly": 3}


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row for each figure of the index, or of its error."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    master = "place_name" in given.columns or "index_nsa" in given.columns
    wanted = _MASTER if master else _METRO
    columns.require_columns(chunk.payload.name, given.columns, wanted, "FHFA's table")
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    rows = (_master if master else _metro)(given, problems)
    return Parsed(rows, columns.problem_frame(problems), columns.kinds(given))


def _period(year: pd.Series, part: pd.Series, months: int, problems: list[Problem]) -> pd.Series:
    """First day of the part-th `months` months of a year; None stays None."""
    written = joined_text([year, part])
    first = each_text(written, lambda said: _first_month(said, months))
    period, wrong = columns.date(first.where(first.notna(), written), "period", "%Y-%m")
    problems += wrong
    return period


def _first_month(written: str, months: int) -> str | None:
    year, _, part = written.partition(" ")
    if not (year.isdigit() and part.isdigit() and 1 <= int(part) <= 12 // months):
        return None
    return f"{int(year):04d}-{(int(part) - 1) * months + 1:02d}"


def _metro(given: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    period = _period(given["year"], given["q"], 3, problems)
    index, wrong = columns.number(given["hpi"], "value")
    problems += wrong
    error, wrong = columns.number(given["chg"], "value")
    problems += wrong
    figures = [
        ("house_price_index", "index", index),
        ("house_price_index_error", "index", error.abs()),
    ]
    region = columns.text(given["MSA"])
    return long_rows(given.index, "metro", region, period, "quarter", figures)


def _master(given: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    flavour = joined_text([given["hpi_type"], given["hpi_flavor"]])
    flavour = each_text(flavour, lambda said: said.removeprefix("traditional "))
    level = each_text(columns.text(given["level"]), lambda said: _LEVELS.get(said.lower(), said))
    region = columns.text(given["place_name"])
    often = columns.text(given["frequency"]).str.lower()
    values = {}
    for name in ("index_nsa", "index_sa"):
        values[name], wrong = columns.number(given[name], "value")
        problems += wrong
    unknown = often.notna() & ~often.isin(list(_MONTHS))
    rule = f"frequency: one of {', '.join(_MONTHS)}"
    problems += [(row, "frequency", rule, often[row]) for row in given.index[unknown]]
    parts = []
    for word, months in _MONTHS.items():
        rows = often.eq(word)
        period = _period(given["yr"].where(rows), given["period"].where(rows), months, problems)
        figures: list[tuple[str, str, pd.Series]] = []
        for each in flavour[rows].dropna().unique():
            name = f"house_price_index_{each.replace(' ', '_').replace('-', '_')}"[:60]
            chosen = rows & flavour.eq(each)
            figures.append((name[:51], "index", values["index_nsa"].where(chosen)))
            figures.append((f"{name[:51]}_adjusted", "index", values["index_sa"].where(chosen)))
        length = "month" if months == 1 else "quarter"
        parts.append(long_rows(given.index, level, region, period, length, figures))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled) if filled else parts[0]


SOURCE = Source(
    name="fhfa",
    kind="series",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv",),
    records="",
    about="The house price index of the US Federal Housing Finance Agency, by metro or place.",
    specification="https://www.fhfa.gov/data/hpi/datasets",
    tested_on="the real index of all metros, 1975-2023; hpi_master on fixtures",
    parse=parse,
)
