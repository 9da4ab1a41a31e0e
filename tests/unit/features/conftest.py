"""A made-up market in the shape of the stored frames, of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h3
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.settings import Settings

Frames = dict[str, pd.DataFrame]

START_US = 757_382_400_000_000  # 1994-01-01 UTC
LON, LAT = -83.6, 41.6
METRES_PER_DEGREE = np.array([83_200.0, 111_100.0])


def _places(rng: np.random.Generator, n: int) -> dict[str, Any]:
    metres = rng.normal(0.0, 5_000.0, size=(n, 2))
    lon, lat = (np.array([LON, LAT]) + metres / METRES_PER_DEGREE).T
    cells = [h3.str_to_int(h3.latlng_to_cell(y, x, 10)) for x, y in zip(lon, lat, strict=True)]
    return {
        "lon": lon,
        "lat": lat,
        "cell": np.array(cells, dtype=np.int64),
        "utm_x_m": 283_000.0 + metres[:, 0],
        "utm_y_m": 4_608_000.0 + metres[:, 1],
    }


def _leads(rng: np.random.Generator, n: int, days: int) -> pd.DataFrame:
    received = START_US + np.sort(rng.integers(0, days * US_PER_DAY, n))
    frame = pd.DataFrame(
        {
            "lead_id": [f"L{i:06d}" for i in range(n)],
            "market": "made",
            "intent": np.where(rng.random(n) < 0.75, "sell", "buy"),
            "received_market_us": received,
            "expires_market_us": received + 30 * US_PER_DAY,
            "ask_price_cents": np.exp(rng.normal(11.5, 0.5, n) + np.log(100)).astype(np.int64),
            "beds": rng.integers(1, 6, n).astype(float),
            "living_area_sqft": np.round(np.exp(rng.normal(7.3, 0.3, n))),
            "lot_area_sqft": np.round(np.exp(rng.normal(9.0, 0.5, n))),
            "year_built": rng.integers(1900, 1998, n).astype(float),
            "max_buyers": rng.integers(1, 4, n),
            "submissions": 1,
            "quality": rng.random(n).round(3),
        }
        | _places(rng, n)
    )
    for name in ("beds", "living_area_sqft", "year_built"):
        frame.loc[rng.random(n) < 0.1, name] = np.nan
    return frame


def _sales(rng: np.random.Generator, n: int, days: int) -> pd.DataFrame:
    # Sales begin before the leads, at local midnight, as sources date them.
    day = rng.integers(-400, days, n)
    area = np.round(np.exp(rng.normal(7.3, 0.3, n)))
    return pd.DataFrame(
        {
            "sale_id": [f"S{i:06d}" for i in range(n)],
            "sold_market_us": START_US + day * US_PER_DAY + 5 * US_PER_HOUR,
            "price_cents": np.exp(rng.normal(11.5, 0.5, n) + np.log(100)).astype(np.int64),
            "living_area_sqft": np.where(rng.random(n) < 0.05, np.nan, area),
            "region": "r",
        }
        | _places(rng, n)
    )


def _agents(rng: np.random.Generator, n: int) -> pd.DataFrame:
    place = _places(rng, n)
    homes = [h3.int_to_str(int(cell)) for cell in place["cell"]]
    territory = [
        [h3.str_to_int(c) for c in h3.grid_disk(h3.cell_to_parent(home, 8), 2)] for home in homes
    ]
    low = np.exp(rng.normal(11.2, 0.3, n))
    return pd.DataFrame(
        {
            "agent_id": [f"A{i:04d}" for i in range(n)],
            "name": "made up",
            "tier": rng.choice(["basic", "pro", "enterprise"], n),
            "home_x_m": place["utm_x_m"],
            "home_y_m": place["utm_y_m"],
            "home_cell": place["cell"],
            "territory": territory,
            "price_low_cents": (low * 100).astype(np.int64),
            "price_high_cents": (low * 100 * rng.uniform(1.3, 3.0, n)).astype(np.int64),
            "monthly_budget_cents": rng.integers(10_000, 90_000, n),
            "joined_market_us": START_US - rng.integers(-100, 400, n) * US_PER_DAY,
            "invented": True,
        }
    )


def _events(
    rng: np.random.Generator,
    leads: pd.DataFrame,
    agents: pd.DataFrame,
    requests: int,
    shown: int,
    days: int,
) -> Frames:
    at = np.sort(START_US + rng.integers(20 * US_PER_DAY, days * US_PER_DAY, requests))
    who = rng.integers(0, len(agents), requests)
    rankings = pd.DataFrame(
        {
            "request_id": [f"R{i:06d}" for i in range(requests)],
            "agent_id": [f"A{i:04d}" for i in who],
            "at_market_us": at,
            "arrived_market_us": at + _lateness(rng, requests),
            "model_version": "0",
        }
    )
    # The open leads that lie nearest to the agent's home.
    pick = _nearest(leads, agents.iloc[who], at, shown)
    received = leads["received_market_us"].to_numpy()
    impressions = pd.DataFrame(
        {
            "request_id": np.repeat(rankings["request_id"], shown).to_numpy(),
            "lead_id": leads["lead_id"].to_numpy()[pick.ravel()],
            "position": np.tile(np.arange(1, shown + 1, dtype=np.int32), requests),
            "propensity": 1.0 / shown,
            "price_cents": rng.integers(2_000, 15_000, requests * shown),
        }
    )
    late = received[pick.ravel()] >= np.repeat(at, shown)
    impressions = impressions[~late].drop_duplicates(["request_id", "lead_id"])
    seen = impressions.merge(rankings, on="request_id").sample(frac=1.0, random_state=1)
    share = {"view": 0.12, "hold": 0.03, "release": 0.01, "purchase": 0.012, "return": 0.003}
    parts = []
    for kind, part in share.items():
        rows = seen.head(int(len(seen) * part))
        delay = (rng.exponential(2 * US_PER_DAY, len(rows)) + list(share).index(kind)).astype(int)
        done = rows["at_market_us"].to_numpy() + delay
        parts.append(
            pd.DataFrame(
                {
                    "event_id": [f"{kind}{i}" for i in range(len(rows))],
                    "request_id": rows["request_id"].to_numpy(),
                    "agent_id": rows["agent_id"].to_numpy(),
                    "lead_id": rows["lead_id"].to_numpy(),
                    "kind": kind,
                    "at_market_us": done,
                    "arrived_market_us": done + _lateness(rng, len(rows)),
                    "price_cents": rows["price_cents"].to_numpy() if kind == "purchase" else 0,
                    "reason": "",
                }
            )
        )
    interactions = pd.concat(parts, ignore_index=True)
    again = interactions.sample(frac=0.02, random_state=2)
    again = again.assign(arrived_market_us=again["arrived_market_us"] + US_PER_HOUR)
    return {
        "events/rankings": rankings,
        "events/impressions": impressions,
        "events/interactions": pd.concat([interactions, again], ignore_index=True),
    }


def _nearest(leads: pd.DataFrame, who: pd.DataFrame, at: np.ndarray, shown: int) -> np.ndarray:
    received = leads["received_market_us"].to_numpy()
    places = leads[["utm_x_m", "utm_y_m"]].to_numpy()
    homes = who[["home_x_m", "home_y_m"]].to_numpy()
    low = np.searchsorted(received, at - 30 * US_PER_DAY)
    high = np.maximum(np.searchsorted(received, at), low + shown)
    pick = np.zeros((len(at), shown), dtype=np.int64)
    for i in range(len(at)):
        apart = ((places[low[i] : high[i]] - homes[i]) ** 2).sum(axis=1)
        pick[i] = low[i] + np.argsort(apart)[:shown]
    return pick


def _lateness(rng: np.random.Generator, n: int) -> np.ndarray:
    """Seconds as a rule, days for one event in twenty."""
    late = rng.random(n) < 0.05
    days = np.where(late, rng.exponential(3.0, n) * US_PER_DAY, 2_000_000.0)
    return days.astype(np.int64)


def make_market(
    seed: int = 7,
    leads: int = 400,
    sales: int = 500,
    agents: int = 12,
    requests: int = 60,
    shown: int = 8,
    days: int = 120,
) -> Frames:
    """Frames by their path under the market's core directory."""
    rng = np.random.default_rng(seed)
    lead_frame, agent_frame = _leads(rng, leads, days), _agents(rng, agents)
    sent = lead_frame[["lead_id", "received_market_us"]]
    again = sent.sample(frac=0.1, random_state=3)
    delay = rng.integers(0, 10 * US_PER_DAY, len(again))
    again = again.assign(received_market_us=again["received_market_us"] + delay)
    return {
        "leads": lead_frame,
        "submissions": pd.concat([sent, again], ignore_index=True),
        "sales": _sales(rng, sales, days),
        "agents": agent_frame,
        **_events(rng, lead_frame, agent_frame, requests, shown, days),
    }


def write_market(home: Path, frames: Frames, market: str = "made") -> Settings:
    """Writes the frames where a market's core frames live, and gives its settings."""
    core = home / "data" / "core" / market
    (core / "events").mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_parquet(core / f"{name}.parquet", index=False)
    return Settings(home=home)


@pytest.fixture(scope="session")
def frames() -> Frames:
    """A small market; a test that changes it copies it first."""
    return make_market()


@pytest.fixture(scope="session")
def market_home(tmp_path_factory: pytest.TempPathFactory, frames: Frames) -> Settings:
    """Settings of a home that holds the small market."""
    return write_market(tmp_path_factory.mktemp("made"), frames)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Frames], Settings]:
    """Writes changed frames into a home of the test's own."""
    return lambda frames: write_market(tmp_path, frames)


@pytest.fixture(scope="session")
def make() -> Callable[..., Frames]:
    """`make_market`, for tests that want another market."""
    return make_market


@pytest.fixture(scope="session")
def put() -> Callable[..., Settings]:
    """`write_market`, for homes that last longer than a test."""
    return write_market
