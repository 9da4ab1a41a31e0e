from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken
from aiqleads.ingest.market import Market
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.redfin import SOURCE

Read = Callable[..., Parsed]
Named = Callable[[str], Market]
EXPORTS = Path(__file__).resolve().parents[4] / "shared" / "data" / "redfin_export"
HEADER = (
    "SALE TYPE,SOLD DATE,PROPERTY TYPE,ADDRESS,CITY,STATE OR PROVINCE,ZIP OR POSTAL CODE,PRICE,"
    "BEDS,BATHS,LOCATION,SQUARE FEET,LOT SIZE,YEAR BUILT,DAYS ON MARKET,$/SQUARE FEET,HOA/MONTH,"
    "STATUS,NEXT OPEN HOUSE START TIME,NEXT OPEN HOUSE END TIME,URL (SEE https://example.com FOR"
    " INFO ON PRICING),SOURCE,MLS#,FAVORITE,INTERESTED,LATITUDE,LONGITUDE\r\n"
)
ACTIVE = (
    "MLS Listing,,Condo/Co-op,12 Elm St Unit 4B,Houston,TX,77006,250000,2.0,1.5,Montrose,900.0,,"
    "1999.0,3,277.0,,Active,,,https://example.com/TX/Houston/12-Elm-St/home/501,HARMLS,8001,N,Y,"
    "29.74,-95.39\r\n"
)
LAND = (
    "MLS Listing,,Vacant Land,14 Elm St,Houston,TX,77006-1234,150000,,,Montrose,,5000.0,,9,,,"
    "Contingent,,,https://example.com/TX/Houston/14-Elm-St/home/502,HARMLS,8002,N,Y,29.74,-95.39\r\n"
)
SOLD = (
    "PAST SALE,January-31-2020,Single Family Residential,16 Elm St,Houston,TX,77006,300000,3,2.0,"
    "Montrose,1500,5000,1980,140,200,,Sold,,,https://example.com/TX/Houston/16-Elm-St/home/503,"
    "HARMLS,8003,N,Y,29.74,-95.39\r\n"
)
RECORD = (
    "PAST SALE,,Single Family Residential,18 Elm St,Houston,TX,77006,310000,3,2.0,Montrose,1500,"
    "5000,1980,140,200,,,,,https://example.com/TX/Houston/18-Elm-St/home/504,,,N,Y,29.74,-95.39\r\n"
)
NOTICE = "In accordance with local MLS rules, some MLS listings are not included in the download"


@pytest.fixture
def houston(named_market: Named) -> Market:
    return named_market("houston")


def test_an_offer_comes_in_the_contract_s_words(read_table: Read, houston: Market) -> None:
    read = read_table(SOURCE, HEADER + ACTIVE, houston)
    assert read.problems.empty
    row = read.rows.loc[1]
    assert (row["key"], row["mls_id"], row["status"]) == ("HARMLS:8001", "8001", "Active")
    assert (row["list_price_cents"], row["baths"]) == (25_000_000, 1.5)
    assert np.isnan(row["close_price_cents"])
    assert (row["address"], row["unit"], row["zip"]) == ("12 Elm St", "4B", "77006")
    assert (row["property_type"], row["days_on_market"]) == ("Condominium", 3)
    assert (row["lon"], row["lat"]) == (-95.39, 29.74)


def test_land_has_no_beds_and_zip_plus_four_is_a_zip(read_table: Read, houston: Market) -> None:
    row = read_table(SOURCE, HEADER + LAND, houston).rows.loc[1]
    assert np.isnan(row["beds"])
    assert (row["zip"], row["property_type"]) == ("77006", "Unimproved Land")
    assert row["status"] == "Active Under Contract"


def test_a_sale_has_a_price_paid_and_no_days_on_market(read_table: Read, houston: Market) -> None:
    row = read_table(SOURCE, HEADER + SOLD, houston).rows.loc[1]
    assert (row["status"], row["close_price_cents"]) == ("Closed", 30_000_000)
    assert np.isnan(row["list_price_cents"])
    assert row["closed"] == pd.Timestamp("2020-01-31")
    assert np.isnan(row["days_on_market"])  # what stands there are days since the sale


def test_rows_without_a_number_keep_apart(read_table: Read, houston: Market) -> None:
    bare = RECORD.replace("https://example.com/TX/Houston/18-Elm-St/home/504", "")
    nothing = bare.replace("18 Elm St", "")
    other = RECORD.replace("/home/504", "/home/505").replace("18 Elm", "20 Elm")
    read = read_table(SOURCE, HEADER + RECORD + other + bare + nothing, houston)
    keys = ["home:504:", "home:505:", "address:18 elm st:77006:"]
    assert read.rows["key"].tolist() == keys
    assert set(read.rows["status"]) == {"Closed"}
    assert read.problems["rule"].tolist() == ["key: present"]


@pytest.mark.parametrize("notice", [NOTICE, f'"{NOTICE}"', f'"{NOTICE}"' + "," * 26])
def test_the_notice_is_no_listing(read_table: Read, houston: Market, notice: str) -> None:
    read = read_table(SOURCE, HEADER + notice + "\r\n" + ACTIVE, houston)
    assert read.rows.index.tolist() == [2]
    assert read.problems["index"].tolist() == [1]
    assert read.problems["rule"].tolist() == ["(row): a listing, not the export's notice"]


def test_a_row_of_another_width_is_told_apart(read_table: Read, houston: Market) -> None:
    read = read_table(SOURCE, HEADER + ACTIVE + "a,b\r\n", houston)
    assert read.problems["rule"].tolist() == ["(fields): as many as the header's 27"]


def test_a_value_that_nobody_knows_is_its_row_s_fault(read_table: Read, houston: Market) -> None:
    odd = ACTIVE.replace(",Active,", ",Haunted,") + LAND.replace(",TX,", ",Atlantis,")
    more = SOLD.replace("January-31-2020", "31.1.2020") + ACTIVE.replace("250000", "call us")
    read = read_table(SOURCE, HEADER + odd + more, houston)
    assert read.rows.empty
    rules = dict(zip(read.problems["index"], read.problems["rule"], strict=True))
    assert rules[1].startswith("status: one of Active, ")
    assert rules[2] == "state: a US state"
    assert rules[3] == "closed: a date like %B-%d-%Y"
    assert rules[4] == "list_price_cents: a number"


def test_the_old_header_is_read_too(read_table: Read, houston: Market) -> None:
    old = HEADER.replace("STATE OR PROVINCE,ZIP OR POSTAL CODE", "STATE,ZIP")
    new = read_table(SOURCE, HEADER + SOLD, houston).rows
    pd.testing.assert_frame_equal(read_table(SOURCE, old + SOLD, houston).rows, new)


def test_another_table_is_refused(read_table: Read, houston: Market) -> None:
    with pytest.raises(ContractBroken, match=r"'MLS#' \(our mls_id\), perhaps 'MLS'"):
        read_table(SOURCE, HEADER.replace("MLS#", "MLS") + ACTIVE, houston)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "market", "rows", "closed"),
    [
        ("fort_worth_sold_2020-06-19", "fort_worth", 350, 350),
        ("houston_active_2023-05", "houston", 623, 0),
        ("los_angeles_sold_2018-02", "los_angeles", 269, 269),
    ],
)
def test_real_exports_go_in_whole(
    read_table: Read, named_market: Named, name: str, market: str, rows: int, closed: int
) -> None:
    read = read_table(SOURCE, EXPORTS / f"{name}.csv", named_market(market))
    assert read.problems.empty
    assert len(read.rows) == read.rows["key"].nunique() == rows
    assert int(read.rows["status"].eq("Closed").sum()) == closed
    assert read.rows["lon"].notna().all()


@pytest.mark.shared_data
def test_houston_s_land_and_los_angeles_public_records(
    read_table: Read, named_market: Named
) -> None:
    houston = read_table(SOURCE, EXPORTS / "houston_active_2023-05.csv", named_market("houston"))
    land = houston.rows["property_type"].eq("Unimproved Land")
    assert int(land.sum()) == 59
    assert houston.rows.loc[land, "beds"].isna().all()
    assert houston.rows.loc[~land, "beds"].notna().all()
    path = EXPORTS / "los_angeles_sold_2018-02.csv"
    records = read_table(SOURCE, path, named_market("los_angeles")).rows
    unnumbered = records["mls_id"].isna()
    assert int(unnumbered.sum()) == 35
    assert records.loc[unnumbered, "key"].str.startswith("home:").all()


@pytest.mark.shared_data
@pytest.mark.parametrize("quote", ["", '"'])
def test_today_s_notice_in_a_real_export(read_table: Read, named_market: Named, quote: str) -> None:
    body = (EXPORTS / "houston_active_2023-05.csv").read_text()
    header, _, rest = body.partition("\n")
    planted = f"{header}\n{quote}{NOTICE}{quote}\n{rest}"
    read = read_table(SOURCE, planted, named_market("houston"))
    assert len(read.rows) == 623
    assert read.problems["rule"].tolist() == ["(row): a listing, not the export's notice"]
