from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from aiqleads.contracts.promise import Promise, failures, schema
from aiqleads.contracts.sale_feed import PROMISES

ROOMS = Promise("rooms", "float64", "rooms", "home", "Rooms.", True, 0, 20)
KIND = Promise("kind", "str", "", "home", "Kind.", among=("house", "flat"))


def test_each_break_names_its_column_and_rule_once() -> None:
    frame = pd.DataFrame({"rooms": [1.0, 21.0, None], "kind": ["house", "boat", None]})
    frame.index = pd.Index([7, 8, 9])
    found = failures(frame, schema([ROOMS, KIND]))
    assert sorted(found.itertuples(index=False, name=None)) == [
        (8, "kind", "kind: one of house, flat"),
        (8, "rooms", "rooms: from 0 to 20 rooms"),
        (9, "rooms", "rooms: present"),
    ]


def test_a_rule_of_whole_rows_is_reported_once_for_a_row() -> None:
    rule = pa.Check(lambda rows: rows["rooms"] != 3, error="rooms: not three", ignore_na=False)
    frame = pd.DataFrame({"rooms": [3.0, 4.0], "kind": ["house", "flat"]})
    found = failures(frame, schema([ROOMS, KIND], [rule]))
    assert found.to_dict("records") == [{"index": 0, "column": "rooms", "rule": "rooms: not three"}]


def test_words_may_be_too_long() -> None:
    short = Promise("kind", "str", "", "home", "Kind.", longest=4)
    found = failures(pd.DataFrame({"kind": ["flat", "house", None]}), schema([short]))
    assert found["rule"].tolist() == ["kind: at most 4 characters"]


def test_what_holds_has_no_failures() -> None:
    frame = pd.DataFrame({"rooms": [1.0], "kind": [None]}, dtype=object).astype({"rooms": float})
    assert failures(frame, schema([ROOMS, KIND])).empty


def test_a_missing_column_and_a_repeated_key_are_breaks() -> None:
    assert not failures(pd.DataFrame({"rooms": [1.0]}), schema([ROOMS, KIND])).empty
    twice = pd.DataFrame({"rooms": [1.0, 1.0], "kind": ["flat", "flat"]})
    assert not failures(twice, schema([ROOMS, KIND], unique="rooms")).empty


def test_bounds_are_read_as_words() -> None:
    assert ROOMS.bounds == "from 0 to 20 rooms"
    assert Promise("a", "int64", "cents", "sale", "x", low=1).bounds == "from 1 cents"


def test_unit_and_grain_stand_beside_each_column() -> None:
    for promise in PROMISES:
        column = promise.column()
        assert column.description
        assert column.metadata["grain"] in {"sale", "home sold"}
        assert column.metadata["unit"] or promise.dtype == "str"
