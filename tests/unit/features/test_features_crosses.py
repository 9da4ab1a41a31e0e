"""Crosses give the same bits from an engine's columns and from numpy's."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
import pytest

from aiqleads.features.catalog import (
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
)
from aiqleads.features.crosses import CROSSES, cross_matrix

N = 3_000
AGENT = dict.fromkeys(AGENT_INGREDIENTS, 1.0) | {
    "home_x_m": 280_000.0,
    "home_y_m": 4_600_000.0,
    "engaged_x_m": 281_000.0,
    "engaged_y_m": 4_600_000.0,
    "engaged_spread_m2": 4_000_000.0,
    "second_x_m": 285_000.0,
    "second_y_m": 4_600_000.0,
    "band_low_log": 11.0,
    "band_high_log": 12.0,
    "engaged_sell_share": 0.75,
}


def _ingredients(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    scale = {
        **dict.fromkeys(LEAD_INGREDIENTS + AGENT_INGREDIENTS, (0.0, 5.0)),
        **{name: (3e5, 1e4) for name in LEAD_INGREDIENTS + AGENT_INGREDIENTS if "_m" in name},
        "engaged_spread_m2": (4e6, 1e6),
        "engaged_log_price_spread2": (0.3, 0.05),
    }
    frame = pd.DataFrame({name: rng.normal(*scale[name], N) for name in scale})
    for name in frame.columns:
        frame.loc[rng.random(N) < 0.05, name] = np.nan
    for name in PAIR_INGREDIENTS:
        frame[name] = rng.integers(0, 5, N).astype(float)
    return frame


def _same_bits(left: np.ndarray, right: np.ndarray) -> None:
    assert left.dtype == right.dtype == np.float32
    missing = np.isnan(left)
    np.testing.assert_array_equal(missing, np.isnan(right))
    np.testing.assert_array_equal(
        np.where(missing, 0, left).view(np.uint32), np.where(missing, 0, right).view(np.uint32)
    )


@pytest.mark.parametrize("cross", CROSSES, ids=lambda cross: cross.__name__)
def test_ibis_and_numpy_agree_bit_by_bit(cross) -> None:
    frame = _ingredients(seed=11)
    # As in the lake, what is missing is NULL there and NaN here.
    table = ibis.memtable(frame.astype("Float64"))
    own = {name: table[name] for name in AGENT_INGREDIENTS}
    theirs = {name: table[name] for name in (*LEAD_INGREDIENTS, *PAIR_INGREDIENTS)}
    made = table.select(cross=cross(own, theirs).cast("float32")).to_pandas()["cross"]
    arrays = {name: frame[name].to_numpy() for name in frame.columns}
    with np.errstate(invalid="ignore"):
        plain = cross(arrays, arrays).astype(np.float32)
    _same_bits(made.to_numpy(dtype=np.float32), plain)
    assert np.isfinite(plain).mean() > 0.5


def test_the_matrix_holds_one_column_a_cross_for_one_agent() -> None:
    frame = _ingredients(seed=12)
    lead = {name: frame[name].to_numpy() for name in (*LEAD_INGREDIENTS, *PAIR_INGREDIENTS)}
    out = cross_matrix(AGENT, lead)
    assert out.shape == (N, len(CROSS_FEATURES))
    assert out.flags.f_contiguous
    for column, cross in enumerate(CROSSES):
        with np.errstate(invalid="ignore"):
            _same_bits(out[:, column], cross(AGENT, lead).astype(np.float32))


def _one(**changed: float) -> dict[str, float]:
    lead = {"x_m": 283_000.0, "y_m": 4_604_000.0, "ask_log": 12.5, "seller": 1.0}
    lead |= {"grade": 0.5} | changed
    row = cross_matrix(AGENT, {name: np.array([value]) for name, value in lead.items()})[0]
    return dict(zip(CROSS_FEATURES, row.tolist(), strict=True))


def test_crosses_say_what_they_mean() -> None:
    one = _one()
    assert one["home_distance_km2"] == 25.0  # 3 km east, 4 km north
    assert one["engaged_distance_km2"] == 20.0
    assert one["engaged_distance_scaled"] == 5.0
    assert one["focus_distance_km2"] == one["second_distance_km2"] == 20.0
    assert one["ask_outside_band"] == 0.5
    assert _one(ask_log=10.75)["ask_outside_band"] == 0.25
    assert _one(ask_log=11.5)["ask_outside_band"] == 0.0
    assert one["intent_match"] == 0.75
    assert _one(seller=0.0)["intent_match"] == 0.25


def test_agents_and_leads_without_a_history_have_none() -> None:
    one = _one()
    assert one["shown_to_you"] == one["opened_by_you"] == one["passed_over"] == 0.0
    seen = _one(own_shown=2.0, own_attention=1.5, own_views=1.0, own_holds=0.0)
    assert seen["shown_to_you"] == 2.0
    assert seen["passed_over"] == 0.75


def test_a_missing_ingredient_makes_its_crosses_missing_and_no_other() -> None:
    one = _one(ask_log=np.nan)
    assert np.isnan(one["ask_outside_band"])
    assert np.isnan(one["ask_vs_engaged_scaled"])
    assert one["home_distance_km2"] == 25.0


def test_a_lead_without_an_ingredient_is_refused() -> None:
    with pytest.raises(KeyError, match="x_m"):
        cross_matrix(AGENT, {"y_m": np.zeros(3)})
