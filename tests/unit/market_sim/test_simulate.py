from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.commerce.pricing import quote
from aiqleads.errors import InvalidInput, NotReady, UnknownName
from aiqleads.ingest.market import Market
from aiqleads.market_sim.simulate import SimulationReport, simulate
from aiqleads.settings import Settings

EVENTS = ("rankings", "impressions", "interactions", "oracle", "agents_truth")
COLUMNS = {
    "rankings": "request_id agent_id at_market_us arrived_market_us model_version variant"
    " snapshot_version device surface preset",
    "impressions": "request_id lead_id position propensity price_cents",
    "interactions": "event_id request_id agent_id lead_id kind at_market_us arrived_market_us"
    " price_cents reason",
    "oracle": "request_id lead_id relevance p_purchase would_purchase score_full score_known"
    " p_return",
    "agents_truth": "agent_id bot",
    "agents": "agent_id name tier home_x_m home_y_m home_cell territory price_low_cents"
    " price_high_cents monthly_budget_cents joined_market_us invented",
}


def run(
    settings: Settings,
    market: Market,
    write_preset: Callable[..., Path],
    seed: int = 7,
    days: int | None = 15,
    until: dt.date | None = None,
) -> tuple[SimulationReport, dict[str, pd.DataFrame]]:
    preset = write_preset("mine", requests={"per_day": [0.3, 0.4, 0.6]})
    report = simulate(settings, market, preset, 40, days, seed, until)
    core = settings.data / "core" / "testville"
    tables = {name: pd.read_parquet(core / "events" / f"{name}.parquet") for name in EVENTS}
    return report, tables | {"agents": pd.read_parquet(core / "agents.parquet")}


def test_the_frames_are_those_that_a_real_market_would_write(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    report, tables = run(stocked, market, write_preset)
    for name, columns in COLUMNS.items():
        assert list(tables[name].columns) == columns.split(), name
    shown, steps = tables["impressions"], tables["interactions"]
    assert shown["position"].dtype == "int32"
    assert shown["propensity"].between(0, 1, inclusive="right").all()
    assert not shown.duplicated(["request_id", "lead_id"]).any()
    assert not shown.duplicated(["request_id", "position"]).any()
    assert set(tables["rankings"]["surface"]) == {"list"}
    twice = steps["event_id"].duplicated()
    assert 0 < twice.mean() < 0.05
    steps = steps[~twice]
    assert set(steps["kind"]) <= {"view", "hold", "release", "purchase", "return"}
    for name in ("rankings", "interactions"):
        assert (tables[name]["arrived_market_us"] >= tables[name]["at_market_us"]).all()
    merged = steps.merge(shown, on=["request_id", "lead_id"], suffixes=("", "_shown"))
    assert len(merged) == len(steps)
    bought = merged[merged["kind"] == "purchase"]
    assert (bought["price_cents"] == bought["price_cents_shown"]).all()
    assert (merged.loc[merged["kind"] != "purchase", "price_cents"] == 0).all()
    returned = steps[steps["kind"] == "return"]
    assert (returned["reason"] != "").all()
    assert (steps.loc[steps["kind"] != "return", "reason"] == "").all()
    assert report.events["impression"] == len(shown)
    assert report.events["interaction"] == len(tables["interactions"])
    assert report.events["interaction"] == sum(
        report.events[kind] for kind in ("view", "hold", "release", "purchase", "return")
    )


def test_agents_declare_what_they_declare_and_are_marked_as_invented(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    _, tables = run(stocked, market, write_preset)
    agents = tables["agents"]
    assert list(agents.columns) == COLUMNS["agents"].split()
    assert agents["invented"].all()
    assert agents["name"].str.startswith("Simulated agent").all()
    assert (agents["price_low_cents"] < agents["price_high_cents"]).all()
    assert (agents["monthly_budget_cents"] > 0).all()


def test_a_seed_gives_the_same_bytes_and_another_seed_another_market(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    _, first = run(stocked, market, write_preset)
    _, again = run(stocked, market, write_preset)
    _, other = run(stocked, market, write_preset, seed=8)
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name])
    assert not first["agents"]["home_x_m"].equals(other["agents"]["home_x_m"])


def test_the_fee_is_the_shops(
    stocked: Settings, market: Market, write_preset: Callable[..., Path], leads: pd.DataFrame
) -> None:
    _, tables = run(stocked, market, write_preset, days=4)
    rows = (
        tables["impressions"]
        .merge(tables["rankings"], on="request_id")
        .merge(leads, on="lead_id")
        .merge(tables["agents"][["agent_id", "tier"]], on="agent_id")
    )
    for row in rows.sample(25, random_state=0).itertuples():
        fee = quote(
            intent=row.intent,
            ask_price_cents=row.ask_price_cents,
            quality=row.quality,
            age_hours=(row.at_market_us - row.received_market_us) / 3.6e9,
            max_buyers=row.max_buyers,
            tier=row.tier,
        )
        assert row.price_cents == fee.total_cents


def test_the_manifest_says_what_it_is_and_where_it_comes_from(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    report, tables = run(stocked, market, write_preset)
    manifest = json.loads((Path(report.directory) / "manifest.json").read_text())
    assert manifest["notice"].startswith("Simulated")
    assert manifest["preset"] == "mine"
    assert manifest["preset_digest"] == report.digest
    assert manifest["preset_frozen"] is report.frozen is False
    assert (manifest["seed"], manifest["agents"], manifest["days"]) == (7, 40, 15)
    assert manifest["counts"]["ranking"] == len(tables["rankings"])
    assert json.loads(json.dumps(dataclasses.asdict(report)))["notice"] == manifest["notice"]


def test_the_period_begins_before_the_end_of_training_and_ends_where_it_is_told(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    report, _ = run(stocked, market, write_preset, until=dt.date(2001, 2, 4), days=None)
    assert (report.start, report.until) == ("2001-01-31", "2001-02-04")
    report, _ = run(stocked, market, write_preset, until=dt.date(2001, 2, 4), days=2)
    assert report.until == "2001-02-01"
    report, tables = run(stocked, market, write_preset, days=None)
    assert report.until == "2001-03-11"  # the local day of the last lead
    local = pd.to_datetime(tables["rankings"]["at_market_us"], unit="us", utc=True)
    assert str(local.dt.tz_convert(market.timezone).min().date()) == report.start


def test_a_market_without_a_split_begins_with_its_first_lead(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    live = market.model_copy(update={"split": None, "clock": "wall"})
    report, _ = run(stocked, live, write_preset, days=3)
    assert report.start == "2001-01-01"


def test_rates_outside_of_the_presets_bands_are_told(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    bands = {"late_share": [0.5, 0.9], "map_share": [0.0, 0.0]}
    path = write_preset("odd", plausible=bands)
    found = simulate(stocked, market, path, 40, 6, 7).implausible
    rate, low, high = found["late_share"]
    assert (low, high) == (0.5, 0.9)
    assert 0 < rate < 0.5
    assert "map_share" not in found


def test_an_unseen_preset_with_every_mechanism_runs(
    stocked: Settings, market: Market, tmp_path: Path
) -> None:
    path = tmp_path / "unseen.toml"
    path.write_text(
        """
        name = "unseen"
        like = "adversarial"
        about = "Everything at once, and on maps too."
        [period]
        train_days = 20
        [requests]
        per_day = [0.3, 0.4, 0.6]
        map_share = 0.4
        [bots]
        share = 0.2
        [rivals]
        per_lead = 0.4
        [season]
        amplitude = 0.5
        [shock]
        from_day = 5
        price_shift = -0.2
        """
    )
    report = simulate(stocked, market, path, 40, 15, 7)
    assert not report.frozen
    rates = report.marginals
    assert 0.25 < rates.map_share < 0.55
    assert min(rates.bot_request_share, rates.rival_purchase_share, rates.duplicate_share) > 0
    assert 0 < report.oracle.requests < report.events["ranking"]


def test_progress_is_told(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    told: list[tuple[int, int]] = []
    simulate(stocked, market, write_preset(), 20, 3, 7, progress=lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1] == len(told)


def test_a_market_in_which_nobody_asks_has_empty_frames(
    stocked: Settings, market: Market, write_preset: Callable[..., Path]
) -> None:
    quiet = write_preset("quiet", requests={"per_day": [0.0, 0.0, 0.0]})
    report = simulate(stocked, market, quiet, 3, 3, 7)
    assert report.events["ranking"] == report.events["interaction"] == 0
    assert report.marginals.views_per_impression == report.oracle.ndcg_logged == 0.0


def test_what_cannot_be_simulated_is_refused(stocked: Settings, market: Market) -> None:
    with pytest.raises(UnknownName, match="calm"):
        simulate(stocked, market, "stormy", 5, 5, 7)
    with pytest.raises(InvalidInput, match="at least 1"):
        simulate(stocked, market, "calm", 0, 5, 7)
    with pytest.raises(InvalidInput, match="nothing to simulate"):
        simulate(stocked, market, "calm", 5, 5, 7, until=dt.date(1999, 1, 1))


def test_a_market_without_leads_is_not_ready(
    home: Settings, market: Market, leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    with pytest.raises(NotReady, match="ingest"):
        simulate(home, market, "calm", 5, 5, 7)
    folder = home.data / "core" / "testville"
    folder.mkdir(parents=True)
    leads.head(0).to_parquet(folder / "leads.parquet")
    sales.to_parquet(folder / "sales.parquet")
    with pytest.raises(NotReady, match="no leads"):
        simulate(home, market, "calm", 5, 5, 7)
