"""The closed loop on a small invented market: physically in time, paired, counted right."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.features.build import build_training_frame
from aiqleads.geo import grid, utm
from aiqleads.ingest.market import Market
from aiqleads.market_loop.arms import Arm, Drawing, Learned, PopularLately, popular_lately
from aiqleads.market_loop.figures import Witness, gini, report
from aiqleads.market_loop.loop import Rhythm, keenness, run_arm
from aiqleads.market_loop.stage import Stage, learned, prepare, windows, write_arrived
from aiqleads.market_sim.log import Kind
from aiqleads.market_sim.oracle_rankers import DynamicOracle
from aiqleads.ranking.dataset import features_path
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings

CRS = "EPSG:32617"
FIRST = dt.date(2001, 1, 1)
START = dt.date(2001, 2, 12)
DAYS = 3


def made_market() -> Market:
    return Market.model_validate(
        {
            "name": "made", "title": "Made up", "timezone": "America/New_York", "crs": CRS,
            "currency": "USD", "clock": "wall",
            "sales": {
                "columns": {"price": "p", "lon": "x", "lat": "y", "sold": "d"},
                "date_format": "%Y-%m-%d",
            },
        }
    )  # fmt: skip


def places(count: int, rng: np.random.Generator) -> dict[str, Any]:
    lon = -83.6 + 0.03 * rng.normal(size=count)
    lat = 41.6 + 0.02 * rng.normal(size=count)
    x, y = utm.project(lon, lat, CRS)
    cell = grid.cells(lon, lat)
    return {"lon": lon, "lat": lat, "cell": cell, "utm_x_m": x, "utm_y_m": y, "region": "r"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Forty agents who have been asking for a fortnight."""
    market, rng = made_market(), np.random.default_rng(6)
    settings = Settings(home=tmp_path_factory.mktemp("made"))
    core = settings.data / "core" / "made"
    core.mkdir(parents=True)
    first = market.midnight_us(FIRST)
    count = 900
    area = rng.uniform(700, 3000, count)
    received = first + (rng.random(count) * 60 * US_PER_DAY).astype(np.int64)
    pd.DataFrame(
        {
            "lead_id": [f"L{n:04d}" for n in range(count)],
            "intent": np.where(rng.random(count) < 0.25, "buy", "sell"),
            "property_type": "house",
            "received_market_us": received,
            "expires_market_us": received + 30 * US_PER_DAY,
            "ask_price_cents": (area * 6000).astype(np.int64),
            "beds": rng.integers(1, 6, count).astype(float),
            "baths": 1.5,
            "living_area_sqft": area,
            "lot_area_sqft": 5_000.0,
            "year_built": 1950.0,
            "max_buyers": rng.choice([1, 2, 3], count),
            "submissions": 1,
            "quality": rng.uniform(0.6, 1.0, count),
            "invented": "all",
            **places(count, rng),
        }
    ).to_parquet(core / "leads.parquet")
    pd.DataFrame(
        {
            "sale_id": [f"S{n}" for n in range(300)],
            "sold_market_us": pd.array(first - rng.integers(-50, 300, 300) * US_PER_DAY, "Int64"),
            "price_cents": rng.integers(4_000_000, 30_000_000, 300),
            "living_area_sqft": rng.uniform(700, 3000, 300),
            **places(300, rng),
        }
    ).to_parquet(core / "sales.parquet")
    return prepare(
        settings, market, "exhausted_supply", agents=40, seed=3,
        home=tmp_path_factory.mktemp("loop"), history_days=14, days=DAYS, start=START,
    )  # fmt: skip


def test_history_ends_where_the_loop_begins(stage: Stage) -> None:
    at = stage.known.rows["at_market_us"]
    assert at.max() < stage.start_us
    assert at.min() >= stage.start_us - 15 * US_PER_DAY
    assert (stage.known.rows["label"] == 3).any()
    assert stage.play.next_request < len(stage.requests)


def test_nothing_of_the_future_is_in_the_files(stage: Stage) -> None:
    core = stage.settings.data / "core" / "made"
    until = stage.start_us - 3 * US_PER_DAY
    write_arrived(stage, stage.play, until)
    try:
        for name, columns in {
            "leads": ["received_market_us"],
            "sales": ["sold_market_us"],
            "events/rankings": ["at_market_us", "arrived_market_us"],
            "events/interactions": ["at_market_us", "arrived_market_us"],
        }.items():
            frame = pd.read_parquet(core / f"{name}.parquet", columns=columns)
            assert len(frame)
            assert (frame < until).all().all(), name
        shown = pd.read_parquet(core / "events" / "impressions.parquet")
        asked = pd.read_parquet(core / "events" / "rankings.parquet")
        assert set(shown.request_id) == set(asked.request_id)
    finally:
        write_arrived(stage, stage.play, stage.start_us)


def test_an_arm_leaves_the_stage_as_it_was_and_earns_the_same_again(stage: Stage) -> None:
    steps, answered = len(stage.play.log.steps), len(stage.play.log.slates)
    arm = Arm("dynamic oracle", "oracle")
    first, second = run_arm(stage, arm), run_arm(stage, arm)
    assert (len(stage.play.log.steps), len(stage.play.log.slates)) == (steps, answered)
    assert first.revenue_by_day == second.revenue_by_day
    assert first.regret_by_day == second.regret_by_day
    assert first.revenue_usd == pytest.approx(sum(first.revenue_by_day))
    assert first.unbuyable == 0
    assert len(first.revenue_by_day) == len(first.regret_by_day) == DAYS


def test_figures_are_those_of_the_log(stage: Stage) -> None:
    play = stage.fresh()
    play.ranker = DynamicOracle(play, until_us=stage.end_us)
    play.run_until(stage.end_us)
    kept = [
        look.fee_cents
        for at, kind, look in play.log.steps
        if kind is Kind.PURCHASE and at >= stage.start_us and not look.would_return
    ]
    report = run_arm(stage, Arm("dynamic oracle", "oracle"))
    assert report.revenue_usd == pytest.approx(sum(kept) / 100)
    # A sum of so few purchases strays from its mean by a few times the root of its squares.
    luck = 4.0 * sum((fee / 100) ** 2 for fee in kept) ** 0.5
    assert report.expected_usd == pytest.approx(report.revenue_usd, abs=luck)
    assert report.purchases - report.returned == len(kept) > 0


def test_a_re_ranked_arm_publishes_sells_and_learns(stage: Stage) -> None:
    fitted: list[tuple[int, int]] = []
    judged: list[int] = []

    class Judged(PopularLately):
        def score(self, X: Any) -> Any:
            judged.append(len(X))
            return super().score(X)

    def learn(train: Any, validate: Any) -> Learned:
        assert train.at_market_us.max() < validate.at_market_us.min()
        fitted.append((len(train), len(validate)))
        return Learned(PopularLately(), Judged())

    rhythm = Rhythm(retrain_days=2, validate_days=5, drawing=Drawing(0.5, 1.0))
    report = run_arm(stage, Arm("popular", "re-ranked", learn), rhythm)
    assert report.publications == DAYS
    assert report.trainings == len(fitted) == 2
    assert sum(fitted[1]) > sum(fitted[0]), "its own rankings are learned from"
    assert judged == [validate for _, validate in fitted], "chances are read off honest scores"
    assert report.impressions > 0
    assert report.unbuyable == 0
    assert 0.2 < report.drawn < 0.8
    assert 0 <= report.exposure_gini < 1
    assert all(0 <= regret <= 1 for regret in report.regret_by_day)
    snapshot = Snapshot.load(stage.settings)
    assert snapshot.manifest.as_of_market_us == stage.start_us + (DAYS - 1) * US_PER_DAY
    assert snapshot.manifest.allocation is not None
    assert snapshot.manifest.allocation.model_version == "popular-lately"
    write_arrived(stage, stage.play, stage.start_us)


def test_what_is_learned_step_by_step_is_what_a_whole_build_gives(stage: Stage) -> None:
    play = stage.fresh()
    play.run_until(stage.start_us + 2 * US_PER_DAY)
    until = stage.start_us + 2 * US_PER_DAY
    write_arrived(stage, play, until)
    try:
        known = learned(stage, stage.known, until)
        build_training_frame(stage.settings, "made")
        whole = pd.read_parquet(features_path(stage.settings, "made"))
    finally:
        write_arrived(stage, stage.play, stage.start_us)
    keys = ["at_market_us", "request_id", "position"]
    rows = known.rows.sort_values(keys, ignore_index=True)
    assert len(rows) > len(stage.known.rows)
    pd.testing.assert_frame_equal(rows, whole.sort_values(keys, ignore_index=True)[rows.columns])
    train, validate = windows(known, 5)
    assert validate.at_market_us.min() >= until - 5 * US_PER_DAY
    assert train.at_market_us.max() < until - 6 * US_PER_DAY


def test_an_agent_who_buys_more_than_foretold_is_keen() -> None:
    who = pd.Series(["a"] * 50 + ["b"] * 50)
    bought = np.r_[np.ones(10), np.zeros(90)].astype(bool)
    keen = keenness(who, np.full(100, 0.1), bought)
    assert keen["a"] > 1.5 > 1 > keen["b"] > 0.3
    assert keenness(who, np.zeros(100), np.zeros(100, bool)) == {"a": 1.0, "b": 1.0}


def test_gini_is_nothing_for_equals_and_nearly_one_for_one() -> None:
    assert gini(np.full(50, 2.0)) == pytest.approx(0.0, abs=1e-12)
    assert gini(np.r_[np.zeros(999), 1.0]) == pytest.approx(0.999)
    assert gini(np.zeros(3)) == 0.0


def test_a_day_on_which_nothing_was_to_be_had_has_no_regret(stage: Stage) -> None:
    play = stage.fresh()
    oracle = DynamicOracle(play, until_us=stage.end_us)
    told = report(
        Witness(oracle, play), play, arm="idle", seed=stage.seed, start_us=stage.start_us,
        days=stage.days, trainings=0, publications=0, seconds=0.0, cpu_seconds=0.0, parts={},
    )  # fmt: skip
    assert told.regret_by_day == [0.0] * stage.days


@pytest.mark.parametrize("validate_days", [0, 10_000])
def test_windows_without_a_ranking_are_refused_in_words(stage: Stage, validate_days: int) -> None:
    with pytest.raises(InvalidInput, match=r"no ranking for the (train|validate) window"):
        windows(stage.known, validate_days)


def test_popular_lately_needs_no_learning() -> None:
    scorer = popular_lately(None, None).scorer  # type: ignore[arg-type]
    assert scorer.score(np.array([[3.0], [1.0]], np.float32)).tolist() == [3.0, 1.0]
    assert scorer.features == ("lead_views_7d",)


def test_an_arm_that_cannot_rank_is_refused(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nothing to rank with"):
        run_arm(stage, Arm("empty", "plain"))
