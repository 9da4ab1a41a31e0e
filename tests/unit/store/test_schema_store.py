from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from sqlalchemy import Connection, select

from aiqleads.contracts.schema_drift import Finding
from aiqleads.contracts.schema_profile import profile
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.schema import (
    BATCHES,
    PARTS,
    Kept,
    accept,
    adopt,
    findings_of,
    history,
    keep,
    keep_findings,
    past_of,
)
from aiqleads.store.tables import schema_profile

PROFILE = profile(pd.DataFrame({"a": ["x"] * 20}), {}).closed()


@pytest.fixture
def room(home: Settings) -> Iterator[Connection]:
    engine = open_room(home, "leads")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def kept(
    batch_id: str, part: int = 1, at_us: int = 0, drifted: str = "", how: str = "warn"
) -> Kept:
    changes = {drifted: how} if drifted else {}
    return Kept(batch_id, part, at_us, True, PROFILE, changes)


def test_a_history_has_the_last_batches_and_some_parts_of_each(room: Connection) -> None:
    for number in range(BATCHES + 4):
        for part in range(1, 12):
            keep(room, "m", "s", kept(f"b{number:02d}", part, number * 100 + part))
    keep(room, "m", "other", kept("z", at_us=9_999))
    found = history(room, "m", "s")
    batches = [batch_id for batch_id, _, _ in found]
    assert list(dict.fromkeys(batches)) == [f"b{n:02d}" for n in range(4, BATCHES + 4)]
    assert {batches.count(each) for each in batches} == {PARTS}
    assert past_of(found)[0].profile == PROFILE
    assert "b19" not in {batch_id for batch_id, _, _ in history(room, "m", "s", besides="b19")}


def test_a_batch_of_many_parts_keeps_some_evenly_and_a_source_its_last_batches(
    room: Connection,
) -> None:
    for part in range(1, 101):
        keep(room, "m", "s", kept("long", part, part))
    parts = room.execute(select(schema_profile.c.part)).scalars().all()
    assert sorted(parts) == [16, 32, 48, 64, 80, 96]
    for number in range(60):
        keep(room, "m", "s", kept(f"b{number:02d}", at_us=1_000 + number))
    batches = set(room.execute(select(schema_profile.c.batch_id)).scalars())
    assert batches == {f"b{n:02d}" for n in range(60 - 2 * BATCHES, 60)}


def test_a_finding_is_kept_with_the_first_part_that_showed_it(room: Connection) -> None:
    nulls = Finding("a" * 200, "nulls", "warn", 1e-9, "d" * 900)
    other = Finding("b", "new", "warn", None, "b was not there before")
    keep_findings(room, "m", "s", "b1", 1, [nulls], 5)
    keep_findings(room, "m", "s", "b1", 2, [nulls, other], 6)
    keep_findings(room, "m", "s", "b2", 1, [], 7)
    found = findings_of(room, "s")
    assert [(row["column"], row["part"], row["at_us"]) for row in found] == [
        ("b", 2, 6), ("a" * 120, 1, 5),
    ]  # fmt: skip
    assert len(found[1]["detail"]) == 400
    assert findings_of(room, "t") == []


def drifted(room: Connection) -> dict[str, tuple[list[str], list[str]]]:
    return {
        past.batch_id: (sorted(past.drifted), sorted(past.restarts))
        for past in past_of(history(room, "m", "s"))
    }


def test_accepting_begins_anew_where_the_change_came(room: Connection) -> None:
    for number, name in enumerate(["", "a", "", "a", "a"]):
        keep(room, "m", "s", kept(f"b{number}", at_us=number, drifted=name))
    assert accept(room, "m", "s") == ["a"]
    assert drifted(room) == {
        "b0": ([], []), "b1": (["a"], []), "b2": ([], []), "b3": ([], ["a"]), "b4": ([], []),
    }  # fmt: skip
    assert accept(room, "m", "nobody") == []


def test_a_change_is_adopted_after_five_batches_in_a_row(room: Connection) -> None:
    for number in range(4):
        keep(room, "m", "s", kept(f"b{number}", at_us=number, drifted="a"))
        assert adopt(room, "m", "s") == []
    keep(room, "m", "s", kept("b4", at_us=4, drifted="a"))
    assert adopt(room, "m", "s") == ["a"]
    assert drifted(room)["b0"] == ([], ["a"])
    assert adopt(room, "m", "s") == []


@pytest.mark.parametrize(("middle", "how"), [("", "warn"), ("b", "warn"), ("a", "break")])
def test_a_change_that_paused_or_breaks_is_not_adopted(
    room: Connection, middle: str, how: str
) -> None:
    for number, name in enumerate(["a", "a", middle, "a", "a"]):
        keep(room, "m", "s", kept(f"b{number}", at_us=number, drifted=name, how=how))
    assert adopt(room, "m", "s") == []
