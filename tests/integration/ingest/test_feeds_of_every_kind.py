"""Leads, listings and series through the one way in: placed, priced, linked, counted."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Table, select, update

from aiqleads.errors import InvalidInput, Refused
from aiqleads.ingest.aggregate import IngestReport, ingest
from aiqleads.ingest.feeds import Feed, Options
from aiqleads.ingest.market import Market, PeopleFeed, load_market
from aiqleads.ingest.payload import Chunk, payload_of
from aiqleads.ingest.prices import usual_prices
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings
from aiqleads.store import sources
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame
from aiqleads.store.leads import lead_contact
from aiqleads.store.tables import (
    batch,
    consent,
    lead,
    listing,
    series_point,
    submission,
)
from aiqleads.store.vault import Vault

NOW_US = 1_700_000_000_000_000
CONSENT = {"text": "I agree to be called.", "version": "2", "sellers": 2}
OPTIONS = Options.model_validate({"intent": "sell", "consent": CONSENT, "cost_cents": 250})


def _answer(number: int, **said: str) -> dict[str, Any]:
    fields = {
        "full_name": f"Ada{'bcdefghij'[number]} Reed",
        "email": f"person{number}@example.com",
        "phone_number": f"(419) 242-{1000 + 13 * number}",
        "zip": "43604",
        "asking_price": "$150,000",
    } | said
    return {
        "id": f"{10**15 + number}",
        "form_id": "1",
        "created_time": "2023-11-10T09:10:00+0000",
        "field_data": [{"name": name, "values": [value]} for name, value in fields.items()],
    }


def _take(
    home: Settings, market: Market, *answers: dict[str, Any], options: Options = OPTIONS
) -> IngestReport:
    body = "\n".join(json.dumps(each) for each in answers).encode()
    payload = payload_of(body, "pushed")
    report = ingest(home, "meta_leads", [payload], market, now_us=NOW_US, options=options)
    assert report.rows_read == (
        report.accepted + report.updated + report.duplicates + report.quarantined
    )
    return report


def _rows(home: Settings, table: Table) -> list[dict[str, Any]]:
    with open_room(home, "leads").connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def test_a_pushed_lead_with_a_zip_is_on_offer(home: Settings, lucas: Market) -> None:
    report = _take(home, lucas, _answer(0))
    assert (report.accepted, report.incomplete, report.leads) == (1, 0, 1)
    (row,) = _rows(home, lead)
    assert (row["place_precision"], row["zip"], row["max_buyers"]) == ("zip", "43604", 2)
    assert (row["ask_price_cents"], row["waits"]) == (15_000_000, "")
    assert row["expires_market_us"] - row["received_market_us"] == lucas.life_us
    (agreed,) = _rows(home, consent)
    assert (agreed["text"], agreed["sellers"]) == ("I agree to be called.", 2)
    assert read_frame(home, "lucas", "leads")["lead_id"].tolist() == [row["lead_id"]]
    assert len(read_frame(home, "lucas", "submissions")) == 1
    contact = lead_contact(open_room(home, "leads"), Vault.open(home), row["lead_id"])
    assert contact["phone"] == "+14192421000"
    assert contact["invented"] is False
    assert b"Reed" not in (home.data / "leads.db").read_bytes()
    (counted,) = _rows(home, batch)
    assert counted["cost_cents"] == 250


def test_what_a_lead_lacks_is_why_it_waits(home: Settings, lucas: Market) -> None:
    _take(home, lucas, _answer(0, zip=""))
    _take(home, lucas, _answer(1), options=OPTIONS.model_copy(update={"consent": None}))
    _take(home, lucas, _answer(2, zip="90210"))
    _take(home, lucas, _answer(3, asking_price=""))
    waits = {row["source_key"][-1]: row["waits"] for row in _rows(home, lead)}
    assert waits == {
        "0": "no place",
        "1": "no consent",
        "2": "outside the market",
        "3": "no price",
    }
    assert read_frame(home, "lucas", "leads").empty


def test_a_price_that_nobody_named_is_what_homes_of_the_area_cost(
    home: Settings, lucas: Market, feed: Path
) -> None:
    ingest(home, "sales_csv", [feed], lucas, now_us=NOW_US)
    report = _take(home, lucas, _answer(0, asking_price=""))
    assert report.incomplete == 0
    (row,) = [row for row in _rows(home, lead) if row["source"] == "meta_leads"]
    with open_room(home, "leads").connect() as connection:
        prices = usual_prices(connection, "lucas")
    assert row["ask_price_cents"] == prices.of(row["region"], "43604")
    assert (row["estimated"], "price estimated" in row["quality_reasons"]) == (
        "ask_price_cents",
        True,
    )


def test_a_submission_again_is_a_duplicate_and_a_changed_one_an_update(
    home: Settings, lucas: Market
) -> None:
    _take(home, lucas, _answer(0), _answer(1))
    again = _take(home, lucas, _answer(1), _answer(1), _answer(0, asking_price="$170,000"))
    assert (again.accepted, again.updated, again.duplicates) == (0, 1, 2)
    prices = {row["source_key"][-1]: row["ask_price_cents"] for row in _rows(home, lead)}
    assert prices == {"0": 17_000_000, "1": 15_000_000}
    # A consent that the form no longer brings is forgotten.
    bare = OPTIONS.model_copy(update={"consent": None})
    assert _take(home, lucas, _answer(0), options=bare).updated == 1
    assert len(_rows(home, consent)) == 1
    assert {row["waits"] for row in _rows(home, lead)} == {"", "no consent"}


def test_a_person_who_writes_twice_is_one_lead(home: Settings, lucas: Market) -> None:
    first = _answer(0, street_address="12 Oak St, Toledo, OH 43604")
    twice = {**_answer(0, street_address="12 Oak Street, Toledo, OH 43604"), "id": "77"}
    report = _take(home, lucas, first, twice)
    assert (report.accepted, report.duplicates) == (1, 1)
    (row,) = _rows(home, lead)
    assert row["submissions"] == 2
    assert sorted(bool(each["rule"]) for each in _rows(home, submission)) == [False, True]


def test_the_same_contact_very_often_in_a_day_is_odd(home: Settings, lucas: Market) -> None:
    many = [
        {**_answer(0, full_name=f"{name} Odd"), "id": str(at)}
        for at, name in enumerate(("Ada", "Bert", "Cora", "Dale", "Edna", "Ford"))
    ]
    for each in many:
        _take(home, lucas, each)
    told = [row["fraud_reasons"] for row in _rows(home, lead)]
    assert sum("very often" in each for each in told) >= 1


def test_a_paused_source_is_refused_and_nothing_comes_in(home: Settings, lucas: Market) -> None:
    with open_room(home, "leads").begin() as connection:
        sources.pause(connection, "meta_leads", "complaints", NOW_US)
    with pytest.raises(Refused, match="paused") as caught:
        _take(home, lucas, _answer(0))
    assert caught.value.kind == "source-paused"
    assert _rows(home, batch) == []


def test_a_payload_of_another_format_is_refused(home: Settings, lucas: Market) -> None:
    with pytest.raises(InvalidInput, match="takes json"):
        ingest(home, "meta_leads", [payload_of(b"a,b\n1,2\n3,4\n", "x")], lucas)


LISTING = "https://www.redfin.com/OH/Toledo/1-Oak-St-43604/home/"


COLUMNS = """
SALE TYPE,SOLD DATE,PROPERTY TYPE,ADDRESS,CITY,STATE OR PROVINCE,ZIP OR POSTAL CODE,PRICE,BEDS,
BATHS,LOCATION,SQUARE FEET,LOT SIZE,YEAR BUILT,DAYS ON MARKET,$/SQUARE FEET,HOA/MONTH,STATUS,
NEXT OPEN HOUSE START TIME,NEXT OPEN HOUSE END TIME,URL,SOURCE,MLS#,FAVORITE,INTERESTED,
LATITUDE,LONGITUDE
"""


def _redfin(*rows: dict[str, Any]) -> bytes:
    columns = [name.strip() for name in COLUMNS.split(",")]
    home = {
        "SALE TYPE": "MLS Listing",
        "PROPERTY TYPE": "Single Family Residential",
        "ADDRESS": "1 Oak St",
        "CITY": "Toledo",
        "STATE OR PROVINCE": "OH",
        "ZIP OR POSTAL CODE": "43604",
        "PRICE": "120000",
        "STATUS": "Active",
        "SOURCE": "MLS",
        "LATITUDE": "41.65",
        "LONGITUDE": "-83.53",
    }
    made = [{**dict.fromkeys(columns, ""), **home, **row} for row in rows]
    return pd.DataFrame(made, columns=columns).to_csv(index=False).encode()


def _listings(home: Settings, market: Market, *rows: dict[str, Any]) -> IngestReport:
    payload = payload_of(_redfin(*rows), "listings")
    return ingest(home, "redfin", [payload], market, now_us=NOW_US)


def test_listings_are_placed_as_well_as_they_can_be(home: Settings, lucas: Market) -> None:
    nowhere = {"LATITUDE": "", "LONGITUDE": ""}
    report = _listings(
        home,
        lucas,
        {"MLS#": "1", "URL": LISTING + "1"},
        {"MLS#": "2", "URL": LISTING + "2", **nowhere},
        {"MLS#": "3", "URL": LISTING + "3", "ZIP OR POSTAL CODE": "", **nowhere},
        {"MLS#": "4", "URL": LISTING + "4", "ZIP OR POSTAL CODE": "", "CITY": "", **nowhere},
        {"MLS#": "5", "URL": LISTING + "5", "LATITUDE": "0", "LONGITUDE": "0"},
    )
    assert (report.accepted, report.incomplete) == (5, 1)
    rows = {row["mls_id"]: row for row in _rows(home, listing)}
    precision = [rows[name]["place_precision"] for name in "12345"]
    assert precision == ["point", "zip", "city", "none", "zip"]
    assert [rows[name]["cell"] is None for name in "12345"] == [False, False, False, True, False]
    assert rows["1"]["list_price_cents"] == 12_000_000


def test_a_listing_again_is_a_duplicate_and_a_new_price_an_update(
    home: Settings, lucas: Market
) -> None:
    one, two = {"MLS#": "1", "URL": LISTING + "1"}, {"MLS#": "2", "URL": LISTING + "2"}
    _listings(home, lucas, one, two)
    again = _listings(home, lucas, one, {**two, "PRICE": "110000"}, two | {"PRICE": "110000"})
    assert (again.accepted, again.updated, again.duplicates) == (0, 1, 2)
    prices = {row["mls_id"]: row["list_price_cents"] for row in _rows(home, listing)}
    assert prices == {"1": 12_000_000, "2": 11_000_000}
    batches = {row["mls_id"]: row["batch_id"] for row in _rows(home, listing)}
    assert batches["1"] != batches["2"]


def test_asking_prices_serve_where_nothing_was_sold(home: Settings, lucas: Market) -> None:
    rows = [
        {"MLS#": str(at), "URL": LISTING + str(at), "PRICE": str(100_000 + at)} for at in range(7)
    ]
    _listings(home, lucas, *rows)
    with open_room(home, "leads").connect() as connection:
        prices = usual_prices(connection, "lucas")
    assert prices.of("nowhere", "43604") == 10_000_300
    assert prices.of("nowhere", None) == 10_000_300


def _index(*values: str) -> bytes:
    lines = [f'"Toledo, OH",45780,2015,{at},{value},-' for at, value in enumerate(values, 1)]
    return "\n".join(["MSA,geocode,year,q,hpi,chg", *lines, ""]).encode()


def test_series_count_by_row_and_keep_the_newest_word(home: Settings, lucas: Market) -> None:
    def take(*values: str) -> IngestReport:
        payload = payload_of(_index(*values), "hpi.csv")
        return ingest(home, "fhfa", [payload], lucas, now_us=NOW_US)

    first = take("100.0", "-", "101.0")
    assert (first.accepted, first.incomplete) == (3, 1)
    second = take("100.0", "-", "102.0", "103.0")
    assert (second.accepted, second.incomplete, second.updated, second.duplicates) == (2, 1, 1, 1)
    again = take("100.0", "-", "102.0", "103.0")
    assert (again.accepted, again.duplicates) == (0, 4)
    values = {row["period"]: row["value"] for row in _rows(home, series_point)}
    assert values == {"2015-01-01": 100.0, "2015-07-01": 102.0, "2015-10-01": 103.0}


def test_leads_that_may_only_be_analysed_are_never_on_offer(
    home: Settings, lucas: Market, tmp_path: Path
) -> None:
    people = PeopleFeed.model_validate(
        {"columns": {"key": "id"}, "constants": {"intent": "buy"}, "rights": "analyse"}
    )
    path = tmp_path / "people.csv"
    path.write_text("id,said\n1,a\n2,b\n")
    market = lucas.model_copy(update={"people": people})
    report = ingest(home, "leads_csv", [path], market, now_us=NOW_US)
    assert (report.accepted, report.incomplete, report.leads) == (2, 2, 0)
    assert {row["waits"] for row in _rows(home, lead)} == {"analysis only"}


def test_a_mapped_file_of_the_market_is_found_by_its_source(home: Settings, lucas: Market) -> None:
    with pytest.raises(InvalidInput, match=r"no \[people\] path"):
        ingest(home, "leads_csv", [], lucas)


def test_an_address_is_pulled_and_taken_in(home: Settings, lucas: Market) -> None:
    body = _redfin({"MLS#": "1", "URL": LISTING + "1"})

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/export"
        report = ingest(home, "redfin", [url], lucas, now_us=NOW_US)
        server.shutdown()
    assert report.accepted == len(_rows(home, listing)) == 1


def test_a_row_that_its_parser_passes_over_is_not_lost(
    home: Settings, lucas: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SOURCES["redfin"]

    def parse(chunk: Chunk, told: Feed) -> Parsed:
        parsed = honest.parse(chunk, told)
        return replace(parsed, rows=parsed.rows.drop(index=2))

    monkeypatch.setitem(SOURCES, "redfin", replace(honest, parse=parse))
    rows = [{"MLS#": str(at), "URL": LISTING + str(at)} for at in range(3)]
    report = _listings(home, lucas, *rows)
    assert (report.accepted, report.quarantined) == (2, 1)
    assert report.reasons == {"row: one that its source reads": 1}


def test_a_recalled_batch_stays_recalled_when_its_payload_comes_again(
    home: Settings, lucas: Market
) -> None:
    _take(home, lucas, _answer(0))
    with open_room(home, "leads").begin() as connection:
        connection.execute(update(batch).values(recalled_us=1, recall_reason="fraud"))
    assert _take(home, lucas, _answer(0)).duplicates == 1
    (row,) = _rows(home, lead)
    with open_room(home, "leads").connect() as connection:
        assert sources.withheld_leads(connection, [row["lead_id"]]) == {row["lead_id"]}


def test_a_source_that_no_market_file_maps_asks_for_a_file(home: Settings) -> None:
    with pytest.raises(InvalidInput, match="name a file of redfin"):
        ingest(home, "redfin", [], load_market("lucas", home))
    with pytest.raises(InvalidInput, match=r"market lucas has no \[listings\] path"):
        ingest(home, "listings_csv", [], load_market("lucas", home))
