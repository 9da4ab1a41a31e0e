"""Makes a snapshot of a market: the heavy half, which serving never imports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
import structlog
from numpy.typing import ArrayLike, NDArray

from aiqleads.domain import US_PER_DAY, US_PER_HOUR, Intent, Tier
from aiqleads.errors import NotReady
from aiqleads.features.build import build_serving_frames, build_serving_pairs
from aiqleads.features.catalog import (
    AGENT_FEATURES,
    AGENT_INGREDIENTS,
    CROSS_FEATURES,
    LEAD_FEATURES,
    LEAD_INGREDIENTS,
    PAIR_INGREDIENTS,
)
from aiqleads.geo.grid import parent
from aiqleads.geo.privacy import coarsen
from aiqleads.ingest.market import Market, load_market
from aiqleads.recommend.allocation import SHARE, TRUST, Chances, Demand, solve
from aiqleads.recommend.candidates import Filters, near, offered
from aiqleads.recommend.cards import shown_price
from aiqleads.recommend.diversity import twins
from aiqleads.recommend.recommend import POOL, Scores, feature_matrix
from aiqleads.recommend.snapshot import (
    CELL_RESOLUTION,
    Array,
    Manifest,
    Priced,
    Snapshot,
    prune,
    write,
)
from aiqleads.settings import Settings
from aiqleads.store.consents import stopped_leads
from aiqleads.store.database import open_room, reader
from aiqleads.store.sources import withheld_leads

log = structlog.get_logger(__name__)

#: how far back requests are counted, days
RATE_DAYS = 28
_RATE_PRIOR_DAYS = 7.0


class Quote(Protocol):
    """The price list: what `commerce.pricing.quote_many` promises."""

    def __call__(
        self,
        *,
        intent: NDArray[np.str_],
        ask_price_cents: ArrayLike,
        quality: ArrayLike,
        age_hours: ArrayLike,
        max_buyers: ArrayLike,
        tier: str,
    ) -> NDArray[np.int64]:
        """Lead fees in cents, shape (n,)."""
        ...


@dataclass(frozen=True)
class Offering:
    """What prices of places are found with: whose scores, what they mean, what leads cost.

    keenness: what an agent buys over what the chances foretell, by agent_id; 1 where an agent
    is not named. shown: leads on a page. rings: around a territory, that pages are made from;
    None looks as far as `recommend` does. horizon_days: demand beyond is left to leads that
    have not come yet. share: see `allocation.worth`. trust: how much of the prices is stored.
    """

    scorer: Scores
    chances: Chances
    quote: Quote
    shown: int = 30
    rings: int | None = None
    horizon_days: float = 7.0
    share: float = SHARE
    trust: float = TRUST
    keenness: Mapping[str, float] = field(default_factory=dict)


def publish(
    settings: Settings,
    market_name: str,
    as_of_market_us: int,
    offering: Offering | None = None,
    entering_until_us: int | None = None,
) -> str:
    """Publishes the leads on offer at `as_of` (market clock, us) and returns the version.

    offering: with it the snapshot carries prices of places for its model (`allocation`).
    entering_until_us: leads that come in before this moment are in it too, for replays in which
    they enter as they come; their rows know their own facts and the market as of `as_of`.

    A lead is on offer from its arrival until it expires, unless its source is paused or its
    batch was taken back. The same frames and moment give the same version. Raises NotReady
    where leads or agents are missing or no lead is there at that moment.
    """
    started = time.perf_counter()
    market = load_market(market_name, settings)
    core = settings.data / "core" / market.name
    for name in ("leads", "agents"):
        if not (core / f"{name}.parquet").is_file():
            raise NotReady(f"{core / name}.parquet is missing: ingest and simulate first")
    leads = pd.read_parquet(core / "leads.parquet")
    until_us = max(entering_until_us or 0, as_of_market_us)
    alive = (leads.received_market_us < until_us) & (leads.expires_market_us > as_of_market_us)
    if not alive.any():
        raise NotReady(f"no lead of the market '{market.name}' is on offer at {as_of_market_us}")
    # Where all that there is is withheld, a snapshot of nothing takes the old one's place.
    on_offer = alive & ~leads.lead_id.isin(_withheld(settings))
    leads = leads[on_offer].sort_values("lead_id", ignore_index=True)
    agents = pd.read_parquet(core / "agents.parquet").sort_values("agent_id", ignore_index=True)
    lead_ids = leads.lead_id.tolist()
    lead_frame, agent_frame = build_serving_frames(settings, market.name, as_of_market_us, lead_ids)
    pairs = build_serving_pairs(settings, market.name, as_of_market_us, lead_ids)
    manifest = manifest_of(market, as_of_market_us, leads, agents)
    columns = columns_of(leads, agents, lead_frame, agent_frame, pairs)
    pricing = None
    if offering is not None:
        rates = request_rates(settings, market, as_of_market_us, agents)
        pricing = partial(
            price_places, offering=offering, rates=rates, agents=agents, until_us=until_us
        )
    version = write(settings, manifest, columns, pricing)
    gone = prune(settings)
    log.info(
        "snapshot_published",
        version=version,
        leads=len(leads),
        agents=len(agents),
        pruned=len(gone),
        seconds=round(time.perf_counter() - started, 2),
    )
    return version


def request_rates(
    settings: Settings, market: Market, as_of_market_us: int, agents: pd.DataFrame
) -> NDArray[np.float64]:
    """Requests a day to expect of each agent, (m,) in the order of `agents`.

    Those of the last `RATE_DAYS` that are known, leaning to the mean of the agent's tier, which
    counts like a week: of an agent without a history it is all there is.
    """
    counts = pd.Series(0.0, index=agents.agent_id)
    days = 0.0
    path = settings.data / "core" / market.name / "events" / "rankings.parquet"
    if path.is_file():
        since = as_of_market_us - RATE_DAYS * US_PER_DAY
        asked = pd.read_parquet(
            path, columns=["request_id", "agent_id", "at_market_us", "arrived_market_us"]
        ).drop_duplicates("request_id")
        known = (asked.at_market_us >= since) & (asked.arrived_market_us < as_of_market_us)
        asked = asked[known]
        if len(asked):
            days = (as_of_market_us - max(since, int(asked.at_market_us.min()))) / US_PER_DAY
        seen = asked.agent_id.value_counts()
        counts = counts.add(seen, fill_value=0.0).loc[agents.agent_id]
    usual = counts.groupby(agents.tier.to_numpy()).transform("mean") / max(days, 1.0)
    rates = (counts + _RATE_PRIOR_DAYS * usual) / (days + _RATE_PRIOR_DAYS)
    return rates.to_numpy(np.float64)


def price_places(
    snapshot: Snapshot,
    offering: Offering,
    rates: NDArray[np.float64],
    agents: pd.DataFrame,
    until_us: int,
) -> tuple[Priced, dict[str, Array]]:
    """Prices of places and budgets for a snapshot, see `allocation`.

    rates: requests a day, (m,) in the order of `agents`, rows as stored. until_us: leads that
    are open by then count.
    """
    manifest, columns = snapshot.manifest, snapshot.columns
    rank = pd.Series(np.arange(len(agents)), index=agents.agent_id)
    order = rank.loc[[bytes(name).decode() for name in columns["agent_id"]]].to_numpy()
    agents, rates = agents.iloc[order], rates[order]
    pairs = [_offered_to(snapshot, offering, row, until_us) for row in range(len(agents))]
    lead = np.concatenate([np.empty(0, np.int64), *(rows for rows, _, _ in pairs)])
    agent = np.repeat(np.arange(len(pairs)), [len(rows) for rows, _, _ in pairs])
    fee = np.concatenate([np.empty(0), *(fees for _, _, fees in pairs)])
    width = len(offering.scorer.features)
    X = np.concatenate([np.empty((0, width), np.float32), *(X for _, X, _ in pairs)])
    keen = agents.agent_id.map(dict(offering.keenness)).fillna(1.0).to_numpy(np.float64)
    chance = np.minimum(offering.chances.of(offering.scorer.score(X)) * keen[agent], 1.0)
    left_us = columns["expires_market_us"][lead] - manifest.as_of_market_us
    days = np.minimum(left_us / US_PER_DAY, offering.horizon_days)
    places = manifest.lead_features.index("lead_places_left")
    usual = float(fee.mean()) if len(fee) else 1.0
    prices = solve(
        Demand(
            page=agent,
            agent=agent,
            lead=lead,
            chance=chance,
            fee_cents=fee,
            requests=rates[agent] * days,
            places=columns["lead_features"][:, places].astype(np.float64),
            budget_cents=_budgets(snapshot, agents, offering.horizon_days),
        ),
        offering.chances.attention,
        offering.shown,
        usual_fee_cents=usual,
        share=offering.share,
    )
    priced = Priced(offering.scorer.version, offering.chances, usual, offering.share)
    return priced, {
        "slot_price_cents": offering.trust * prices.slot_cents,
        "budget_price": offering.trust * prices.budget,
    }


def _offered_to(
    snapshot: Snapshot, offering: Offering, row: int, until_us: int
) -> tuple[Array, Array, Array]:
    """An agent's candidates, the model's input for them, and their fees in cents."""
    manifest, columns = snapshot.manifest, snapshot.columns
    agent = snapshot.agent(bytes(columns["agent_id"][row]).decode())
    if offering.rings is None:
        rows = near(snapshot, agent, offering.shown * POOL, Filters(), until_us).rows
    else:
        rings = [snapshot.rows_in(snapshot.ring(agent, n)) for n in range(offering.rings + 1)]
        rows = offered(snapshot, np.concatenate(rings), Filters(), agent.tier, until_us)
    X = feature_matrix(snapshot, agent, rows, offering.scorer.features)
    age_us = manifest.as_of_market_us - columns["received_market_us"][rows]
    fees = offering.quote(
        intent=np.asarray(manifest.intents)[columns["intent"][rows]],
        ask_price_cents=columns["ask_price_cents"][rows],
        quality=columns["quality"][rows],
        age_hours=np.maximum(age_us, 0) / US_PER_HOUR,
        max_buyers=columns["max_buyers"][rows],
        tier=str(agent.tier),
    )
    return rows, X, fees.astype(np.float64)


def _budgets(snapshot: Snapshot, agents: pd.DataFrame, horizon_days: float) -> NDArray[np.float64]:
    """What agents may spend within the horizon, cents: of this month's rest, and of the next."""
    manifest = snapshot.manifest
    column = manifest.agent_features.index("agent_budget_left")
    left = 100.0 * snapshot.columns["agent_features"][:, column].astype(np.float64)
    now = pd.Timestamp(manifest.as_of_market_us, unit="us", tz="UTC").tz_convert(manifest.timezone)
    month_days = ((now + pd.offsets.MonthBegin()).normalize() - now).total_seconds() / 86_400
    this = min(1.0, horizon_days / max(month_days, 1 / 24))
    coming = max(horizon_days - month_days, 0.0) / 30.0
    monthly = agents.monthly_budget_cents.to_numpy(np.float64)
    return np.asarray(np.nan_to_num(left) * this + monthly * coming)


def _withheld(settings: Settings) -> set[str]:
    engine = open_room(settings, "leads")
    try:
        with reader(engine).connect() as connection:
            return withheld_leads(connection) | stopped_leads(connection)
    finally:
        engine.dispose()


def columns_of(
    leads: pd.DataFrame,
    agents: pd.DataFrame,
    lead_frame: pd.DataFrame,
    agent_frame: pd.DataFrame,
    pairs: pd.DataFrame,
) -> dict[str, Array]:
    """A snapshot's columns as `write` takes them.

    leads, agents: stored rows, those on offer. lead_frame: their features, row by row the
    same. agent_frame, pairs: with their ids, in any order.
    """
    return {
        **_lead_columns(leads, lead_frame),
        **_agent_columns(agents, agent_frame),
        "pair_agent_id": _ids(pairs.agent_id),
        "pair_lead_id": _ids(pairs.lead_id),
        "pair_ingredients": pairs[list(PAIR_INGREDIENTS)].to_numpy(float),
    }


def manifest_of(
    market: Market, as_of_market_us: int, leads: pd.DataFrame, agents: pd.DataFrame
) -> Manifest:
    """What a snapshot of these leads and agents says of itself."""
    return Manifest(
        market=market.name,
        title=market.title,
        timezone=market.timezone,
        currency=market.currency,
        clock=market.clock,
        as_of_market_us=as_of_market_us,
        lead_features=LEAD_FEATURES,
        agent_features=AGENT_FEATURES,
        cross_features=CROSS_FEATURES,
        lead_ingredients=LEAD_INGREDIENTS,
        agent_ingredients=AGENT_INGREDIENTS,
        pair_ingredients=PAIR_INGREDIENTS,
        intents=tuple(str(intent) for intent in Intent),
        property_types=tuple(sorted(leads.property_type.unique())),
        leads=len(leads),
        agents=len(agents),
        notice=_notice(leads, agents),
    )


def _notice(leads: pd.DataFrame, agents: pd.DataFrame) -> str:
    """What in the snapshot nobody ever did or was, in one sentence; empty where all is real."""
    said = []
    wholly = leads.invented == "all"
    if wholly.any():
        said.append(f"{int(wholly.sum())} of {len(leads)} leads are invented altogether")
    fields = {name for text in leads.invented[~wholly].unique() for name in text.split(",") if name}
    if fields:
        rest = "the others" if said else "the leads"
        said.append(
            f"{rest} stand in for recorded sales, with invented {', '.join(sorted(fields))}"
        )
    if agents.invented.any():
        said.append("the agents and what they did are simulated")
    return f"Sample market: {'; '.join(said)}." if said else ""


def _lead_columns(leads: pd.DataFrame, frame: pd.DataFrame) -> dict[str, Array]:
    cells = leads.cell.to_numpy(np.int64)
    intents, types = list(Intent), sorted(leads.property_type.unique())
    price = leads.ask_price_cents.to_numpy(np.int64)
    plain = ("beds", "baths", "living_area_sqft", "year_built", "max_buyers", "quality")
    return {
        "lead_id": _ids(leads.lead_id),
        "cell": parent(cells, CELL_RESOLUTION),
        "shown_cell": coarsen(cells),
        "intent": leads.intent.map(intents.index).to_numpy(),
        "property_type": leads.property_type.map(types.index).to_numpy(),
        "ask_price_cents": price,
        "shown_price_cents": shown_price(price),
        "received_market_us": leads.received_market_us.to_numpy(np.int64),
        "expires_market_us": leads.expires_market_us.to_numpy(np.int64),
        # A lead that is yet to come will have no age when it does.
        "lead_features": frame[list(LEAD_FEATURES)]
        .assign(hours_since_received=frame.hours_since_received.clip(lower=0.0))
        .to_numpy(np.float32),
        "lead_ingredients": frame[list(LEAD_INGREDIENTS)].to_numpy(float),
        "demand": _demand(frame.area_demand_30d.to_numpy(float)),
        "twin": twins(
            leads.utm_x_m.to_numpy(float),
            leads.utm_y_m.to_numpy(float),
            price,
            leads.living_area_sqft.to_numpy(float),
            _has_a_home(leads),
        ),
        **{name: leads[name].to_numpy(float) for name in plain},
    }


def _demand(openings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Demand by area against the middle of the areas that have any, to a tenth: of all agents
    together, so that a price tells nothing of one of them. 1 where nothing is known."""
    some = openings[np.isfinite(openings) & (openings > 0)]
    if not len(some):
        return np.ones(len(openings))
    return np.nan_to_num(np.round(openings / np.median(some), 1), nan=1.0)


def _has_a_home(leads: pd.DataFrame) -> NDArray[np.bool_]:
    """Whose person sells a home whose very place is known, not the middle of an area."""
    sells = (leads.intent == Intent.SELL).to_numpy()
    if "place_precision" in leads:
        sells &= (leads.place_precision == "point").to_numpy()
    return np.asarray(sells)


def _agent_columns(agents: pd.DataFrame, frame: pd.DataFrame) -> dict[str, Array]:
    frame = frame.set_index("agent_id").loc[agents.agent_id]
    territories = np.empty(len(agents), dtype=object)
    for row, (cells, home) in enumerate(zip(agents.territory, agents.home_cell, strict=True)):
        # Without a territory an agent is looked after around home.
        territories[row] = (
            np.asarray(cells, np.int64)
            if len(cells)
            else parent(np.array([home], np.int64), CELL_RESOLUTION)
        )
    return {
        "agent_id": _ids(agents.agent_id),
        "agent_tier": agents.tier.map(lambda name: Tier(name).code).to_numpy(),
        "agent_features": frame[list(AGENT_FEATURES)].to_numpy(np.float32),
        "agent_ingredients": frame[list(AGENT_INGREDIENTS)].to_numpy(float),
        "territories": territories,
    }


def _ids(names: pd.Series[str]) -> Array:
    codes, known = pd.factorize(names)
    return np.asarray(known, dtype=str).astype(np.bytes_)[codes]
