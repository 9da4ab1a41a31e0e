"""Source `craigslist`: a table of scraped posts for rent, as public notebooks keep them.

Columns date_time (local, to the minute), town (words in brackets, often an advertisement),
title, price (dollars a month; 0 says nothing), beds, sqft, url. Craigslist documents the
fields of a post with its bulk posting interface, not this table.

Repeats: one advertiser puts the same post up again under a new number and address, at
times for another town or another size. A post is therefore known by its site, title and
price, and a repeat says what the newest post of its chunk says: so it is a `duplicate` (364
of the 2,658 posts of the sample of Austin), and in a later chunk or file an update.

Place: a town is all there is; its state is the market's, where the market file says one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import each_text
from aiqleads.ingest.payload import RAGGED, Chunk
from aiqleads.ingest.source import Parsed, Source

_WANTED = {
    "date_time": "modified_us",
    "town": "city",
    "title": "key",
    "price": "list_price_cents",
    "beds": "beds",
    "sqft": "living_area_sqft",
    "url": "url",
}


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Posts as listings for rent; ContractBroken where a column of the table is missing."""
    given = chunk.rows.drop(columns=RAGGED, errors="ignore")
    columns.require_columns(chunk.payload.name, given.columns, _WANTED, "Craigslist's table")
    problems = columns.ragged_problems(chunk.rows, chunk.ragged)
    made: dict[str, object] = {"status": "Active", "offer": "rent"}
    cents, wrong = columns.money(given["price"], "list_price_cents")
    problems += wrong
    made["list_price_cents"] = cents.mask(cents == 0)
    for theirs in ("beds", "sqft"):
        made[_WANTED[theirs]], wrong = columns.number(given[theirs], _WANTED[theirs])
        problems += wrong
    zone = feed.market.timezone
    made["listed"], wrong = columns.date(given["date_time"], "listed", "ISO8601", zone)
    problems += wrong
    made["modified_us"], _ = columns.moment(given["date_time"], "modified_us", zone)
    made["url"] = url = columns.text(given["url"])
    made["city"] = each_text(columns.text(given["town"]), _town)
    made["state"] = feed.market.state
    made["property_type"] = "Residential Lease"
    made["key"] = _keys(url, columns.text(given["title"]), cents)
    rows = columns.contract_frame(PROMISES, made, given.index)
    rows = _as_newest(rows, {problem[0] for problem in problems})
    return Parsed(rows, columns.problem_frame(problems), columns.kinds(given))


def _as_newest(rows: pd.DataFrame, wrong: set[int]) -> pd.DataFrame:
    """Every row with what the newest of its key says; `wrong` rows have no say."""
    age = -rows["modified_us"].astype("float64").mask(rows.index.isin(wrong))
    order = np.argsort(age.to_numpy(), kind="stable")  # what has no time comes last
    codes, keys = pd.factorize(rows["key"])
    newest = np.zeros(len(keys) + 1, dtype=np.int64)
    newest[codes[order[::-1]]] = order[::-1]
    taken = np.where(codes < 0, np.arange(len(rows)), newest[codes])
    return rows.iloc[taken].set_axis(rows.index)


def _town(written: str) -> str | None:
    """`(Hutto)` -> `Hutto`; brackets within stay, those around go, even when doubled."""
    while written.startswith("(") and written.endswith(")"):
        written = written[1:-1].strip()
    return written[:80] or None


def _keys(url: pd.Series, title: pd.Series, cents: pd.Series) -> pd.Series:
    """A digest of site, title and price: titles may name people, keys must not."""
    made = []
    for address, words, price in zip(url, title, cents, strict=True):
        site = address.split("/")[2] if address and address.count("/") > 1 else ""
        said = f"{site}|{words}|{price:.0f}".encode("utf-8", "replace")
        named = words is not None or address is not None
        made.append(hashlib.blake2b(said, digest_size=12).hexdigest() if named else None)
    return pd.Series(made, url.index, dtype=object)


SOURCE = Source(
    name="craigslist",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx"),
    records="",
    about="Homes for rent in posts of Craigslist, in a table that others scraped.",
    specification="https://www.craigslist.org/about/bulk_posting_interface",
    tested_on="2,658 real posts of Austin, July 2022",
    parse=parse,
)
