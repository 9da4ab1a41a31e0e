from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.ingest.market import Market
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import (
    fhfa,
    realtor_rdc,
    redfin_datacenter,
    series_csv,
    zillow_research,
)

Read = Callable[..., Parsed]
Named = Callable[[str], Market]
MARKET = Path(__file__).resolve().parents[4] / "shared" / "data" / "market"


@pytest.fixture
def texas(named_market: Named) -> Market:
    return named_market("texas")


def _points(read: Parsed) -> dict[tuple[str, str, str], float]:
    """(region, metric, first day) -> value."""
    rows = read.rows
    days = rows["period"].dt.strftime("%Y-%m-%d")
    keys = zip(rows["region"], rows["metric"], days, strict=True)
    return dict(zip(keys, rows["value"], strict=True))


# -- series_csv -------------------------------------------------------------------------

TABLE = "city,year,month,sales,volume,median,listings,inventory\n"


def test_a_mapped_table_becomes_one_row_a_figure(read_table: Read, texas: Market) -> None:
    body = TABLE + "Abilene,2000,1,72.0,5380000,71400,701,\nWaco,2000,12,,,,,\n"
    read = read_table(series_csv.SOURCE, body, texas)
    assert read.problems.empty
    assert _points(read) == {
        ("Abilene", "homes_sold", "2000-01-01"): 72,
        ("Abilene", "sales_volume", "2000-01-01"): 5_380_000,
        ("Abilene", "median_sale_price", "2000-01-01"): 71_400,
        ("Abilene", "inventory", "2000-01-01"): 701,
    }
    assert set(read.rows.index) == {1}
    assert set(read.rows["unit"]) == {"homes", "usd"}


def test_a_row_with_a_wrong_value_is_a_problem(read_table: Read, texas: Market) -> None:
    body = TABLE + "Abilene,2000,13,72,,,,\nWaco,2000,1,many,,,,\n,2000,1,5,,,,\nWaco,2000,2\n"
    read = read_table(series_csv.SOURCE, body, texas)
    assert read.rows.empty
    said = dict(zip(read.problems["index"], read.problems["rule"], strict=True))
    assert said == {
        1: "period: a date like %Y %m",
        2: "value: a number",
        3: "region: present",
        4: "(fields): as many as the header's 8",
    }


def test_a_market_or_table_of_another_kind_is_refused(
    read_table: Read, texas: Market, tiny: Market
) -> None:
    with pytest.raises(InvalidInput, match=r"tiny has no \[series\]"):
        read_table(series_csv.SOURCE, TABLE + "a,2000,1,1,1,1,1,1\n", tiny)
    with pytest.raises(ContractBroken, match="'inventory'"):
        read_table(
            series_csv.SOURCE,
            "city,year,month,sales,volume,median,listings\n" + "a,1,1,1,1,1,1\n",
            texas,
        )


@pytest.mark.shared_data
def test_real_sales_of_texas(read_table: Read, texas: Market) -> None:
    read = read_table(series_csv.SOURCE, MARKET / "txhousing.csv.gz", texas)
    assert read.problems.empty
    # 8,602 months of areas, of which 4,643 figures of five are missing.
    assert len(read.rows) == 8_602 * 5 - (568 + 568 + 616 + 1_424 + 1_467)
    assert read.rows["region"].nunique() == 46


# -- Zillow -----------------------------------------------------------------------------

WIDE = "RegionID,SizeRank,RegionName,RegionType,StateName,2015-01-31,2015-02-28\n"


def test_months_of_a_wide_table_become_rows(read_table: Read, texas: Market) -> None:
    body = WIDE + '1,0,"Austin, TX",msa,TX,1200.5,\n2,1,"Austin, MN",msa,MN,,800\n'
    read = read_table(zillow_research.SOURCE, body, texas)
    assert _points(read) == {
        ("Austin, TX", "rent_index", "2015-01-01"): 1200.5,
        ("Austin, MN", "rent_index", "2015-02-01"): 800,
    }
    assert set(read.rows["region_type"]) == {"metro"}


def test_values_of_homes_are_told_from_rents(
    read_table: Read, texas: Market, tmp_path: Path
) -> None:
    body = WIDE + "1,0,Texas,state,,250000,251000\n2,1,Travis County,county,TX,300000,x\n"
    read = read_table(zillow_research.SOURCE, body, texas)
    assert set(read.rows["metric"]) == {"home_value_index"}
    assert read.problems["rule"].tolist() == ["value: a number"]
    assert set(read.rows["region"]) == {"Texas"}
    dear = tmp_path / "Zip_zori_uc_sfrcondomfr_sm_month.csv"
    dear.write_text(WIDE + "1,0,11962,zip,NY,24000,\n2,1,Travis County,county,TX,1500,\n")
    read = read_table(zillow_research.SOURCE, dear, texas)
    assert set(read.rows["metric"]) == {"rent_index"}
    assert read.rows["region"].tolist() == ["11962", "Travis County, TX"]


def test_a_table_without_months_is_refused(read_table: Read, texas: Market) -> None:
    with pytest.raises(ContractBroken, match="needs months"):
        read_table(zillow_research.SOURCE, "RegionName,RegionType,StateName\na,b,c\n", texas)
    empty = read_table(zillow_research.SOURCE, WIDE + "1,0,Texas,state,,,\n", texas)
    assert empty.rows.empty
    assert empty.problems.empty


@pytest.mark.shared_data
def test_the_real_rent_index(read_table: Read, texas: Market) -> None:
    read = read_table(zillow_research.SOURCE, MARKET / "zillow_zori_metro.csv", texas)
    assert read.problems.empty
    assert read.rows.index.nunique() == 647
    assert len(read.rows) == 647 * 118 - 36_465
    assert {"Austin, TX", "Austin, MN"} <= set(read.rows["region"])
    assert set(read.rows["metric"]) == {"rent_index"}


# -- Redfin's Data Center ---------------------------------------------------------------

CENTER = (
    "Region\tMonth of Period End\tMedian Sale Price\tMedian Sale Price MoM \tHomes Sold\t"
    " Inventory YoY \tDays on Market MoM\tAverage Sale To List\tRemark\n"
)


def test_figures_as_on_the_page_become_numbers(read_table: Read, texas: Market) -> None:
    body = CENTER + " National\tFebruary 2012\t$160K\t-1.6%\t302,265\t10%\t-10\t95.8%\tx\n"
    read = read_table(redfin_datacenter.SOURCE, body.encode("utf-16"), texas)
    assert read.problems.empty
    at = "2012-02-01"
    assert _points(read) == pytest.approx(
        {
            ("National", "median_sale_price", at): 160_000,
            ("National", "median_sale_price_mom", at): -0.016,
            ("National", "homes_sold", at): 302_265,
            ("National", "inventory_yoy", at): 0.10,
            ("National", "days_on_market_mom", at): -10,
            ("National", "average_sale_to_list", at): 0.958,
        }
    )
    units = dict(zip(read.rows["metric"], read.rows["unit"], strict=True))
    assert units["days_on_market_mom"] == "days"
    assert units["inventory_yoy"] == "share"
    assert units["average_sale_to_list"] == "ratio"


@pytest.mark.parametrize(
    ("region", "kind"),
    [
        ("Boston, MA metro area", "metro"),
        ("Travis County, TX", "county"),
        ("Texas", "state"),
        ("Zip Code: 77006", "zip"),
        ("United States", "country"),
        ("Houston, TX", "place"),
    ],
)
def test_kinds_of_regions(read_table: Read, texas: Market, region: str, kind: str) -> None:
    body = CENTER + f"{region}\tFebruary 2012\t$160K\t\t\t\t\t\t\n"
    assert read_table(redfin_datacenter.SOURCE, body, texas).rows["region_type"].tolist() == [kind]


def test_a_table_without_metrics_is_refused(read_table: Read, texas: Market) -> None:
    with pytest.raises(ContractBroken, match="needs a metric"):
        read_table(redfin_datacenter.SOURCE, "Region\tMonth of Period End\na\tb\n", texas)
    with pytest.raises(ContractBroken, match="needs a metric"):
        read_table(realtor_rdc.SOURCE, "month_date_yyyymm,state\n202208,texas\n", texas)


@pytest.mark.shared_data
def test_the_real_data_center(read_table: Read, texas: Market) -> None:
    read = read_table(redfin_datacenter.SOURCE, MARKET / "redfin_datacenter_utf16.csv", texas)
    assert read.problems.empty
    assert len(read.rows) == 952 * 18
    assert read.rows["region"].nunique() == 7
    first = _points(read)
    assert first["National", "homes_sold", "2012-02-01"] == 302_265


# -- realtor.com ------------------------------------------------------------------------

RDC = "month_date_yyyymm,state,state_id,median_listing_price,median_listing_price_yy,quality_flag\n"
FOOTNOTE = "quality_flag = 1:  year-over-year figures may be impacted,,,,,\n"


def test_a_footnote_is_refused_and_the_rest_goes_in(read_table: Read, texas: Market) -> None:
    body = RDC + "202208,district of columbia,dc,399700,0.1758,0\n" + FOOTNOTE + "a footnote\n"
    read = read_table(realtor_rdc.SOURCE, body, texas)
    assert _points(read) == {
        ("District of Columbia", "median_listing_price", "2022-08-01"): 399_700,
        ("District of Columbia", "median_listing_price_yy", "2022-08-01"): 0.1758,
    }
    said = dict(zip(read.problems["index"], read.problems["rule"], strict=True))
    assert said == {2: "period: a date like %Y%m", 3: "(fields): as many as the header's 6"}


@pytest.mark.parametrize(
    ("column", "written", "kind", "name"),
    [
        ("cbsa_title", '"austin-round rock, tx"', "metro", "Austin-Round Rock, TX"),
        ("county_name", '"travis, tx"', "county", "Travis, TX"),
        ("postal_code", "2134", "zip", "02134"),
        ("country", "united states", "country", "United States"),
    ],
)
def test_every_kind_of_region(
    read_table: Read, texas: Market, column: str, written: str, kind: str, name: str
) -> None:
    body = f"month_date_yyyymm,{column},active_listing_count\n202208,{written},5\n"
    read = read_table(realtor_rdc.SOURCE, body, texas)
    assert read.rows[["region_type", "region"]].to_numpy().tolist() == [[kind, name]]


@pytest.mark.shared_data
def test_the_real_history_with_a_planted_footnote(read_table: Read, texas: Market) -> None:
    body = (MARKET / "realtor_RDC_state_history.csv").read_text()
    width = body.partition("\n")[0].count(",")
    planted = f"{body}quality_flag = 1:  year-over-year figures may be impacted{',' * width}\n"
    read = read_table(realtor_rdc.SOURCE, planted, texas)
    assert read.rows.index.nunique() == 3_775
    assert len(read.rows) == 121_049
    assert read.problems["index"].tolist() == [3_776]
    assert read.rows["region"].nunique() == 52


# -- FHFA -------------------------------------------------------------------------------


def test_quarters_without_a_figure_give_no_row(read_table: Read, texas: Market) -> None:
    body = 'MSA,geocode,year,q,hpi,chg\n"Abilene, TX",10180,1975,1,-,-\n'
    body += '"Abilene, TX",10180,1995,4,107.53,-2.52\n'
    read = read_table(fhfa.SOURCE, body, texas)
    assert _points(read) == {
        ("Abilene, TX", "house_price_index", "1995-10-01"): 107.53,
        ("Abilene, TX", "house_price_index_error", "1995-10-01"): 2.52,
    }
    wrong = read_table(fhfa.SOURCE, body + '"Abilene, TX",1,1995,5,1,1\n', texas)
    assert wrong.problems["rule"].tolist() == ["period: a date like %Y-%m"]


def test_the_master_table_holds_several_indices(read_table: Read, texas: Market) -> None:
    body = (
        "hpi_type,hpi_flavor,frequency,level,place_name,place_id,yr,period,index_nsa,index_sa\n"
        "traditional,purchase-only,monthly,USA or Census Division,United States,USA,1991,2,"
        "100.5,101\n"
        'traditional,all-transactions,quarterly,MSA,"Abilene, TX",10180,1991,3,90,\n'
        "developmental,all-transactions,yearly,State,Texas,TX,1991,1,90,\n"
    )
    read = read_table(fhfa.SOURCE, body, texas)
    assert _points(read) == {
        ("United States", "house_price_index_purchase_only", "1991-02-01"): 100.5,
        ("United States", "house_price_index_purchase_only_adjusted", "1991-02-01"): 101,
        ("Abilene, TX", "house_price_index_all_transactions", "1991-07-01"): 90,
    }
    assert read.problems["rule"].tolist() == ["frequency: one of monthly, quarterly"]
    assert set(read.rows["frequency"]) == {"month", "quarter"}


def test_a_table_of_no_known_kind_is_refused(read_table: Read, texas: Market) -> None:
    with pytest.raises(ContractBroken, match="'MSA'"):
        read_table(fhfa.SOURCE, "a,b\n1,2\n", texas)


@pytest.mark.shared_data
def test_the_real_index(read_table: Read, texas: Market) -> None:
    read = read_table(fhfa.SOURCE, MARKET / "fhfa_HPI_AT_metro.csv", texas)
    assert read.problems.empty
    # 77,972 quarters, of which 13,486 have neither index nor error.
    assert len(read.rows) == 2 * (77_972 - 13_486)
    assert read.rows["value"].ge(0).all()
    assert read.rows["period"].min() >= pd.Timestamp("1975-01-01")
