"""A merge is explained on the command line, and taken back there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiqleads.errors import UnknownName
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.feeds import Consent, Options
from aiqleads.ingest.linkage import explain
from aiqleads.ingest.market import load_market
from aiqleads.ingest.unlink import undo_link
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.frames import read_frame

AGREED = Options(intent="sell", consent=Consent(text="You may call me.", version="1", sellers=3))


def _answers(number: int, name: str) -> dict[str, Any]:
    said = {
        "full_name": name,
        "email": "ada.reed@example.com",
        "phone_number": "(419) 555-0142",
        "street_address": "812 Oak St, Toledo, OH 43604",
        "price": "$210,000",
    }
    fields = [{"name": each, "values": [value]} for each, value in said.items()]
    time = f"1997-12-0{number}T10:00:00+0000"
    return {"id": str(number), "form_id": "1", "created_time": time, "field_data": fields}


@pytest.fixture
def merged(home: Settings, tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "people.ndjson"
    file.write_text("".join(json.dumps(_answers(n, "Ada Reed")) + "\n" for n in (1, 2)))
    report = ingest(home, "meta_leads", [file], load_market("lucas", home), options=AGREED)
    assert (report.accepted, report.duplicates) == (1, 1)
    [lead_id] = read_frame(home, "lucas", "leads")["lead_id"]
    with reader(open_room(home, "leads")).connect() as connection:
        return explain(connection, lead_id)


def test_a_merge_says_why_and_nothing_that_was_written(merged: list[dict[str, Any]]) -> None:
    [link] = merged
    assert link["verdict"] == "linked"
    assert link["same_wish"]
    assert set(link["comparisons"]) >= {"email", "phone", "first"}
    assert not any(word in json.dumps(link).lower() for word in ("ada", "reed", "5550142", "oak"))


def test_a_merge_that_is_taken_back_makes_two_leads_and_stays_so(
    home: Settings, merged: list[dict[str, Any]], tmp_path: Path
) -> None:
    [link] = merged
    made = undo_link(home, link["a"], link["b"])
    assert made.a != made.b
    assert set(read_frame(home, "lucas", "leads")["lead_id"]) == {made.a, made.b}
    again = [tmp_path / "people.ndjson"]
    report = ingest(home, "meta_leads", again, load_market("lucas", home), options=AGREED)
    assert report.duplicates == 2
    assert len(read_frame(home, "lucas", "leads")) == 2


def test_submissions_that_are_not_linked_are_named(home: Settings) -> None:
    with pytest.raises(UnknownName, match="no submissions 'U1' and 'U2'"):
        undo_link(home, "U1", "U2")
