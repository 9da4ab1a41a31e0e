"""Rows in quarantine tried again; feeds whose columns change are told or stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select

from aiqleads.errors import ContractBroken, Refused, UnknownName
from aiqleads.ingest import aggregate
from aiqleads.ingest.aggregate import IngestReport, ingest
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.market import Market, remember_market
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.replay import replay
from aiqleads.ingest.source import Parsed
from aiqleads.ingest.sources import SOURCES
from aiqleads.settings import Settings
from aiqleads.store import sources
from aiqleads.store.batches import quarantine_counts
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame
from aiqleads.store.tables import batch, quarantine, sale

NOW_US = 1_700_000_000_000_000
NAME = "replayed"


@pytest.fixture
def market(lucas: Market) -> Market:
    return lucas.model_copy(update={"name": NAME})


def _ingest(home: Settings, market: Market, path: Path, now_us: int = NOW_US) -> IngestReport:
    return ingest(home, "sales_csv", [path], market, now_us=now_us)


def test_rows_that_hold_by_now_are_taken_in_once(
    home: Settings, market: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "CHUNK_ROWS", 200)
    first = _ingest(home, market, feed)
    assert first.quarantined == 10
    own = first.batches[0].batch_id
    assert replay(home, own, now_us=NOW_US).held == 0  # nothing has changed yet
    rules = market.leads.model_copy(update={"min_price": 1_000.0})
    remember_market(home, market.model_copy(update={"leads": rules}))
    cheap = replay(home, own, now_us=NOW_US)
    assert cheap.tried == 10
    assert 0 < cheap.held <= 10
    into = cheap.batches[own]
    with open_room(home, "leads").connect() as connection:
        rows = list(connection.execute(select(batch).where(batch.c.batch_id.in_(into))))
        assert sum(row.accepted for row in rows) == cheap.held
        assert {row.state for row in rows} == {"done"}
        marked = connection.scalars(select(quarantine.c.replayed_batch_id)).all()
        assert sum(each is not None for each in marked) == cheap.held
        sales = connection.scalars(select(sale.c.sale_id)).all()
    assert len(sales) == len(read_frame(home, NAME, "sales")) == first.accepted + cheap.held
    left = sum(quarantine_counts(open_room(home, "leads")).values())
    assert left == 10 - cheap.held
    assert replay(home, now_us=NOW_US).tried == left
    with pytest.raises(UnknownName):
        replay(home, "no-batch")


def test_a_mended_parser_reads_what_the_old_one_could_not(
    home: Settings, market: Market, feed: Path, sales: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = sales.astype({"beds": object})
    sales.iloc[3, sales.columns.get_loc("beds")] = "three"
    sales.to_csv(feed, index=False)
    assert "beds: a number" in _ingest(home, market, feed).reasons
    honest = SOURCES["sales_csv"]

    def parse(chunk: Chunk, told: Feed) -> Parsed:
        rows = chunk.rows.assign(beds=chunk.rows["beds"].replace("three", "3"))
        return honest.parse(replace(chunk, rows=rows), told)

    monkeypatch.setitem(SOURCES, "sales_csv", replace(honest, parse=parse))
    assert replay(home, now_us=NOW_US).held == 1


def test_rows_that_still_cannot_be_read_at_all_stay(
    home: Settings, market: Market, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ingest(home, market, feed)
    honest = SOURCES["sales_csv"]

    def parse(chunk: Chunk, told: Feed) -> Parsed:
        raise ContractBroken("another feed altogether")

    monkeypatch.setitem(SOURCES, "sales_csv", replace(honest, parse=parse))
    assert replay(home, now_us=NOW_US).held == 0
    assert sum(quarantine_counts(open_room(home, "leads")).values()) == 10


def _state(home: Settings) -> str:
    with open_room(home, "leads").connect() as connection:
        return sources.state_of(connection, "sales_csv").state


def test_a_renamed_column_that_is_needed_stops_the_source(
    home: Settings, market: Market, feed: Path, sales: pd.DataFrame
) -> None:
    for number in range(2):
        part = sales.assign(lon=sales["lon"] + 1e-5 * number)
        part.to_csv(feed, index=False)
        _ingest(home, market, feed, NOW_US + number)
    sales.rename(columns={"price": "sale_price"}).to_csv(feed, index=False)
    with pytest.raises(ContractBroken, match="price"):
        _ingest(home, market, feed, NOW_US + 5)
    assert _state(home) == "stopped"
    with pytest.raises(Refused, match="sale_price"):
        _ingest(home, market, feed, NOW_US + 6)


def test_a_needed_column_of_another_kind_stops_the_batch_unless_it_is_accepted(
    home: Settings, market: Market, feed: Path, sales: pd.DataFrame
) -> None:
    for number in range(4):
        part = sales.assign(lon=sales["lon"] + 1e-5 * number)
        part.to_csv(feed, index=False)
        assert _ingest(home, market, feed, NOW_US + number).stopped == ""
    before = len(read_frame(home, NAME, "sales"))
    odd = sales.astype({"price": object})
    odd.iloc[::4, odd.columns.get_loc("price")] = "call us"
    odd.to_csv(feed, index=False)
    report = _ingest(home, market, feed, NOW_US + 9)
    assert "price" in report.stopped
    assert (report.rows_read, len(read_frame(home, NAME, "sales"))) == (0, before)
    assert _state(home) == "stopped"
    with open_room(home, "leads").begin() as connection:
        sources.resume(connection, "sales_csv", NOW_US)
    accepted = ingest(home, "sales_csv", [feed], market, now_us=NOW_US + 10, on_drift="accept")
    assert accepted.stopped == ""
    assert accepted.batches[0].batch_id == report.batches[0].batch_id
    assert accepted.rows_read == 600
    assert accepted.quarantined >= 150
