from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from aiqleads.contracts.schema_drift import Finding
from aiqleads.monitoring.source_pages import line_chart, spark, volume_chart, write_pages
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.schema import keep_findings
from aiqleads.store.tables import (
    agent,
    batch,
    interaction,
    lead,
    order_item,
    orders,
    quarantine,
    source_state,
)

DAY_US = 86_400_000_000
NOW_US = 1_782_000_000_000_000


def put_batch(room: Connection, source: str, number: int, at_us: int, **more: object) -> str:
    batch_id = f"{source}-{number:03d}"
    row: dict[str, Any] = {
        "batch_id": batch_id,
        "source": source,
        "market": "town",
        "path": "a.csv",
        "payload_sha256": "0" * 64,
        "contract_version": "lead_feed 1",
        "state": "done",
        "rows_read": 100,
        "accepted": 80,
        "incomplete": 5,
        "updated": 7,
        "duplicates": 3,
        "quarantined": 10,
        "cost_cents": 16_000,
        "ingested_us": at_us,
        **more,
    }
    room.execute(insert(batch).values(row))
    return batch_id


def put_lead(room: Connection, lead_id: str, source: str, batch_id: str, **more: object) -> None:
    row: dict[str, Any] = {
        **dict.fromkeys(
            ("property_type", "timeline", "financing", "waits", "estimated", "invented"), ""
        ),
        "lead_id": lead_id,
        "person_id": lead_id,
        "market": "town",
        "source": source,
        "source_key": lead_id,
        "batch_id": batch_id,
        "intent": "sell",
        "received_market_us": 1,
        "expires_market_us": 2,
        "currency": "CAD",
        "place_precision": "none",
        "max_buyers": 1,
        "submissions": 1,
        "quality": 0.75,
        "quality_reasons": "",
        "fraud": 0.0,
        "fraud_reasons": "",
        **more,
    }
    room.execute(insert(lead).values(row))


def put_sale(room: Connection, lead_id: str, state: str = "paid", returned: bool = False) -> None:
    order = {
        "order_id": f"o-{lead_id}",
        "agent_id": "A1",
        "state": state,
        "pay_with": "wallet",
        "amount_cents": 100,
        "currency": "CAD",
        "created_us": 1,
    }
    room.execute(insert(orders).values(order))
    item = {"order_id": f"o-{lead_id}", "lead_id": lead_id, "slot": 0, "token": 1}
    room.execute(insert(order_item).values({**item, "price_cents": 100}))
    if returned:
        event = {"event_id": lead_id, "agent_id": "A1", "lead_id": lead_id, "kind": "return"}
        room.execute(insert(interaction).values({**event, "at_market_us": 1, "arrived_us": 1}))


@pytest.fixture
def world(home: Settings) -> Settings:
    """meta_leads: three batches, drift, sales; redfin: listings; adf: paused, nothing yet."""
    leads, commerce = open_room(home, "leads"), open_room(home, "commerce")
    with leads.begin() as room:
        for number in range(3):
            at_us = NOW_US - (3 - number) * DAY_US
            batch_id = put_batch(room, "meta_leads", number, at_us)
            for each in range(4):
                put_lead(
                    room, f"L{number}{each}", "meta_leads", batch_id,
                    waits="no consent" if each == 3 else "",
                )  # fmt: skip
        recalled = {"recalled_us": NOW_US, "recall_reason": "bought <list>"}
        put_batch(room, "meta_leads", 3, NOW_US - 7_300_000_000, state="stopped", **recalled)
        put_batch(room, "redfin", 0, NOW_US - 30_000_000, cost_cents=0, quarantined=0, accepted=90)
        row = {"row_hash": "", "source": "meta_leads", "column": "email", "row": b"", "key_id": ""}
        for number in range(3):
            rule = "email: a <b>working</b> address" if number else "state: two letters"
            one = {"batch_id": "meta_leads-000", "row_number": number, "rule": rule, **row}
            room.execute(insert(quarantine).values({**one, "contract_version": "1"}))
        zip_gone = Finding("zip", "renamed", "break", None, "zip is now called <postal>")
        phone = Finding("phone", "nulls", "warn", 3e-14, "10.0% of the rows have no value")
        keep_findings(room, "town", "meta_leads", "meta_leads-003", 1, [zip_gone], NOW_US)
        keep_findings(room, "town", "meta_leads", "meta_leads-001", 1, [phone], NOW_US - DAY_US)
        for source, state in (("adf", "paused"), ("meta_leads", "stopped")):
            reason = {"source": source, "state": state, "reason": "zip & more"}
            room.execute(insert(source_state).values({**reason, "changed_us": NOW_US - DAY_US}))
    with commerce.begin() as room:
        made = {c.name: 1 for c in agent.columns if not c.nullable and c.default is None}
        texts = {c.name: "x" for c in agent.columns if c.name in made and c.type.python_type is str}
        room.execute(insert(agent).values({**made, **texts, "agent_id": "A1"}))
        for lead_id in ("L00", "L10", "L11", "L20"):
            put_sale(room, lead_id, returned=lead_id == "L11")
        put_sale(room, "L21", state="failed", returned=True)
        put_sale(room, "unknown")
    leads.dispose()
    commerce.dispose()
    return home


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture
def pages(world: Settings, tmp_path: Path) -> dict[str, str]:
    files = write_pages(world, tmp_path / "pages", NOW_US)
    assert files[0].name == "index.html"
    assert not list((tmp_path / "pages").glob("*.part"))
    return {path.stem: path.read_text() for path in files}


def test_there_is_an_index_and_a_page_for_every_source(pages: dict[str, str]) -> None:
    assert list(pages) == ["index", "adf", "meta_leads", "redfin"]
    index = text_of(pages["index"])
    assert "adf is paused since 2026-06-20 00:00 UTC: zip &amp; more" in index
    assert "2 hours ago" in index
    assert "just now" in index
    assert "Known, but nothing came yet" in index
    assert 'href="meta_leads.html"' in pages["index"]


def test_a_page_tells_volume_cost_quality_sales_and_returns(pages: dict[str, str]) -> None:
    page = text_of(pages["meta_leads"])
    assert "400 rows read in 4 batches" in page
    assert "320 accepted, 20 of them wait" in page
    assert "10% quarantined (40 rows)" in page
    assert "75% mean quality of 12 leads" in page
    assert "2.00 CAD for an accepted lead" in page
    assert "4 sales, 25% returned" in page
    assert "Stopped since 2026-06-20 00:00 UTC." in page
    for chart in ("Mean quality", "Quarantined", "Cost of an accepted lead", "Returned"):
        assert chart in page


def test_a_page_tells_what_changed_and_why_rows_and_leads_stay_out(pages: dict[str, str]) -> None:
    page = text_of(pages["meta_leads"])
    assert "zip renamed, breaks zip is now called &lt;postal&gt; certain" in page
    assert "phone nulls 10.0% of the rows have no value &lt; 1e-12" in page
    assert "email: a &lt;b&gt;working&lt;/b&gt; address 2" in page
    assert "no consent 3" in page
    assert "recalled bought &lt;list&gt;" in page
    assert pages["meta_leads"].count('fill="#8b1a25"') == 1
    assert pages["meta_leads"].count('fill="#a86c00"') == 1


def test_a_feed_of_listings_says_nothing_of_leads(pages: dict[str, str]) -> None:
    page = text_of(pages["redfin"])
    assert "100 rows read in 1 batch" in page
    assert "Nothing has changed so far." in page
    assert "No row is." in page
    for word in ("quality", "Returned", "Why leads"):
        assert word not in page


def test_a_source_without_a_batch_has_a_page_too(pages: dict[str, str]) -> None:
    page = text_of(pages["adf"])
    assert "No batch yet." in page
    assert "last batch: never" in page
    assert "Every lead is." in page


class _Marks(HTMLParser):
    """Collects tags, and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pages_are_well_formed_need_no_network_and_name_their_charts(
    pages: dict[str, str],
) -> None:
    for page in pages.values():
        marks = _Marks()
        marks.feed(page)
        assert marks.open == []
        tags = [tag for tag, _ in marks.seen]
        assert "script" not in tags
        assert tags.count("h1") == 1
        assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page)
        for tag, attributes in marks.seen:
            if tag == "svg":
                assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
            assert "nan" not in [str(value) for value in attributes.values()]


def test_many_batches_become_a_bar_a_day_and_the_table_says_what_it_leaves_out(
    home: Settings, tmp_path: Path
) -> None:
    engine = open_room(home, "leads")
    with engine.begin() as room:
        for number in range(130):
            put_batch(room, "google_leads", number, NOW_US - (130 - number) * DAY_US // 2)
        finding = [Finding(f"c{n}", "new", "warn", None, "new") for n in range(70)]
        keep_findings(room, "town", "google_leads", "google_leads-100", 1, finding, NOW_US)
    engine.dispose()
    [_, file] = write_pages(home, tmp_path, NOW_US)
    page = text_of(file.read_text())
    assert "A bar is a day" in page
    assert "200 rows read, 160 accepted" in page
    assert "90 earlier batches are not shown." in page
    assert "10 earlier changes are not shown." in page


def test_an_empty_store_says_so(home: Settings, tmp_path: Path) -> None:
    [index] = write_pages(home, tmp_path, NOW_US)
    assert "No source has brought anything yet." in index.read_text()


def test_charts_stay_inside_their_frame() -> None:
    chart = line_chart("x", "", [0.0, None, 12_345.0, 6_000.0], list("abcd"), "money")
    assert chart is not None
    assert [point["text"] for point in chart["points"]] == ["a: 0.00", "c: 123.45", "d: 60.00"]
    for point in chart["points"]:
        assert chart["left"] <= point["x"] <= chart["right"]
        assert 0 <= point["y"] <= chart["base"]
    assert line_chart("x", "", [None, 1.0], ["a", "b"], "%") is None
    assert volume_chart([])["bars"] == []
    assert all(0 <= bar["y"] <= 28 for bar in spark([3, 0, 7]))
