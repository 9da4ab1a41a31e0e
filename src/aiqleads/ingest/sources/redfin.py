"""Source `redfin`: the table that Redfin's "Download All" gives, of homes offered or sold.

The format is written down nowhere but in its exports and in Redfin's help page; what is
read here was seen in exports of 2018, 2020 and 2023:

* today's header says STATE OR PROVINCE and ZIP OR POSTAL CODE, the old one STATE and ZIP;
* below the header may stand one cell, "In accordance with local MLS rules, ...", which is
  no listing: it is counted and put into quarantine with that reason;
* PRICE is asked, and in rows of SALE TYPE "PAST SALE" it was paid; there DAYS ON MARKET
  counts the days since the sale and is left out;
* kinds of home become RESO's (`Vacant Land` is `Unimproved Land`), statuses too;
* SQUARE FEET and LOT SIZE are square feet, dates read `January-31-2020`;
* rows from public records have neither MLS# nor STATUS nor SOURCE.

A listing is known by its service and MLS#; without a number by the home's id in the
address of its page and the day of the sale, else by its street address and that day.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.ingest import columns
from aiqleads.ingest.columns import Problem
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text, known_status, states, street_and_unit, zips
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.terms import UNKNOWN_KIND, kind

_DAY = "%B-%d-%Y"
_NUMBERS = {
    "PRICE": "list_price_cents",
    "BEDS": "beds",
    "BATHS": "baths",
    "SQUARE FEET": "living_area_sqft",
    "LOT SIZE": "lot_area_sqft",
    "YEAR BUILT": "year_built",
    "DAYS ON MARKET": "days_on_market",
    "LATITUDE": "lat",
    "LONGITUDE": "lon",
}
_TEXTS = {
    "SALE TYPE": "sale type",
    "PROPERTY TYPE": "property_type",
    "ADDRESS": "address",
    "CITY": "city",
    "STATUS": "status",
    "SOURCE": "source",
    "MLS#": "mls_id",
}
#: today's name -> the old one
_OLD = {"STATE OR PROVINCE": "STATE", "ZIP OR POSTAL CODE": "ZIP"}
#: kinds of home that Redfin calls otherwise than the RESO Data Dictionary
_KINDS = {
    "Single Family Residential": "Single Family Residence",
    "Condo/Co-op": "Condominium",
    "Multi-Family (2-4 Unit)": "Multi Family",
    "Multi-Family (5+ Unit)": "Multi Family",
    "Mobile/Manufactured Home": "Manufactured Home",
}
_HOME = re.compile(r"/home/(\d+)")
_NOTICE = "in accordance with local mls rules"
_NOTICE_RULE = "(row): a listing, not the export's notice"


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Redfin's columns as the contract's; ContractBroken where one of them is missing."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    have = set(given.columns)
    named = {today: old if old in have else today for today, old in _OLD.items()}
    url = next((name for name in given.columns if str(name).startswith("URL")), "URL")
    wanted = {**_NUMBERS, **_TEXTS, "SOLD DATE": "closed", url: "url"}
    wanted |= {theirs: today.lower() for today, theirs in named.items()}
    columns.require_columns(chunk.payload.name, given.columns, wanted, "Redfin's export")
    problems = _row_problems(chunk)
    made: dict[str, object] = {}
    for theirs, name in _NUMBERS.items():
        made[name], wrong = columns.number(given[theirs], name)
        problems += wrong
    said = {name: columns.text(given[theirs]) for theirs, name in _TEXTS.items()}
    made["closed"], wrong = columns.date(given["SOLD DATE"], "closed", _DAY)
    problems += wrong
    made["state"], wrong = states(columns.text(given[named["STATE OR PROVINCE"]]))
    problems += wrong
    made["zip"], wrong = zips(columns.text(given[named["ZIP OR POSTAL CODE"]]))
    problems += wrong
    made["address"], made["unit"] = street_and_unit(said["address"])
    made["city"], made["mls_id"] = said["city"], said["mls_id"]
    made["property_type"] = each_text(said["property_type"], _kind).fillna(UNKNOWN_KIND)
    made["url"] = columns.text(given[url])
    made["offer"] = "sale"
    rows = columns.contract_frame(PROMISES, made, given.index)
    past = said["sale type"].str.upper().eq("PAST SALE")
    rows["status"] = _status(said["status"], past)
    rows["key"] = _keys(rows, said["source"])
    sold = rows["status"].eq("Closed")
    cents = rows["list_price_cents"] * 100
    rows["list_price_cents"], rows["close_price_cents"] = cents.mask(sold), cents.where(sold)
    rows["days_on_market"] = rows["days_on_market"].mask(sold)
    return Parsed(rows, columns.problem_frame(problems), columns.kinds(given))


def _row_problems(chunk: Chunk) -> list[Problem]:
    """Rows of another width than the header's, and the notice among or beside them."""
    first = columns.text(chunk.rows.iloc[:, 0])
    notice = first.str.lower().str.startswith(_NOTICE, na=False).to_numpy(dtype=bool)
    found: list[Problem] = [
        (row, "(row)", _NOTICE_RULE, first[row]) for row in chunk.rows.index[notice]
    ]
    for problem in columns.ragged_problems(chunk.rows, chunk.ragged):
        fields: Any = chunk.rows.at[problem[0], RAGGED]
        said = str(fields[0]).strip() if fields else ""
        if said.lower().startswith(_NOTICE):
            found.append((problem[0], "(row)", _NOTICE_RULE, said))
        else:
            found.append(problem)
    return found


def _kind(written: str) -> str | None:
    return _KINDS.get(written) or kind(written)


def _status(said: pd.Series, past: pd.Series) -> pd.Series:
    """RESO's words; one that nobody knows stays, and the contract refuses its row."""
    known = each_text(said, known_status)
    return known.where(known.notna(), np.where(past, "Closed", "Unknown"))


def _keys(rows: pd.DataFrame, source: pd.Series) -> pd.Series:
    day = rows["closed"].dt.strftime("%Y-%m-%d").fillna("").tolist()
    made: list[str | None] = []
    facts = zip(rows["mls_id"], source, rows["url"], rows["address"], rows["zip"], day, strict=True)
    for number, service, url, address, code, sold in facts:
        home = None if url is None else _HOME.search(url)
        if number is not None:
            made.append(f"{service or 'MLS'}:{number}")
        elif home is not None:
            made.append(f"home:{home[1]}:{sold}")
        elif address is not None:
            made.append(f"address:{address.lower()}:{code or ''}:{sold}")
        else:
            made.append(None)
    return pd.Series(made, rows.index, dtype=object)


SOURCE = Source(
    name="redfin",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx"),
    records="",
    about="Homes offered or sold, as Redfin's 'Download All' writes them.",
    specification="https://support.redfin.com/hc/en-us/articles/360016476931-Downloading-Data",
    tested_on="real exports of Fort Worth, Houston and Los Angeles",
    parse=parse,
)
