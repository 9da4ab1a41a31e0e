"""Sources paused, stopped, resumed; batches taken back; leads that may not be sold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, insert, update

from aiqleads.errors import Refused, UnknownName
from aiqleads.settings import Settings
from aiqleads.store import sources
from aiqleads.store.database import open_room
from aiqleads.store.sources import Held, SourceState
from aiqleads.store.tables import batch, lead


@pytest.fixture
def connection(served: Settings) -> Iterator[Connection]:
    """The leads room of a small market: source `synthetic`, batch `b1`."""
    engine = open_room(served, "leads")
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def test_a_source_is_active_until_somebody_says_otherwise(connection: Connection) -> None:
    assert sources.state_of(connection, "adf") == SourceState()
    sources.require_active(connection, "adf")
    assert sources.all_states(connection) == {}
    assert sources.last_change_us(connection) == 0


def test_a_paused_source_is_refused_with_its_reason(connection: Connection) -> None:
    sources.pause(connection, "adf", "bad phones", 5)
    with pytest.raises(Refused, match="'adf' is paused: bad phones") as caught:
        sources.require_active(connection, "adf")
    assert caught.value.kind == "source-paused"
    sources.require_active(connection, "reso")
    sources.resume(connection, "adf", 9)
    sources.require_active(connection, "adf")
    assert sources.last_change_us(connection) == 9


def test_drift_stops_a_source_but_an_operators_pause_stays(connection: Connection) -> None:
    assert sources.stop(connection, "adf", "column gone", 3).state == "stopped"
    assert sources.pause(connection, "adf", "by hand", 4).state == "paused"
    assert sources.stop(connection, "adf", "column gone", 5) == SourceState("paused", "by hand", 4)


def test_leads_of_a_paused_source_are_withheld(connection: Connection) -> None:
    assert sources.withheld_leads(connection) == set()
    assert sources.withheld_leads(connection, ["L00001"]) == set()
    sources.pause(connection, "synthetic", "", 5)
    assert len(sources.withheld_leads(connection)) == 240
    assert sources.withheld_leads(connection, ["L00001", "Lx"]) == {"L00001"}
    sources.resume(connection, "synthetic", 6)
    assert sources.withheld_leads(connection) == set()


def second_batch(connection: Connection) -> None:
    counts = ("rows_read", "accepted", "incomplete", "updated", "duplicates", "quarantined")
    row = dict.fromkeys((*counts, "cost_cents"), 0) | {
        "batch_id": "b2",
        "source": "synthetic",
        "market": "testville",
        "path": "none",
        "payload_sha256": "1" * 64,
        "contract_version": "1",
        "state": "done",
        "ingested_us": 100,
    }
    connection.execute(insert(batch), row)
    moved = update(lead).where(lead.c.lead_id.in_(["L00001", "L00002"]))
    connection.execute(moved.values(batch_id="b2"))


def test_a_batch_taken_back_withholds_its_leads_only(connection: Connection) -> None:
    second_batch(connection)
    assert sources.recall(connection, "synthetic", "scraped", 7, batch_id="b2") == ["b2"]
    assert sources.withheld_leads(connection) == {"L00001", "L00002"}
    assert sources.leads_of(connection, ["b2"]) == ["L00001", "L00002"]
    assert sources.last_change_us(connection) == 7
    assert sources.held(connection)["synthetic"] == Held(batches=2, recalled=1, leads=240)


def test_taking_back_twice_keeps_the_first_time(connection: Connection) -> None:
    second_batch(connection)
    for now_us, reason in ((7, "scraped"), (8, "again")):
        assert sources.recall(connection, "synthetic", reason, now_us, batch_id="b2") == ["b2"]
    row = connection.execute(batch.select().where(batch.c.batch_id == "b2")).one()
    assert (row.recalled_us, row.recall_reason) == (7, "scraped")


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ({}, ["b1", "b2"]),
        ({"since_us": 1}, ["b2"]),
        ({"until_us": 100}, ["b1"]),
        ({"since_us": 100, "until_us": 101}, ["b2"]),
    ],
)
def test_batches_are_taken_back_by_when_they_came(
    connection: Connection, bounds: dict[str, int], found: list[str]
) -> None:
    second_batch(connection)
    assert sources.recall(connection, "synthetic", "", 7, **bounds) == found


@pytest.mark.parametrize("bounds", [{"batch_id": "b9"}, {"since_us": 10**18}])
def test_nothing_to_take_back_is_said(connection: Connection, bounds: dict[str, object]) -> None:
    with pytest.raises(UnknownName, match="synthetic"):
        sources.recall(connection, "synthetic", "", 7, **bounds)
    with pytest.raises(UnknownName):
        sources.recall(connection, "another", "", 7)
