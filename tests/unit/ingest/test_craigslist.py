from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken
from aiqleads.ingest.market import Market
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources.craigslist import SOURCE

Read = Callable[..., Parsed]
POSTS = Path(__file__).resolve().parents[4] / "shared" / "data" / "craigslist"
HEADER = "date_time,town,title,price,beds,sqft,url\n"
POST = (
    "2022-07-09 12:21, (Hutto),3/2 duplex,1500,3,1200.0,"
    "https://austin.craigslist.org/apa/d/hutto-duplex/7506739727.html\n"
)


@pytest.fixture
def austin(named_market: Callable[[str], Market]) -> Market:
    return named_market("austin")


def test_a_post_is_a_listing_for_rent(read_table: Read, austin: Market) -> None:
    row = read_table(SOURCE, HEADER + POST, austin).rows.loc[1]
    assert (row["offer"], row["status"]) == ("rent", "Active")
    assert (row["city"], row["state"]) == ("Hutto", "TX")
    assert (row["list_price_cents"], row["beds"]) == (150_000, 3)
    assert row["living_area_sqft"] == 1200
    assert row["listed"] == pd.Timestamp("2022-07-09")
    assert row["modified_us"] == 1_657_387_260_000_000  # 12:21 in Austin is 17:21 UTC


def test_a_post_put_up_again_has_the_same_key(read_table: Read, austin: Market) -> None:
    again = POST.replace("7506739727", "7506739999").replace("12:21", "18:00")
    dearer = POST.replace("1500", "1600")
    elsewhere = POST.replace("austin.craigslist", "waco.craigslist")
    keys = read_table(SOURCE, HEADER + POST + again + dearer + elsewhere, austin).rows["key"]
    assert keys.duplicated().tolist() == [False, True, False, False]
    assert "duplex" not in keys[1]  # titles may name people


def test_a_repeat_says_what_the_newest_says(read_table: Read, austin: Market) -> None:
    newer = POST.replace("12:21", "18:00").replace("1200.0", "1250")
    broken = POST.replace("12:21", "19:00").replace("1200.0", "large")
    read = read_table(SOURCE, HEADER + POST + broken + newer + POST, austin)
    assert read.problems["index"].tolist() == [2]
    assert read.rows.index.tolist() == [1, 3, 4]
    assert len(read.rows.drop_duplicates()) == 1
    assert read.rows["living_area_sqft"].tolist() == [1250] * 3


def test_what_a_post_leaves_out_is_missing(read_table: Read, austin: Market) -> None:
    bare = "2022-07-09 12:21,,A room,0,,,\n"
    read = read_table(SOURCE, HEADER + bare, austin)
    assert read.problems.empty
    row = read.rows.loc[1]
    assert row["city"] is None
    assert np.isnan(row["list_price_cents"])


@pytest.mark.parametrize(
    ("written", "town"),
    [
        (" ((Georgetown))", "Georgetown"),
        (" (UT campus (Austin))", "UT campus (Austin)"),
        (" (Central) Austin", "(Central) Austin"),
        ("()", None),
    ],
)
def test_brackets_around_a_town_go(
    read_table: Read, austin: Market, written: str, town: str | None
) -> None:
    assert read_table(SOURCE, HEADER + POST.replace(" (Hutto)", written), austin).rows.at[
        1, "city"
    ] == (town)


def test_a_post_without_a_time_or_name_is_refused(read_table: Read, austin: Market) -> None:
    wrong = POST.replace("2022-07-09 12:21", "yesterday")
    read = read_table(SOURCE, HEADER + wrong + "2022-07-09 12:21,,,,,,\n", austin)
    assert read.problems["rule"].tolist() == ["listed: a date", "key: present"]


def test_another_table_is_refused(read_table: Read, austin: Market) -> None:
    with pytest.raises(ContractBroken, match="'town'"):
        read_table(SOURCE, "a,b\n1,2\n", austin)


@pytest.mark.shared_data
def test_real_posts_repeat_364_times(read_table: Read, austin: Market) -> None:
    read = read_table(SOURCE, POSTS / "austin_2022-07.csv", austin)
    assert len(read.rows) == 2_658
    assert read.problems.empty
    assert int(read.rows["key"].duplicated().sum()) == 364
    assert int(read.rows.duplicated().sum()) == 364
    assert int(read.rows["list_price_cents"].isna().sum()) == 1
    assert read.rows["list_price_cents"].max() == 1_785_000
