"""Windows on two clocks against a count that walks through every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import h3
import ibis
import ibis.expr.types as ir
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.features.tables import parent_cell
from aiqleads.features.timeline import (
    EVER,
    Fade,
    Timeline,
    at_moment,
    faded_weight,
    first_of_each,
    known,
    presence,
    recalled,
    squares,
    timeline,
    worth_laying,
)

BRISK, SLOW = Fade(0.5, 2), Fade(2.0, 3)
WINDOWS = {
    "view": (EVER, 1, 3, BRISK, SLOW),
    "hold": (3, SLOW),
    "viewer": (EVER,),
    "active": (2,),
    "crowd": (EVER,),
}
SCHEMA = {"key": "string", "who": "string", "kind": "string", "at": "int64", "arrived": "int64"}

# Half days, so that edges, questions and events often fall on the same microsecond.
half_days = st.integers(0, 12).map(lambda n: n * US_PER_DAY // 2)
event = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from("xyz"),
    st.sampled_from(["view", "hold"]),
    half_days,
    st.one_of(st.just(0), st.integers(0, 9).map(lambda n: n * US_PER_DAY // 2)),
)
question = st.tuples(st.sampled_from("ab"), half_days.map(lambda us: us + US_PER_DAY))
Event = tuple[str, str, str, int, int]


def views(line: Timeline) -> Any:
    return line.count("view")


def views_1d(line: Timeline) -> Any:
    return line.count("view", days=1)


def both_3d(line: Timeline) -> Any:
    return line.count("view", "hold", days=3)


def worth_3d(line: Timeline) -> Any:
    return line.total("worth", "view", "hold", days=3)


def since(line: Timeline) -> Any:
    return line.hours_since("view")


def since_3d(line: Timeline) -> Any:
    return line.hours_since("view", "hold", days=3)


def viewers(line: Timeline) -> Any:
    return line.count("viewer")


def active_2d(line: Timeline) -> Any:
    return line.count("active", days=2)


def crowd_2d(line: Timeline) -> Any:
    return line.total("steps", "crowd")


def views_faded(line: Timeline) -> Any:
    return line.faded("", "view", fade=BRISK)


def worth_faded(line: Timeline) -> Any:
    return line.faded("worth", "view", "hold", fade=SLOW)


ASKED = (
    views,
    views_1d,
    both_3d,
    worth_3d,
    since,
    since_3d,
    viewers,
    active_2d,
    crowd_2d,
    views_faded,
    worth_faded,
)
#: what the rounding of an event's weight may move a faded sum by, a thousandth of an event
_ROUNDED = 0.05


def _told(events: list[Event], key: str, as_of: int, days: float, kinds: str) -> list[Event]:
    """Events that had arrived before `as_of` and happened in [as_of - days, as_of)."""
    return [
        e
        for e in events
        if e[0] == key
        and e[2] in kinds.split()
        and e[3] + e[4] < as_of
        and as_of - days * US_PER_DAY <= e[3] < as_of
    ]


def _reference(events: list[Event], key: str, as_of: int) -> dict[str, float | None]:
    def told(days: float, kinds: str = "view hold") -> list[Event]:
        return _told(events, key, as_of, days, kinds)

    def hours(found: list[Event]) -> float | None:
        return (as_of - max(e[3] for e in found)) / 3.6e9 if found else None

    def faded(fade: Fade, kinds: str, worth: Callable[[Event], float]) -> float:
        return sum(
            worth(e) * 2.0 ** (-(as_of - e[3]) / US_PER_DAY / fade.half_life)
            for e in told(fade.days, kinds)
        )

    return {
        "crowd_2d": sum(n * n for n in Counter(e[1] for e in told(2)).values()),
        "views_faded": faded(BRISK, "view", lambda _: 1.0),
        "worth_faded": faded(SLOW, "view hold", lambda e: 2.0 if e[2] == "hold" else 1.0),
        "views": len(told(1e6, "view")),
        "views_1d": len(told(1, "view")),
        "both_3d": len(told(3)),
        "worth_3d": sum(2 if e[2] == "hold" else 1 for e in told(3)),
        "since": hours(told(1e6, "view")),
        "since_3d": hours(told(3)),
        "viewers": len({e[1] for e in told(1e6, "view")}),
        "active_2d": len({e[1] for e in told(2)}),
    }


#: the moment of questions that are all of one
MOMENT = 5 * US_PER_DAY
Answer = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def answer() -> Answer:
    """Asks a log; the query is made once, for only the rows differ between examples."""
    engine = ibis.duckdb.connect(threads=1)
    log = engine.create_table("log", schema=ibis.schema(SCHEMA))
    asked = engine.create_table("asked", schema=ibis.schema({"key": "string", "as_of_us": "int64"}))
    queries = {moment: ibis.to_sql(_answers(log, asked, moment)) for moment in (False, True)}

    def ask(
        events: list[Event], questions: list[tuple[str, int]], moment: bool = False
    ) -> pd.DataFrame:
        for name, rows in (
            ("log", [(key, who, kind, at, at + late) for key, who, kind, at, late in events]),
            ("asked", questions),
        ):
            engine.con.execute(f"DELETE FROM {name}")
            marks = ", ".join("?" * (5 if name == "log" else 2))
            for row in rows:
                engine.con.execute(f"INSERT INTO {name} VALUES ({marks})", row)
        return engine.con.execute(queries[moment]).df()

    return ask


def _answers(log: ir.Table, asked: ir.Table, moment: bool) -> ir.Table:
    log = known(log, "at", "arrived")
    log = log.mutate(worth=(log.kind == "hold").ifelse(2.0, 1.0), steps=ibis.literal(0.0))
    parts = (
        first_of_each(log.filter(log.kind == "view"), ["key"], "who", "viewer"),
        presence(log, ["key"], "who", "active", 2),
        squares(log, ["key"], "who", "crowd", 2),
        log,
    )
    columns = ["key", "kind", "at_us", "known_us", "worth", "steps"]
    none = {"worth": ibis.literal(0.0), "steps": ibis.literal(0.0)}
    every = ibis.union(
        *[
            part.mutate(**{name: zero for name, zero in none.items() if name not in part.columns})[
                columns
            ]
            for part in parts
        ]
    )
    laid = worth_laying(every, asked, ["key"], WINDOWS)
    if moment:
        return at_moment(laid, asked, ["key"], WINDOWS, MOMENT).answers(ASKED)
    return timeline(laid, asked, ["key"], WINDOWS).answers(ASKED)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(event, max_size=25), questions=st.sets(question, min_size=1, max_size=6))
def test_every_window_is_what_a_walk_through_the_events_counts(
    answer: Answer, events: list[Event], questions: set[tuple[str, int]]
) -> None:
    found = answer(events, sorted(questions)).set_index(["key", "as_of_us"])
    assert len(found) == len(questions)
    for key, as_of in questions:
        row = found.loc[(key, as_of)]
        for name, value in _reference(events, key, as_of).items():
            if value is None:
                assert pd.isna(row[name]), name
            elif name.endswith("_faded"):
                assert row[name] == pytest.approx(value, abs=_ROUNDED), name
            else:
                assert row[name] == value, name


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(event, max_size=25), questions=st.sets(question, min_size=2, max_size=6))
def test_one_question_alone_gets_the_answer_that_it_gets_among_others(
    answer: Answer, events: list[Event], questions: set[tuple[str, int]]
) -> None:
    together = answer(events, sorted(questions)).set_index(["key", "as_of_us"]).sort_index()
    one = min(questions, key=lambda asked: (asked[1], asked[0]))
    alone = answer(events, [one]).set_index(["key", "as_of_us"])
    pd.testing.assert_series_equal(together.loc[one], alone.loc[one], check_names=False)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(event, max_size=25))
def test_the_sums_of_one_moment_have_the_bits_of_the_line(
    answer: Answer, events: list[Event]
) -> None:
    questions = [("a", MOMENT), ("b", MOMENT), ("nobody", MOMENT)]
    line = answer(events, questions).sort_values("key", ignore_index=True)
    sums = answer(events, questions, True).sort_values("key", ignore_index=True)
    pd.testing.assert_frame_equal(line, sums, check_exact=True)


@settings(max_examples=15, deadline=None)
@given(events=st.lists(event, max_size=25), questions=st.sets(question, min_size=1, max_size=6))
def test_recalling_finds_what_a_walk_finds(
    events: list[Event], questions: set[tuple[str, int]]
) -> None:
    rows = [(key, who, kind, at, at + late) for key, who, kind, at, late in events]
    log = ibis.memtable(pd.DataFrame(rows, columns=list(SCHEMA)), schema=SCHEMA)
    spine = pd.DataFrame(sorted(questions), columns=["key", "as_of_us"])
    asked = ibis.memtable(spine, schema={"key": "string", "as_of_us": "int64"})
    recent = recalled(known(log, "at", "arrived"), asked, ["key"], 3)
    found = recent.mutate(weight=faded_weight(recent, 2.0)).to_pandas()
    for key, as_of in questions:
        mine = found[(found["key"] == key) & (found["as_of_us"] == as_of)]
        told = _told(events, key, as_of, 3, "view hold")
        assert sorted(mine["at_us"]) == sorted(e[3] for e in told)
        ages = (as_of - mine["at_us"]) / US_PER_DAY
        assert mine["weight"].tolist() == pytest.approx((2.0 ** (-ages / 2.0)).tolist())


@settings(max_examples=50, deadline=None)
@given(lat=st.floats(-80, 80), lng=st.floats(-179, 179), resolution=st.integers(0, 9))
def test_a_parent_by_bits_is_the_librarys(lat: float, lng: float, resolution: int) -> None:
    cell = h3.latlng_to_cell(lat, lng, 10)
    parent = parent_cell(ibis.literal(h3.str_to_int(cell), "int64"), resolution)
    assert parent.execute() == h3.str_to_int(h3.cell_to_parent(cell, resolution))


def test_a_window_that_was_not_laid_out_is_refused() -> None:
    log = ibis.memtable(pd.DataFrame(columns=list(SCHEMA)), schema=SCHEMA)
    spine = ibis.memtable([], schema={"key": "string", "as_of_us": "int64"})
    events = known(log, "at", "arrived").select("key", "kind", "at_us", "known_us")
    line = timeline(events, spine, ["key"], {"view": (3,)})
    with pytest.raises(InvalidInput, match="'view' is not laid out for a window of 7 days"):
        line.count("view", days=7)
    with pytest.raises(InvalidInput, match="'hold'"):
        line.count("hold", days=3)
    with pytest.raises(InvalidInput, match="half_life"):
        line.faded("", "view", fade=Fade(1.0, 3))
