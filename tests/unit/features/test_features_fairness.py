"""Proxies are caught by what they foretell, whatever they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiqleads.errors import InvalidInput
from aiqleads.features import tables
from aiqleads.features.build import build_training_frame
from aiqleads.features.catalog import FEATURE_NAMES
from aiqleads.features.fairness import BOUND, benjamini_hochberg, proxies
from aiqleads.settings import Settings

AREAS, ROWS = 80, 6_000


@pytest.fixture(scope="module")
def areas() -> np.ndarray:
    return np.random.default_rng(1).integers(0, AREAS, ROWS)


@pytest.fixture(scope="module")
def honest(areas: np.ndarray) -> pd.DataFrame:
    """Features of rows and of areas, none of which knows anything of an attribute."""
    rng = np.random.default_rng(2)
    of_area = {f"area_{i}": rng.normal(size=AREAS)[areas] for i in range(20)}
    of_row = {f"row_{i}": rng.normal(size=ROWS) for i in range(20)}
    frame = pd.DataFrame(of_area | of_row)
    frame.loc[rng.random(ROWS) < 0.1, "row_3"] = np.nan
    return frame.assign(constant=1.0, empty=np.nan)


def _attribute(seed: int) -> np.ndarray:
    """An invented share of a protected class in each area."""
    return np.random.default_rng(seed).beta(2, 5, AREAS)


def test_a_planted_proxy_is_caught_under_a_harmless_name(
    honest: pd.DataFrame, areas: np.ndarray
) -> None:
    share = _attribute(3)
    rng = np.random.default_rng(4)
    noisy = share[areas] + rng.normal(0.0, share.std(), ROWS)
    planted = honest.assign(area_view_pace=noisy)
    found = proxies(planted, pd.Series(share[areas]), areas, seed=5)
    assert [each.feature for each in found] == ["area_view_pace"]
    assert found[0].explained == pytest.approx(0.5, abs=0.1)
    assert found[0].adjusted <= 0.05


def test_a_proxy_that_no_correlation_shows_is_caught(
    honest: pd.DataFrame, areas: np.ndarray
) -> None:
    share = _attribute(6)
    folded = np.abs(share - np.median(share))[areas]
    missing = np.where(share[areas] > np.quantile(share, 0.7), np.nan, 1.0)
    for name, values in (("folded", folded), ("missing", missing)):
        attribute = pd.Series(folded if name == "folded" else share[areas])
        signed = values * np.where(share[areas] > np.median(share), 1.0, -1.0)
        planted = honest.assign(proxy=signed if name == "folded" else values)
        found = proxies(planted, attribute, areas, seed=7)
        assert [each.feature for each in found] == ["proxy"], name


def test_a_share_of_surnames_is_caught(honest: pd.DataFrame) -> None:
    """The unit need not be a place: a surname carries the attribute here."""
    rng = np.random.default_rng(8)
    surname = rng.integers(0, 300, ROWS)
    belongs = (rng.random(300) < 0.3).astype(float)
    planted = honest.assign(contact_pattern=belongs[surname] + rng.normal(0, 0.4, ROWS))
    found = proxies(planted, pd.Series(belongs[surname]), surname, seed=9)
    assert [each.feature for each in found] == ["contact_pattern"]


def test_independent_attributes_are_found_in_no_feature(
    honest: pd.DataFrame, areas: np.ndarray
) -> None:
    found = [
        proxies(honest, pd.Series(_attribute(100 + seed)[areas]), areas, seed=seed)
        for seed in range(10)
    ]
    # At a false discovery rate of 5 %, about one attribute in twenty may be found.
    assert sum(bool(each) for each in found) <= 2


def test_the_catalogue_knows_nothing_of_an_attribute_invented_apart_from_it(
    market_home: Settings,
) -> None:
    frame = pd.read_parquet(build_training_frame(market_home, "made"))
    with tables.open_tables(market_home, "made") as opened:
        area = opened.leads.select("lead_id", "area").to_pandas().set_index("lead_id")["area"]
    areas = area[frame["lead_id"]].to_numpy()
    names = np.unique(areas)
    hits = 0
    for seed in range(5):
        share = pd.Series(np.random.default_rng(seed).beta(2, 5, len(names)), index=names)
        attribute = share[areas].reset_index(drop=True)
        features = frame[list(FEATURE_NAMES)]
        hits += bool(proxies(features, attribute, areas, seed=seed))
        planted = features.assign(area_sales_trend=attribute.to_numpy(np.float32))
        caught = {each.feature for each in proxies(planted, attribute, areas, seed=seed)}
        assert "area_sales_trend" in caught
    assert hits <= 1


def test_the_bound_lets_small_associations_pass(honest: pd.DataFrame, areas: np.ndarray) -> None:
    share = _attribute(10)
    faint = share[areas] + np.random.default_rng(11).normal(0.0, share.std() * 6, ROWS)
    planted = honest.assign(faint=faint)
    assert proxies(planted, pd.Series(share[areas]), areas, seed=12) == []
    told = proxies(planted, pd.Series(share[areas]), areas, seed=12, bound=0.005)
    assert [each.feature for each in told] == ["faint"]
    assert 0.005 < told[0].explained < BOUND


def test_adjusted_p_values_are_those_of_the_step_up() -> None:
    raw = np.array([0.01, 0.5, 0.02, 0.03])
    np.testing.assert_allclose(benjamini_hochberg(raw), [0.04, 0.5, 0.04, 0.04])


def test_what_cannot_be_judged_is_refused(honest: pd.DataFrame, areas: np.ndarray) -> None:
    rows = pd.Series(np.random.default_rng(1).normal(size=ROWS))
    with pytest.raises(InvalidInput, match="more than one value"):
        proxies(honest, rows, areas, seed=1)
    with pytest.raises(InvalidInput, match="same everywhere"):
        proxies(honest, pd.Series(np.ones(ROWS)), areas, seed=1)
    share = pd.Series(_attribute(1)[areas])
    with pytest.raises(InvalidInput, match="permutations are too few"):
        proxies(honest, share, areas, seed=1, permutations=99)
