"""A new metro is a new market file: no code of ours names one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import load_market
from aiqleads.ingest.payload import open_payload
from aiqleads.ingest.sources.sales_csv import parse
from aiqleads.settings import Settings
from aiqleads.store.frames import read_frame

ROOT = Path(__file__).resolve().parents[3]
SALES = ROOT.parent / "shared" / "data" / "sales"
MARKETS = ROOT / "tests" / "data" / "markets"

pytestmark = pytest.mark.shared_data


def test_ames_joins_month_and_year_and_finds_its_zone(home: Settings) -> None:
    market = load_market(MARKETS / "ames.toml", home)
    report = ingest(home, "sales_csv", [SALES / "ames.csv.gz"], market)
    assert (report.rows_read, report.accepted, report.quarantined) == (2930, 2928, 2)
    assert load_market("ames", home).crs == "EPSG:32615"
    sales = read_frame(home, "ames", "sales")
    # Months start at midnight in Chicago, five or six hours into the UTC day.
    assert set(sales["sold_market_us"] // 3_600_000_000 % 24) == {5, 6}
    assert sales["living_area_sqft"].median() == 1442
    leads = read_frame(home, "ames", "leads")
    assert set(leads["property_type"]) == {"OneFam", "TwnhsE", "Twnhs", "Duplex", "TwoFmCon"}
    assert leads["baths"].dropna().mod(0.5).eq(0).all()


def test_sacramento_has_no_dates_and_two_rows_that_stand_twice(home: Settings) -> None:
    market = load_market(MARKETS / "sacramento.toml", home)
    report = ingest(home, "sales_csv", [SALES / "sacramento.csv.gz"], market)
    assert (report.rows_read, report.accepted, report.duplicates) == (932, 930, 2)
    assert read_frame(home, "sacramento", "sales")["sold_market_us"].isna().all()
    leads = read_frame(home, "sacramento", "leads")
    sellers = leads[leads["source"] == "sales_csv"]
    start, end = market.midnight_us(market.leads.received_from), market.as_of_us
    assert end is not None
    assert (sellers["received_market_us"] >= start).all()
    assert (sellers["received_market_us"] < end).any()
    assert (sellers["received_market_us"] >= end).any()
    assert np.isnan(sellers["year_built"]).all()


def test_the_sample_is_the_published_table(home: Settings) -> None:
    """The sample's Parquet says what the CSV says that it was made of, row by row."""
    market = load_market("lucas", home)
    assert market.sales is not None
    assert market.sales.path is not None
    paths = (market.sales.path, SALES / "lucas_house_sales.csv.gz")
    feed = Feed(market)
    ours, theirs = ([parse(chunk, feed) for chunk in open_payload(path).chunks()] for path in paths)
    for one, other in zip(ours, theirs, strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)
        assert set(other.columns) - set(one.columns) == {"sale_date"}
