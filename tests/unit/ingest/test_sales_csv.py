from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import ContractBroken, InvalidInput, UnknownName
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Payload, open_payload
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import SOURCES, source_named
from aiqleads.ingest.sources.sales_csv import SOURCE

Make = Callable[[str], Market]


def parse(payload: Payload, market: Market) -> Parsed:
    """The payload's first chunk, read."""
    return SOURCE.parse(next(payload.chunks()), Feed(market))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[pd.DataFrame], Payload]:
    def write(rows: pd.DataFrame, name: str = "feed.csv") -> Payload:
        path = tmp_path / name
        rows.to_csv(path, index=False) if name.endswith("csv") else rows.to_parquet(path)
        return open_payload(path)

    return write


Write = Callable[..., Payload]


def test_values_come_in_the_contract_s_units(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    units = '[sales.units]\nprice = "usd_thousand"\nliving_area = "sqm"\n[sales.missing]'
    market = make_market(tiny_toml.replace("[sales.missing]", units))
    rows = parse(written(feed.assign(price=90.5, area=100)), market).rows
    assert rows["price_cents"].tolist() == [9_050_000.0] * 40
    np.testing.assert_allclose(rows["living_area_sqft"], 1076.391, rtol=1e-6)
    assert rows["sold"].iloc[0] == pd.Timestamp("1995-01-04")
    assert rows["beds"].isna().sum() == 8  # this feed writes 0 for "not known"
    assert rows["baths"].isna().all()


def test_csv_and_parquet_say_the_same(written: Write, feed: pd.DataFrame, tiny: Market) -> None:
    text, typed = (parse(written(feed, name), tiny) for name in ("feed.csv", "feed.parquet"))
    pd.testing.assert_frame_equal(text.rows, typed.rows)
    assert text.columns["price"] == typed.columns["price"] == "number"
    assert text.columns["day"] == "text"


def test_one_value_that_is_no_number_is_a_fault_of_its_row(
    written: Write, feed: pd.DataFrame, tiny: Market
) -> None:
    feed = feed.astype(object)
    feed.loc[3, "price"], feed.loc[4, "price"], feed.loc[5, "day"] = "$9", "inf", "Tuesday"
    feed.loc[6, "area"] = " n/a "
    parsed = parse(written(feed), tiny)
    assert parsed.problems.to_dict("records") == [
        {"index": 4, "column": "price_cents", "rule": "price_cents: a number", "value": "$9"},
        {"index": 5, "column": "price_cents", "rule": "price_cents: a number", "value": "inf"},
        {"index": 6, "column": "sold", "rule": "sold: a date like %Y-%m-%d", "value": "Tuesday"},
    ]
    assert np.isnan(parsed.rows.at[7, "living_area_sqft"])


def test_a_column_of_wrong_values_breaks_the_whole_payload(
    written: Write, feed: pd.DataFrame, tiny: Market
) -> None:
    with pytest.raises(ContractBroken, match=r"40 of 40 values of 'price' .* no number, e.g. 'x'"):
        parse(written(feed.assign(price="x")), tiny)
    with pytest.raises(ContractBroken, match=r"'day' \(our sold\) are no date"):
        parse(written(feed.assign(day="1/2/95")), tiny)
    with pytest.raises(ContractBroken, match="no number"):
        parse(written(feed.assign(price=pd.Timestamp("1995-01-04")), "feed.parquet"), tiny)


def test_a_missing_column_is_named_with_a_guess(
    written: Write, feed: pd.DataFrame, tiny: Market
) -> None:
    with pytest.raises(ContractBroken, match=r"'price' \(our price\), perhaps 'Price'"):
        parse(written(feed.rename(columns={"price": "Price"})), tiny)
    with pytest.raises(ContractBroken, match=r"'x'.*'y'") as caught:
        parse(written(feed.drop(columns=["x", "y"])), tiny)
    assert caught.value.extra["missing"] == ["x", "y"]


def test_a_date_may_stand_in_several_columns(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    text = tiny_toml.replace('"%Y-%m-%d"', '"%m %Y"').replace('"day"', '["month", "year"]')
    rows = feed.assign(month=5, year=[2010.0] * 40)
    for name in ("feed.parquet", "feed.csv"):
        if name == "feed.csv":
            rows["year"] = rows["year"].astype(int)
        sold = parse(written(rows, name), make_market(text)).rows["sold"]
        assert set(sold) == {pd.Timestamp("2010-05-01")}


def test_a_date_written_as_a_number_keeps_its_zeros(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    market = make_market(tiny_toml.replace("%Y-%m-%d", "%y%m%d"))
    rows = feed.assign(day=10104)
    assert set(parse(written(rows), market).rows["sold"]) == {pd.Timestamp("2001-01-04")}
    assert set(parse(written(rows, "a.parquet"), market).rows["sold"]) == {
        pd.Timestamp("2001-01-04")
    }


def test_times_that_parquet_holds_become_local_days(
    written: Write, feed: pd.DataFrame, tiny: Market
) -> None:
    utc = pd.date_range("1995-01-05 03:00", periods=40, freq="D", tz="UTC")
    sold = parse(written(feed.assign(day=utc), "feed.parquet"), tiny).rows["sold"]
    assert sold.iloc[0] == pd.Timestamp("1995-01-04")
    plain = parse(written(feed.assign(day=utc.tz_localize(None)), "f.parquet"), tiny)
    assert plain.rows["sold"].iloc[0] == pd.Timestamp("1995-01-05")
    assert plain.columns["day"] == "date"


def test_half_baths_count_half(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    columns = 'baths = "full"\nhalf_baths = "half"\n[sales.missing]\nbaths = [0]'
    market = make_market(tiny_toml.replace("[sales.missing]", columns))
    rows = feed.assign(full=[2, 0, 0, 1] * 10, half=[1, 1, 0, 0] * 10)
    baths = parse(written(rows), market).rows["baths"].tolist()[:4]
    assert baths[:2] == [2.5, 0.5]
    assert np.isnan(baths[2])
    assert baths[3] == 1.0
    only_half = make_market(
        tiny_toml.replace("[sales.missing]", 'half_baths = "half"\n[sales.missing]')
    )
    assert parse(written(rows), only_half).rows["baths"].tolist()[:3] == [0.5, 0.5, 0.0]


def test_the_kind_of_home_is_the_feed_s_or_the_market_file_s(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    text = tiny_toml.replace("[sales.missing]", 'property_type = "kind"\n[sales.missing]')
    market = make_market(text.replace("[sales]", '[sales]\nproperty_type = "house"'))
    kinds = parse(written(feed.assign(kind=["flat", None] * 20)), market).rows["property_type"]
    assert kinds.tolist()[:2] == ["flat", "house"]


def test_a_row_of_another_width_is_a_problem_of_its_own(tmp_path: Path, tiny: Market) -> None:
    path = tmp_path / "a.csv"
    line = "90000,1995-01-04,-83.6,41.6,3,1000\n"
    path.write_text("price,day,x,y,beds,area\n" + line * 3 + "90000,1995-01-04\n")
    parsed = parse(open_payload(path), tiny)
    assert parsed.problems["index"].tolist() == [4]
    assert "as many as the header's 6" in parsed.problems["rule"].iloc[0]


def test_kinds_of_columns_are_told_apart(written: Write, feed: pd.DataFrame, tiny: Market) -> None:
    columns = parse(written(feed.assign(note="a", nothing=None)), tiny).columns
    assert (columns["note"], columns["nothing"], columns["beds"]) == ("text", "empty", "number")


def test_sources_say_what_they_are() -> None:
    assert SOURCES["sales_csv"].kind == "sale"
    assert all(name == source.name for name, source in SOURCES.items())
    with pytest.raises(UnknownName, match=r"known: .*sales_csv"):
        source_named("redfin_pdf")


def test_bytes_are_read_as_text_and_may_be_none(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    price = feed["price"].astype(str).str.encode("utf-8")
    price.iloc[0] = b"\xff\x00"
    given = feed.assign(price=price, shape=[b"\x01\xff"] * len(feed))
    parsed = parse(written(given, "feed.parquet"), make_market(tiny_toml))
    assert parsed.problems["index"].tolist() == [1]
    assert parsed.rows["price_cents"].notna().sum() == len(feed) - 1
    assert parsed.columns["shape"] == "text"


def test_a_workbook_says_the_same_as_text(
    written: Write, feed: pd.DataFrame, tiny: Market, workbook: Callable[..., Path]
) -> None:
    given = feed.assign(day=pd.to_datetime(feed["day"]))
    typed = parse(open_payload(workbook(given)), tiny)
    pd.testing.assert_frame_equal(parse(written(feed), tiny).rows, typed.rows)


def test_wrong_values_in_a_later_chunk_are_their_rows_faults(
    written: Write, feed: pd.DataFrame, tiny: Market
) -> None:
    feed = feed.astype(object)
    feed.loc[30:, "price"] = "x"
    chunks = list(written(feed).chunks(chunk_rows=30))
    read = [SOURCE.parse(chunk, Feed(tiny)) for chunk in chunks]
    assert [len(each.problems) for each in read] == [0, 10]


def test_a_market_without_the_section_is_refused(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    market = make_market(tiny_toml[: tiny_toml.index("[sales]")])
    with pytest.raises(InvalidInput, match=r"tiny has no \[sales\]"):
        parse(written(feed), market)


def test_a_number_stands_in_one_column(
    written: Write, feed: pd.DataFrame, make_market: Make, tiny_toml: str
) -> None:
    market = make_market(tiny_toml.replace('beds = "beds"', 'beds = ["beds", "area"]'))
    with pytest.raises(InvalidInput, match="beds is a number: map one column"):
        parse(written(feed), market)
