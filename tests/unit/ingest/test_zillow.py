"""Source zillow: dumps with nested cells, and pages of one home."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.listing_feed import feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.errors import ContractBroken
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market
from aiqleads.ingest.payload import Payload, open_payload, payload_of
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import zillow

FEEDS = Path(__file__).resolve().parents[2] / "data" / "feeds" / "zillow"
FEED = Feed(Market(name="toledo", title="Toledo", timezone="America/New_York"))


def parse(payload: Payload) -> Parsed:
    (chunk,) = payload.chunks(zillow.SOURCE.records)
    return zillow.parse(chunk, FEED)


def home(**fields: object) -> pd.Series:
    body = json.dumps([{"zpid": 1, "homeStatus": "FOR_SALE", **fields}]).encode()
    return parse(payload_of(body, "home")).rows.iloc[0]


def page(state: object, head: str = "") -> Parsed:
    script = f'<script id="__NEXT_DATA__" type="application/json">{json.dumps(state)}</script>'
    html = f"<!doctype html><html><head>{head}</head><body>{script}</body></html>"
    return parse(payload_of(html.encode(), "page"))


def state_of(*homes: object, asked: object = None) -> object:
    cache = {f"Query{at}": {"property": each} for at, each in enumerate(homes)}
    props = {"zpid": asked, "gdpClientCache": json.dumps(cache)}
    return {"props": {"pageProps": {"componentProps": props}}}


@pytest.fixture(scope="module")
def dump() -> Parsed:
    return parse(open_payload(FEEDS / "dump.csv"))


def test_a_home_on_offer_with_its_history(dump: Parsed) -> None:
    row = dump.rows.loc[1]
    assert (row.key, row.status, row.offer) == ("9001", "Active", "sale")
    assert (row.address, row.unit, row.city, row.state, row.zip) == (
        "31 Plover Rd",
        "2",
        "Toledo",
        "OH",
        "43613",
    )
    assert row.list_price_cents == 249_900_00
    assert row.listed == pd.Timestamp("2026-03-01")  # not 2011, before the last sale
    assert row.baths == 2.5
    assert row.lot_area_sqft == pytest.approx(0.21 * 43_560)
    assert row.url == "https://www.zillow.com/homedetails/31-Plover-Rd/9001_zpid/"
    assert row[["close_price_cents", "closed"]].isna().all()


def test_a_sold_home_whose_cells_are_written_by_python(dump: Parsed) -> None:
    row = dump.rows.loc[2]
    assert (row.status, row.address) == ("Closed", "4 Egret Ln")
    assert (row.list_price_cents, row.close_price_cents) == (185_000_00, 181_500_00)
    assert (row.listed, row.closed) == (pd.Timestamp("2025-12-01"), pd.Timestamp("2026-02-20"))
    assert row.baths == 1.5  # two rooms, one of them a full bath


def test_a_cut_cell_is_a_problem_of_its_row(dump: Parsed) -> None:
    problem = dump.problems.iloc[0]
    assert len(dump.problems) == 1
    assert (problem["index"], problem.rule) == (3, "priceHistory: an object as JSON")
    assert dump.rows.loc[3, "offer"] == "rent"


def test_a_lot_without_price_or_history(dump: Parsed) -> None:
    row = dump.rows.loc[4]
    assert (row.property_type, row.status, row.lot_area_sqft) == ("Unimproved Land", "Closed", 8712)
    assert row[["list_price_cents", "close_price_cents", "listed"]].isna().all()
    assert failures(dump.rows, feed_schema()).empty


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("FOR_SALE", "Active"),
        ("PENDING", "Pending"),
        ("SOLD", "Closed"),
        ("COMING_SOON", "Coming Soon"),
        ("CONTINGENT", "Active Under Contract"),
        ("OFF_MARKET", "Unknown"),
        ("OTHER", "Unknown"),
        (None, "Unknown"),
        ("HAUNTED", None),
    ],
)
def test_statuses(word: object, status: object) -> None:
    assert home(homeStatus=word).status == status


def test_a_sale_without_a_history() -> None:
    row = home(homeStatus="SOLD", price=100_000, lastSoldPrice=99_000, dateSold="2026-02-01")
    assert (row.close_price_cents, row.closed) == (99_000_00, pd.Timestamp("2026-02-01"))
    assert pd.isna(row.list_price_cents)


def test_a_home_sold_again_was_listed_after_the_sale_before() -> None:
    history = [
        {"date": "2020-01-01", "event": "Listed for sale", "price": 1000},
        {"date": "2020-02-01", "event": "Sold", "price": None},
        {"date": "2026-01-01", "event": "Listed for sale", "price": 2000},
        {"date": "2026-02-01", "event": "Sold", "price": None},
        "not an event",
    ]
    row = home(homeStatus="SOLD", price=1900, priceHistory=history)
    assert (row.listed, row.list_price_cents) == (pd.Timestamp("2026-01-01"), 2000_00)
    assert row.close_price_cents == 1900_00


def test_a_table_that_is_no_dump_is_refused() -> None:
    with pytest.raises(ContractBroken, match=r"'zpid' \(our key\)"):
        parse(payload_of(b"a,homeStatus\n1,SOLD\n", "other.csv"))


def test_a_ragged_row_is_a_problem() -> None:
    body = b"zpid,homeStatus,address\n1,SOLD,Elm\n2,SOLD\n"
    parsed = parse(payload_of(body, "dump.csv"))
    assert parsed.problems["index"].tolist() == [2]
    assert parsed.rows.key.tolist() == ["1", None]


def test_of_a_page_the_home_it_is_about_is_taken() -> None:
    parsed = parse(open_payload(FEEDS / "page_state.html"))
    row = parsed.rows.iloc[0]
    assert (row.key, row.list_price_cents, row.year_built) == ("9001", 249_900_00, 1948)
    assert (row.mls_id, row.lot_area_sqft) == ("6099", 9147)
    assert parsed.problems.empty
    assert failures(parsed.rows, feed_schema()).empty
    assert parsed.columns["attributionInfo.mlsId"] == "text"


def test_a_page_without_state_is_read_by_the_block_of_its_own_address() -> None:
    parsed = parse(open_payload(FEEDS / "page_linked.html"))
    row = parsed.rows.iloc[0]
    assert (row.key, row.address, row.living_area_sqft) == ("9002", "4 Egret Ln", 980)
    assert (row.list_price_cents, row.status) == (181_500_00, "Active")
    assert parsed.problems.empty


def test_the_address_of_a_page_names_its_home() -> None:
    own = '<link rel="canonical" href="https://www.zillow.com/homedetails/x/7_zpid/">'
    parsed = page(state_of({"zpid": 6, "price": 1}, {"zpid": 7, "homeStatus": "SOLD"}), own)
    assert parsed.rows.key.tolist() == ["7"]


def test_the_only_home_of_a_saved_page_is_its_own() -> None:
    assert page(state_of({"zpid": 6, "homeStatus": "PENDING"})).rows.key.tolist() == ["6"]


@pytest.mark.parametrize(
    "state",
    [
        state_of({"zpid": 1}, {"zpid": 2}),
        state_of({"zpid": 1}, asked=5),
        {"props": {"pageProps": {"searchPageState": {"cat1": {}}}}},
        {"props": None},
        [],
        {"props": {"pageProps": {"gdpClientCache": "{broken"}}},
    ],
    ids=["several", "another", "search", "empty", "list", "broken"],
)
def test_a_page_of_no_one_home_is_a_problem(state: object) -> None:
    parsed = page(state)
    assert parsed.problems.rule.tolist() == ["key: a page that offers one home"]
    assert parsed.rows.key.isna().all()


CELLS = st.text() | st.sampled_from(
    ["[{}]", "[1]", "{'a': [", '[{"date": 5}]', '[{"event": [], "price": {}}]', "{", "[(1,)]"]
)


@settings(deadline=None)
@given(CELLS, CELLS, CELLS)
def test_odd_cells_make_problems_not_crashes(address: str, history: str, facts: str) -> None:
    cells = {"address": address, "priceHistory": history, "resoFacts": facts}
    frame = pd.DataFrame([{"zpid": "1", "homeStatus": "SOLD", "price": "5", **cells}])
    (chunk,) = payload_of(b"zpid,homeStatus\n1,SOLD\n", "dump.csv").chunks()
    odd = type(chunk)(1, frame.set_index(pd.RangeIndex(1, 2)), chunk.spans, (), chunk.payload)
    assert len(zillow.parse(odd, FEED).rows) == 1
