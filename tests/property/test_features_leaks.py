"""No feature knows the future: a sample of the long count, and what it must catch."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import NotReady
from aiqleads.features import behavior
from aiqleads.features.recheck import Recheck, cut_log, logged_moments, recheck
from aiqleads.settings import Settings

HERE = Path(__file__).resolve().parent
MADE = runpy.run_path(str(HERE.parent / "unit" / "features" / "conftest.py"))
LEAKS = runpy.run_path(str(HERE.parent / "soak" / "leak_features.py"))

Frames = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def frames() -> Frames:
    made: Frames = MADE["make_market"]()
    return made


@pytest.fixture(scope="module")
def home(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings: Settings = MADE["write_market"](tmp_path_factory.mktemp("leaks"), frames)
    return settings


def test_no_feature_changes_when_the_future_is_cut_off(home: Settings, tmp_path: Path) -> None:
    spoiled, shares = LEAKS["spoil"](home, "made", tmp_path, 1)
    assert shares["late_share"] >= 0.03
    assert shares["double_share"] >= 0.01
    spine = logged_moments(spoiled, "made", 2, 15, seed=1)
    found = recheck(spoiled, "made", spine)
    assert (found.moments, found.requests, found.rows) == (2, 30, len(spine))
    assert found.leaks == {}


def test_features_that_read_the_future_are_caught_by_their_names(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(line: Any) -> Any:
        view = list(line.windows).index("view")
        return ((line.table.kind == view) & (line.table.edge == 0)).ifelse(1.0, 0.0).sum()

    def lead_views_7d(line: Any) -> Any:
        """Openings, later ones too: nothing bounds them."""
        if line.moment_us is not None:
            return opened(line)
        return opened(line).over(ibis.window(group_by="lead_id"))

    def lead_views_1d(line: Any) -> Any:
        """Openings that had happened, whether anybody knew or not."""
        if line.moment_us is not None:
            return opened(line)
        table = line.table
        moment = (table.edge == -1).ifelse(table.t_us * 2, table.at_us * 2 + 1)
        upto = ibis.range_window(group_by="lead_id", order_by=moment, preceding=None, following=0)
        return opened(line).over(upto)

    planted = {function.__name__: function for function in (lead_views_7d, lead_views_1d)}
    counted = tuple(planted.get(each.__name__, each) for each in behavior.COUNTED)
    monkeypatch.setattr(behavior, "COUNTED", counted)
    done = frames["events/interactions"]
    slow = done["at_market_us"] + 10 * US_PER_DAY
    changed = {**frames, "events/interactions": done.assign(arrived_market_us=slow)}
    settings = MADE["write_market"](tmp_path, changed)
    found = recheck(settings, "made", logged_moments(settings, "made", 1, 30, seed=2))
    derived = {"lead_view_trend", "views_vs_area"}
    assert {"lead_views_7d", "lead_views_1d"} <= set(found.leaks) <= {*planted, *derived}


def test_a_cut_log_holds_what_had_arrived_and_no_more(
    home: Settings, frames: Frames, tmp_path: Path
) -> None:
    as_of = int(frames["events/rankings"]["at_market_us"].median())
    core = cut_log(home, "made", as_of, tmp_path).data / "core" / "made"
    arrivals = {
        "leads": "received_market_us",
        "submissions": "received_market_us",
        "sales": "sold_market_us",
        "events/rankings": "arrived_market_us",
        "events/interactions": "arrived_market_us",
    }
    for name, column in arrivals.items():
        kept, every = pd.read_parquet(core / f"{name}.parquet"), frames[name]
        assert 0 < len(kept) == int((every[column] < as_of).sum()) < len(every), name
        assert (kept[column] < as_of).all()
    known = set(pd.read_parquet(core / "events/rankings.parquet")["request_id"])
    shown = pd.read_parquet(core / "events/impressions.parquet")
    assert set(shown["request_id"]) == known


def test_moments_are_times_of_rankings_and_ask_about_what_they_showed(
    home: Settings, frames: Frames
) -> None:
    spine = logged_moments(home, "made", 3, 10, seed=5)
    assert spine["as_of_us"].nunique() == 3
    assert spine["request_id"].nunique() == 30
    at = frames["events/rankings"].set_index("request_id")["at_market_us"]
    assert spine["as_of_us"].isin(at).all()
    assert (at[spine["request_id"]].to_numpy() <= spine["as_of_us"].to_numpy()).all()
    shown = frames["events/impressions"]
    assert len(spine) == int(shown["request_id"].isin(spine["request_id"]).sum())
    again = logged_moments(home, "made", 3, 10, seed=5)
    pd.testing.assert_frame_equal(spine, again)
    with pytest.raises(NotReady, match="fewer than 100"):
        logged_moments(home, "made", 100, 10, seed=5)


def test_the_long_count_adds_up_and_goes_on_where_it_was(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def one(_settings: Settings, _market: str, spine: pd.DataFrame) -> Recheck:
        asked.append(len(spine))
        moments, requests = spine["as_of_us"].nunique(), spine["request_id"].nunique()
        return Recheck(moments, requests, len(spine), {"agent_tier": 1})

    count = LEAKS["count"]
    monkeypatch.setitem(count.__globals__, "recheck", one)
    monkeypatch.setitem(count.__globals__, "RUN", 5)
    monkeypatch.setitem(count.__globals__, "STEP", 3)
    found = count(home, "made", 40, 1, tmp_path)
    assert (found["moments"], found["requests"], found["ok"]) == (8, 40, False)
    assert found["leaks"] == {"agent_tier": 3}
    assert found["rows"] == sum(asked)
    assert len(asked) == 3
    assert count(home, "made", 40, 1, tmp_path) == found
    assert len(asked) == 3


def test_double_and_late_events_are_added_where_a_log_lacks_them(
    frames: Frames, tmp_path: Path
) -> None:
    done = frames["events/interactions"].drop_duplicates("event_id")
    many = pd.concat([done.assign(event_id=done["event_id"] + f"-{i}") for i in range(20)])
    prompt = many.assign(arrived_market_us=many["at_market_us"])
    settings = MADE["write_market"](tmp_path / "a", {**frames, "events/interactions": prompt})
    spoiled, shares = LEAKS["spoil"](settings, "made", tmp_path / "b", 1)
    assert shares["late_share"] == pytest.approx(0.05, abs=0.03)
    assert shares["double_share"] == pytest.approx(0.02, abs=0.015)
    rows = pd.read_parquet(spoiled.data / "core/made/events/interactions.parquet")
    first = rows.sort_values("arrived_market_us").drop_duplicates("event_id")
    assert set(first["event_id"]) == set(prompt["event_id"])
    assert np.array_equal(
        first.set_index("event_id")["at_market_us"].sort_index(),
        prompt.set_index("event_id")["at_market_us"].sort_index(),
    )
