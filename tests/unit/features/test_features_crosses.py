"""Crosses give the same bits from an engine's columns and from numpy's."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
import pytest

from aiqleads.features.catalog import (
    AGENT_INGREDIENTS,
    CENTRES,
    CROSS_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
    PLACES,
    PRICE_STEPS,
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
    "centre_1_x_m": 283_000.0,
    "centre_1_y_m": 4_602_000.0,
    **{
        f"{place}_{axis}_m": metres
        for place in (
            *(f"centre_{n}" for n in range(2, CENTRES + 1)),
            *(f"place_{n}_{done}" for n in range(1, PLACES + 1) for done in ("shown", "engaged")),
        )
        for axis, metres in (("x", 280_000.0), ("y", 4_600_000.0))
    },
    **{f"place_{n}_{what}": 0.0 for n in range(1, PLACES + 1) for what in ("looks", "weighs")},
    **{f"centre_{n}_weighs": 0.0 for n in range(1, CENTRES + 1)},
    **{f"lift_price_{step}": 1.0 + step for step in range(PRICE_STEPS)},
    "engaged_rate": 0.2,
}


def _ingredients(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    scale = {
        **dict.fromkeys(LEAD_INGREDIENTS + AGENT_INGREDIENTS, (0.0, 5.0)),
        **{name: (3e5, 1e4) for name in LEAD_INGREDIENTS + AGENT_INGREDIENTS if "_m" in name},
        "engaged_spread_m2": (4e6, 1e6),
        **{name: (0.3, 0.05) for name in AGENT_INGREDIENTS if name.endswith("price_spread2")},
        **{name: (2.0, 0.3) for name in AGENT_INGREDIENTS if name.endswith(("weighs", "looks"))},
    }
    frame = pd.DataFrame({name: rng.normal(*scale[name], N) for name in scale})
    for name in frame.columns:
        frame.loc[rng.random(N) < 0.005, name] = np.nan
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


def _one(agent: dict[str, float] = AGENT, **changed: float) -> dict[str, float]:
    lead = {"x_m": 283_000.0, "y_m": 4_604_000.0, "ask_log": 12.5, "seller": 1.0}
    lead |= {"grade": 0.5, "rooms": 3.0, "size_log": 7.0, "fee_log": 4.0, "fee": 55.0} | changed
    row = cross_matrix(agent, {name: np.array([value]) for name, value in lead.items()})[0]
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


def test_places_are_weighed_by_their_distance() -> None:
    assert _one()["nearest_centre_km2"] == 4.0  # 2 km north of the first centre
    assert _one()["place_lift"] == 1.0  # nothing was shown: as usual
    agent = AGENT | {"place_1_looks": 10.0, "place_1_weighs": 8.0}
    here = {"x_m": 280_000.0, "y_m": 4_600_000.0}
    lifted = _one(agent=agent, **here)
    assert lifted["place_looks"] == 10.0
    # 8 of 10 looks, and the usual 1 of 5 as by 5 looks, over that usual
    assert lifted["place_lift"] == pytest.approx((8.0 + 1.0) / (10.0 + 5.0) / 0.2)
    far = _one(agent=agent)
    assert far["place_lift"] == pytest.approx(1.0, abs=0.05)
    heavy = AGENT | {"centre_1_weighs": 3.0}
    at_centre = {"x_m": 283_000.0, "y_m": 4_602_000.0}
    assert _one(agent=heavy, **at_centre)["centres_affinity"] > 0.5
    assert _one(**at_centre)["centres_affinity"] < 0.05


def test_lifts_are_read_between_the_steps() -> None:
    middle = 11.5
    assert _one(ask_log=middle)["price_lift"] == 4.0
    assert _one(ask_log=middle + 0.3)["price_lift"] == pytest.approx(5.0)
    assert _one(ask_log=middle + 0.45)["price_lift"] == pytest.approx(5.5)
    assert _one(ask_log=99.0)["price_lift"] == 7.0
    assert _one(ask_log=-99.0)["price_lift"] == 1.0
    agent = AGENT | {"lift_sell": 1.5, "lift_buy": 0.5}
    assert _one(agent=agent)["intent_lift"] == 1.5
    assert _one(agent=agent, seller=0.0)["intent_lift"] == 0.5


def test_prices_of_an_intent_sizes_and_fees_are_compared_with_what_was_engaged_with() -> None:
    agent = AGENT | {"engaged_log_price_sell": 12.0, "engaged_log_price_buy": 11.0}
    agent |= {"engaged_log_price_sell_spread2": 0.5, "engaged_log_price_buy_spread2": 0.25}
    assert _one(agent=agent)["ask_vs_engaged_of_intent"] == 0.5
    assert _one(agent=agent)["ask_vs_engaged_of_intent_scaled"] == 0.5
    assert _one(agent=agent, seller=0.0)["ask_vs_engaged_of_intent"] == 1.5
    assert _one(agent=agent, seller=0.0)["ask_vs_engaged_of_intent_scaled"] == 9.0
    agent = AGENT | {"engaged_beds": 2.5, "engaged_log_size": 7.5, "engaged_log_fee": 3.0}
    one = _one(agent=agent | {"budget_left": 109.0})
    assert one["beds_vs_engaged"] == 0.5
    assert one["size_vs_engaged"] == -0.5
    assert one["fee_vs_engaged"] == 1.0
    assert one["fee_of_budget"] == 0.5


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
