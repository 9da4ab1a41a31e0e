"""A small feed and its market, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aiqleads.ingest.market import Market, load_market
from aiqleads.settings import Settings

TOML = """
name = "tiny"
title = "A small town"
timezone = "America/New_York"
crs = "EPSG:32617"
[sales]
date_format = "%Y-%m-%d"
[sales.columns]
price = "price"
sold = "day"
lon = "x"
lat = "y"
beds = "beds"
living_area = "area"
[sales.missing]
beds = [0]
"""


@pytest.fixture
def tiny_toml() -> str:
    return TOML


@pytest.fixture
def make_market(tmp_path: Path) -> Callable[[str], Market]:
    """Turns the text of a market file into a market."""

    def make(text: str) -> Market:
        path = tmp_path / "market.toml"
        path.write_text(text)
        return load_market(path, Settings(home=tmp_path))

    return make


@pytest.fixture
def tiny(make_market: Callable[[str], Market]) -> Market:
    return make_market(TOML)


@pytest.fixture
def feed() -> pd.DataFrame:
    """40 sales on a grid of about 100 m, one a week, as the feed writes them."""
    return pd.DataFrame(
        {
            "price": [90_000 + 1_000 * at for at in range(40)],
            "day": pd.date_range("1995-01-04", periods=40, freq="7D").strftime("%Y-%m-%d"),
            "x": [round(-83.60 + 0.0012 * (at % 8), 6) for at in range(40)],
            "y": [round(41.60 + 0.0009 * (at // 8), 6) for at in range(40)],
            "beds": [at % 5 for at in range(40)],
            "area": [1000 + 10 * at for at in range(40)],
        }
    )
