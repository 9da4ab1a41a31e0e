from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from aiqleads.errors import UnknownName
from aiqleads.settings import Settings
from aiqleads.store import leads
from aiqleads.store.database import open_room
from aiqleads.store.tables import lead, leads_metadata

BATCH = {
    "batch_id": "b-1",
    "source": "sales_csv",
    "market": "tiny",
    "path": "feed.csv",
    "payload_sha256": "0" * 64,
    "payload_columns": "{}",
    "contract_version": "sale_feed 1",
    "rows_read": 1,
    "accepted": 1,
    "incomplete": 0,
    "updated": 0,
    "duplicates": 0,
    "quarantined": 0,
    "ingested_us": 1,
}
LEAD: dict[str, Any] = {
    "lead_id": "L1",
    "market": "tiny",
    "source": "sales_csv",
    "source_key": "K1",
    "batch_id": "b-1",
    "intent": "sell",
    "property_type": "house",
    "received_market_us": 100,
    "expires_market_us": 200,
    "ask_price_cents": 9_000_000,
    "currency": "USD",
    **dict.fromkeys(
        (
            "beds",
            "baths",
            "living_area_sqft",
            "lot_area_sqft",
            "garage_area_sqft",
            "rooms",
            "year_built",
        )
    ),
    "lon": -83.5,
    "lat": 41.6,
    "place_precision": "point",
    "cell": 622245847195844607,
    "region": "r",
    "utm_x_m": 1.0,
    "utm_y_m": 2.0,
    "max_buyers": 1,
    "quality": 0.5,
    "quality_reasons": "",
    "invented": "contact",
    "name": "Ada Reed",
    "email": "a@example.com",
    "phone": "",
}
AGAIN = {
    "source": "simulated_repeats",
    "source_key": "K1:again",
    "lead_id": "L1",
    "batch_id": "b-1",
    "rule": "same e-mail",
    "received_market_us": 150,
}
NOWHERE = dict.fromkeys(("lon", "lat", "cell", "region", "utm_x_m", "utm_y_m"))


@pytest.fixture
def engine(home: Settings) -> Engine:
    engine = open_room(home, "leads")
    with engine.begin() as connection:
        leads.add_batch(connection, BATCH)
        leads.put_leads(connection, [LEAD], [])
    return engine


def test_the_migrations_make_the_tables_as_they_are_written(home: Settings) -> None:
    with open_room(home, "leads").connect() as connection:
        options = {"version_table": "alembic_version_leads"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, leads_metadata) == []


def test_a_batch_whose_counts_do_not_add_up_is_refused(engine: Engine) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        leads.add_batch(connection, {**BATCH, "batch_id": "b-2", "accepted": 2})


def test_a_lead_has_a_cell_or_waits_for_a_place(engine: Engine) -> None:
    lost = {**LEAD, **NOWHERE, "lead_id": "L2", "source_key": "K2"}
    with pytest.raises(IntegrityError), engine.begin() as connection:
        leads.put_leads(connection, [lost], [])
    with engine.begin() as connection:
        leads.put_leads(connection, [{**lost, "place_precision": "none"}], [])
    assert [row["lead_id"] for row in leads.lead_rows(engine, "tiny")] == ["L1"]
    assert leads.lead_contact(engine, "L2")["name"] == "Ada Reed"


def test_an_update_changes_the_lead_and_its_person_but_not_its_origin(engine: Engine) -> None:
    with engine.begin() as connection:
        leads.add_batch(connection, {**BATCH, "batch_id": "b-2"})
        leads.add_repeats(connection, [AGAIN])
        news = {**LEAD, "batch_id": "b-2", "beds": 3.0, "phone": "+1-419-555-0100"}
        leads.put_leads(connection, [], [news])
    (row,) = leads.lead_rows(engine, "tiny")
    assert (row["beds"], row["batch_id"], row["submissions"]) == (3.0, "b-2", 2)
    assert leads.lead_contact(engine, "L1")["phone"] == "+1-419-555-0100"


def test_an_update_that_says_nothing_new_leaves_the_lead_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        leads.add_batch(connection, {**BATCH, "batch_id": "b-2"})
        leads.put_leads(connection, [], [{**LEAD, "batch_id": "b-2"}])
        assert connection.scalar(select(lead.c.batch_id)) == "b-1"


def test_a_repeat_counts_once_however_often_it_comes(engine: Engine) -> None:
    same_row = {**AGAIN, "source_key": "K1#2", "rule": leads.SAME_ROW}
    for _ in range(2):
        with engine.begin() as connection:
            leads.add_repeats(connection, [AGAIN, same_row])
    (row,) = leads.lead_rows(engine, "tiny")
    assert row["submissions"] == 2
    assert leads.submission_rows(engine, "tiny") == [("L1", 100), ("L1", 150)]
    with engine.connect() as connection:
        assert leads.stored_repeats(connection, ["K1:again", "K1#2", "K9"]) == {"K1:again": "L1"}


def test_the_quarantine_holds_the_present_verdict_on_a_payload(engine: Engine) -> None:
    row = {
        "batch_id": "b-1",
        "row_number": 1,
        "rule": "beds: odd",
        "row_hash": "0" * 64,
        "source": "sales_csv",
        "column": "beds",
        "value": "x",
        "row_json": "{}",
        "contract_version": "sale_feed 1",
    }
    payload = ("tiny", "sales_csv", "0" * 64)
    with engine.begin() as connection:
        leads.put_quarantine(connection, *payload, [row, {**row, "row_number": 2}])
    assert leads.quarantine_counts(engine) == {"beds: odd": 2}
    with engine.begin() as connection:
        leads.put_quarantine(connection, *payload, [{**row, "rule": "beds: even"}])
    assert leads.quarantine_counts(engine) == {"beds: even": 1}
    with engine.begin() as connection:
        leads.put_quarantine(connection, *payload, [])
    assert leads.quarantine_counts(engine) == {}


def test_reading_takes_no_write_lock(engine: Engine) -> None:
    with engine.begin():  # a writer at work
        assert len(leads.lead_rows(engine, "tiny")) == 1
        assert leads.lead_contact(engine, "L1")["email"] == "a@example.com"


def test_one_lead_is_read_by_its_name(engine: Engine) -> None:
    assert leads.lead_row(engine, "L1")["cell"] == LEAD["cell"]
    with pytest.raises(UnknownName, match="no lead 'L9'"):
        leads.lead_row(engine, "L9")


def test_people_are_found_in_a_window(engine: Engine) -> None:
    with engine.connect() as connection:
        (person,) = leads.people_between(connection, "tiny", 50, 100)
        assert person["email"] == "a@example.com"
        assert leads.people_between(connection, "tiny", 101, 200) == []
        assert leads.people_between(connection, "other", 0, 200) == []
