"""Source `sales_csv`: any table of home sales, read as a market file says.

A CSV, an Excel workbook or Parquet; the file's [sales] section names its columns, units
and the form of its dates (docs/how-to/add-a-market.md).
"""

from __future__ import annotations

from aiqleads.contracts.sale_feed import PROMISES
from aiqleads.errors import InvalidInput
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import Mapped
from aiqleads.ingest.market import Market, SalesFeed
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.source import Parsed, Source

#: ours in the market file -> column of the contract
_NUMBERS = {
    "price": "price_cents",
    "lon": "lon",
    "lat": "lat",
    "beds": "beds",
    "living_area": "living_area_sqft",
    "lot_area": "lot_area_sqft",
    "garage_area": "garage_area_sqft",
    "rooms": "rooms",
    "year_built": "year_built",
}


def _section(market: Market) -> SalesFeed:
    if market.sales is None:
        raise InvalidInput(f"market {market.name} has no [sales] section that maps a table")
    return market.sales


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Renames, converts to the contract's units, and notes what could not be read.

    ContractBroken where a column of the market file is missing, or where most values of
    one are of the wrong kind in a payload's first chunk: then it is not this feed.
    """
    sales = _section(feed.market)
    table = Mapped(chunk, feed.market, sales)
    made: dict[str, object] = {name: table.number(ours, name) for ours, name in _NUMBERS.items()}
    made["baths"] = table.baths()
    made["sold"] = table.day("sold", "sold", str(sales.date_format))
    made["key"] = table.text("key", whole=True)
    made["property_type"] = table.word("property_type", sales.property_type)
    return Parsed(
        rows=columns.contract_frame(PROMISES, made, table.index),
        problems=columns.problem_frame(table.problems),
        columns=columns.kinds(table.given),
    )


SOURCE = Source(
    name="sales_csv",
    kind="sale",
    rights="sell",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx", "parquet"),
    records="",
    about=(
        "Sales of homes, as a market file maps their columns; each stands in for the "
        "seller's enquiry some weeks before it, with an invented date, price and contact."
    ),
    specification="docs/how-to/add-a-market.md",
    tested_on="real sales of Lucas County, Ames and Sacramento",
    parse=parse,
    section="sales",
    needed=("price", "lon", "lat", "sold"),
)
