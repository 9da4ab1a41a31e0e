"""Readings of values out of trees, one by one and by the chunk."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.ingest import terms, trees
from aiqleads.ingest.trees import Records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)
US = 1_000_000
XML = """<adf xmlns="urn:x"><prospect status="new"><!-- c --><vendor/>
<contact><name part="first">Ada</name><name part="last"> Lark </name><phone/></contact>
<price>100</price><price>200</price></prospect></adf>"""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", 1),
        ("b.c", "x"),
        ("b.none", None),
        ("b.c.d", None),
        ("list.0", 5),
        ("list.9", None),
        ("things.name", "first"),
        ("things.1.name", "second"),
        ("things.x", None),
        ("gap.value", 7),
    ],
)
def test_a_path_leads_to_the_first_value(path: str, value: object) -> None:
    tree = {
        "a": 1,
        "b": {"c": "x", "none": None},
        "list": [5, 6],
        "things": [{"name": "first"}, {"name": "second"}],
        "gap": [{"value": None}, {"value": 7}],
    }
    assert trees.get(tree, path) == value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("prospect.@status", "new"),
        ("prospect.contact.name", "Ada"),
        ("prospect.price", "100"),
        ("prospect.contact.phone", ""),
        ("prospect.nothing", None),
        ("prospect.@nothing", None),
    ],
)
def test_a_path_leads_through_xml_whatever_its_namespace(path: str, value: object) -> None:
    assert trees.get(fromstring(XML), path) == value


def test_all_values_of_a_path_come_in_order() -> None:
    assert [each.text for each in trees.every(fromstring(XML), "prospect.price")] == ["100", "200"]
    assert trees.every({"a": [{"b": [1, 2]}, {"b": [3]}]}, "a.b") == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, None),
        ("", None),
        ("  \t ", None),
        (" a  b\n", "a b"),
        ("be\x00l\x07l\x85", "bell"),
        ("\ud83dhalf", "half"),
        ("\ufeffmark", "mark"),
        ("caf\u00e9 \u5bb6", "caf\u00e9 \u5bb6"),
        (12, "12"),
        (43604.0, "43604"),
        (0.5, "0.5"),
        (math.nan, None),
    ],
)
def test_texts(given: object, read: object) -> None:
    assert trees.text(given) == read


@pytest.mark.parametrize("given", [True, [], {}, ["a"]])
def test_what_is_no_text(given: object) -> None:
    with pytest.raises(ValueError, match="a text"):
        trees.text(given)


def test_prose_keeps_its_lines() -> None:
    assert trees.prose(" one\n two\x00 ") == "one\n two"
    assert trees.prose(None) is None
    assert trees.prose(5) == "5"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("1,234,567.5", 1234567.5),
        (" -4 ", -4.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("N/A", None),
        ("-", None),
        (None, None),
        (math.nan, None),
    ],
)
def test_numbers(given: object, read: object) -> None:
    assert trees.number(given) == read


@pytest.mark.parametrize(
    "given",
    ["1,23", "12 sqft", "one", True, [], {}, math.inf, 10**400, "1e999", "+", ".", "1.2.3", "e5"],
)
def test_what_is_no_number(given: object) -> None:
    with pytest.raises(ValueError, match="a number"):
        trees.number(given)


@pytest.mark.parametrize(
    ("given", "read"),
    [("$1,234.50", 123450.0), ("USD 99", 9900.0), ("99 USD", 9900.0), (0.1, 10.0), ("$", None)],
)
def test_amounts(given: object, read: object) -> None:
    assert trees.cents(given) == read


@pytest.mark.parametrize("given", ["EUR 5", "call us", "$$", True, 1e307])
def test_what_is_no_amount(given: object) -> None:
    with pytest.raises(ValueError, match="an amount in dollars"):
        trees.cents(given)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2026-03-03T10:00:00Z", 1_772_532_000 * US),
        ("2026-03-03T10:00:00.1234567Z", 1_772_532_000 * US + 123_456),
        ("2026-03-03T05:00:00-0500", 1_772_532_000 * US),
        ("2026-03-03T05:00:00", 1_772_532_000 * US),
        ("Tue, 03 Mar 2026 05:00:00 -0500", 1_772_532_000 * US),
        (1_772_532_000, 1_772_532_000 * US),
        ("1772532000", 1_772_532_000 * US),
        (1_772_532_000_123, 1_772_532_000 * US + 123_000),
        ("1969-12-31T23:59:59Z", -1 * US),
        ("", None),
        (None, None),
    ],
)
def test_moments(given: object, read: object) -> None:
    assert trees.moment_us(given, "America/New_York") == read


@pytest.mark.parametrize(
    "given",
    ["yesterday", "2026-13-01", "0001-01-01T00:00:00Z", 1e300, math.nan, True, [], "9" * 5000],
)
def test_what_is_no_moment(given: object) -> None:
    with pytest.raises(ValueError, match="a date and time"):
        trees.moment_us(given)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2026-03-03", dt.date(2026, 3, 3)),
        ("3/4/2026", dt.date(2026, 3, 4)),
        ("20260303", dt.date(2026, 3, 3)),
        ("2026-03-03T02:30:00Z", dt.date(2026, 3, 2)),
        (1_772_532_000, dt.date(2026, 3, 3)),
        (None, None),
    ],
)
def test_days_are_local(given: object, read: object) -> None:
    assert trees.day(given, "America/New_York") == read


@pytest.mark.parametrize("given", ["13/13/2026", "0001-01-01", "March", False])
def test_what_is_no_day(given: object) -> None:
    with pytest.raises(ValueError, match="a date"):
        trees.day(given)


def test_a_chunk_is_read_column_by_column_and_keeps_its_problems() -> None:
    records = Records(
        [{"n": 1, "t": "a", "p": 5}, {"n": "x", "p": 10**400}, {"n": None, "old": 3, "t": []}],
        pd.RangeIndex(11, 14),
    )
    assert np.array_equal(records.numbers("n", "n", "old"), [1, np.nan, 3], equal_nan=True)
    assert records.texts("t", "t") == ["a", None, None]
    assert records.cents("p", "p")[0] == 500
    assert records.problems == [
        (12, "n", "n: a number", "x"),
        (13, "t", "t: a text", []),
        (12, "p", "p: an amount in dollars", 10**400),
    ]


def test_times_of_a_chunk_are_whole_columns() -> None:
    records = Records([{"at": "2026-03-03T02:30:00Z"}, {}], pd.RangeIndex(1, 3))
    moments = records.moments("at", "at", timezone="UTC")
    days = records.days("at", "at", timezone="America/New_York")
    assert moments.dtype == "Int64"
    assert moments.isna().tolist() == [False, True]
    assert days.tolist()[0] == pd.Timestamp("2026-03-02")
    assert pd.isna(days.iloc[1])


@pytest.mark.parametrize(
    ("record", "flat"),
    [
        ({"a": 1, "b": None}, {"a": 1, "b": None}),
        ({"a": {"b": {"c": 2}}, "l": ["x", 1], "e": []}, {"a.b.c": 2, "l": "x, 1", "e": None}),
        (
            {"field_data": [{"name": "email", "values": ["a", "b"]}, {"name": "zip", "values": 1}]},
            {"field_data.email": "a, b", "field_data.zip": 1},
        ),
        (
            {"user_column_data": [{"column_id": "CITY", "string_value": "T"}, {"odd": 1}]},
            {"user_column_data.CITY": "T", "user_column_data.count": 2},
        ),
        (
            {"answers": [{"questionId": 7, "answerDetails": {"x": 1}}], "rooms": [1, [2]]},
            {"answers.7": None, "rooms.count": 2},
        ),
        ("a page", {}),
    ],
)
def test_flattened_records(record: object, flat: dict[str, Any]) -> None:
    assert trees.flatten(record) == flat


def test_a_flattened_element_tells_its_parts_apart() -> None:
    assert trees.flatten(fromstring(XML)) == {
        "prospect.@status": "new",
        "prospect.vendor": None,
        "prospect.contact.name.first": "Ada",
        "prospect.contact.name.last": "Lark",
        "prospect.contact.phone": None,
        "prospect.price": "100",
    }


def test_kinds_of_fields() -> None:
    flat = [
        {"n": 1, "t": "x", "d": "2026-03-03", "e": None, "mixed": 1},
        {"n": None, "t": None, "d": "2026-03-03T10:00:00Z", "mixed": "one", "late": True},
    ]
    assert trees.kinds(flat) == {
        "n": "number",
        "t": "text",
        "d": "date",
        "e": "empty",
        "mixed": "text",
        "late": "number",
    }


@settings(deadline=None)
@given(JSON)
def test_no_value_escapes_a_reading(value: object) -> None:
    readings = (
        trees.text,
        trees.prose,
        trees.number,
        trees.cents,
        trees.moment_us,
        trees.day,
        terms.status,
        terms.kind,
        terms.state,
        terms.zip5,
        terms.area,
    )
    for reading in readings:
        try:
            read = reading(value)
        except ValueError:
            continue
        assert not isinstance(read, float) or math.isfinite(read)
        if isinstance(read, str):
            read.encode()


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_flattening_gives_scalars_whatever_comes(record: dict[str, object]) -> None:
    flat = trees.flatten(record)
    assert not [each for each in flat.values() if isinstance(each, dict | list)]
    assert set(trees.kinds([flat])) == set(flat)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=False) | st.integers() | st.none()))
def test_a_column_of_numbers_is_read_as_its_values_are(values: list[Any]) -> None:
    def alone(value: object) -> float | None:
        try:
            return trees.number(value)
        except ValueError:
            return None

    column = Records([{"x": value} for value in values], pd.RangeIndex(len(values)))
    singly = np.array([alone(value) for value in values], dtype=float)
    assert np.array_equal(column.numbers("x", "x"), singly, equal_nan=True)


def test_a_deep_record_is_flattened_without_a_crash() -> None:
    deep: dict[str, Any] = json.loads('{"a":' * 200 + "1" + "}" * 200)
    assert trees.flatten(deep) == {}
