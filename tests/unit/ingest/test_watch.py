from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, select

from aiqleads.contracts.schema_drift import Finding
from aiqleads.ingest.payload import RAGGED
from aiqleads.ingest.watch import check, close_waiting
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.schema import accept, opened
from aiqleads.store.tables import schema_finding, schema_profile

MINUTE_US = 60_000_000
DAY_US = 1_440 * MINUTE_US


@pytest.fixture
def leads(home: Settings) -> Iterator[Engine]:
    engine = open_room(home, "leads")
    yield engine
    engine.dispose()


@pytest.fixture
def room(leads: Engine) -> Iterator[Connection]:
    with leads.begin() as connection:
        yield connection


def table(seed: int, rows: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "price": rng.integers(50, 900, rows).astype(str),
            "kind": rng.choice(["house", "condo"], rows),
            "zip": rng.choice(["43604", "43605", "43606"], rows),
        }
    )


def told(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(each.column, each.kind, each.severity) for each in findings}


def go(
    room: Connection,
    number: int,
    rows: pd.DataFrame,
    *,
    part: int = 1,
    at_us: int | None = None,
    batch: str = "",
    required: tuple[str, ...] = ("zip",),
) -> set[tuple[str, str, str]]:
    return told(
        check(
            room, "town", "feed", batch or f"b{number:03d}", part, rows, {},
            number * DAY_US if at_us is None else at_us, required=required,
        )
    )  # fmt: skip


def seen(room: Connection, batches: int, rows: int = 600) -> None:
    for number in range(batches):
        assert go(room, number, table(number, rows)) == set()


def profiles(room: Connection) -> list[tuple[str, int, int, bool]]:
    table = schema_profile.c
    asked = select(table.batch_id, table.part, table.rows, table.closed)
    return [tuple(row) for row in room.execute(asked.order_by(table.at_us, table.part))]


def test_the_first_batch_finds_nothing_whatever_its_parts_are(room: Connection) -> None:
    assert go(room, 0, table(0), part=1) == set()
    assert go(room, 0, table(0).assign(kind="barn"), part=2) == set()
    assert profiles(room) == [("b000", 1, 600, True), ("b000", 2, 600, True)]


def test_a_change_is_found_and_kept_once_a_batch(room: Connection) -> None:
    seen(room, 4)
    rows = table(9).rename(columns={"zip": "postal_zip"})
    expected = {("zip", "renamed", "break")}
    assert go(room, 5, rows, part=1) == expected
    assert go(room, 5, rows, part=2) == expected
    kept = room.execute(select(schema_finding)).all()
    assert [(row.batch_id, row.part, row.column, row.kind) for row in kept] == [
        ("b005", 1, "zip", "renamed")
    ]


def test_a_part_that_is_tried_again_takes_its_own_place(room: Connection) -> None:
    seen(room, 3)
    go(room, 2, table(2))
    assert len(profiles(room)) == 3


def test_what_drifted_is_no_baseline_until_it_lasted(room: Connection) -> None:
    seen(room, 4)
    barns = [table(n).assign(kind="barn") for n in range(20)]
    changes = [go(room, 4 + n, barns[n]) for n in range(7)]
    assert changes == [{("kind", "categories", "warn")}] * 5 + [set()] * 2
    assert go(room, 20, table(20)) == {("kind", "categories", "warn")}


def test_what_breaks_does_not_become_normal_by_itself_but_by_an_operator(
    room: Connection,
) -> None:
    seen(room, 4)
    rows = table(9).drop(columns="zip")
    for number in range(4, 11):
        assert go(room, number, rows) == {("zip", "missing", "break")}
    assert accept(room, "town", "feed", ["price"]) == []
    assert accept(room, "town", "feed") == ["zip"]
    assert go(room, 10, rows) == set()
    assert go(room, 11, rows) == set()
    assert go(room, 12, table(12)) == {("zip", "new", "warn")}


def test_an_accepted_payload_goes_in_when_it_is_tried_again(room: Connection) -> None:
    seen(room, 4)
    rows = table(9).assign(price="a lot")
    assert go(room, 4, rows, required=("price",)) == {("price", "retyped", "break")}
    assert accept(room, "town", "feed") == ["price"]
    assert go(room, 4, rows, required=("price",)) == set()
    assert go(room, 5, rows, required=("price",)) == set()


def test_an_accepted_small_payload_goes_in_too(room: Connection) -> None:
    seen(room, 4)
    rows = table(9, 30).drop(columns="zip")
    assert go(room, 4, rows) == {("zip", "missing", "break")}
    assert accept(room, "town", "feed") == ["zip"]
    assert go(room, 4, rows) == set()
    assert go(room, 5, table(9).drop(columns="zip")) == set()


def test_small_parts_gather_until_they_are_enough(room: Connection) -> None:
    seen(room, 3)
    start = 3 * DAY_US
    for number in range(49):
        given = table(number, 10)
        assert go(room, 3, given, batch=f"push{number}", at_us=start + number) == set()
    assert profiles(room)[-1] == ("push0", 1, 490, False)
    assert go(room, 3, table(99, 10), batch="push49", at_us=start + 60) == set()
    assert profiles(room)[-1] == ("push0", 1, 500, True)
    assert opened(room, "town", "feed") is None


def test_a_change_in_pushed_rows_is_found_when_they_are_enough(room: Connection) -> None:
    seen(room, 3)
    changes = [
        go(room, 3, table(n, 25).assign(kind="barn"), batch=f"push{n}", at_us=3 * DAY_US + n)
        for n in range(20)
    ]
    assert changes == [set()] * 19 + [{("kind", "categories", "warn")}]


def test_a_header_is_judged_with_its_first_row(room: Connection) -> None:
    seen(room, 3)
    rows = table(9, 1).rename(columns={"price": "list_price"})
    assert go(room, 3, rows) == {("price", "renamed", "warn")}


def test_fifty_rows_are_judged_at_once_though_they_gather(room: Connection) -> None:
    seen(room, 3)
    assert go(room, 3, table(9, 60).assign(price="")) == {("price", "nulls", "warn")}
    assert profiles(room)[-1] == ("b003", 1, 60, False)


def test_after_fifteen_minutes_what_gathered_is_closed(room: Connection) -> None:
    seen(room, 3)
    go(room, 3, table(9, 40).assign(kind="barn"), batch="one", at_us=3 * DAY_US)
    assert close_waiting(room, 3 * DAY_US + 16 * MINUTE_US) == {}
    go(room, 3, table(8, 45).assign(kind="barn"), batch="two", at_us=3 * DAY_US + MINUTE_US)
    assert close_waiting(room, 3 * DAY_US + 14 * MINUTE_US) == {}
    [(where, found)] = close_waiting(room, 3 * DAY_US + 16 * MINUTE_US).items()
    assert where == ("town", "feed")
    assert told(found) == {("kind", "categories", "warn")}
    assert profiles(room)[-1] == ("one", 1, 85, True)


def test_the_next_part_closes_what_waited_too_long_or_has_another_header(
    room: Connection,
) -> None:
    seen(room, 3)
    go(room, 3, table(9, 70), batch="old", at_us=3 * DAY_US)
    go(room, 3, table(9, 70), batch="later", at_us=3 * DAY_US + 16 * MINUTE_US)
    assert profiles(room)[-2:] == [("old", 1, 70, True), ("later", 1, 70, False)]
    wide = table(9, 8).assign(extra="1")
    go(room, 3, wide, batch="wide", at_us=3 * DAY_US + 17 * MINUTE_US)
    assert profiles(room)[-2:] == [("later", 1, 70, True), ("wide", 1, 8, False)]
    go(room, 3, table(9, 8), batch="back", at_us=3 * DAY_US + 18 * MINUTE_US)
    assert profiles(room)[-1] == ("back", 1, 8, False)


def test_an_empty_part_is_passed_over(room: Connection) -> None:
    assert go(room, 0, table(0)[:0]) == set()
    assert profiles(room) == []


def test_ragged_rows_have_no_say(room: Connection) -> None:
    seen(room, 3)
    rows = table(9)
    rows[RAGGED] = pd.Series([["a", "b"]], index=[0], dtype=object)
    rows.loc[0, ["price", "kind", "zip"]] = None
    assert go(room, 3, rows) == set()
    assert profiles(room)[-1][2] == 599


def record(n: int, **more: object) -> dict[str, object]:
    return {"id": f"k{n}", "home": {"beds": n % 4, "area": 900.0 + n % 300}, **more}


def test_records_of_trees_are_watched_by_their_fields(room: Connection) -> None:
    def chunk(number: int, **more: object) -> pd.DataFrame:
        held = [record(number + n, **more) for n in range(1_500)]
        return pd.DataFrame({"record": pd.Series(held, dtype=object)})

    for number in range(4):
        assert go(room, number, chunk(number)) == set()
    assert go(room, 4, chunk(4, pets={"cats": 1})) == {("pets.cats", "new", "warn")}
    poor = [{"id": f"k{n}", "home": {"area": 1_000.0}} for n in range(1_500)]
    frame = pd.DataFrame({"record": pd.Series(poor, dtype=object)})
    assert ("home.beds", "missing", "warn") in go(room, 5, frame)
    assert profiles(room)[-1][2] == 1_500


def test_a_field_that_the_source_leaves_out_is_not_looked_at(room: Connection) -> None:
    held = pd.Series([record(n, key="secret") for n in range(600)], dtype=object)
    kinds = {"id": "text", "home.beds": "number", "home.area": "number"}
    check(room, "town", "feed", "b1", 1, pd.DataFrame({"record": held}), kinds, DAY_US)
    kept = room.execute(select(schema_profile.c.profile)).scalar_one()
    assert "home.area" in kept
    assert '"key"' not in kept


def test_elements_of_xml_are_watched_too(room: Connection) -> None:
    def lead(n: int, tag: str) -> Element:
        made = Element("lead")
        SubElement(made, "requestdate").text = f"2026-01-{n % 28 + 1:02d}"
        SubElement(made, tag).text = str(43_600 + n % 9)
        return made

    def chunk(tag: str) -> pd.DataFrame:
        return pd.DataFrame({"record": pd.Series([lead(n, tag) for n in range(600)], dtype=object)})

    for number in range(3):
        assert go(room, number, chunk("postalcode")) == set()
    assert go(room, 3, chunk("postal_code"), required=("postalcode",)) == {
        ("postalcode", "renamed", "break")
    }
