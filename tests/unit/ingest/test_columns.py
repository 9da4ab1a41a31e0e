from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiqleads.contracts.lead_feed import PROMISES as LEADS
from aiqleads.contracts.listing_feed import PROMISES as LISTINGS
from aiqleads.contracts.listing_feed import feed_schema
from aiqleads.contracts.promise import failures
from aiqleads.errors import ContractBroken
from aiqleads.ingest import columns
from aiqleads.ingest.payload import RAGGED


def _column(*values: object) -> pd.Series:
    return pd.Series(list(values), range(1, len(values) + 1), dtype=object)


def _wrong(problems: list[columns.Problem]) -> dict[int, object]:
    return {row: value for row, _, _, value in problems}


def test_a_contract_frame_has_all_columns_and_their_types() -> None:
    index = pd.RangeIndex(3, 5)
    words = pd.Series(["b", "a"], [4, 3], dtype=object)
    frame = columns.contract_frame(
        LISTINGS,
        {
            "key": words,
            "status": "Active",
            "offer": "sale",
            "property_type": np.array(["x", "y"], dtype=object),
            "beds": [1, None],
            "modified_us": pd.array([5, None], dtype="Int64"),
        },
        index,
    )
    assert failures(frame, feed_schema()).empty
    assert frame["key"].tolist() == ["a", "b"]  # by row number, not by place
    assert frame["mls_id"].tolist() == [None, None]
    assert frame["modified_us"].tolist() == [5, pd.NA]
    leads = columns.contract_frame(LEADS, {"key": [1.5, np.nan]}, index)
    assert leads["test"].dtype == "bool"
    assert leads["key"].iloc[1] is None
    with pytest.raises(KeyError, match="colour"):
        columns.contract_frame(LISTINGS, {"colour": "red"}, index)


def test_numbers_are_plain_decimals() -> None:
    given = _column("1", " 2.5 ", "-3e2", "", "n/a", None, b"4", "nan", Decimal("7"))
    value, problems = columns.number(given, "beds")
    np.testing.assert_array_equal(value, [1, 2.5, -300, *[np.nan] * 3, 4, np.nan, 7])
    assert not problems
    wrong = _column("1_000", "inf", "$9", "302,265", "x", "٣", "1e999", [1], True)
    value, problems = columns.number(wrong, "beds")
    assert value.isna().all()
    assert [row for row, *_ in problems] == list(range(1, 10))
    assert problems[0] == (1, "beds", "beds: a number", "1_000")


def test_typed_numbers_stay_and_infinities_go() -> None:
    value, problems = columns.number(pd.Series([1, np.inf, np.nan]), "beds")
    assert value.tolist()[0] == 1
    assert _wrong(problems) == {1: "inf"}
    assert columns.number(pd.Series([True, False]), "beds")[0].tolist() == [1, 0]
    when = pd.Series(pd.to_datetime(["1995-01-04", "1995-01-05"]))
    assert len(columns.number(when, "beds")[1]) == 2
    mixed = pd.Series([2.0, "x", float("inf"), ""], dtype=object)
    assert _wrong(columns.number(mixed, "beds")[1]) == {1: "x", 2: "inf"}


def test_money_is_read_as_people_write_it() -> None:
    given = _column("$160K", "302,265", "1250.5", "-$5", "$1.2M", "US$ 7", "9 USD", "$1,950/mo")
    cents, problems = columns.money(given, "price")
    expected = [16e6, 30_226_500, 125_050, -500, 120e6, 700, 900, 195_000]
    np.testing.assert_allclose(cents, expected)
    assert not problems
    wrong = columns.money(_column("1,2", "$", "12 EUR", "call", "1.2.3"), "price")[1]
    assert wrong[0][2] == "price: a sum of money"
    assert len(wrong) == 5


def test_percentages_are_shares() -> None:
    value, problems = columns.percent(_column("-1.6%", "95.8 %", "0.5", "1,000%", "x%", "%"), "v")
    np.testing.assert_allclose(value[:4], [-0.016, 0.958, 0.5, 10])
    assert _wrong(problems) == {5: "x%", 6: "%"}


def test_grouped_numbers_are_grouped_by_threes() -> None:
    value, problems = columns.grouped_number(_column("302,265", "12", "1,2", "2,078,653.5"), "v")
    np.testing.assert_array_equal(value, [302_265, 12, np.nan, 2_078_653.5])
    assert _wrong(problems) == {3: "1,2"}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_is_read_back_as_it_was_written(values: list[float]) -> None:
    read, problems = columns.number(_column(*map(repr, values)), "x")
    assert read.tolist() == values
    assert not problems


@given(st.lists(st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.binary())))
def test_no_value_is_lost_without_a_word(values: list[object]) -> None:
    """A number is read, said to be nothing, or a problem: one of the three."""
    given = _column(*values)
    said = columns.text(given)
    for read in (columns.number, columns.money, columns.percent, columns.grouped_number):
        value, problems = read(given, "x")
        silent = value.isna() & said.notna()
        assert set(value.index[silent]) == {row for row, *_ in problems}
    when, problems = columns.moment(given, "x", "America/Chicago")
    silent = when.isna() & said.notna()
    assert set(when.index[silent]) == {row for row, *_ in problems}


def test_texts_are_stripped_and_nothing_is_none() -> None:
    given = _column(" Hutto ", "N/A", "-", None, 7.0, 7.5, b"a\xff", pd.NA, pd.NaT, "Select")
    said = columns.text(given, frozenset({"select"})).tolist()
    assert said == ["Hutto", None, None, None, "7", "7.5", "a\ufffd", None, None, None]
    assert columns.filled(given) == 5
    assert columns.filled(pd.Series([1.0, np.nan])) == 1
    assert columns.text(pd.Series([7.0, np.nan])).tolist() == ["7", None]


def test_days_are_local() -> None:
    day, problems = columns.date(
        _column("2020-01-01T03:00:00Z", "2020-01-01", "2020-01-01T03:00:00-06:00", "soon"),
        "listed",
        "ISO8601",
        "America/Chicago",
    )
    said = day.dt.strftime("%Y-%m-%d").tolist()
    assert said[:3] == ["2019-12-31", "2020-01-01", "2020-01-01"]
    assert problems == [(4, "listed", "listed: a date", "soon")]
    assert day.dtype == "datetime64[ns]"
    assert day.dt.tz is None


def test_days_follow_the_form_they_are_written_in() -> None:
    day, problems = columns.date(_column("January-31-2020", "2020", ""), "closed", "%B-%d-%Y")
    assert day.tolist()[0] == pd.Timestamp("2020-01-31")
    assert problems == [(2, "closed", "closed: a date like %B-%d-%Y", "2020")]
    short, _ = columns.date(_column(104, "981005"), "sold", "%y%m%d")
    assert short.tolist() == [pd.Timestamp("2000-01-04"), pd.Timestamp("1998-10-05")]
    cells = _column(dt.datetime(2020, 2, 1, 12), dt.date(2020, 2, 2), "03/02/2020")
    dates, problems = columns.date(cells, "sold", "%d/%m/%Y", "America/Chicago")
    assert dates.dt.day.tolist() == [1, 2, 3]
    assert not problems


def test_moments_are_utc() -> None:
    us, problems = columns.moment(
        _column("2022-07-09 12:21", "2022-07-09T12:21:00-05:00", None, "x"), "at", "America/Chicago"
    )
    assert us.tolist() == [1_657_387_260_000_000] * 2 + [pd.NA, pd.NA]
    assert problems == [(4, "at", "at: a time", "x")]
    # 2:30 was skipped on 2022-03-13; 1:30 came twice on 2022-11-06, and is the first of the two.
    odd, _ = columns.moment(
        _column("2022-03-13 02:30", "2022-11-06 01:30"), "at", "America/Chicago"
    )
    utc = pd.to_datetime(odd.astype("int64"), unit="us")
    assert utc.dt.strftime("%H:%M").tolist() == ["08:00", "06:30"]
    typed = pd.Series(pd.to_datetime(["2022-07-09 12:21"]))
    assert columns.moment(typed, "at", "America/Chicago")[0].tolist() == [1_657_387_260_000_000]
    zoned = typed.dt.tz_localize("UTC")
    assert columns.moment(zoned, "at", "America/Chicago")[0].tolist() == [1_657_369_260_000_000]
    with_zone, _ = columns.moment(
        _column("09/07/2022 12:21 +0000"), "at", "UTC", "%d/%m/%Y %H:%M %z"
    )
    assert with_zone.tolist() == [1_657_369_260_000_000]


def test_kinds_are_what_most_values_are() -> None:
    rows = pd.DataFrame(
        {
            "day": pd.to_datetime(["1995-01-04"] * 3),
            "beds": ["1", "2", "x"],
            "note": ["a", "2", "b"],
            "none": ["", None, "-"],
            "flag": [True, False, True],
            "void": [np.nan] * 3,
            RAGGED: [None, None, ["a"]],
        }
    )
    kinds = columns.kinds(rows)
    expected = ["date", "number", "text", "empty", "number", "empty"]
    assert kinds == dict(zip(rows.columns[:-1], expected, strict=True))
    late = pd.Series([""] * 999 + ["7"], dtype=object)  # not among those that are looked at
    assert columns.kind(late) == "number"
    assert columns.kind(pd.Series(["a"], dtype="category")) == "text"


def test_a_row_of_another_width_is_a_problem() -> None:
    rows = pd.DataFrame({"a": ["1", None], "b": ["2", None], RAGGED: [None, ["3"]]})
    assert columns.ragged_problems(rows, (1,)) == [
        (1, RAGGED, "(fields): as many as the header's 2", None)
    ]


def test_a_missing_column_is_named_with_a_guess() -> None:
    columns.require_columns("a.csv", ["a"], {"a": "beds"}, "x")
    with pytest.raises(ContractBroken, match=r"x needs .*'Beds' \(our beds\), perhaps 'beds'"):
        columns.require_columns("a.csv", ["beds"], {"Beds": "beds"}, "x")
