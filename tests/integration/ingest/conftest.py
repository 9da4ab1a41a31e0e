"""A small part of the sample as a CSV with a market file of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from aiqleads.ingest.market import Market, load_market
from aiqleads.settings import Settings

SAMPLE = Path(__file__).resolve().parents[3] / "data" / "sample"


@pytest.fixture
def lucas(home: Settings) -> Market:
    return load_market("lucas", home)


@pytest.fixture(scope="session")
def sales() -> pd.DataFrame:
    """600 rows of the sample, ten of them below the market's least price."""
    whole = pd.read_parquet(SAMPLE / "lucas_sales.parquet")
    cheap = whole[whole["price"] < 10_000].head(10)
    return pd.concat([whole[whole["price"] >= 10_000].sample(590, random_state=4), cheap])


@pytest.fixture
def feed(tmp_path: Path, sales: pd.DataFrame) -> Path:
    path = tmp_path / "feed.csv"
    sales.to_csv(path, index=False)
    return path
