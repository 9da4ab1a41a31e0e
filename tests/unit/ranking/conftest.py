"""A small feature frame of the real schema: a hidden utility, groups, position bias."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.features.catalog import FEATURE_NAMES
from aiqleads.ingest.market import Market, load_market
from aiqleads.ranking.dataset import Dataset, dataset_of
from aiqleads.ranking.train import Trained, train_ranker
from aiqleads.settings import Settings

SHOWN = 30


@pytest.fixture(scope="session")
def lucas(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return load_market("lucas", Settings(home=tmp_path_factory.mktemp("nowhere")))


def make_frames(
    market: Market, requests: int = 600, seed: int = 3, agents: int = 24, signal: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The feature frame and the oracle of `requests` requests, from 1996 to 1998 in even steps.

    With `signal` 0 no feature says anything of the utility.
    """
    rng = np.random.default_rng(seed)
    n = requests * SHOWN
    telling = {
        "quality": rng.normal(size=n),
        "ask_vs_engaged": rng.normal(size=n),
        "hours_since_received": rng.exponential(100, n),
        "home_distance_km2": rng.exponential(5, n),
        "lead_views_7d": rng.poisson(2, n).astype(float),
    }
    utility = signal * (
        0.8 * telling["quality"]
        - 0.01 * telling["hours_since_received"]
        - 0.2 * telling["home_distance_km2"]
        + 0.3 * telling["lead_views_7d"]
        - 0.8 * telling["ask_vs_engaged"] ** 2
    ) + 0.3 * rng.normal(size=n)
    position = np.tile(np.arange(1, SHOWN + 1, dtype=np.int32), requests)
    p_purchase = 0.6 / (1 + np.exp(1 - 1.5 * utility))
    seen = rng.random(n) < position**-0.5
    wanted = rng.random(n) < p_purchase
    viewed = rng.random(n) < np.minimum(2 * p_purchase, 1)
    label = np.where(seen & wanted, 3, np.where(seen & viewed, 1, 0)).astype(np.int8)
    begins = market.midnight_us(market.split.train_until) - 360 * US_PER_DAY
    at = begins + np.linspace(0, 1080 * US_PER_DAY, requests).astype(np.int64)
    frame = pd.DataFrame(
        {
            "request_id": np.repeat([f"R{i:05d}" for i in range(requests)], SHOWN),
            "agent_id": np.repeat([f"A{i % agents:04d}" for i in range(requests)], SHOWN),
            "lead_id": [f"L{i:06d}" for i in range(n)],
            "position": position,
            "at_market_us": np.repeat(at, SHOWN),
            "label": label,
            "price_cents": rng.integers(2000, 15000, n),
        }
    )
    # drawn apart, so that a feature more in the catalogue changes nothing of the above
    idle = np.random.default_rng(seed + 1)
    features = pd.DataFrame(
        {name: telling.get(name, idle.normal(size=n)) for name in FEATURE_NAMES}, dtype=np.float32
    )
    features = features.mask(idle.random(features.shape) < 0.03)
    oracle = frame[["request_id", "lead_id"]].assign(
        relevance=7 * p_purchase,
        p_purchase=p_purchase,
        would_purchase=wanted,
        score_full=7 * p_purchase,
        score_known=7 * p_purchase + 0.3 * rng.normal(size=n),
        p_return=0.05,
    )
    return pd.concat([frame, features], axis=1), oracle


def write_home(settings: Settings, market: Market, **how: float) -> Settings:
    """A home that holds what training reads: features, oracle, agents."""
    frame, oracle = make_frames(market, **how)  # type: ignore[arg-type]
    core = settings.data / "core" / market.name
    for path, table in (
        (settings.data / "features" / market.name / "features.parquet", frame),
        (core / "events" / "oracle.parquet", oracle),
        (core / "agents.parquet", agents_of(frame)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    return settings


def agents_of(frame: pd.DataFrame) -> pd.DataFrame:
    ids = sorted(frame["agent_id"].unique())
    names = ["basic", "pro", "enterprise"]
    return pd.DataFrame({"agent_id": ids, "tier": [names[i % 3] for i in range(len(ids))]})


@pytest.fixture
def filled_home(home: Settings, lucas: Market) -> Settings:
    return write_home(home, lucas)


@pytest.fixture(scope="session")
def frames(lucas: Market) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_frames(lucas)


@pytest.fixture(scope="session")
def windows(frames: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[Dataset, Dataset]:
    """Train and validate."""
    frame = frames[0]
    at = np.sort(frame["at_market_us"].unique())
    first, second = at[len(at) // 3], at[2 * len(at) // 3]
    train = frame[frame["at_market_us"] < first]
    validate = frame[(frame["at_market_us"] >= first) & (frame["at_market_us"] < second)]
    return dataset_of(train, "train", "train.parquet"), dataset_of(
        validate, "validate", "v.parquet"
    )


#: small enough for a test, large enough to beat the baselines of the frame above
SMALL = {"iterations": 40, "depth": 4, "early_stopping_rounds": 10}


@pytest.fixture(scope="session")
def trained(windows: tuple[Dataset, Dataset]) -> Trained:
    return train_ranker(*windows, "QueryRMSE", SMALL)


@pytest.fixture
def scorer_path(tmp_path: Path, trained: Trained) -> Path:
    trained.scorer.save(tmp_path / "scorer")
    return tmp_path / "scorer"


HomeWriter = Callable[..., Settings]


@pytest.fixture
def home_writer(home: Settings, lucas: Market) -> HomeWriter:
    return lambda **how: write_home(home, lucas, **how)
