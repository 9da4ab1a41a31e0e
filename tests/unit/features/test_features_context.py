"""Rank correlations of market context, by window."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput
from aiqleads.features.catalog import FEATURES
from aiqleads.features.context import CONTEXT_FEATURES, context_correlations

START_US = 757_382_400_000_000  # 1994-01-01 UTC
PAGE = 10


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 4_000
    page = np.arange(n) // PAGE
    price = rng.normal(size=n) + np.repeat(rng.normal(size=n // PAGE), PAGE)
    frame = pd.DataFrame(
        {
            "request_id": [f"R{number}" for number in page],
            "at_market_us": START_US + page * (180 * US_PER_DAY // (n // PAGE)),
            "area_price": price,
            "area_demand_30d": np.exp(price) + 0.1 * rng.normal(size=n),
            "area_sales_90d": rng.integers(0, 5, n).astype(float),
        }
    )
    frame["label"] = (price - frame.groupby("request_id")["area_price"].transform("mean") > 1) * 1
    frame.loc[::7, "area_sales_90d"] = np.nan
    return frame


NAMES = ("area_price", "area_demand_30d", "area_sales_90d")


def _rho(found: pd.DataFrame, window: str, left: str, right: str) -> float:
    row = found.query("window == @window and left == @left and right == @right")
    return float(row["rho"].item())


def test_pairs_and_labels_are_correlated_by_quarter(frame: pd.DataFrame) -> None:
    found = context_correlations(frame, features=NAMES)
    assert list(found.columns) == ["window", "left", "right", "rho", "n"]
    assert found["window"].unique().tolist() == ["1994Q1", "1994Q2"]
    assert len(found) == 2 * (3 + 3)
    first = frame[frame["at_market_us"] < START_US + 90 * US_PER_DAY]
    expected = spearmanr(first["area_price"], first["area_demand_30d"]).statistic
    assert _rho(found, "1994Q1", "area_price", "area_demand_30d") == pytest.approx(expected)
    assert _rho(found, "1994Q1", "area_price", "label") > 0.4
    assert abs(_rho(found, "1994Q2", "area_price", "area_sales_90d")) < 0.1


def test_rows_in_which_one_is_missing_are_not_counted(frame: pd.DataFrame) -> None:
    found = context_correlations(frame, window="Y", features=NAMES)
    row = found.query("left == 'area_price' and right == 'area_sales_90d'")
    assert row["n"].item() == frame["area_sales_90d"].notna().sum()


def test_what_is_too_little_or_does_not_vary_has_no_correlation(frame: pd.DataFrame) -> None:
    few = context_correlations(frame.head(100), features=NAMES)
    assert few["rho"].isna().all()
    flat = context_correlations(frame.assign(area_price=1.0), features=NAMES)
    assert flat.query("left == 'area_price'")["rho"].isna().all()


def test_labels_are_compared_within_their_page(frame: pd.DataFrame) -> None:
    # A market in which whole pages are better says nothing about leads of one page.
    between = frame.assign(area_price=frame.groupby("request_id")["area_price"].transform("mean"))
    found = context_correlations(between, window="Y", features=("area_price",))
    rho = found.query("right == 'label'")["rho"].item()
    assert np.isnan(rho) or abs(rho) < 0.02


def test_context_is_of_the_market_and_the_neighbourhood(frame: pd.DataFrame) -> None:
    groups = {feature.name: feature.group for feature in FEATURES}
    assert {groups[name] for name in CONTEXT_FEATURES} == {"location", "market"}
    with pytest.raises(InvalidInput, match="near_leads_90d"):
        context_correlations(frame)
    assert context_correlations(frame.head(0), features=NAMES).empty
