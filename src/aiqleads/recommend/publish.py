"""Makes a snapshot of a market: the heavy half, which serving never imports."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import structlog

from aiqleads.domain import Intent, Tier
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
from aiqleads.recommend.cards import shown_price
from aiqleads.recommend.snapshot import CELL_RESOLUTION, Array, Manifest, prune, write
from aiqleads.settings import Settings
from aiqleads.store.database import open_room, reader
from aiqleads.store.sources import withheld_leads

log = structlog.get_logger(__name__)


def publish(settings: Settings, market_name: str, as_of_market_us: int) -> str:
    """Publishes the leads on offer at `as_of` (market clock, us) and returns the version.

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
    alive = (leads.received_market_us < as_of_market_us) & (
        leads.expires_market_us > as_of_market_us
    )
    if not alive.any():
        raise NotReady(f"no lead of the market '{market.name}' is on offer at {as_of_market_us}")
    # Where all that there is is withheld, a snapshot of nothing takes the old one's place.
    offered = alive & ~leads.lead_id.isin(_withheld(settings))
    leads = leads[offered].sort_values("lead_id", ignore_index=True)
    agents = pd.read_parquet(core / "agents.parquet").sort_values("agent_id", ignore_index=True)
    lead_ids = leads.lead_id.tolist()
    lead_frame, agent_frame = build_serving_frames(settings, market.name, as_of_market_us, lead_ids)
    pairs = build_serving_pairs(settings, market.name, as_of_market_us, lead_ids)
    manifest = manifest_of(market, as_of_market_us, leads, agents)
    version = write(settings, manifest, columns_of(leads, agents, lead_frame, agent_frame, pairs))
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


def _withheld(settings: Settings) -> set[str]:
    engine = open_room(settings, "leads")
    try:
        with reader(engine).connect() as connection:
            return withheld_leads(connection)
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
        said.append(
            f"the others stand in for recorded sales, with invented {', '.join(sorted(fields))}"
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
        "lead_features": frame[list(LEAD_FEATURES)].to_numpy(np.float32),
        "lead_ingredients": frame[list(LEAD_INGREDIENTS)].to_numpy(float),
        **{name: leads[name].to_numpy(float) for name in plain},
    }


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
    return names.to_numpy(str).astype(np.bytes_)
