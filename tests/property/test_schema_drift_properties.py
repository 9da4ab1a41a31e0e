from __future__ import annotations

import json

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqleads.contracts.schema_drift import Baseline, Past, compare
from aiqleads.contracts.schema_profile import Profile, column_name, dumped, profile, shape

VALUES = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.sampled_from(["", "NULL", "1,000", "$5", "2026-01-02", "1e308", "-inf", "9" * 400, "x@y"]),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.binary(max_size=4),
)
NAMES = st.one_of(st.sampled_from(["price", "name", "2024-01", "zip"]), st.text(max_size=12))


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    rows = draw(st.integers(0, 12))
    columns = {
        name: pd.Series(
            draw(st.lists(VALUES, min_size=rows, max_size=rows)), dtype=object, index=range(rows)
        )
        for name in names
    }
    return pd.DataFrame(columns, index=range(rows))


@settings(deadline=None)
@given(frames(), st.sampled_from(["", "number", "text", "date", "empty"]))
def test_whatever_comes_has_a_profile_that_survives_json(rows: pd.DataFrame, kind: str) -> None:
    made = profile(rows, dict.fromkeys(map(str, rows.columns), kind))
    for each in (made, made.closed(), made.merged(made).closed()):
        assert Profile.from_json(json.loads(dumped(each))) == each
    assert made.rows == len(rows)


@settings(deadline=None)
@given(frames(), frames())
def test_counts_of_a_merger_are_sums_whatever_the_order(a: pd.DataFrame, b: pd.DataFrame) -> None:
    one, other = profile(a, {}, header=False), profile(b, {}, header=False)
    both, reverse = one.merged(other), other.merged(one)
    assert both.rows == len(a) + len(b)
    assert both.columns.keys() == reverse.columns.keys()
    for name, column in both.columns.items():
        again = reverse.columns[name]
        assert column.rows >= both.rows
        assert (column.nulls, column.seen, column.kinds) == (again.nulls, again.seen, again.kinds)
        assert column.categories == again.categories
        assert column.nulls + column.seen == column.rows
        assert column.numbers == tuple(sorted(column.numbers))


@settings(deadline=None, max_examples=50)
@given(frames(), st.integers(1, 5), st.booleans())
def test_what_equals_its_past_has_not_drifted(
    rows: pd.DataFrame, batches: int, header: bool
) -> None:
    large = pd.concat([rows] * 50, ignore_index=True)
    same = profile(large, {}, header=header).closed()
    history = [Past(f"b{n}", 0, same) for n in range(batches)]
    assert compare(Baseline.of(history), same) == []


@settings(deadline=None, max_examples=50)
@given(frames(), frames())
def test_findings_name_columns_of_either_side_once_a_kind(
    old: pd.DataFrame, new: pd.DataFrame
) -> None:
    before, after = profile(old, {}).closed(), profile(new, {}).closed()
    told = compare(Baseline.of([Past("a", 0, before)]), after, list(before.columns))
    keys = [(each.column, each.kind) for each in told]
    assert len(keys) == len(set(keys))
    assert {name for name, _ in keys} <= before.columns.keys() | after.columns.keys()
    for each in told:
        gone = each.kind in ("missing", "renamed", "retyped")
        assert (each.severity == "break") == gone


@given(st.text(max_size=300))
def test_a_shape_and_a_columns_name_give_no_digit_away(text: str) -> None:
    assert not set(shape(text)) & set("012345678")
    assert len(shape(text)) <= 40
    if "@" in text:
        assert text not in column_name(text) or shape(text) == text


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(200, 3_000), st.floats(0, 1))
def test_nulls_are_counted_exactly(seed: int, rows: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    empty = rng.random(rows) < share
    frame = pd.DataFrame({"x": np.where(empty, "", "7")})
    assert profile(frame, {}).columns["x"].nulls == empty.sum()
