from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from aiqleads.contracts.schema_drift import Baseline, Finding, Past, Rules, compare, name_likeness
from aiqleads.contracts.schema_profile import (
    Profile,
    about_person,
    column_name,
    dumped,
    profile,
    shape,
)

DAY_US = 86_400_000_000


def feed(seed: int, rows: int = 2_000, day: int = 0) -> pd.DataFrame:
    """A batch of an unchanged feed; batches differ by more than chance."""
    rng = np.random.default_rng(seed)
    level = rng.normal(1, 0.03)
    kinds = rng.choice(["house", "condo", "land"], rows, p=rng.dirichlet([60, 30, 10]))
    price = (rng.lognormal(12, 0.4, rows) * level).round(-2).astype(int)
    made = pd.Timestamp("2026-01-01") + pd.Timedelta(days=day)
    beds = rng.integers(1, 6, rows).astype(str)
    beds[rng.random(rows) < rng.beta(20, 380)] = ""
    return pd.DataFrame(
        {
            "listing id": [f"L{seed:04d}{n:05d}" for n in range(rows)],
            "list_price": price.astype(str),
            "kind": kinds,
            "beds": beds,
            "sold on": (made - pd.to_timedelta(rng.integers(0, 30, rows), "D")).strftime(
                "%Y-%m-%d"
            ),
            "phone": [f"555-{n:04d}" for n in rng.integers(0, 9_999, rows)],
            "lat": rng.normal(41.6, 0.05, rows).round(5).astype(str),
        }
    )


def past(batches: int = 8, rows: int = 2_000) -> list[Past]:
    return [
        Past(f"b{n}", n * DAY_US, profile(feed(n, rows, n), {}).closed()) for n in range(batches)
    ]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return Baseline.of(past())


def found(
    baseline: Baseline, rows: pd.DataFrame, required: tuple[str, ...] = (), day: int = 8
) -> list[Finding]:
    return compare(baseline, profile(rows, {}), required, day * DAY_US)


def kinds(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(each.column, each.kind) for each in findings}


# --- what is told ----------------------------------------------------------------------


def test_an_unchanged_feed_has_nothing_to_tell(baseline: Baseline) -> None:
    assert [found(baseline, feed(seed, day=8)) for seed in range(100, 140)] == [[]] * 40


def test_without_a_baseline_nothing_is_found() -> None:
    assert compare(Baseline.of([]), profile(feed(1), {})) == []


def test_a_tenth_of_one_field_empty_is_told_whatever_the_field(baseline: Baseline) -> None:
    rows = feed(50, day=8)
    for name in rows:
        empty = np.random.default_rng(1).random(len(rows)) < 0.1
        [finding] = found(baseline, rows.assign(**{name: rows[name].mask(empty, "")}))
        assert (finding.column, finding.kind, finding.severity) == (name, "nulls", "warn")
        assert finding.p_value is not None
        assert finding.p_value < 1e-4
        assert "no value, before" in finding.detail


def test_one_batch_is_baseline_enough_for_empty_fields_but_not_for_values() -> None:
    first = Baseline.of(past(1))
    rows = feed(50, day=8)
    assert kinds(found(first, rows.assign(lat=rows["lat"].mask(rows.index % 10 == 0, "")))) == {
        ("lat", "nulls")
    }
    assert found(first, rows.assign(kind="barn"), day=1) == []


@pytest.mark.parametrize("word", ["", "NULL", "n/a", "None", "-"])
def test_words_for_nothing_are_no_values(baseline: Baseline, word: str) -> None:
    rows = feed(50, day=8)
    changed = rows.assign(lat=rows["lat"].mask(rows.index % 8 == 0, word))
    assert kinds(found(baseline, changed)) == {("lat", "nulls")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("list_price", "ListPrice"),
        ("kind", "property_kind"),
        ("sold on", "CloseDate"),
        ("lat", "latitude"),
        ("phone", "phone_number"),
        ("listing id", "ListingKey"),
    ],
)
def test_a_renamed_column_is_named_as_a_rename(baseline: Baseline, old: str, new: str) -> None:
    [finding] = found(baseline, feed(51, day=8).rename(columns={old: new}))
    assert (finding.column, finding.kind, finding.p_value) == (old, "renamed", None)
    assert finding.detail == f"{old} is now called {new}"


def test_two_renamed_columns_are_told_apart(baseline: Baseline) -> None:
    rows = feed(51, day=8).rename(columns={"list_price": "price", "lat": "latitude"})
    details = {each.detail for each in found(baseline, rows)}
    assert details == {"list_price is now called price", "lat is now called latitude"}


def test_a_rename_survives_a_new_order_of_the_columns(baseline: Baseline) -> None:
    rows = feed(51, day=8).rename(columns={"list_price": "price"})
    assert kinds(found(baseline, rows[rows.columns[::-1]])) == {("list_price", "renamed")}


def test_a_gone_column_is_no_rename_of_an_unlike_new_one(baseline: Baseline) -> None:
    rows = feed(52, day=8).drop(columns="list_price").assign(weather="sunny")
    assert kinds(found(baseline, rows)) == {("list_price", "missing"), ("weather", "new")}


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("list_price", lambda text: f"${int(text):,}"),
        ("list_price", lambda text: "about " + text),
        ("sold on", lambda text: text.replace("-", "")),
        ("lat", lambda text: text + " N"),
    ],
)
def test_a_column_of_another_kind_is_retyped(
    baseline: Baseline, column: str, change: Callable[[str], str]
) -> None:
    rows = feed(53, day=8)
    assert kinds(found(baseline, rows.assign(**{column: rows[column].map(change)}))) == {
        (column, "retyped")
    }


def test_cents_for_dollars_is_a_range_and_says_how_many_times(baseline: Baseline) -> None:
    rows = feed(54, day=8)
    [finding] = found(baseline, rows.assign(list_price=rows["list_price"] + "00"))
    assert (finding.column, finding.kind) == ("list_price", "range")
    assert "typically" in finding.detail
    assert "times" in finding.detail


def test_values_that_spread_wider_are_a_range(baseline: Baseline) -> None:
    rows = feed(55, day=8)
    far = (41.6 + 3 * (rows["lat"].astype(float) - 41.6)).round(5).astype(str)
    [finding] = found(baseline, rows.assign(lat=far))
    assert (finding.kind, "times as wide" in finding.detail) == ("range", True)


def test_a_recoded_category_is_told_with_its_word(baseline: Baseline) -> None:
    rows = feed(56, day=8)
    [finding] = found(baseline, rows.assign(kind=rows["kind"].replace("house", "SFR")))
    assert (finding.column, finding.kind) == ("kind", "categories")
    assert "never seen before" in finding.detail or "'house' is 0.0%" in finding.detail


def test_phone_numbers_written_otherwise_are_told_by_their_shape(baseline: Baseline) -> None:
    rows = feed(57, day=8)
    changed = rows.assign(phone=rows["phone"].str.replace("-", " ", regex=False))
    [finding] = found(baseline, changed)
    assert (finding.column, finding.kind) == ("phone", "categories")
    assert "written like" in finding.detail


def test_longer_texts_of_the_same_shape_are_a_range() -> None:
    def notes(seed: int, word: str) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        return pd.DataFrame({"remarks": [word * int(n) for n in rng.integers(3, 9, 800)]})

    history = [Past(f"b{n}", n, profile(notes(n, "ab"), {}).closed()) for n in range(5)]
    [finding] = compare(Baseline.of(history), profile(notes(9, "abcdefgh"), {}))
    assert (finding.kind, finding.detail) == (
        "range",
        "texts of typically 48 characters, before 12",
    )


def test_days_move_on_by_themselves_but_not_by_years(baseline: Baseline) -> None:
    assert found(baseline, feed(58, day=9), day=9) == []
    [finding] = found(baseline, feed(58, day=-900), day=9)
    assert (finding.column, finding.kind) == ("sold on", "range")


def test_a_running_number_and_the_year_are_no_drift() -> None:
    def batch(n: int) -> pd.DataFrame:
        return pd.DataFrame({"number": [str(n * 700 + i) for i in range(700)], "year": "2026"})

    history = [Past(f"b{n}", n, profile(batch(n), {}).closed()) for n in range(6)]
    next_year = batch(6).assign(year="2027")
    assert compare(Baseline.of(history), profile(next_year, {})) == []


def test_a_change_that_the_source_requires_breaks(baseline: Baseline) -> None:
    rows = feed(59, day=8).drop(columns="kind")
    rows["lat"] = rows["lat"].mask(rows.index % 5 == 0, "")
    first, second = found(baseline, rows, ("kind", "lat"))
    assert (first.column, first.kind, first.severity) == ("kind", "missing", "break")
    assert (second.column, second.kind, second.severity) == ("lat", "nulls", "warn")


def test_only_the_header_is_judged_where_there_are_too_few_rows(baseline: Baseline) -> None:
    rows = feed(60, day=8).head(3).assign(kind="barn").drop(columns="lat")
    told = compare(baseline, profile(rows, {}), at_us=8 * DAY_US, statistics=False)
    assert kinds(told) == {("lat", "missing")}


def test_batches_that_differ_much_need_a_larger_change() -> None:
    def nulls(seed: int, share: float) -> Profile:
        rng = np.random.default_rng(seed)
        rows = pd.DataFrame({"a": np.where(rng.random(5_000) < share, "", "x"), "b": "y"})
        return profile(rows, {}).closed()

    calm = [Past(f"b{n}", n, nulls(n, 0.10)) for n in range(10)]
    wild = [Past(f"b{n}", n, nulls(n, share)) for n, share in enumerate([0.02, 0.25] * 5)]
    assert kinds(compare(Baseline.of(calm), nulls(99, 0.2))) == {("a", "nulls")}
    assert compare(Baseline.of(wild), nulls(99, 0.2)) == []


def test_parts_of_a_sorted_batch_say_how_far_parts_may_differ() -> None:
    def part(low: int) -> Profile:
        rng = np.random.default_rng(low)
        return profile(pd.DataFrame({"x": rng.normal(low, 1, 1_000).astype(str)}), {}).closed()

    history = [Past(f"b{n}", n, part(low)) for n in range(4) for low in (0, 5, 10, 15)]
    assert compare(Baseline.of(history), part(14)) == []
    assert kinds(compare(Baseline.of(history), part(90_000))) == {("x", "range")}


# --- the baseline ----------------------------------------------------------------------


def test_a_drifted_part_is_no_baseline_for_its_column_only() -> None:
    history = past(6)
    odd = profile(feed(9, day=6).assign(kind="barn"), {}).closed()
    history.append(Past("odd", 6 * DAY_US, odd, drifted=frozenset({"kind"})))
    baseline = Baseline.of(history)
    assert found(baseline, feed(70, day=7), day=7) == []
    assert ("kind", "categories") in kinds(found(baseline, feed(70).assign(kind="barn"), day=7))


def test_a_restart_makes_a_lasting_change_normal() -> None:
    history = past(6)
    barns = profile(feed(9, day=6).assign(kind="barn"), {}).closed()
    history.append(Past("odd", 6 * DAY_US, barns, restarts=frozenset({"kind"})))
    baseline = Baseline.of(history)
    assert found(baseline, feed(70, day=7).assign(kind="barn"), day=7) == []


def test_a_column_gone_for_good_is_not_missed_again() -> None:
    history = past(6)
    less = profile(feed(9, day=6).drop(columns="lat"), {}).closed()
    history.append(Past("less", 6 * DAY_US, less, restarts=frozenset({"lat"})))
    assert found(Baseline.of(history), feed(70, day=7).drop(columns="lat"), day=7) == []


def test_a_column_that_comes_and_goes_is_not_missing() -> None:
    history = past(6)
    for n in (1, 3):
        less = profile(feed(n, day=n).drop(columns="lat"), {}).closed()
        history[n] = Past(f"b{n}", n * DAY_US, less)
    assert found(Baseline.of(history), feed(70, day=7).drop(columns="lat"), day=7) == []


def test_a_rare_field_of_a_tree_is_neither_missing_nor_new() -> None:
    def records(seed: int, rare: bool) -> Profile:
        rng = np.random.default_rng(seed)
        rows = pd.DataFrame({"id": rng.random(600), "often": rng.random(600)})
        if rare:
            rows["rare"] = pd.Series([1.0] * 4).reindex(rows.index)
        return profile(rows, {}, header=False).closed()

    history = [Past(f"b{n}", n, records(n, n % 2 == 0)) for n in range(6)]
    assert compare(Baseline.of(history), records(8, rare=False)) == []
    plain = [Past(f"b{n}", n, records(n, rare=False)) for n in range(6)]
    assert compare(Baseline.of(plain), records(8, rare=True)) == []
    gone = records(9, rare=False)
    gone = Profile(gone.rows, False, {k: v for k, v in gone.columns.items() if k != "often"})
    assert kinds(compare(Baseline.of(plain), gone)) == {("often", "missing")}


def test_looser_rules_tell_less(baseline: Baseline) -> None:
    rows = feed(61, day=8)
    changed = rows.assign(lat=rows["lat"].mask(rows.index % 10 == 0, ""))
    assert found(Baseline.of(past(), Rules(nulls=0.2)), changed) == []
    assert found(baseline, changed) != []


# --- profiles ----------------------------------------------------------------------------


def test_a_profile_survives_json(baseline: Baseline) -> None:
    for made in (profile(feed(1), {}), profile(feed(1), {}).closed(), profile(feed(1)[:0], {})):
        assert Profile.from_json(json.loads(dumped(made))) == made


def test_a_profile_holds_nothing_of_a_person() -> None:
    rows = pd.DataFrame(
        {
            "full_name": ["Ada Example", "Bob Sample"] * 300,
            "e-mail": ["ada@example.com", "bob@example.com"] * 300,
            "call me": ["(419) 555-0101", "(419) 555-0102"] * 300,
            "mobile": [4195550101, 4195550102] * 300,
            "other": ["carol@example.com"] * 300 + ["dora@example.com"] * 300,
            "budget": [437_219 + 97 * n for n in range(600)],
            "code": [f"AB{n % 7:05d}" for n in range(600)],
        }
    )
    made = profile(rows, {}).closed()
    text = dumped(made)
    for told in ("Ada", "Sample", "example", "0101", "41955", "437219", "AB0000"):
        assert told not in text
    for name in ("full_name", "e-mail", "call me", "mobile", "other"):
        assert made.columns[name].categories is None
        assert made.columns[name].numbers == ()
    assert made.columns["call me"].shapes == {"(999) 999-9999": 600}


def test_words_are_kept_only_where_few_common_and_short() -> None:
    rows = pd.DataFrame(
        {
            "kind": ["house"] * 90 + ["a rare one"] * 4 + ["x" * 30] * 6,
            "agent": ["Ada"] * 100,
            "plan": [f"plan {n % 50}" for n in range(100)],
        }
    )
    made = profile(rows, {}).closed()
    assert list(made.columns["kind"].words.values()) == ["house"]
    assert sorted((made.columns["kind"].categories or {}).values()) == [6, 90]
    assert made.columns["agent"].words == {}
    assert made.columns["plan"].words == {}


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("price", "price"),
        ("2024-05-31", "9999-99-99"),
        ("May 2024", "a 9999"),
        ("Ada Example ada@example.com", "a a@a.a"),
    ],
)
def test_a_header_that_is_a_value_or_a_period_is_known_by_its_shape(
    name: str, known_as: str
) -> None:
    assert column_name(name).startswith(known_as)
    assert "Ada" not in column_name(name)


def test_next_months_column_of_a_wide_table_is_not_new() -> None:
    def wide(last: int) -> Profile:
        rng = np.random.default_rng(last)
        months = pd.period_range("2020-01", periods=last, freq="M").strftime("%Y-%m-%d")
        rows = {month: rng.normal(1_500, 80, 200).round(2).astype(str) for month in months}
        return profile(pd.DataFrame({"RegionID": np.arange(200).astype(str), **rows}), {}).closed()

    history = [Past(f"b{n}", n, wide(30 + n)) for n in range(4)]
    assert compare(Baseline.of(history), wide(34)) == []


@pytest.mark.parametrize(
    ("values", "kind", "typical"),
    [
        (["1", "2", "3"], "number", 2),
        ([".5", "1e0", "2."], "number", 1),
        (["$1.5K", "$ 1,600", "2K"], "amount", 1_600),
        (["1,000", "2,000", "3,500"], "amount", 2_000),
        (["2026-01-02", "2026-01-03", "2026-01-04T05:06:07Z"], "date", 20_456),
        (["1/2/2026", "1/3/2026", "x/4/2026"], "date", 20_456),
        (["January-31-2020", "February-1-2020", "March-2-2020"], "date", 18_293),
        (["February 2012", "March 2012", "April 2012"], "date", 15_400),
        (["2026-01", "2026-02", "2026-03"], "date", 20_485),
        ([True, False, True], "flag", None),
        ([1, 2.5, 3], "number", 2.5),
        ([datetime(2026, 1, 2), datetime(2026, 1, 3), datetime(2026, 1, 4)], "date", 20_456),
        (["a", "b", "c"], "text", None),
    ],
)
def test_kinds_of_values(values: list[object], kind: str, typical: float | None) -> None:
    column = profile(pd.DataFrame({"x": pd.Series(values)}), {}).columns["x"]
    assert max(column.kinds, key=lambda each: column.kinds[each]) == kind
    assert (column.numbers[16] if column.numbers else None) == typical


@pytest.mark.parametrize(
    ("text", "day"),
    [("930104", 8_404), ("20260103", 20_456), ("1767398400", 20_456), ("1767398400000", 20_456)],
)
def test_days_written_as_whole_numbers_are_what_their_source_says(text: str, day: int) -> None:
    rows = pd.DataFrame({"d": [text] * 30})
    assert profile(rows, {"d": "date"}).columns["d"].numbers[0] == day
    assert profile(rows, {}).columns["d"].numbers[0] == float(text)


def test_typed_columns_are_profiled_like_texts() -> None:
    rows = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "f": [1.5, np.nan, 2.5],
            "b": [True, False, True],
            "t": pd.to_datetime(["2026-01-02", None, "2026-01-04"]),
            "c": pd.Categorical(["x", None, "y"]),
            "o": [None, "x", b"y"],
        }
    )
    made = profile(rows, {}).columns
    assert {name: column.nulls for name, column in made.items()} == {
        "n": 1, "f": 1, "b": 0, "t": 1, "c": 1, "o": 1,
    }  # fmt: skip
    assert {name: next(iter(column.kinds)) for name, column in made.items()} == {
        "n": "number", "f": "number", "b": "flag", "t": "date", "c": "text", "o": "text",
    }  # fmt: skip


def test_shapes_tell_digits_and_words_and_nothing_else() -> None:
    assert shape("12 Main Street") == "99 a a"
    assert shape("43604-1234") == "99999-9999"
    assert shape("4195550101") == "9+"
    assert shape("Zoë ✓") == "a ?"


def test_columns_about_persons_are_known_by_name() -> None:
    for name in ("First Name", "email", "PhoneNumber", "street_address", "Tel.", "client ip"):
        assert about_person(name)
    for name in ("list_price", "hotel stars", "zip", "beds", "cellar"):
        assert not about_person(name)


def test_names_are_alike_whatever_their_case_and_marks() -> None:
    assert name_likeness("ListPrice", "list_price") == 1.0
    assert name_likeness("price", "sale_price") > 0.8 > 0.5 > name_likeness("price", "weather")
    assert name_likeness("№", "№") == 1.0
