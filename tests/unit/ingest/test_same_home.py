from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sqlalchemy import insert, select

from aiqleads.ingest.same_home import home_ids, same_homes
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.tables import batch, listing
from aiqleads.store.transactions import writing

HOME = {
    "listing_id": "H1",
    "address": "12 North Main Street",
    "unit": None,
    "zip": "43604",
    "lon": -83.55,
    "lat": 41.65,
    "place_precision": "point",
    "property_type": "House",
    "offer": "sale",
    "listed_us": 5,
}
OTHER_PLACE = {"lon": -83.0, "lat": 41.0}
NO_DOOR = {"address": None, "zip": None}


def _listings(*changes: dict[str, Any]) -> pd.DataFrame:
    rows = [{**HOME, "listing_id": f"H{n}", **each} for n, each in enumerate(changes, 1)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"address": "12 N. MAIN ST", **OTHER_PLACE}),
        ({}, {"address": "12 N Main St, Toledo, OH 43604"}),
        ({"unit": "4"}, {"address": "12 North Main Street Apt 4"}),
        ({"unit": "#04"}, {"address": "12 N Main St #4", "unit": ""}),
        ({"unit": "4"}, {"address": "12 n main st unit 4", "unit": "Unit 4"}),
        ({"zip": "43604"}, {"zip": "43604-1234"}),
        ({**NO_DOOR}, {**NO_DOOR, "lon": -83.550001}),
        ({"address": "Main Street"}, {"address": None}),
    ],
)
def test_one_home_is_known_however_it_is_written(one: dict[str, Any], other: dict[str, Any]):
    first, second = home_ids(_listings(one, other))
    assert first is not None
    assert first == second


@pytest.mark.parametrize(
    "other",
    [
        {"address": "12 South Main Street"},
        {"address": "12 North Main Avenue"},
        {"address": "14 North Main Street"},
        {"unit": "4"},
        {"zip": "43605"},
        {**NO_DOOR, **OTHER_PLACE},
    ],
)
def test_another_door_is_another_home(other: dict[str, Any]) -> None:
    first, second = home_ids(_listings({}, other))
    assert first != second


def test_without_a_door_units_and_kinds_of_one_point_are_apart() -> None:
    changes = [{}, {"unit": "2"}, {"property_type": "Condo"}]
    assert len(set(home_ids(_listings(*({**NO_DOOR, **each} for each in changes))))) == 3


def test_the_middle_of_a_zip_is_no_home() -> None:
    middle = {"address": None, "place_precision": "zip"}
    nowhere = {**NO_DOOR, "lon": None, "lat": None, "place_precision": "point"}
    assert home_ids(_listings(middle, nowhere)) == [None, None]


def _taken(home: Settings, *chunks: pd.DataFrame) -> dict[str, str | None]:
    engine = open_room(home, "leads")
    with writing(engine) as connection:
        blank: dict[str, Any] = {
            each.name: 0 if each.type.python_type is int else "" for each in batch.columns
        }
        connection.execute(
            insert(batch), {**blank, "batch_id": "b", "state": "open", "recalled_us": None}
        )
        for chunk in chunks:
            found = same_homes(connection, "toledo", chunk)
            rows = chunk.assign(**found, market="toledo", source="s", batch_id="b", status="Active")
            rows = rows.assign(currency="USD", content=b"", source_key=rows["listing_id"])
            connection.execute(
                insert(listing), rows.astype(object).where(rows.notna(), None).to_dict("records")
            )
    with reader(engine).connect() as connection:
        stored = connection.execute(select(listing.c.listing_id, listing.c.repeat_of))
        made = {row.listing_id: row.repeat_of for row in stored}
    engine.dispose()
    return made


def test_the_first_day_on_the_market_is_the_offer_and_the_rest_repeat_it(home: Settings) -> None:
    rows = _listings({}, {"listed_us": 3}, {"listed_us": None}, {"offer": "rent"}, {**NO_DOOR})
    assert _taken(home, rows) == {"H1": "H2", "H2": None, "H3": "H2", "H4": None, "H5": None}


def test_chunks_in_any_order_say_the_same(home: Settings) -> None:
    rows = _listings({}, {"listed_us": 3}, {"listed_us": None}, {"offer": "rent"}, {**NO_DOOR})
    told = _taken(home, rows.iloc[[2]], rows.iloc[[0, 4]], rows.iloc[[1, 3]])
    assert told == {"H1": "H2", "H2": None, "H3": "H2", "H4": None, "H5": None}


def test_a_listing_told_anew_is_not_its_own_repeat(home: Settings) -> None:
    engine = open_room(home, "leads")
    _taken(home, _listings({}))
    with writing(engine) as connection:
        found = same_homes(connection, "toledo", _listings({"listed_us": 9}))
    engine.dispose()
    assert found["repeat_of"] == [None]


def test_no_listings_have_no_homes(home: Settings) -> None:
    engine = open_room(home, "leads")
    with writing(engine) as connection:
        found = same_homes(connection, "toledo", _listings({}).iloc[:0])
    engine.dispose()
    assert found == {"home_id": [], "repeat_of": []}
