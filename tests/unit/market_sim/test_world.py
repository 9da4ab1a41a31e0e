from __future__ import annotations

import datetime as dt
from dataclasses import fields
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import ContractBroken
from aiqleads.market_sim.arrivals import month_starts, schedule
from aiqleads.market_sim.presets import Preset, load_preset
from aiqleads.market_sim.world import World, build_world, market_around, taste_at

CRS = "EPSG:32617"
START = dt.date(2001, 1, 31)
START_US = int(dt.datetime(2001, 1, 31, 5, tzinfo=dt.UTC).timestamp()) * 1_000_000


def world_of(leads: pd.DataFrame, sales: pd.DataFrame, **kwargs: Any) -> World:
    given = {"crs": CRS, "agents": 30, "seed": 3, "start_us": START_US} | kwargs
    return build_world(leads, sales, load_preset("calm"), **given)


def test_the_order_of_the_frames_rows_changes_nothing(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    one = world_of(leads, sales)
    other = world_of(leads.sample(frac=1, random_state=1), sales.sample(frac=1, random_state=2))
    for column in ("ids", "price_level", "trend", "appeal"):
        assert (getattr(one.leads, column) == getattr(other.leads, column)).all()
    for pool, again in zip(one.pools, other.pools, strict=True):
        assert (pool.steady == again.steady).all()
        assert (pool.pair == again.pair).all()


def test_an_agent_is_the_same_however_many_there_are(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    few, many = world_of(leads, sales, agents=5), world_of(leads, sales, agents=25)
    for field in fields(few.agents):
        if field.name == "weights":
            continue
        one, other = getattr(few.agents, field.name), getattr(many.agents, field.name)
        assert all(np.array_equal(a, b) for a, b in zip(one, other[:5], strict=True)), field.name
    assert (few.pools[4].pair == many.pools[4].pair).all()


def test_farm_areas_are_disks_around_homes_near_leads(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    world = world_of(leads, sales)
    rings = load_preset("calm").agents.territory_rings
    for number in range(len(world.agents)):
        home = h3.cell_to_parent(int(world.agents.home_cell[number]), 8)
        disk = set(h3.grid_disk(home, rings[world.agents.tier[number]]))
        assert set(world.agents.territory[number].tolist()) == disk
        away = np.hypot(
            world.leads.x_m - world.agents.home_x_m[number],
            world.leads.y_m - world.agents.home_y_m[number],
        )
        assert away.min() < 3000


def test_the_second_area_lies_where_nobody_said(leads: pd.DataFrame, sales: pd.DataFrame) -> None:
    agents = world_of(leads, sales).agents
    away = np.hypot(agents.second_x_m - agents.home_x_m, agents.second_y_m - agents.home_y_m)
    assert np.median(away) > 1500
    assert ((away >= 1500) | (away == 0)).all()


def test_declared_bands_are_a_noisy_version_of_the_latent_centre(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    agents = world_of(leads, sales, agents=200).agents
    declared = (np.log(agents.low_cents) + np.log(agents.high_cents)) / 2
    gap = declared - agents.log_price
    assert 0.12 < gap.std() < 0.30
    assert np.corrcoef(declared, agents.log_price)[0, 1] > 0.5


def test_one_lead_is_enough_for_a_world(leads: pd.DataFrame, sales: pd.DataFrame) -> None:
    world = world_of(leads.head(1), sales, agents=3)
    assert [len(pool.lead) for pool in world.pools] == [1, 1, 1]
    # nowhere to have a second area
    home = np.hypot(
        world.agents.second_x_m - world.agents.home_x_m,
        world.agents.second_y_m - world.agents.home_y_m,
    )
    assert ((home == 0) | (home >= 1500)).all()


def test_a_lead_sees_only_sales_before_it(leads: pd.DataFrame, sales: pd.DataFrame) -> None:
    level, trend = market_around(leads, sales)
    at = int(leads["received_market_us"].median())
    future = sales["sold_market_us"] >= at
    changed = sales.assign(price_cents=sales["price_cents"].where(~future, 1))
    again_level, again_trend = market_around(leads, changed)
    before = (leads["received_market_us"] <= at).to_numpy()
    assert (level[before] == again_level[before]).all()
    assert (trend[before] == again_trend[before]).all()
    assert level.any()
    assert trend.any()


def test_the_price_level_is_the_log_ratio_to_the_areas_median(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    lead = leads[leads["intent"] == "sell"].iloc[[-1]]
    level, _ = market_around(lead, sales)
    parent = h3.cell_to_parent(int(lead["cell"].iloc[0]), 7)
    at = int(lead["received_market_us"].iloc[0])
    near = sales[
        (sales["cell"].map(lambda cell: h3.cell_to_parent(cell, 7)) == parent)
        & (sales["sold_market_us"] < at)
        & (sales["sold_market_us"] >= at - 365 * US_PER_DAY)
    ]
    usual = (near["price_cents"] / near["living_area_sqft"]).median()
    asked = lead["ask_price_cents"].iloc[0] / lead["living_area_sqft"].iloc[0]
    # the median of logarithms and the logarithm of the median differ for even counts
    assert level[0] == pytest.approx(np.log(asked / usual), abs=0.02)


def test_without_sale_dates_the_market_around_is_unknown(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    undated = sales.assign(sold_market_us=pd.array([None] * len(sales), dtype="Int64"))
    level, trend = market_around(leads, undated)
    assert not level.any()
    assert not trend.any()


def test_frames_that_cannot_serve_are_refused(leads: pd.DataFrame, sales: pd.DataFrame) -> None:
    with pytest.raises(ContractBroken, match="beds, quality"):
        world_of(leads.drop(columns=["beds", "quality"]), sales)
    with pytest.raises(ContractBroken, match="no lead"):
        world_of(leads.head(0), sales)


def test_requests_follow_hours_weekdays_and_joining(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    agents = world_of(leads, sales, agents=150).agents
    preset = load_preset("calm")
    end_us = START_US + 200 * US_PER_DAY
    requests = schedule(
        agents, preset, timezone="America/New_York", start=START, end_us=end_us, seed=3
    )
    assert (np.diff(requests.at_us) >= 0).all()
    assert (requests.at_us >= agents.joined_us[requests.agent]).all()
    assert (requests.at_us < end_us).all()
    assert len(set(requests.ids)) == len(requests)
    local = pd.to_datetime(requests.at_us, unit="us", utc=True).tz_convert("America/New_York")
    assert (local.hour >= 7).mean() > 0.95
    assert (local.weekday == 6).mean() < 0.8 * (local.weekday == 0).mean()
    expected = (agents.requests_per_day * (end_us - np.maximum(agents.joined_us, START_US))).clip(0)
    assert len(requests) == pytest.approx(expected.sum() / US_PER_DAY, rel=0.08)
    assert requests.mobile.mean() == pytest.approx(preset.requests.mobile_share, abs=0.04)
    assert not requests.on_map.any()


def moved(leads: pd.DataFrame, sales: pd.DataFrame, **sections: Any) -> tuple[Preset, World]:
    calm = load_preset("calm")
    changed = {
        name: getattr(calm, name).model_copy(update=figures) for name, figures in sections.items()
    }
    preset = calm.model_copy(update=changed)
    return preset, build_world(leads, sales, preset, crs=CRS, agents=40, seed=3, start_us=START_US)


def taste_of_all(world: World, preset: Preset, day: float) -> list[np.ndarray]:
    at = START_US + int(day * US_PER_DAY)
    return [
        taste_at(world, np.full(len(pool.lead), n), pool.lead, pool.home_pull,
                 np.full(len(pool.lead), at), preset)
        for n, pool in enumerate(world.pools)
    ]  # fmt: skip


def test_tastes_stay_where_nothing_drifts_and_wander_for_some_where_it_does(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    preset, calm = moved(leads, sales)
    for before, after in zip(
        taste_of_all(calm, preset, 0), taste_of_all(calm, preset, 900), strict=True
    ):
        assert (before == after).all()
    drift = {"share": 0.5, "from_day": 10, "over_days": 20, "price_sd": 0.3}
    preset, world = moved(leads, sales, drift=drift)
    # Before the first day it is the calm market, agent for agent.
    begin, half, end, later = (taste_of_all(world, preset, day) for day in (10, 20, 30, 99))
    for one, other in zip(begin, taste_of_all(calm, load_preset("calm"), 0), strict=True):
        assert (one == other).all()
    wandered = np.array([not np.allclose(a, b) for a, b in zip(begin, end, strict=True)])
    assert 0.25 < wandered.mean() < 0.75
    assert all((a == b).all() for a, b in zip(end, later, strict=True))
    assert any((a != b).any() and (b != c).any() for a, b, c in zip(begin, half, end, strict=True))


def test_a_shock_makes_dear_homes_less_wanted_from_its_day_on(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    preset, world = moved(leads, sales, shock={"from_day": 30, "price_shift": -0.3})
    before, after = taste_of_all(world, preset, 29.9), taste_of_all(world, preset, 30)
    for n, pool in enumerate(world.pools):
        dear = world.leads.log_ask[pool.lead] > world.agents.log_price[n]
        assert (after[n] <= before[n])[dear].all()
    assert any((a > b).any() for a, b in zip(after, before, strict=True))


def test_requests_follow_the_season(leads: pd.DataFrame, sales: pd.DataFrame) -> None:
    def monthly(preset: Preset, world: World) -> np.ndarray:
        requests = schedule(
            world.agents, preset, timezone="America/New_York", start=START,
            end_us=START_US + 360 * US_PER_DAY, seed=3,
        )  # fmt: skip
        at = pd.to_datetime(requests.at_us, unit="us", utc=True)
        return np.bincount(at.month, minlength=13)[1:]

    flat = monthly(*moved(leads, sales))
    wave = monthly(*moved(leads, sales, season={"amplitude": 0.8, "peak_day": 181}))
    assert wave[[4, 5, 6]].sum() > 1.4 * flat[[4, 5, 6]].sum()
    assert wave[[10, 11]].sum() < 0.5 * flat[[10, 11]].sum()


def test_bots_are_some_agents_who_ask_much_at_all_hours(
    leads: pd.DataFrame, sales: pd.DataFrame
) -> None:
    bots = {"share": 0.2, "requests_per_day": 5.0, "opens": 0.5}
    preset, world = moved(leads, sales, bots=bots)
    _, calm = moved(leads, sales)
    assert 1 <= world.agents.bot.sum() <= 16
    assert not calm.agents.bot.any()
    # The others are who they were.
    people = ~world.agents.bot
    assert (world.agents.log_price[people] == calm.agents.log_price[people]).all()
    requests = schedule(
        world.agents, preset, timezone="America/New_York", start=START,
        end_us=START_US + 60 * US_PER_DAY, seed=3,
    )  # fmt: skip
    of_bots = world.agents.bot[requests.agent]
    a_day = of_bots.sum() / world.agents.bot.sum() / 60
    assert 3.0 < a_day < 6.0
    hour = pd.to_datetime(requests.at_us[of_bots], unit="us", utc=True).hour
    assert np.bincount(hour, minlength=24).min() > 0.4 * of_bots.sum() / 24


def test_months_begin_at_local_midnight() -> None:
    starts = month_starts(dt.date(2001, 3, 20), START_US + 60 * US_PER_DAY, "America/New_York")
    local = pd.to_datetime(starts, unit="us", utc=True).tz_convert("America/New_York")
    assert [str(day)[:16] for day in local][:2] == ["2001-03-01 00:00", "2001-04-01 00:00"]
