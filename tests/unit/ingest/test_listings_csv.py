from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput
from aiqleads.ingest.market import Market
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.listings_csv import SOURCE

Read = Callable[..., Parsed]
Make = Callable[[str], Market]
RENTHOP = Path(__file__).resolve().parents[4] / "shared" / "data" / "interest" / "renthop_b1.csv"
TOML = """
name = "town"
title = "A town"
timezone = "America/New_York"
[listings]
date_format = "%d.%m.%Y"
nothing = ["ask"]
[listings.columns]
key = ["office", "number"]
status = "state of sale"
price = "price"
listed = "since"
modified = "since"
address = "street"
city = "town"
state = "region"
zip = "post"
beds = "beds"
baths = "full"
half_baths = "half"
living_area = "size"
property_type = "kind"
[listings.units]
price = "usd_thousand"
living_area = "sqm"
[listings.missing]
beds = [99]
[listings.constants]
year_built = 1999
agent = "Example Homes"
[listings.values.status]
running = "Active"
"""
HEADER = (
    "office,number,state of sale,price,since,street,town,region,post,beds,full,half,size,kind\n"
)
ROW = "A,1,running,250.5,09.07.2022,12 Elm St #4,Springfield,Massachusetts,2134,99,1,1,100,Condo\n"


@pytest.fixture
def town(make_market: Make) -> Market:
    return make_market(TOML)


def test_values_come_in_the_contract_s_units_and_words(read_table: Read, town: Market) -> None:
    read = read_table(SOURCE, HEADER + ROW, town)
    assert read.problems.empty
    row = read.rows.loc[1]
    assert (row["key"], row["status"], row["offer"]) == ("A 1", "Active", "sale")
    assert row["list_price_cents"] == 25_050_000
    assert row["living_area_sqft"] == pytest.approx(1076.391)
    assert (row["address"], row["unit"], row["city"]) == ("12 Elm St", "4", "Springfield")
    assert (row["state"], row["zip"]) == ("MA", "02134")  # a spreadsheet took the zero
    assert np.isnan(row["beds"])
    assert (row["baths"], row["year_built"]) == (1.5, 1999)
    assert row["property_type"] == "Condominium"
    assert row["agent_key"] == "Example Homes"
    assert row["listed"] == pd.Timestamp("2022-07-09")
    assert row["modified_us"] == 1_657_339_200_000_000  # midnight in New York is 4:00 UTC


def test_what_is_not_said_is_missing(read_table: Read, town: Market) -> None:
    row = "A,1,ask,ask,,ask,,,,,,,,\n"
    read = read_table(SOURCE, HEADER + row, town)
    assert read.problems.empty
    assert read.rows.at[1, "status"] == "Unknown"
    assert read.rows.at[1, "property_type"] == "unknown"
    assert pd.isna(read.rows.at[1, "list_price_cents"])
    assert read.rows.at[1, "address"] is None


def test_values_of_the_wrong_kind_are_their_row_s_faults(read_table: Read, town: Market) -> None:
    rows = [
        ROW,
        ROW,
        ROW.replace("09.07.2022", "2022-07-09"),
        ROW.replace("250.5", "much"),
        ROW.replace("Massachusetts", "Ruritania"),
        ROW.replace("2134", "nowhere"),
        ROW.replace("running", "haunted"),
        ROW.replace("A,1", "A,"),
        ROW,
        "too,short\n",
    ]
    read = read_table(SOURCE, HEADER + "".join(rows), town)
    assert read.rows.index.tolist() == [1, 2, 9]
    rules = read.problems.drop_duplicates("index").set_index("index")["rule"].to_dict()
    assert rules[3] == "listed: a date like %d.%m.%Y"
    assert rules[4] == "list_price_cents: a number"
    assert rules[5] == "state: a US state"
    assert rules[6] == "zip: a US ZIP"
    assert rules[7].startswith("status: one of")
    assert rules[8] == "key: present"
    assert rules[10] == "(fields): as many as the header's 14"


def test_a_table_of_other_columns_or_kinds_is_refused(
    read_table: Read, make_market: Make, town: Market
) -> None:
    with pytest.raises(ContractBroken, match=r"market town needs .*'post' \(our zip\)"):
        read_table(SOURCE, HEADER.replace(",post,", ",code,") + ROW, town)
    only_modified = make_market(TOML.replace('listed = "since"\n', ""))
    with pytest.raises(ContractBroken, match=r"'since' \(our modified\) are no time like"):
        read_table(SOURCE, HEADER + ROW.replace("09.07", "July"), only_modified)
    with pytest.raises(ContractBroken, match=r"'since' \(our listed\) are no date like"):
        read_table(SOURCE, HEADER + ROW.replace("09.07", "July"), town)


def test_a_unit_of_its_own_column_leaves_the_address(read_table: Read, make_market: Make) -> None:
    text = TOML.replace('city = "town"', 'unit = "town"')
    row = read_table(SOURCE, HEADER + ROW, make_market(text)).rows.loc[1]
    assert (row["address"], row["unit"]) == ("12 Elm St #4", "Springfield")


def test_a_market_without_the_section_is_refused(read_table: Read, tiny: Market) -> None:
    with pytest.raises(InvalidInput, match=r"tiny has no \[listings\]"):
        read_table(SOURCE, HEADER + ROW, tiny)


@pytest.mark.shared_data
def test_real_flats_with_their_demand(read_table: Read, named_market: Make) -> None:
    read = read_table(SOURCE, RENTHOP, named_market("renthop"))
    assert read.problems.empty
    assert len(read.rows) == read.rows["key"].nunique() == 569
    assert set(read.rows["demand"]) == {"low", "medium", "high"}
    assert read.rows[["lon", "lat", "agent_key", "listed"]].notna().all(axis=None)
    assert set(read.rows["offer"]) == {"rent"}
