"""A snapshot of stored frames: who is in it, and that serving sees what training saw."""

from __future__ import annotations

from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
import pytest

from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.errors import NotReady, UnknownName
from aiqleads.features.build import build_frame
from aiqleads.features.catalog import FEATURE_NAMES, LEAD_FEATURES
from aiqleads.geo.grid import cells, parent
from aiqleads.geo.utm import project
from aiqleads.ingest.market import load_market
from aiqleads.recommend.allocation import Chances
from aiqleads.recommend.candidates import Filters
from aiqleads.recommend.publish import Offering, _notice, publish, request_rates
from aiqleads.recommend.recommend import feature_matrix, recommend
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings

AS_OF_US = 883_630_800_000_000
MARKET = """
name = "made"
title = "Made up"
timezone = "America/New_York"
crs = "EPSG:32617"
clock = "frozen"
[sales]
columns = { price = "p", lon = "x", lat = "y", sold = "d" }
date_format = "%Y-%m-%d"
[split]
train_until = 1996-12-31
validate_until = 1997-12-31
"""


def places(rng: np.random.Generator, n: int) -> dict[str, Any]:
    lon, lat = -83.55 + rng.normal(0, 0.03, n), 41.65 + rng.normal(0, 0.02, n)
    x, y = project(lon, lat, "EPSG:32617")
    return {"lon": lon, "lat": lat, "cell": cells(lon, lat), "utm_x_m": x, "utm_y_m": y}


def lead_frame(rng: np.random.Generator, n: int) -> pd.DataFrame:
    received = AS_OF_US - rng.integers(-2 * US_PER_DAY, 60 * US_PER_DAY, n)
    frame = pd.DataFrame(
        {
            "lead_id": [f"L{i:04d}" for i in rng.permutation(n)],
            "market": "made",
            "intent": rng.choice(["sell", "buy"], n),
            "property_type": rng.choice(["house", "condo"], n),
            "received_market_us": received,
            "expires_market_us": received + 30 * US_PER_DAY,
            "ask_price_cents": rng.integers(5_000_000, 40_000_000, n),
            "beds": rng.integers(1, 6, n).astype(float),
            "baths": rng.integers(1, 4, n).astype(float),
            "living_area_sqft": rng.integers(600, 4000, n).astype(float),
            "lot_area_sqft": rng.integers(1000, 9000, n).astype(float),
            "year_built": rng.integers(1900, 1997, n).astype(float),
            "max_buyers": rng.integers(1, 4, n),
            "submissions": 1,
            "quality": rng.random(n).round(3),
            "invented": np.where(rng.random(n) < 0.5, "contact,ask_price_cents", "all"),
        }
        | places(rng, n)
    )
    frame.loc[rng.random(n) < 0.2, ["beds", "living_area_sqft", "year_built"]] = np.nan
    return frame


def agent_frame(rng: np.random.Generator, n: int) -> pd.DataFrame:
    place = places(rng, n)
    farms = [list(h3.grid_disk(int(cell), 1)) for cell in parent(place["cell"], 8)]
    farms[0] = []
    low = rng.integers(5_000_000, 10_000_000, n)
    return pd.DataFrame(
        {
            "agent_id": [f"A{i:04d}" for i in rng.permutation(n)],
            "name": "Agent",
            "tier": rng.choice(["basic", "pro", "enterprise"], n),
            "home_x_m": place["utm_x_m"],
            "home_y_m": place["utm_y_m"],
            "home_cell": place["cell"],
            "territory": farms,
            "price_low_cents": low,
            "price_high_cents": low * 2,
            "monthly_budget_cents": 50_000,
            "joined_market_us": AS_OF_US - 900 * US_PER_DAY,
            "invented": True,
        }
    )


def event_frames(
    rng: np.random.Generator, leads: pd.DataFrame, agents: pd.DataFrame, n: int
) -> dict[str, pd.DataFrame]:
    at = AS_OF_US - rng.integers(-US_PER_DAY, 40 * US_PER_DAY, n)
    rankings = pd.DataFrame(
        {
            "request_id": [f"R{i}" for i in range(n)],
            "agent_id": rng.choice(agents.agent_id, n),
            "at_market_us": at,
            "arrived_market_us": at + rng.integers(0, US_PER_HOUR, n),
        }
    )
    shown = rankings.loc[rankings.index.repeat(4)].reset_index(drop=True)
    shown["lead_id"] = rng.choice(leads.lead_id, len(shown))
    shown["position"] = np.tile(np.arange(1, 5, dtype=np.int32), n)
    shown["price_cents"] = 3_000
    shown = shown.drop_duplicates(["request_id", "lead_id"])
    done = shown.sample(frac=0.5, random_state=1).reset_index(drop=True)
    done["event_id"] = [f"E{i}" for i in range(len(done))]
    done["kind"] = rng.choice(["view", "view", "hold", "release", "purchase"], len(done))
    return {"rankings": rankings, "impressions": shown, "interactions": done}


@pytest.fixture
def market(home: Settings) -> Settings:
    rng = np.random.default_rng(4)
    core = home.data / "core" / "made"
    (core / "events").mkdir(parents=True)
    (home.data / "sample").mkdir()
    (home.data / "sample" / "made.toml").write_text(MARKET)
    leads, agents = lead_frame(rng, 150), agent_frame(rng, 8)
    leads.to_parquet(core / "leads.parquet")
    agents.to_parquet(core / "agents.parquet")
    sales = pd.DataFrame(
        {
            "sale_id": [f"S{i}" for i in range(300)],
            "sold_market_us": AS_OF_US - rng.integers(-30, 500, 300) * US_PER_DAY,
            "price_cents": rng.integers(4_000_000, 30_000_000, 300),
            "living_area_sqft": rng.integers(600, 4000, 300).astype(float),
            "region": "r",
        }
        | places(rng, 300)
    )
    sales.to_parquet(core / "sales.parquet")
    for name, frame in event_frames(rng, leads, agents, 200).items():
        frame.to_parquet(core / "events" / f"{name}.parquet")
    return home


def test_a_snapshot_holds_the_leads_on_offer_and_all_agents(market: Settings) -> None:
    version = publish(market, "made", AS_OF_US)
    snapshot = Snapshot.load(market)
    leads = pd.read_parquet(market.data / "core" / "made" / "leads.parquet")
    alive = leads[(leads.received_market_us < AS_OF_US) & (leads.expires_market_us > AS_OF_US)]
    ids = {snapshot.lead_id(row) for row in range(snapshot.manifest.leads)}
    assert 0 < len(alive) < len(leads)
    assert ids == set(alive.lead_id)
    assert snapshot.version == version
    assert snapshot.manifest.features == FEATURE_NAMES
    assert (snapshot.manifest.agents, snapshot.manifest.clock) == (8, "frozen")
    for row in alive.itertuples():
        place = snapshot.lead_row(row.lead_id)
        assert snapshot.columns["ask_price_cents"][place] == row.ask_price_cents
        assert snapshot.manifest.intents[snapshot.columns["intent"][place]] == row.intent
        kind = snapshot.manifest.property_types[snapshot.columns["property_type"][place]]
        assert kind == row.property_type
        shown = int(snapshot.columns["shown_cell"][place])
        if shown:
            resolution = h3.get_resolution(shown)
            assert resolution <= 9
            assert h3.cell_to_parent(row.cell, resolution) == shown
    shown = snapshot.columns["shown_cell"]
    assert np.unique(shown[shown != 0], return_counts=True)[1].min() >= 5
    notice = snapshot.manifest.notice
    for word in ("altogether", "ask_price_cents", "contact", "simulated"):
        assert word in notice


def test_serving_sees_the_very_bits_that_training_saw(market: Settings) -> None:
    publish(market, "made", AS_OF_US)
    snapshot = Snapshot.load(market)
    lead_ids = [snapshot.lead_id(row) for row in range(snapshot.manifest.leads)]
    history = 0
    for agent_id in ("A0000", "A0003", "A0007"):
        agent = snapshot.agent(agent_id)
        served = feature_matrix(snapshot, agent, np.arange(len(lead_ids)))
        spine = pd.DataFrame({"request_id": "r", "agent_id": agent_id, "lead_id": lead_ids})
        trained = build_frame(market, "made", spine.assign(as_of_us=AS_OF_US))
        wanted = trained[list(FEATURE_NAMES)].to_numpy(np.float32)
        differ = (served != wanted) & ~(np.isnan(served) & np.isnan(wanted))
        assert not differ.any(), np.array(FEATURE_NAMES)[differ.any(axis=0)]
        history += int((served[:, FEATURE_NAMES.index("shown_to_you")] > 0).sum())
    assert history > 0


def test_publishing_again_is_the_same_version(market: Settings) -> None:
    first = publish(market, "made", AS_OF_US)
    assert publish(market, "made", AS_OF_US) == first
    assert publish(market, "made", AS_OF_US - US_PER_DAY) != first


def test_an_agent_without_a_territory_is_served_around_home(
    market: Settings, serving_world: dict[str, Any]
) -> None:
    publish(market, "made", AS_OF_US)
    snapshot = Snapshot.load(market)
    agents = pd.read_parquet(market.data / "core" / "made" / "agents.parquet")
    bare = agents[agents.territory.map(len) == 0].agent_id.iloc[0]
    assert len(snapshot.ring(snapshot.agent(bare), 0)) == 1
    scorer = serving_world["make_scorer"]()
    found = recommend(snapshot, scorer, lambda _ids: set(), bare, 5, Filters(), AS_OF_US)
    assert len(found.items) == 5


def test_what_cannot_be_published(market: Settings) -> None:
    with pytest.raises(UnknownName):
        publish(market, "atlantis", AS_OF_US)
    with pytest.raises(NotReady, match="on offer"):
        publish(market, "made", AS_OF_US + 900 * US_PER_DAY)
    (market.data / "core" / "made" / "agents.parquet").unlink()
    with pytest.raises(NotReady, match=r"agents\.parquet"):
        publish(market, "made", AS_OF_US)


class ByQuality:
    """A model that reads one column."""

    features = ("quality",)
    version = "by quality"

    def score(self, X: Any) -> Any:
        return 3.0 * X[:, 0].astype(float)


def by_size(**about: Any) -> Any:
    return np.full(len(about["ask_price_cents"]), {"basic": 5_000}.get(about["tier"], 4_000))


def offering(**more: Any) -> Offering:
    return Offering(ByQuality(), Chances(-3.0, 1.0, 0.5), by_size, **more)


def test_an_offering_gives_prices_of_places_to_the_leads_that_many_want(
    market: Settings,
) -> None:
    publish(market, "made", AS_OF_US)
    before = Snapshot.load(market)
    assert before.manifest.allocation is None
    publish(market, "made", AS_OF_US, offering(trust=1.0, horizon_days=30.0, rings=8))
    snapshot = Snapshot.load(market)
    assert snapshot.manifest.allocation is not None
    assert snapshot.manifest.allocation.model_version == "by quality"
    slot = snapshot.columns["slot_price_cents"]
    assert slot.shape == (snapshot.manifest.leads,)
    assert (slot >= 0).all()
    places = snapshot.columns["lead_features"][:, LEAD_FEATURES.index("lead_places_left")]
    wanted = snapshot.columns["quality"] > np.median(snapshot.columns["quality"])
    assert slot[wanted].sum() >= slot[~wanted].sum()
    assert (slot > 0).any()
    assert ((snapshot.columns["budget_price"] >= 0) & (snapshot.columns["budget_price"] < 1)).all()
    assert (places >= 0).all()
    for name, values in before.columns.items():
        np.testing.assert_array_equal(values, snapshot.columns[name])
    half = publish(market, "made", AS_OF_US, offering(trust=0.5, horizon_days=30.0, rings=8))
    assert half != snapshot.version
    np.testing.assert_allclose(Snapshot.load(market).columns["slot_price_cents"], 0.5 * slot)


def test_requests_are_expected_by_the_log_and_of_strangers_by_their_tier(
    market: Settings,
) -> None:
    core = market.data / "core" / "made"
    agents = pd.read_parquet(core / "agents.parquet").sort_values("agent_id", ignore_index=True)
    asked = pd.read_parquet(core / "events" / "rankings.parquet")
    asked = asked[asked.agent_id != "A0004"]
    asked.to_parquet(core / "events" / "rankings.parquet")
    rates = request_rates(market, load_market("made", market), AS_OF_US, agents)
    assert (rates > 0).all()
    known = asked[
        (asked.at_market_us >= AS_OF_US - 28 * US_PER_DAY) & (asked.arrived_market_us < AS_OF_US)
    ]
    busiest = known.agent_id.value_counts().index[0]
    assert agents.agent_id[int(np.argmax(rates))] == busiest
    assert rates.sum() == pytest.approx(len(known) / 28, rel=0.1)
    (core / "events" / "rankings.parquet").unlink()
    assert not request_rates(market, load_market("made", market), AS_OF_US, agents).any()


@pytest.mark.parametrize(
    ("invented", "said"),
    [
        (["beds,name"] * 2, "the leads stand in for recorded sales, with invented beds, name"),
        (["all", "name"], "1 of 2 leads are invented altogether; the others stand in for"),
        (["", ""], ""),
    ],
)
def test_a_notice_says_what_is_invented(invented: list[str], said: str) -> None:
    leads, agents = pd.DataFrame({"invented": invented}), pd.DataFrame({"invented": [False]})
    notice = _notice(leads, agents)
    assert notice.startswith(f"Sample market: {said}") if said else notice == ""


def test_two_people_who_sell_one_home_are_near_duplicates(market: Settings) -> None:
    path = market.data / "core" / "made" / "leads.parquet"
    leads = pd.read_parquet(path)
    alive = leads[
        (leads.received_market_us < AS_OF_US)
        & (leads.expires_market_us > AS_OF_US)
        & (leads.intent == "sell")
    ]
    one, other = alive.index[:2]
    for column in ("utm_x_m", "utm_y_m", "cell", "lon", "lat"):
        leads.loc[other, column] = leads.loc[one, column]
    leads.to_parquet(path)
    publish(market, "made", AS_OF_US)
    snapshot = Snapshot.load(market)
    twin = snapshot.columns["twin"]
    rows = [snapshot.lead_row(leads.lead_id[n]) for n in (one, other)]
    assert twin[rows[0]] == twin[rows[1]] >= 0
    assert (twin >= 0).sum() < len(twin) / 2


def test_an_agent_without_a_history_and_a_lead_of_a_minute_are_ranked(
    market: Settings, serving_world: dict[str, Any]
) -> None:
    core = market.data / "core" / "made"
    leads = pd.read_parquet(core / "leads.parquet")
    agents = pd.read_parquet(core / "agents.parquet")
    stranger = agents.iloc[[1]].assign(
        agent_id="A9000", tier="enterprise", joined_market_us=AS_OF_US - 60_000_000
    )
    pd.concat([agents, stranger]).to_parquet(core / "agents.parquet")
    fresh = leads[leads.cell == leads.cell].iloc[[0]].assign(
        lead_id="L9000", intent="sell", received_market_us=AS_OF_US - 60_000_000,
        expires_market_us=AS_OF_US + 30 * US_PER_DAY,
    )  # fmt: skip
    for column in ("cell", "lon", "lat", "utm_x_m", "utm_y_m"):
        near = leads.index[leads.cell == stranger.home_cell.iloc[0]]
        fresh[column] = leads.loc[near[0] if len(near) else leads.index[0], column]
    pd.concat([leads, fresh]).to_parquet(core / "leads.parquet")
    publish(market, "made", AS_OF_US, offering())
    snapshot = Snapshot.load(market)
    scorer = serving_world["make_scorer"]()
    found = recommend(snapshot, scorer, lambda _ids: set(), "A9000", 200, Filters(), AS_OF_US)
    shown = {item.lead_id for item in found.items}
    assert "L9000" in shown, "a lead of a minute is offered to whoever may see it at once"
    assert all(np.isfinite(item.score) and len(item.reasons) == 3 for item in found.items)
    basic = agents.agent_id[agents.tier == "basic"]
    for agent_id in basic.head(1):
        late = recommend(snapshot, scorer, lambda _ids: set(), agent_id, 200, Filters(), AS_OF_US)
        assert "L9000" not in {item.lead_id for item in late.items}
