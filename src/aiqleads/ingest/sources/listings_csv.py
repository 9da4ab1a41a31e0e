"""Source `listings_csv`: any table of listings, read as a market file's [listings] says.

docs/how-to/map-a-table.md tells how to write that section.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.errors import InvalidInput
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import Mapped, each_text, known_status, states, street_and_unit, zips
from aiqleads.ingest.market import ListingsFeed, Market
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.terms import kind

#: ours in the market file -> column of the contract
_NUMBERS = {
    "price": "list_price_cents",
    "close_price": "close_price_cents",
    "beds": "beds",
    "living_area": "living_area_sqft",
    "lot_area": "lot_area_sqft",
    "year_built": "year_built",
    "days_on_market": "days_on_market",
    "lon": "lon",
    "lat": "lat",
}
_TEXTS = {
    "mls_id": "mls_id",
    "city": "city",
    "agent": "agent_key",
    "demand": "demand",
    "url": "url",
}
_WORDS = {"status": "Unknown", "offer": "sale", "property_type": "unknown"}


def _section(market: Market) -> ListingsFeed:
    if market.listings is None:
        raise InvalidInput(f"market {market.name} has no [listings] section that maps a table")
    return market.listings


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Renames and converts as `sales_csv` does; states and ZIPs are brought to one form.

    Statuses and kinds of home become the words of the RESO Data Dictionary, where it has
    one for them. A unit that the address ends with becomes `unit`, where the section maps none.
    """
    section = _section(feed.market)
    table = Mapped(chunk, feed.market, section)
    made: dict[str, object] = {name: table.number(ours, name) for ours, name in _NUMBERS.items()}
    made |= {name: table.text(ours) for ours, name in _TEXTS.items()}
    made |= {name: table.word(name, default) for name, default in _WORDS.items()}
    made["status"] = _each(made["status"], known_status)
    made["property_type"] = _each(made["property_type"], kind)
    made["key"] = table.text("key", whole=True)
    made["baths"] = table.baths()
    made["listed"] = table.day("listed", "listed", section.date_format)
    made["closed"] = table.day("closed", "closed", section.date_format)
    made["modified_us"] = table.moment("modified", "modified_us", section.date_format)
    address, made["unit"] = table.text("address"), table.text("unit")
    made["address"] = address
    if address is not None and made["unit"] is None:
        made["address"], made["unit"] = street_and_unit(address)
    for name, read in (("state", states), ("zip", zips)):
        said = table.text(name)
        if said is not None:
            made[name], problems = read(said)
            table.problems += problems
    return Parsed(
        rows=columns.contract_frame(PROMISES, made, table.index),
        problems=columns.problem_frame(table.problems),
        columns=columns.kinds(table.given),
    )


def _each(words: object, read: Callable[[str], str | None]) -> object:
    return each_text(words, read) if isinstance(words, pd.Series) else words


SOURCE = Source(
    name="listings_csv",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx", "parquet"),
    records="",
    about="Listings for sale or rent, as a market file maps their columns.",
    specification="docs/how-to/map-a-table.md",
    tested_on="real listings of RentHop, New York 2016",
    parse=parse,
    section="listings",
    needed=("key",),
)
