"""Taste, fading and market context against figures counted by hand in pandas."""

from __future__ import annotations

from collections.abc import Callable

import h3
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY
from aiqleads.features.build import build_frame, build_serving_frames
from aiqleads.features.catalog import CENTRES, PLACES, PRICE_STEP_LOG, PRICE_STEPS
from aiqleads.features.taste import HALF_LIFE_DAYS, MEMORY_DAYS
from aiqleads.settings import Settings

Frames = dict[str, pd.DataFrame]
Write = Callable[[Frames], Settings]
WEIGHTS = {"view": 1.0, "hold": 2.0, "purchase": 3.0}


@pytest.fixture(scope="module")
def busy(make: Callable[..., Frames]) -> Frames:
    """A market of few agents, who therefore have done much."""
    return make(seed=3, agents=3, requests=90, shown=10, leads=500)


@pytest.fixture(scope="module")
def home(
    busy: Frames, tmp_path_factory: pytest.TempPathFactory, put: Callable[..., Settings]
) -> Settings:
    return put(tmp_path_factory.mktemp("busy"), busy)


@pytest.fixture(scope="module")
def as_of(busy: Frames) -> int:
    return int(busy["events/rankings"]["at_market_us"].quantile(0.9))


@pytest.fixture(scope="module")
def served(home: Settings, busy: Frames, as_of: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    leads = busy["leads"].query("received_market_us < @as_of")["lead_id"].tolist()
    return build_serving_frames(home, "made", as_of, leads)


def _done(frames: Frames, as_of: int, days: float) -> pd.DataFrame:
    """Interactions known before `as_of` of the last days, with their lead and age in days."""
    done = frames["events/interactions"].sort_values("arrived_market_us")
    done = done.drop_duplicates("event_id")
    age = (as_of - done["at_market_us"]) / US_PER_DAY
    told = done.assign(age=age)[(age > 0) & (age <= days) & (done["arrived_market_us"] < as_of)]
    told = told.merge(frames["leads"], on="lead_id", suffixes=("", "_lead"))
    return told.assign(weight=told["kind"].map(WEIGHTS).fillna(0.0))


def _shown(frames: Frames, as_of: int, days: float) -> pd.DataFrame:
    asked = frames["events/rankings"]
    age = (as_of - asked["at_market_us"]) / US_PER_DAY
    asked = asked.assign(age=age)
    asked = asked[(age > 0) & (age <= days) & (asked["arrived_market_us"] < as_of)]
    shown = frames["events/impressions"].merge(asked, on="request_id")
    shown = shown.merge(frames["leads"], on="lead_id", suffixes=("", "_lead"))
    return shown.assign(attention=1.0 / shown["position"])


def _fade(age: pd.Series, half_life: float) -> pd.Series:
    return 2.0 ** (-age / half_life)


def test_fading_counts_halve_by_the_half_life(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    leads, agents = (frame.set_index(frame.columns[0]) for frame in served)
    month, week = _done(busy, as_of, 30), _done(busy, as_of, 7)
    interest = (month["weight"] * _fade(month["age"], 7)).groupby(month["lead_id"]).sum()
    interest = interest.reindex(leads.index).fillna(0.0)
    np.testing.assert_allclose(leads["lead_interest_faded"], interest, atol=0.02)
    week = week[week["kind"] == "view"]
    views = _fade(week["age"], 1).groupby(week["lead_id"]).sum().reindex(leads.index).fillna(0.0)
    np.testing.assert_allclose(leads["lead_views_faded"], views, atol=0.01)
    shown = _shown(busy, as_of, 30)
    looks = (shown["attention"] * _fade(shown["age"], 7)).groupby(shown["lead_id"]).sum()
    looks = looks.reindex(leads.index).fillna(0.0)
    np.testing.assert_allclose(leads["lead_interest_rate"], (interest + 1) / (looks + 5), atol=0.01)
    own = (month["weight"] * _fade(month["age"], 7)).groupby(month["agent_id"]).sum()
    own = own.reindex(agents.index).fillna(0.0)
    np.testing.assert_allclose(agents["agent_engagement_faded"], own, atol=0.05)
    assert (interest > 0).sum() > 5


def test_lifts_compare_engagement_with_the_attention_it_was_shown_with(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    agents = served[1].set_index("agent_id")
    stored = busy["agents"].set_index("agent_id")
    done, shown = _done(busy, as_of, MEMORY_DAYS), _shown(busy, as_of, MEMORY_DAYS)
    done = done.assign(amount=done["weight"] * _fade(done["age"], HALF_LIFE_DAYS))
    shown = shown.assign(amount=shown["attention"] * _fade(shown["age"], HALF_LIFE_DAYS))
    for agent_id, row in agents.iterrows():
        low, high = stored.loc[agent_id, ["price_low_cents", "price_high_cents"]] / 100
        middle = (np.log(low) + np.log(high)) / 2
        mine = [frame[frame["agent_id"] == agent_id] for frame in (done, shown)]
        engaged, looks = (frame["amount"].sum() for frame in mine)
        usual = (engaged + 1) / (looks + 5)
        assert row["agent_engaged_rate"] == pytest.approx(usual, rel=0.01)
        for intent in ("sell", "buy"):
            weight, seen = (frame.loc[frame["intent"] == intent, "amount"].sum() for frame in mine)
            lift = (weight + 5 * usual) / (seen + 5) / usual
            assert row[f"lift_{intent}"] == pytest.approx(lift, rel=0.02)
        half = (PRICE_STEPS - 1) // 2
        for step in range(PRICE_STEPS):
            of_step = []
            for frame in mine:
                off = np.log(frame["ask_price_cents"] / 100) - middle
                at = (off / PRICE_STEP_LOG).round().clip(-half, half) + half
                of_step.append(frame.loc[at == step, "amount"].sum())
            lift = (of_step[0] + 5 * usual) / (of_step[1] + 5) / usual
            assert row[f"lift_price_{step}"] == pytest.approx(lift, rel=0.02), step


def test_centres_stand_apart_and_hold_all_engagement(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    agents = served[1].set_index("agent_id")
    done = _done(busy, as_of, MEMORY_DAYS)
    done = done.assign(amount=done["weight"] * _fade(done["age"], HALF_LIFE_DAYS))
    several = 0
    for agent_id, row in agents.iterrows():
        mine = done[done["agent_id"] == agent_id]
        weighs = [row[f"centre_{n}_weighs"] for n in range(1, CENTRES + 1)]
        assert sum(weighs) == pytest.approx(mine["amount"].sum(), abs=0.1)
        places = [
            (row[f"centre_{n}_x_m"], row[f"centre_{n}_y_m"])
            for n in range(1, CENTRES + 1)
            if weighs[n - 1] > 0
        ]
        several += len(places) > 1
        # The mean of the centres is that of the engagement.
        for axis in range(2):
            centre = sum(w * p[axis] for w, p in zip(weighs, places, strict=False)) / sum(weighs)
            mean = np.average(mine[["utm_x_m", "utm_y_m"][axis]], weights=mine["amount"])
            assert centre == pytest.approx(mean, abs=10.0)
    assert several


def test_places_hold_what_was_shown_in_the_areas_shown_most(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    agents = served[1].set_index("agent_id")
    shown = _shown(busy, as_of, MEMORY_DAYS)
    area = shown["cell"].map(lambda cell: h3.cell_to_parent(h3.int_to_str(int(cell)), 7))
    amount = shown["attention"] * _fade(shown["age"], HALF_LIFE_DAYS)
    for agent_id, row in agents.iterrows():
        mine = shown["agent_id"] == agent_id
        by_area = amount[mine].groupby(area[mine]).sum().sort_values(ascending=False)
        looks = [row[f"place_{n}_looks"] for n in range(1, PLACES + 1)]
        expected = [*by_area.head(PLACES), *[0.0] * PLACES][:PLACES]
        assert looks == pytest.approx(expected, rel=0.02, abs=0.01)
        first = mine & (area == by_area.index[0])
        east = np.average(shown.loc[first, "utm_x_m"], weights=amount[first])
        assert row["place_1_shown_x_m"] == pytest.approx(east, abs=10.0)


def test_what_was_engaged_with_is_a_weighted_mean(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    agents = served[1].set_index("agent_id")
    done = _done(busy, as_of, MEMORY_DAYS)
    done = done.assign(amount=done["weight"] * _fade(done["age"], HALF_LIFE_DAYS))
    quoted = busy["events/impressions"][["request_id", "lead_id", "price_cents"]]
    done = done.merge(quoted, on=["request_id", "lead_id"], suffixes=("", "_quoted"))
    shown = _shown(busy, as_of, MEMORY_DAYS)
    fade = _fade(shown["age"], HALF_LIFE_DAYS)
    for agent_id, row in agents.iterrows():
        mine = done[(done["agent_id"] == agent_id) & (done["amount"] > 0)]
        with_beds = mine[mine["beds"].notna()]
        beds = np.average(with_beds["beds"], weights=with_beds["amount"])
        assert row["engaged_beds"] == pytest.approx(beds, abs=0.02)
        own = shown["agent_id"] == agent_id
        usual = np.average(np.log(shown.loc[own, "price_cents"] / 100), weights=fade[own])
        fee = (mine["amount"] * np.log(mine["price_cents_quoted"] / 100)).sum() + 3 * usual
        assert row["agent_fee_level"] == pytest.approx(fee / (mine["amount"].sum() + 3), abs=0.01)


def test_market_context_is_that_of_a_plain_count(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    def area_of(cells: pd.Series) -> pd.Series:
        return cells.map(lambda cell: h3.cell_to_parent(h3.int_to_str(int(cell)), 7))

    leads = busy["leads"].assign(area=area_of(busy["leads"]["cell"]))
    leads = leads[leads["received_market_us"] < as_of]
    age = (as_of - leads["received_market_us"]) / US_PER_DAY
    done = _done(busy, as_of, 90)
    done = done.assign(area=area_of(done["cell"]))
    bought = done[done["kind"] == "purchase"]
    known = _done(busy, as_of, 9e3).query("kind == 'purchase'")
    frame = served[0].set_index("lead_id")
    assert len(bought) > 3
    for lead in leads.iloc[::40].itertuples():
        row, here = frame.loc[lead.lead_id], leads["area"] == lead.area
        recent = leads[here & (age <= 30)]
        taken = known["lead_id"].isin(recent["lead_id"]).sum()
        assert row["area_places_left_30d"] == recent["max_buyers"].sum() - taken
        mine = bought[bought["area"] == lead.area]
        share = mine["agent_id"].value_counts(normalize=True)
        concentration = row["area_buyer_concentration_90d"]
        assert (
            concentration == pytest.approx((share**2).sum())
            if len(mine)
            else np.isnan(concentration)
        )
        waited = (bought["at_market_us"] - bought["received_market_us"]) / US_PER_DAY
        own = waited[bought["area"] == lead.area]
        drawn = (own.sum() + 5 * waited.mean()) / (len(own) + 5)
        assert row["area_days_to_sell_90d"] == pytest.approx(drawn, abs=0.05)
        quarter = leads[here & (age <= 90)]
        sellers = (quarter["intent"] == "sell").sum()
        assert row["area_seller_share_90d"] == pytest.approx((sellers + 1) / (len(quarter) + 2))


def test_the_spread_of_prices_is_drawn_to_the_markets(
    served: tuple[pd.DataFrame, pd.DataFrame], busy: Frames, as_of: int
) -> None:
    sales = busy["sales"]
    age = (as_of - sales["sold_market_us"]) / US_PER_DAY
    sales = sales[(age > 0) & (age <= 365) & sales["living_area_sqft"].notna()]
    value = np.log(sales["price_cents"] / 100 / sales["living_area_sqft"])
    area = sales["cell"].map(lambda cell: h3.cell_to_parent(h3.int_to_str(int(cell)), 7))
    leads = busy["leads"].set_index("lead_id")
    frame = served[0].set_index("lead_id")
    for lead_id in frame.index[::50]:
        cell = h3.int_to_str(int(leads["cell"][lead_id]))
        mine = value[area == h3.cell_to_parent(cell, 7)]
        n = len(mine)
        squares = mine.var() * (n - 1) if n > 1 else 0.0
        spread = np.sqrt((squares + 5 * value.var()) / (max(n - 1, 0) + 5))
        assert frame["area_sqft_spread_365d"][lead_id] == pytest.approx(spread, abs=1e-3)


def test_months_end_with_the_calendar(home: Settings, busy: Frames) -> None:
    lead = busy["leads"]["lead_id"].iloc[0]
    keys = {"request_id": "x", "agent_id": "A0000", "lead_id": lead}
    times = ["1994-04-30 12:00", "1994-05-01 00:00", "1994-12-31 23:59:59.999999"]
    spine = pd.DataFrame(
        [keys | {"as_of_us": int(pd.Timestamp(text).value // 1000)} for text in times]
    )
    left = build_frame(home, "made", spine)["agent_month_left"]
    assert left.tolist() == pytest.approx([0.5, 31.0, 1e-6 / 86_400], abs=1e-9)


def test_a_new_agent_stands_at_home_without_a_taste(write: Write, frames: Frames) -> None:
    quiet = {name: frame for name, frame in frames.items() if not name.startswith("events/")}
    as_of = int(frames["leads"]["received_market_us"].iloc[25])
    ids = frames["leads"]["lead_id"].head(5).tolist()
    _, agents = build_serving_frames(write(quiet), "made", as_of, ids)
    for place in ("centre_1", "centre_3", "place_1_shown", "place_8_engaged"):
        assert agents[f"{place}_x_m"].equals(agents["home_x_m"]), place
    assert (agents["lift_sell"] == 1.0).all()
    assert (agents["lift_price_0"] == 1.0).all()
    assert agents["engaged_beds"].isna().all()
    assert agents["agent_fee_level"].isna().all()
