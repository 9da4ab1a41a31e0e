"""A small invented market: leads around six towns, sales before them, no real place."""

from __future__ import annotations

import copy
import datetime as dt
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.geo import grid, utm
from aiqleads.ingest.market import Market
from aiqleads.market_sim import presets
from aiqleads.market_sim.arrivals import Requests, month_starts, schedule
from aiqleads.market_sim.frames import event_frames
from aiqleads.market_sim.log import Log
from aiqleads.market_sim.play import Play
from aiqleads.market_sim.policy import Ranker
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import World, build_world
from aiqleads.settings import Settings

CRS = "EPSG:32617"
FIRST = dt.date(2001, 1, 1)
START = dt.date(2001, 1, 31)


def midnight_us(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(5), dt.UTC).timestamp()) * 1_000_000


def _places(count: int, rng: np.random.Generator) -> dict[str, Any]:
    town = rng.integers(0, 6, count)
    lon = -83.6 + 0.03 * (town % 3) + 0.012 * rng.normal(size=count)
    lat = 41.6 + 0.03 * (town // 3) + 0.010 * rng.normal(size=count)
    x, y = utm.project(lon, lat, CRS)
    cell = grid.cells(lon, lat)
    return {"lon": lon, "lat": lat, "cell": cell, "utm_x_m": x, "utm_y_m": y, "region": "r"}


def invented_sales(count: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    area = rng.uniform(700, 3000, count)
    sold = midnight_us(FIRST) + rng.integers(-400, 60, count) * US_PER_DAY
    return pd.DataFrame(
        {
            "sale_id": [f"S{n}" for n in range(count)],
            "sold_market_us": pd.array(sold, dtype="Int64"),
            "price_cents": (area * 6000 * np.exp(0.2 * rng.normal(size=count))).astype(np.int64),
            "living_area_sqft": np.where(rng.random(count) < 0.05, np.nan, area),
            **_places(count, rng),
        }
    )


def invented_leads(count: int = 1400, days: int = 70) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    area = rng.uniform(700, 3000, count)
    buys = rng.random(count) < 0.25
    received = midnight_us(FIRST) + (rng.random(count) * days * US_PER_DAY).astype(np.int64)
    usual = np.where(buys, 0.67, 0.96)
    return pd.DataFrame(
        {
            "lead_id": [f"L{n}" for n in range(count)],
            "intent": np.where(buys, "buy", "sell"),
            "received_market_us": received,
            "expires_market_us": received + 30 * US_PER_DAY,
            "ask_price_cents": (area * 6000 * np.exp(0.2 * rng.normal(size=count))).astype(int),
            "beds": np.where(rng.random(count) < 0.05, np.nan, rng.integers(1, 6, count)),
            "living_area_sqft": area,
            "max_buyers": rng.choice([1, 2, 3], count, p=[0.4, 0.3, 0.3]),
            "quality": np.clip(usual + 0.1 * rng.normal(size=count), 0, 1),
            **_places(count, rng),
        }
    )


@pytest.fixture(scope="session")
def leads() -> pd.DataFrame:
    return invented_leads()


@pytest.fixture(scope="session")
def sales() -> pd.DataFrame:
    return invented_sales()


@pytest.fixture
def market() -> Market:
    return Market.model_validate(
        {
            "name": "testville",
            "title": "An invented town",
            "timezone": "America/New_York",
            "crs": CRS,
            "clock": "frozen",
            "sales": {
                "columns": {"price": "p", "lon": "x", "lat": "y", "sold": "d"},
                "date_format": "%Y-%m-%d",
            },
            "split": {"train_until": "2001-02-19", "validate_until": "2001-02-28"},
        }
    )


@pytest.fixture
def stocked(home: Settings, leads: pd.DataFrame, sales: pd.DataFrame) -> Settings:
    """A home with the two frames that the simulator reads."""
    folder = home.data / "core" / "testville"
    folder.mkdir(parents=True)
    leads.to_parquet(folder / "leads.parquet")
    sales.to_parquet(folder / "sales.parquet")
    return home


@pytest.fixture
def write_preset(tmp_path: Path) -> Callable[..., Path]:
    """Writes the calm preset with some sections changed: `write_preset(policy={...})`."""
    shipped = Path(presets.__file__).parent / "presets" / "calm.toml"
    calm = tomllib.loads(shipped.read_text())

    def write(name: str = "mine", **sections: dict[str, Any]) -> Path:
        content = {**copy.deepcopy(calm), "name": name}
        content["period"]["train_days"] = 20
        for section, figures in sections.items():
            content.setdefault(section, {}).update(figures)
        path = tmp_path / f"{name}.toml"
        path.write_text(_toml(content))
        return path

    return write


def _toml(content: dict[str, Any], prefix: str = "") -> str:
    flat = [f"{k} = {_value(v)}" for k, v in content.items() if not isinstance(v, dict)]
    nested = [
        f"\n[{prefix}{k}]\n{_toml(v, f'{prefix}{k}.')}"
        for k, v in content.items()
        if isinstance(v, dict)
    ]
    return "\n".join(flat + nested) + "\n"


def _value(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


Played = tuple[World, Requests, Log]
MarketOf = Callable[..., Play]


def flat_fee(**columns: Any) -> Any:
    """A price list that never changes, so that a frozen log does not hang on commerce."""
    return (3000 + 1500 * (np.asarray(columns["max_buyers"]) == 1)).astype(np.int64)


@pytest.fixture(scope="session")
def market_of(leads: pd.DataFrame, sales: pd.DataFrame) -> MarketOf:
    """The small market before its first request, with a price list of its own."""

    def make(
        preset: Preset,
        *,
        agents: int = 30,
        days: int = 20,
        seed: int = 3,
        frame: pd.DataFrame = leads,
        ranker: Ranker | None = None,
    ) -> Play:
        start_us = midnight_us(START)
        end_us = start_us + days * US_PER_DAY
        world = build_world(
            frame, sales, preset, crs=CRS, agents=agents, seed=seed, start_us=start_us
        )
        zone = "America/New_York"
        requests = schedule(
            world.agents, preset, timezone=zone, start=START, end_us=end_us, seed=seed
        )
        return Play(
            world,
            preset,
            requests,
            months=month_starts(START, end_us, zone),
            end_us=end_us,
            seed=seed,
            quote_many=flat_fee,
            ranker=ranker,
        )

    return make


@pytest.fixture(scope="session")
def frames_of(market_of: MarketOf) -> Callable[..., dict[str, pd.DataFrame]]:
    """Every frame of events of the small market, played to its end or up to `until_us`."""

    def run(preset: Preset, until_us: int | None = None, **given: Any) -> dict[str, pd.DataFrame]:
        market = market_of(preset, **given)
        market.run_until(until_us or market.end_us)
        return event_frames(
            market.world, market.requests, market.log, preset,
            until_us=until_us or market.end_us, seed=market.seed,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def play_market(market_of: MarketOf) -> Callable[..., Played]:
    """Plays the small market to its end; nothing is written."""

    def run(preset: Preset, **given: Any) -> Played:
        market = market_of(preset, **given)
        market.run_until(market.end_us)
        return market.world, market.requests, market.log

    return run
