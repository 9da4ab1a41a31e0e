"""Whatever stands in the cells of a table: its source says what became of every row."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts import lead_feed, listing_feed, sale_feed, series_feed
from aiqleads.contracts.promise import failures, schema
from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import load_market
from aiqleads.ingest.payload import payload_of
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings

MARKETS = Path(__file__).resolve().parents[1] / "data" / "markets"
HEADERS = {
    "sales_csv": ("sacramento", "city,zip,beds,baths,sqft,type,price,latitude,longitude"),
    "listings_csv": (
        "renthop",
        "listing_id,price,created,street_address,bedrooms,bathrooms,longitude,latitude,"
        "manager_id,interest_level",
    ),
    "series_csv": ("texas", "city,year,month,sales,volume,median,listings,inventory"),
    "redfin": (
        "houston",
        "SALE TYPE,SOLD DATE,PROPERTY TYPE,ADDRESS,CITY,STATE,ZIP,PRICE,BEDS,BATHS,SQUARE FEET,"
        "LOT SIZE,YEAR BUILT,DAYS ON MARKET,STATUS,URL,SOURCE,MLS#,LATITUDE,LONGITUDE",
    ),
    "craigslist": ("austin", "date_time,town,title,price,beds,sqft,url"),
    "zillow_research": ("texas", "RegionName,RegionType,StateName,2015-01-31,2015-02-28"),
    "redfin_datacenter": ("texas", "Region,Month of Period End,Median Sale Price,Inventory YoY"),
    "realtor_rdc": ("texas", "month_date_yyyymm,postal_code,median_listing_price"),
    "fhfa": ("texas", "MSA,year,q,hpi,chg"),
}
ODD = (
    *("", "-", "n/a", "inf", "1e308", "$1.5M", "95.8%", "302,265", "1_0", "٣", "0", "-0.0"),
    *("9" * 30, "2020-01-31", "2020-01-31T00:00Z", "202208", "January-31-2020", "February 2012"),
    *("TX", "texas", "77006-1234", "2134", "low", "In accordance with local MLS rules, some"),
)
CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(ODD),
    st.floats().map(repr),
)


@pytest.mark.parametrize("name", HEADERS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_row_is_read_or_refused(name: str, data: st.DataObject) -> None:
    market, header = HEADERS[name]
    width = header.count(",") + 1
    row = st.one_of(
        st.lists(CELLS, min_size=width, max_size=width), st.lists(CELLS, min_size=1, max_size=4)
    )
    table = data.draw(st.lists(row, min_size=1, max_size=8))
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *table])
    feed = Feed(load_market(MARKETS / f"{market}.toml", Settings()))
    source = SOURCES[name]
    try:
        (chunk,) = payload_of(text.getvalue().encode(), "body").chunks()
        read = source.parse(chunk, feed)
    except (ContractBroken, InvalidInput):
        return  # refused as a whole, in one line
    promised = {
        "listing": listing_feed.feed_schema(),
        "sale": schema(sale_feed.PROMISES),
        "series": series_feed.feed_schema(),
        "lead": lead_feed.feed_schema(),
    }[source.kind]
    assert set(read.problems["index"]) <= set(chunk.rows.index)
    assert set(read.columns) == set(header.split(","))
    good = read.rows[~read.rows.index.isin(read.problems["index"])]
    broken = failures(good, promised)
    assert broken["index"].notna().all()  # the frame itself has the contract's columns and types
    if source.kind != "series":
        assert read.rows.index.equals(chunk.rows.index)
