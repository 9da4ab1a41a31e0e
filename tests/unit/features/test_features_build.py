"""Frames: what they hold, that they know nothing later, and that serving gets the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h3
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.features import tables
from aiqleads.features.build import (
    build_frame,
    build_serving_frames,
    build_serving_pairs,
    build_training_frame,
)
from aiqleads.features.catalog import (
    AGENT_FEATURES,
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    FEATURE_NAMES,
    LEAD_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
)
from aiqleads.features.crosses import cross_matrix
from aiqleads.settings import Settings

KEYS = ["request_id", "agent_id", "lead_id", "position", "at_market_us", "label", "price_cents"]
Frames = dict[str, pd.DataFrame]
Write = Callable[[Frames], Settings]


@pytest.fixture(scope="module")
def built(market_home: Settings) -> pd.DataFrame:
    return pd.read_parquet(build_training_frame(market_home, "made"))


def _bits(frame: pd.DataFrame) -> np.ndarray:
    values = frame.to_numpy(dtype=np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)


def _differing(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """Names of the columns whose bits differ anywhere."""
    assert list(left.columns) == list(right.columns)
    unlike = (_bits(left) != _bits(right)).any(axis=0)
    return [name for name, differs in zip(left.columns, unlike, strict=True) if differs]


def _spine(frame: pd.DataFrame) -> pd.DataFrame:
    keys = frame[["request_id", "agent_id", "lead_id"]]
    return keys.assign(as_of_us=frame["at_market_us"])


# --- shape -----------------------------------------------------------------------------


def test_the_training_frame_has_every_impression_and_feature(
    built: pd.DataFrame, frames: Frames
) -> None:
    assert list(built.columns) == [*KEYS, *FEATURE_NAMES]
    assert (built[list(FEATURE_NAMES)].dtypes == np.float32).all()
    assert built["label"].dtype == np.int8
    assert built["position"].dtype == np.int32
    shown = frames["events/impressions"]
    assert len(built) == len(shown)
    pairs = pd.MultiIndex.from_frame(built[["request_id", "lead_id"]])
    assert pairs.is_unique
    assert set(pairs) == set(pd.MultiIndex.from_frame(shown[["request_id", "lead_id"]]))


def test_rows_of_a_request_stand_together_in_order_of_time(built: pd.DataFrame) -> None:
    order = built.sort_values(["at_market_us", "request_id", "position"]).index
    assert (order == built.index).all()


def test_no_feature_is_empty_or_infinite(built: pd.DataFrame) -> None:
    values = built[list(FEATURE_NAMES)]
    assert not np.isinf(values.to_numpy()).any()
    assert (values.notna().mean() > 0).all()


# --- labels ----------------------------------------------------------------------------


LABELS: list[tuple[list[tuple[str, float]], int]] = [
    ([("view", 0.0)], 1),
    ([("view", 0.1), ("hold", 1.0), ("release", 2.0)], 2),
    ([("view", 0.1), ("purchase", 13.9)], 3),
    ([("view", 0.1), ("purchase", 14.0)], 1),
    ([("view", 0.1), ("purchase", 1.0), ("return", 5.0)], 0),
    ([("purchase", 1.0), ("return", 15.0)], 3),
    ([("view", -0.1)], 0),
    ([], 0),
]


def test_labels_are_the_furthest_step_of_fourteen_days(write: Write, frames: Frames) -> None:
    ranking = frames["events/rankings"].iloc[[10]]
    request, at = ranking["request_id"].item(), int(ranking["at_market_us"].item())
    shown = frames["events/impressions"].query("request_id == @request")
    assert len(shown) == len(LABELS)
    done = [
        {
            "event_id": f"{lead_id}{i}",
            "request_id": request,
            "agent_id": ranking["agent_id"].item(),
            "lead_id": lead_id,
            "kind": kind,
            "at_market_us": at + int(days * US_PER_DAY),
            # Arriving after the window closes does not change what happened in it.
            "arrived_market_us": at + int((days + 40) * US_PER_DAY),
            "price_cents": 5_000,
            "reason": "",
        }
        for lead_id, (steps, _) in zip(shown["lead_id"], LABELS, strict=True)
        for i, (kind, days) in enumerate(steps)
    ]
    events = {
        "events/rankings": ranking,
        "events/impressions": shown,
        "events/interactions": pd.DataFrame(done),
    }
    frame = pd.read_parquet(build_training_frame(write({**frames, **events}), "made"))
    label = frame.set_index("lead_id")["label"]
    assert label[shown["lead_id"]].tolist() == [expected for _, expected in LABELS]


def test_some_rankings_evenly_in_time_have_the_features_of_all(
    market_home: Settings, built: pd.DataFrame, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(market_home.data / "core", home / "data" / "core")
    some = pd.read_parquet(build_training_frame(Settings(home=home), "made", 7))
    order = built["request_id"].drop_duplicates().tolist()
    places = sorted(order.index(request) for request in some["request_id"].drop_duplicates())
    assert len(places) == 7
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    kept = built[built["request_id"].isin(some["request_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, kept)


@pytest.fixture(scope="module")
def sampled(built: pd.DataFrame) -> list[str]:
    requests = built["request_id"].drop_duplicates().to_numpy()
    return requests[[5, len(requests) // 2, len(requests) - 5]].tolist()


# --- serving ---------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_serving_gets_the_bits_that_training_saw(
    market_home: Settings, built: pd.DataFrame, sampled: list[str], which: int
) -> None:
    rows = built[built["request_id"] == sampled[which]].reset_index(drop=True)
    as_of, agent_id = int(rows["at_market_us"].iloc[0]), rows["agent_id"].iloc[0]
    ids = rows["lead_id"].tolist()
    leads, agents = build_serving_frames(market_home, "made", as_of, ids)
    pairs = build_serving_pairs(market_home, "made", as_of, ids)
    assert leads["lead_id"].tolist() == ids
    assert list(leads.columns) == ["lead_id", *LEAD_FEATURES, *LEAD_INGREDIENTS]
    assert list(agents.columns) == ["agent_id", *AGENT_FEATURES, *AGENT_INGREDIENTS]
    assert list(pairs.columns) == ["agent_id", "lead_id", *PAIR_INGREDIENTS]
    assert (leads[list(LEAD_INGREDIENTS)].dtypes == np.float64).all()
    assert (agents[list(AGENT_FEATURES)].dtypes == np.float32).all()
    own = agents[agents["agent_id"] == agent_id].iloc[0]
    met = pairs.query("agent_id == @agent_id").set_index("lead_id")[list(PAIR_INGREDIENTS)]
    met = met.reindex(ids).fillna(0.0)
    theirs = {name: leads[name].to_numpy() for name in LEAD_INGREDIENTS}
    theirs |= {name: met[name].to_numpy() for name in PAIR_INGREDIENTS}
    crosses = cross_matrix({name: float(own[name]) for name in AGENT_INGREDIENTS}, theirs)
    served = leads[list(LEAD_FEATURES)].assign(
        **{name: np.float32(own[name]) for name in AGENT_FEATURES},
        **dict(zip(CROSS_FEATURES, crosses.T, strict=True)),
    )
    assert _differing(rows[list(FEATURE_NAMES)], served) == []


def test_pairs_without_a_history_are_left_out(market_home: Settings, frames: Frames) -> None:
    as_of = int(frames["events/rankings"]["at_market_us"].max()) + 1
    ids = frames["leads"]["lead_id"].tolist()
    pairs = build_serving_pairs(market_home, "made", as_of, ids)
    assert (pairs[["own_shown", "own_views", "own_holds"]].sum(axis=1) > 0).all()
    early = build_serving_pairs(market_home, "made", as_of - 10_000 * US_PER_DAY, ids)
    assert early.empty


def test_what_rivals_buy_makes_no_pair(write: Write, frames: Frames) -> None:
    done = frames["events/interactions"]
    lead_id = frames["leads"]["lead_id"].iloc[0]
    rival = {"event_id": "X0001-buys", "request_id": "", "agent_id": "X0001", "kind": "purchase"}
    rival |= {"lead_id": lead_id, "price_cents": 9_000, "reason": ""}
    at = int(frames["leads"]["received_market_us"].iloc[0]) + 1
    rival |= {"at_market_us": at, "arrived_market_us": at}
    bought = pd.concat([done, pd.DataFrame([rival])], ignore_index=True)
    settings = write({**frames, "events/interactions": bought})
    leads, agents = build_serving_frames(settings, "made", at + 1, [lead_id])
    places = frames["leads"]["max_buyers"].iloc[0]
    assert leads["lead_places_left"].item() == places - 1
    assert leads["hours_since_bought"].item() == pytest.approx(1 / 3.6e9)
    assert leads["area_buyer_concentration_90d"].item() == 1.0
    assert "X0001" not in set(agents["agent_id"])
    assert "X0001" not in set(build_serving_pairs(settings, "made", at + 1, [lead_id])["agent_id"])


# --- what the figures say --------------------------------------------------------------


def _counted(frame: pd.DataFrame, as_of: int, days: float, at: str, arrived: str) -> pd.DataFrame:
    inside = (frame[at] < as_of) & (frame[arrived] < as_of) & (frame[at] >= as_of - days * 864e8)
    return frame[inside]


def test_figures_are_those_of_a_plain_count(built: pd.DataFrame, frames: Frames) -> None:
    done = frames["events/interactions"].sort_values("arrived_market_us")
    done = done.drop_duplicates("event_id")
    leads, agents = frames["leads"].set_index("lead_id"), frames["agents"].set_index("agent_id")
    for row in built.iloc[::37].itertuples():
        as_of = row.at_market_us

        def known(days: float, kinds: tuple[str, ...], as_of: int = as_of) -> pd.DataFrame:
            told = done[done["kind"].isin(kinds)]
            return _counted(told, as_of, days, "at_market_us", "arrived_market_us")

        of_lead = known(7, ("view",)).query("lead_id == @row.lead_id")
        assert row.lead_views_7d == len(of_lead)
        ever = known(9e3, ("view",)).query("lead_id == @row.lead_id")
        assert row.lead_viewers == ever["agent_id"].nunique()
        month = pd.Timestamp(as_of, unit="us").replace(day=1).normalize()
        bought = known(31, ("purchase",)).query("agent_id == @row.agent_id")
        bought = bought[pd.to_datetime(bought["at_market_us"], unit="us") >= month]
        budget = agents["monthly_budget_cents"][row.agent_id] - bought["price_cents"].sum()
        assert row.agent_budget_left == pytest.approx(max(budget, 0) / 100)
        own = known(9e3, ("view",)).query("agent_id == @row.agent_id")
        assert row.opened_by_you == (own["lead_id"] == row.lead_id).sum()
        age = (as_of - leads["received_market_us"][row.lead_id]) / US_PER_HOUR
        assert row.hours_since_received == pytest.approx(age)
        engaged = known(90, ("view", "hold", "purchase")).query("agent_id == @row.agent_id")
        weights = engaged["kind"].map({"view": 1, "hold": 2, "purchase": 3})
        assert row.agent_engagement_90d == weights.sum()
        seller = (leads["intent"][engaged["lead_id"]] == "sell").to_numpy()
        share = ((weights * seller).sum() + 1.5) / (weights.sum() + 3)
        assert row.agent_sell_share == pytest.approx(share)


def test_areas_are_counted_by_the_cells_parent(built: pd.DataFrame, frames: Frames) -> None:
    def parent(cell: int, resolution: int) -> str:
        return h3.cell_to_parent(h3.int_to_str(int(cell)), resolution)

    leads, sales = frames["leads"], frames["sales"]
    done = frames["events/interactions"].drop_duplicates("event_id")
    area = leads["cell"].map(lambda cell: parent(cell, 7)).set_axis(leads["lead_id"])
    near = leads["cell"].map(lambda cell: parent(cell, 8)).set_axis(leads["lead_id"])
    sale_area = sales["cell"].map(lambda cell: parent(cell, 7))
    for row in built.iloc[::53].itertuples():
        as_of, mine = row.at_market_us, area[row.lead_id]
        sold = sales[sale_area == mine]
        sold = _counted(sold, as_of, 90, "sold_market_us", "sold_market_us")
        assert row.area_sales_90d == len(sold)
        active = _counted(done, as_of, 30, "at_market_us", "arrived_market_us")
        active = active[active["lead_id"].map(area) == mine]
        assert row.area_active_agents_30d == active["agent_id"].nunique()
        ring = set(h3.grid_disk(near[row.lead_id], 1))
        around = leads[near.isin(ring).to_numpy()]
        around = _counted(around, as_of, 90, "received_market_us", "received_market_us")
        assert row.near_leads_90d == len(around)
        farming = frames["agents"].query("joined_market_us < @as_of")["territory"]
        cell = h3.str_to_int(near[row.lead_id])
        assert row.near_farming_agents == sum(cell in territory for territory in farming)


def test_an_areas_price_is_its_median_drawn_to_the_markets(
    write: Write, frames: Frames, built: pd.DataFrame
) -> None:
    row = built.iloc[-1]
    sales = frames["sales"].copy()
    lead = frames["leads"].set_index("lead_id").loc[row["lead_id"]]
    sales["sold_market_us"] = int(row["at_market_us"]) - 200 * US_PER_DAY
    sales["price_cents"] = 10_000_000
    sales.loc[:4, ["price_cents", "cell"]] = [40_000_000, lead["cell"]]
    far = sales.loc[5:, "cell"].map(lambda cell: cell != 0)
    sales = pd.concat([sales.loc[:4], sales.loc[5:][far].iloc[:20]])
    sales.loc[5:, "cell"] = 0x8A2A1072B59FFFF  # elsewhere
    again = build_frame(write({**frames, "sales": sales}), "made", _spine(built.iloc[[-1]]))
    usual, here = np.log(100_000), np.log(400_000)
    # Five sales in the area weigh as much as the market's median does.
    assert again["area_price"].item() == pytest.approx((usual + here) / 2, rel=1e-6)
    assert again["area_price_trend"].isna().item()
    assert again["area_sales_90d"].item() == 0


def test_late_and_repeated_events_count_once_and_when_known(
    write: Write, frames: Frames, built: pd.DataFrame
) -> None:
    row = built.iloc[[-1]]
    as_of, lead_id = int(row["at_market_us"].item()), row["lead_id"].item()
    event = {
        "request_id": "x",
        "agent_id": "A0001",
        "lead_id": lead_id,
        "kind": "view",
        "at_market_us": as_of - US_PER_DAY,
        "price_cents": 0,
        "reason": "",
    }
    arrivals = {"a": as_of - 1, "b": as_of, "c": as_of + US_PER_DAY}
    rows = [{"event_id": name, "arrived_market_us": at} | event for name, at in arrivals.items()]
    rows.append(rows[0] | {"arrived_market_us": as_of - 5})
    changed = write({**frames, "events/interactions": pd.DataFrame(rows)})
    again = build_frame(changed, "made", _spine(row))
    assert again["lead_views_1d"].item() == 1
    assert again["hours_since_viewed"].item() == 24.0


# --- markets that have less ------------------------------------------------------------

FROM_SALES = [
    "near_sales_365d",
    "area_price",
    "area_price_trend",
    "area_price_spread_365d",
    "area_sqft_spread_90d",
    "area_sqft_spread_365d",
    "area_sales_90d",
    "area_sales_trend",
    "ask_vs_area",
    "ask_per_sqft_vs_area",
]


def _dateless(sales: pd.DataFrame) -> pd.DataFrame:
    return sales.assign(sold_market_us=pd.Series([pd.NA] * len(sales), dtype="Int64"))


@pytest.mark.parametrize(
    "sales",
    [
        _dateless,
        lambda sales: sales.assign(sold_market_us=None),
        lambda sales: sales.assign(sold_market_us=np.nan),
        lambda sales: sales.head(0),
    ],
    ids=["null", "no type", "float", "no sales"],
)
def test_without_sale_dates_figures_from_sales_are_missing_and_no_other(
    write: Write, frames: Frames, built: pd.DataFrame, sales: Callable[..., pd.DataFrame]
) -> None:
    changed = write({**frames, "sales": sales(frames["sales"])})
    rows = built.tail(8).reset_index(drop=True)
    again = build_frame(changed, "made", _spine(rows))
    assert again[FROM_SALES].isna().all().all()
    rest = [name for name in FEATURE_NAMES if name not in FROM_SALES]
    assert _differing(rows[rest], again[rest]) == []


def test_a_market_without_events_still_gets_serving_frames(write: Write, frames: Frames) -> None:
    quiet = {name: frame for name, frame in frames.items() if not name.startswith("events/")}
    settings = write(quiet)
    ids = frames["leads"]["lead_id"].head(20).tolist()
    as_of = int(frames["leads"]["received_market_us"].iloc[25])
    leads, agents = build_serving_frames(settings, "made", as_of, ids)
    assert (leads["lead_views_7d"] == 0).all()
    assert leads["hours_since_viewed"].isna().all()
    assert agents["engaged_x_m"].equals(agents["home_x_m"])
    assert build_serving_pairs(settings, "made", as_of, ids).empty
    with pytest.raises(NotReady, match="no rankings"):
        build_training_frame(settings, "made")


@pytest.mark.parametrize("name", ["leads", "agents"])
def test_a_market_without_leads_or_agents_is_not_ready(
    write: Write, frames: Frames, name: str
) -> None:
    left = {key: frame for key, frame in frames.items() if key != name}
    with pytest.raises(NotReady, match=f"{name}.parquet is missing"):
        build_training_frame(write(left), "made")


def test_nothing_asked_is_nothing_answered(market_home: Settings, built: pd.DataFrame) -> None:
    spine = built[["request_id", "agent_id", "lead_id"]].assign(as_of_us=built["at_market_us"])
    empty = build_frame(market_home, "made", spine.iloc[:0])
    assert empty.empty
    assert set(FEATURE_NAMES) <= set(empty.columns)


def test_unknown_and_repeated_leads_are_refused(market_home: Settings, built: pd.DataFrame) -> None:
    known = built["lead_id"].iloc[0]
    with pytest.raises(InvalidInput, match="'Lnowhere'"):
        build_serving_frames(market_home, "made", 10**15, [known, "Lnowhere"])
    with pytest.raises(InvalidInput, match="twice"):
        build_serving_frames(market_home, "made", 10**15, [known, known])
    spine = _spine(built.head(3))
    with pytest.raises(InvalidInput, match="1 rows of the spine"):
        build_frame(market_home, "made", spine.assign(lead_id=["Lnowhere", known, known]))
    with pytest.raises(InvalidInput, match="no as_of_us"):
        build_frame(market_home, "made", spine.drop(columns="as_of_us"))


def test_a_spine_may_ask_twice_and_keeps_its_order(
    market_home: Settings, built: pd.DataFrame
) -> None:
    rows = built.iloc[[40, 3, 40, 17]].reset_index(drop=True)
    again = build_frame(market_home, "made", _spine(rows))
    assert again["lead_id"].tolist() == rows["lead_id"].tolist()
    names = list(FEATURE_NAMES)
    assert _differing(rows[names], again[names]) == []


def test_a_column_that_is_missing_is_named(write: Write, frames: Frames) -> None:
    changed = {**frames, "leads": frames["leads"].drop(columns="quality")}
    with pytest.raises(NotReady, match="quality"), tables.open_tables(write(changed), "made"):
        pass
