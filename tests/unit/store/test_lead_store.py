from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from aiqleads.errors import UnknownName
from aiqleads.settings import Settings
from aiqleads.store import batches, bulk, homes, leads
from aiqleads.store.database import open_room
from aiqleads.store.tables import (
    consent,
    lead,
    leads_metadata,
    quarantine,
    sale,
    series_point,
    submission,
)
from aiqleads.store.vault import Vault

BATCH = {
    "batch_id": "b-1",
    "source": "meta_leads",
    "market": "tiny",
    "path": "feed.csv",
    "payload_sha256": "0" * 64,
    "contract_version": "lead_feed 1",
    "ingested_us": 1,
}
LEAD: dict[str, Any] = {
    **dict.fromkeys([column.name for column in lead.columns]),
    "lead_id": "L1",
    "person_id": "L1",
    "market": "tiny",
    "source": "meta_leads",
    "source_key": "K1",
    "batch_id": "b-1",
    "intent": "sell",
    "property_type": "house",
    "received_market_us": 100,
    "expires_market_us": 200,
    "ask_price_cents": 9_000_000,
    "currency": "USD",
    "lon": -83.5,
    "lat": 41.6,
    "place_precision": "point",
    "cell": 622245847195844607,
    "region": "r",
    "utm_x_m": 1.0,
    "utm_y_m": 2.0,
    "max_buyers": 1,
    "submissions": 1,
    "quality": 0.5,
    "fraud": 0.0,
    **dict.fromkeys(
        (
            "quality_reasons",
            "fraud_reasons",
            "waits",
            "estimated",
            "invented",
            "timeline",
            "financing",
        ),
        "",
    ),
}
NOWHERE = dict.fromkeys(("lon", "lat", "cell", "region", "utm_x_m", "utm_y_m"))
PERSON = {"name": "Ada Reed", "email": "ada@example.com", "phone": "+14195550100", "utm_x_m": 1.0}


def _columns(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _sent(vault: Vault, who: str, person: dict[str, Any], **other: Any) -> dict[str, Any]:
    contact = vault.seal(["person:L1"], [who], [json.dumps(person).encode()])
    row = {
        "submission_id": who,
        "lead_id": "L1",
        "source": "meta_leads",
        "source_key": who,
        "batch_id": "b-1",
        "row_number": 1,
        "received_market_us": 100,
        "arrived_us": 5,
        "key_id": "person:L1",
        "contact": contact[0],
        "content": b"said",
        "invented": False,
        "rule": "",
    }
    return row | other


@pytest.fixture
def vault(home: Settings) -> Iterator[Vault]:
    made = Vault.open(home)
    yield made
    made.close()


@pytest.fixture
def engine(home: Settings, vault: Vault) -> Engine:
    engine = open_room(home, "leads")
    with engine.begin() as connection:
        batches.begin(connection, [BATCH, {**BATCH, "batch_id": "b-2"}])
        leads.add_leads(connection, _columns(LEAD))
        leads.add_submissions(connection, _columns(_sent(vault, "U1", PERSON)))
    return engine


def _lead_ids(engine: Engine) -> list[str]:
    blocks = list(leads.lead_columns(engine, "tiny", ["lead_id"]))
    return [each for block in blocks for each in block[0]]


def test_the_migrations_make_the_tables_as_they_are_written(home: Settings) -> None:
    with open_room(home, "leads").connect() as connection:
        options = {"version_table": "alembic_version_leads"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, leads_metadata) == []


def test_a_batch_whose_counts_do_not_add_up_is_refused(engine: Engine) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        batches.count(connection, "b-1", {"rows_read": 2, "accepted": 1})


def test_a_batch_grows_and_the_newest_of_a_payload_is_found(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(2):
            batches.count(connection, "b-2", {"rows_read": 3, "accepted": 2, "quarantined": 1}, 50)
        batches.end(connection, ["b-2"], "done")
        newest = batches.newest(connection, "tiny", "meta_leads", "0" * 64)
        assert newest == batches.find(connection, "b-2")
        assert (newest.rows_read, newest.accepted, newest.state) == (6, 4, "done")
        assert batches.next_number(connection, "tiny", "meta_leads", "0" * 64) == 3
        assert batches.newest(connection, "tiny", "meta_leads", "1" * 64) is None
        with pytest.raises(UnknownName, match="b-9"):
            batches.find(connection, "b-9")


def test_a_lead_has_a_cell_or_waits_for_a_place(engine: Engine) -> None:
    lost = {**LEAD, **NOWHERE, "lead_id": "L2", "source_key": "K2"}
    with pytest.raises(IntegrityError), engine.begin() as connection:
        leads.add_leads(connection, _columns(lost))
    with engine.begin() as connection:
        lost |= {"place_precision": "none", "waits": "no place"}
        leads.add_leads(connection, _columns(lost))
    assert _lead_ids(engine) == ["L1"]
    assert leads.count_on_offer(engine, "tiny") == 1


def test_an_update_changes_the_lead_but_not_its_origin(engine: Engine) -> None:
    news = {**LEAD, "batch_id": "b-2", "beds": 3.0, "source_key": "other", "person_id": "L9"}
    with engine.begin() as connection:
        leads.renew_leads(connection, _columns(news))
    row = leads.lead_row(engine, "L1")
    assert (row["beds"], row["batch_id"]) == (3.0, "b-2")
    assert (row["source_key"], row["person_id"]) == ("K1", "L1")


def test_a_merged_lead_goes_on_waiting_whatever_its_person_writes(engine: Engine) -> None:
    other = {**LEAD, "lead_id": "L2", "source_key": "K2"}
    merged = {**LEAD, "lead_id": "L3", "source_key": "K3", "merged_into": "L2"}
    with engine.begin() as connection:
        leads.add_leads(connection, _columns(other, merged))
        leads.renew_leads(connection, _columns({**merged, "waits": "no price", "beds": 2.0}))
    row = leads.lead_row(engine, "L3")
    assert (row["waits"], row["merged_into"], row["beds"]) == ("no price", "L2", 2.0)


def test_a_contact_is_the_newest_that_was_given(engine: Engine, vault: Vault) -> None:
    later = {"name": "Ada B. Reed", "phone": "", "email": None}
    with engine.begin() as connection:
        row = _sent(vault, "U2", later, received_market_us=150)
        leads.add_submissions(connection, _columns(row))
    contact = leads.lead_contact(engine, vault, "L1")
    assert contact == {
        "name": "Ada B. Reed",
        "email": "ada@example.com",
        "phone": "+14195550100",
        "invented": False,
    }
    with pytest.raises(UnknownName, match="no lead 'L9'"):
        leads.lead_contact(engine, vault, "L9")


def test_no_contact_lies_readable_and_none_outlives_its_key(engine: Engine, vault: Vault) -> None:
    with engine.connect() as connection:
        sealed = connection.scalar(select(submission.c.contact))
        assert b"Ada" not in sealed
        frame = leads.submission_contacts(connection, vault, ["U1", "U9"])
        assert frame.index.tolist() == ["U1"]
        assert frame.loc["U1", ["name", "market", "intent"]].tolist() == [
            "Ada Reed",
            "tiny",
            "sell",
        ]
        assert frame["utm_x_m"].tolist() == [1.0]
        vault.destroy(["person:L1"], 7)
        gone = leads.submission_contacts(connection, vault, ["U1"])
    assert gone[["name", "email", "phone"]].isna().all().all()
    assert leads.lead_contact(engine, vault, "L1")["name"] == ""


def test_submissions_and_consents_are_renewed_in_their_place(engine: Engine, vault: Vault) -> None:
    news = _sent(vault, "U1", {"name": "Ada R."}, content=b"news", batch_id="b-2", lead_id="L9")
    agreed = {
        "submission_id": "U1",
        "text": "yes",
        "text_version": "1",
        "channel": "web form",
        "given_us": 1,
        "source": "meta_leads",
        "proof": "",
        "sellers": 3,
        "revoked_us": None,
    }
    with engine.begin() as connection:
        leads.renew_submissions(connection, _columns(news))
        leads.put_consents(connection, _columns(agreed))
        leads.put_consents(connection, _columns({**agreed, "sellers": 2}))
        assert leads.stored_content(connection, ["U1", "U2"]) == {"U1": b"news"}
        assert leads.stored_leads(connection, ["L1", "L9"]) == {"L1"}
        assert list(connection.scalars(select(consent.c.sellers))) == [2]
        leads.drop_consents(connection, ["U1"])
        assert connection.scalar(select(consent.c.sellers)) is None
        assert connection.scalar(select(submission.c.lead_id)) == "L1"
    assert leads.lead_contact(engine, vault, "L1")["name"] == "Ada R."


def test_the_quarantine_holds_the_present_verdict_on_a_payload(engine: Engine) -> None:
    row = {
        "batch_id": "b-1",
        "row_number": 1,
        "rule": "beds: odd",
        "row_hash": "0" * 64,
        "source": "meta_leads",
        "column": "beds",
        "value": b"x",
        "row": b"{}",
        "key_id": "payload:0",
        "contract_version": "lead_feed 1",
        "replayed_batch_id": None,
    }
    payload = ("tiny", "meta_leads", "0" * 64)
    with engine.begin() as connection:
        batches.put_quarantine(connection, _columns(row, {**row, "row_number": 2}))
    assert batches.quarantine_counts(engine) == {"beds: odd": 2}
    assert batches.quarantine_counts(engine, ["b-2"]) == {}
    with engine.begin() as connection:
        batches.forget_quarantine(connection, *payload, 2, 9)
        batches.put_quarantine(
            connection, _columns({**row, "row_number": 3, "rule": "beds: even", "batch_id": "b-2"})
        )
        assert batches.quarantined_rows(connection) == {
            "b-1": {1: "beds: odd"},
            "b-2": {3: "beds: even"},
        }
        batches.replayed(connection, "b-1", [1], "b-2")
        assert batches.quarantined_rows(connection, "b-1") == {}
        assert connection.scalar(select(quarantine.c.replayed_batch_id)) == "b-2"
    assert batches.quarantine_counts(engine) == {"beds: even": 1}


def test_reading_takes_no_write_lock(engine: Engine, vault: Vault) -> None:
    with engine.begin():  # a writer at work
        assert _lead_ids(engine) == ["L1"]
        assert leads.lead_contact(engine, vault, "L1")["email"] == "ada@example.com"


def test_one_lead_is_read_by_its_name(engine: Engine) -> None:
    assert leads.lead_row(engine, "L1")["cell"] == LEAD["cell"]
    with pytest.raises(UnknownName, match="no lead 'L9'"):
        leads.lead_row(engine, "L9")


def test_what_was_sent_about_leads_on_offer_is_read_in_order(engine: Engine, vault: Vault) -> None:
    with engine.begin() as connection:
        leads.add_submissions(
            connection, _columns(_sent(vault, "U0", PERSON, received_market_us=90))
        )
    assert list(leads.submission_columns(engine, "tiny")) == [[["L1", "L1"], [90, 100]]]


def test_points_of_series_are_added_found_and_renewed(engine: Engine) -> None:
    point = {
        "source": "fhfa",
        "region_type": "metro",
        "region": "Austin, TX",
        "metric": "price_index",
        "period": "2015-01-01",
        "frequency": "quarter",
        "value": 1.0,
        "unit": "index",
        "batch_id": "b-1",
    }
    key = ("metro", "Austin, TX", "price_index", "2015-01-01")
    places = [("metro", "Austin, TX"), ("metro", "Austin, MN")]
    with engine.begin() as connection:
        homes.add_points(connection, _columns(point))
        homes.renew_points(connection, [])
        homes.renew_points(connection, [{**point, "value": 2.0, "batch_id": "b-2"}])
        found = homes.stored_points(connection, "fhfa", places, "2015-01-01", "2015-12-31")
        assert found == {key: (2.0, "index", "quarter")}
        assert homes.stored_points(connection, "fhfa", places, "2016-01-01", "2016-12-31") == {}
        assert connection.scalar(select(series_point.c.batch_id)) == "b-2"


def test_inserts_by_columns_name_their_places_where_the_database_wants_it() -> None:
    text, order = bulk._statement(sale, ("sale_id", "market"), postgresql.psycopg.dialect())
    assert order is None
    assert "%(sale_id)s" in text
