"""Served rankings and their past: the same features as serving, and nothing uncounted."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import NotReady
from aiqleads.ingest.market import Market, remember_market
from aiqleads.monitoring.drift import ITEM_COLUMNS, judge
from aiqleads.monitoring.figures import verdict_figure
from aiqleads.monitoring.rankings import (
    importance_of,
    reference_rankings,
    served_rankings,
    weekly_clocks,
)
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.candidates import Filters
from aiqleads.recommend.publish import publish
from aiqleads.recommend.recommend import feature_matrix, recommend
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings
from aiqleads.store.journal import Journal

SERVED_AT_US = 1_700_000_000_000_000


def _line(snapshot: Snapshot, scorer: Scorer, agent_id: str, **other: Any) -> dict[str, Any]:
    """A line of the journal as the service writes it."""
    clock = snapshot.manifest.as_of_market_us
    ranking = recommend(snapshot, scorer, lambda ids: set(), agent_id, 8, Filters(), clock)
    return {
        "request_id": f"r-{agent_id}",
        "agent_id": agent_id,
        "at_us": SERVED_AT_US,
        "at_market_us": clock,
        "model_version": scorer.version,
        "snapshot_version": snapshot.version,
        "filters": {},
        "items": [
            {"lead_id": item.lead_id, "position": item.position, "score": item.score}
            for item in ranking.items
        ],
        **other,
    }


def _serve(settings: Settings, *lines: dict[str, Any]) -> None:
    journal = Journal(settings.data / "journal", SERVED_AT_US)
    for line in lines:
        journal.append(line, line["at_us"])
    journal.close()


def test_served_features_are_those_of_the_snapshot(served: Settings) -> None:
    scorer, snapshot = Scorer.load(served.home / "scorer"), Snapshot.load(served)
    _serve(served, *(_line(snapshot, scorer, f"A000{i}") for i in (1, 2)))
    found = served_rankings(served, "testville", scorer)
    assert (found.rankings, found.left_out) == (2, {})
    assert set(found.items.columns) == {*ITEM_COLUMNS, *snapshot.manifest.features}
    mine = found.items[found.items["agent_id"] == "A0002"]
    rows = np.array([snapshot.lead_row(lead_id) for lead_id in mine["lead_id"]])
    expected = feature_matrix(snapshot, snapshot.agent("A0002"), rows)
    np.testing.assert_array_equal(mine[list(snapshot.manifest.features)].to_numpy(), expected)
    np.testing.assert_array_equal(mine["score"], scorer.score(expected))


def test_what_cannot_be_compared_is_left_out_and_counted(served: Settings) -> None:
    scorer, snapshot = Scorer.load(served.home / "scorer"), Snapshot.load(served)
    others = (
        {"snapshot_version": "testville-gone"},
        {"model_version": "another"},
        {"filters": {"intent": "sell"}},
        {"items": []},
    )
    _serve(served, *(_line(snapshot, scorer, "A0001", **other) for other in others))
    found = served_rankings(served, "testville", scorer)
    assert found.items.empty
    assert found.rankings == 0
    assert sorted(found.left_out) == [
        "another model",
        "empty",
        "filtered by the agent",
        "snapshot is gone",
    ]
    assert served_rankings(served, "elsewhere", scorer).left_out["another market"] == 3


def test_the_window_holds_its_start_and_not_its_end(served: Settings) -> None:
    scorer, snapshot = Scorer.load(served.home / "scorer"), Snapshot.load(served)
    times = [SERVED_AT_US + i for i in range(4)]
    _serve(served, *(_line(snapshot, scorer, "A0001", at_us=at) for at in times))
    count = served_rankings(served, "testville", scorer, times[1], times[3]).rankings
    assert count == 2
    assert served_rankings(served, "testville", scorer, times[1]).rankings == 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, int]:
    """A made-up market of four months with its clock at the end of the third."""
    helpers = Path(__file__).resolve().parents[1] / "features" / "conftest.py"
    build = runpy.run_path(str(helpers))
    frames = build["make_market"]()
    frames["leads"] = frames["leads"].assign(property_type="house", baths=1.0, invented="contact")
    settings: Settings = build["write_market"](tmp_path_factory.mktemp("past"), frames)
    market = Market.model_validate(
        {
            "name": "made",
            "title": "Made up",
            "timezone": "America/New_York",
            "sales": {
                "columns": {"price": "p", "lon": "x", "lat": "y", "sold": "s"},
                "date_format": "%Y",
            },
        }
    )
    remember_market(settings, market)
    return settings, int(build["START_US"]) + 90 * US_PER_DAY


@pytest.fixture(scope="module")
def scorer(serving_world: dict[str, Any]) -> Scorer:
    """A tiny ranker over the catalogue's features."""
    made: Scorer = serving_world["make_scorer"]()
    return made


def test_weekly_clocks_end_a_week_before(made: tuple[Settings, int]) -> None:
    clocks = weekly_clocks(made[1], 3)
    assert clocks == sorted(clocks)
    assert np.diff([*clocks, made[1]]).tolist() == [7 * US_PER_DAY] * 3


def test_the_past_is_what_a_snapshot_of_then_would_have_served(
    made: tuple[Settings, int], scorer: Scorer, tmp_path: Path
) -> None:
    settings, clock = made
    past = reference_rankings(settings, "made", scorer, [clock - US_PER_DAY, clock], k=5)
    assert set(past.columns) == {*ITEM_COLUMNS, *scorer.features}
    publish(settings, "made", clock)
    snapshot = Snapshot.load(settings)
    for agent_id in past["agent_id"].unique()[:4]:
        mine = past[(past["agent_id"] == agent_id) & (past["clock_us"] == clock)]
        served = recommend(snapshot, scorer, lambda ids: set(), agent_id, 5, Filters(), clock)
        assert mine["lead_id"].tolist() == [item.lead_id for item in served.items]
        assert mine["score"].tolist() == [item.score for item in served.items]
        rows = np.array([item.row for item in served.items])
        features = feature_matrix(snapshot, snapshot.agent(agent_id), rows)
        np.testing.assert_array_equal(mine[list(scorer.features)].to_numpy(), features)


def test_only_the_agents_asked_for_are_replayed(made: tuple[Settings, int], scorer: Scorer) -> None:
    settings, clock = made
    seen: list[int] = []
    past = reference_rankings(
        settings,
        "made",
        scorer,
        [clock, 0],
        agents=_two(settings),
        progress=lambda clocks: seen.extend(clocks) or clocks,
    )
    assert set(past["agent_id"]) == set(_two(settings))
    assert seen == [clock]  # nothing was on offer at the other


def _two(settings: Settings) -> list[str]:
    agents = pd.read_parquet(settings.data / "core" / "made" / "agents.parquet")
    return agents["agent_id"].sort_values().tolist()[:2]


def test_a_past_without_leads_is_not_ready(made: tuple[Settings, int], scorer: Scorer) -> None:
    with pytest.raises(NotReady, match="nothing on offer"):
        reference_rankings(made[0], "made", scorer, [0])


def test_importances_are_the_rankers_own(scorer: Scorer) -> None:
    weights = importance_of(scorer)
    assert tuple(weights) == scorer.features
    assert sum(weights.values()) == pytest.approx(100)


def test_the_figure_shows_the_verdict(made: tuple[Settings, int], scorer: Scorer) -> None:
    settings, clock = made
    items = reference_rankings(settings, "made", scorer, weekly_clocks(clock + 1, 9), k=4)
    newest = items["clock_us"] == items["clock_us"].max()
    verdict = judge(items[~newest], items[newest], importance_of(scorer))
    figure = verdict_figure(items[~newest], items[newest], verdict)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_xlim() == (0, 1)
    assert ": q = " in figure.axes[1].get_title()
