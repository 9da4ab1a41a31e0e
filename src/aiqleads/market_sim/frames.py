"""The log of a simulated market as the frames that a real market would have written.

Each frame of events holds what had ARRIVED before a moment, so that whoever publishes or
trains in the middle of a market sees that and no more. An event never arrives before the
ranking that it belongs to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.domain import US_PER_HOUR, US_PER_SECOND
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.draws import U64, Stream, exponential, keys_of, pick, uniform
from aiqleads.market_sim.log import Kind, Log
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.rivals import rival_id
from aiqleads.market_sim.world import I64, TIERS, World


def event_frames(
    world: World, requests: Requests, log: Log, preset: Preset, *, until_us: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Every frame of events by name: what arrived before `until_us`."""
    return {
        "rankings": rankings_frame(world, requests, log, preset, until_us=until_us, seed=seed),
        "impressions": impressions_frame(
            world, requests, log, preset, until_us=until_us, seed=seed
        ),
        "interactions": interactions_frame(
            world, requests, log, preset, until_us=until_us, seed=seed
        ),
        "oracle": oracle_frame(world, requests, log, preset, until_us=until_us, seed=seed),
        "agents_truth": agents_truth_frame(world),
    }


def agents_frame(world: World) -> pd.DataFrame:
    """One row for each invented agent: what the agent declared, nothing of the taste."""
    agents = world.agents
    return pd.DataFrame(
        {
            "agent_id": agents.ids,
            "name": [f"Simulated agent {name}" for name in agents.ids],
            "tier": [str(TIERS[code]) for code in agents.tier],
            "home_x_m": agents.home_x_m,
            "home_y_m": agents.home_y_m,
            "home_cell": agents.home_cell,
            "territory": [cells.tolist() for cells in agents.territory],
            "price_low_cents": agents.low_cents,
            "price_high_cents": agents.high_cents,
            "monthly_budget_cents": agents.monthly_budget_cents,
            "joined_market_us": agents.joined_us,
            "invented": np.ones(len(agents), dtype=np.bool_),
        }
    )


def agents_truth_frame(world: World) -> pd.DataFrame:
    """Which of the invented agents are bots; no more for a feature than the oracle is."""
    return pd.DataFrame({"agent_id": world.agents.ids, "bot": world.agents.bot})


def rankings_frame(
    world: World, requests: Requests, log: Log, preset: Preset, *, until_us: int, seed: int
) -> pd.DataFrame:
    """One row for each ranking that was shown, in the order of time."""
    arrived_us, kept = _arrived(requests, log, preset, until_us, seed)
    rows = log.slates.answered("number")[kept]
    return pd.DataFrame(
        {
            "request_id": requests.ids[rows],
            "agent_id": world.agents.ids[requests.agent[rows]],
            "at_market_us": requests.at_us[rows],
            "arrived_market_us": arrived_us[kept],
            "model_version": log.slates.answered("model_version")[kept],
            "variant": log.slates.answered("variant")[kept],
            "snapshot_version": f"simulated-{preset.name}",
            "device": np.where(requests.mobile[rows], "mobile", "desktop").astype(object),
            "surface": np.where(requests.on_map[rows], "map", "list").astype(object),
            "preset": preset.name,
        }
    )


def impressions_frame(
    world: World, requests: Requests, log: Log, preset: Preset, *, until_us: int, seed: int
) -> pd.DataFrame:
    """One row for each lead of each ranking, with the policy's exact propensity."""
    kept = _arrived(requests, log, preset, until_us, seed)[1]
    count, number = log.slates.answered("count"), log.slates.answered("number")
    rows = np.repeat(kept, count)
    position = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count) + 1
    return pd.DataFrame(
        {
            "request_id": requests.ids[np.repeat(number[kept], count[kept])],
            "lead_id": world.leads.ids[log.slates.shown("lead")[rows]],
            "position": position[rows].astype(np.int32),
            "propensity": log.slates.shown("propensity")[rows],
            "price_cents": log.slates.shown("fee_cents")[rows],
        },
        copy=False,
    )


def oracle_frame(
    world: World, requests: Requests, log: Log, preset: Preset, *, until_us: int, seed: int
) -> pd.DataFrame:
    """The truth of the model for each lead of each agent's ranking, none for bots'."""
    arrived = _arrived(requests, log, preset, until_us, seed)[1]
    count, number = log.slates.answered("count"), log.slates.answered("number")
    kept = arrived & ~world.agents.bot[requests.agent[number]]
    rows = np.repeat(kept, count)
    relevance = log.slates.shown("relevance")[rows]
    return pd.DataFrame(
        {
            "request_id": requests.ids[np.repeat(number[kept], count[kept])],
            "lead_id": world.leads.ids[log.slates.shown("lead")[rows]],
            "relevance": relevance,
            "p_purchase": log.slates.shown("p_purchase")[rows],
            "would_purchase": log.slates.shown("would_purchase")[rows],
            "score_full": relevance,
            "score_known": log.slates.shown("score_known")[rows],
            "p_return": log.slates.shown("p_return")[rows],
        },
        copy=False,
    )


def interactions_frame(
    world: World, requests: Requests, log: Log, preset: Preset, *, until_us: int, seed: int
) -> pd.DataFrame:
    """One row for each step of an agent, purchase of a rival and second delivery of either.

    In the order of arrival; a second delivery repeats the first in all but its arrival.
    """
    frame = pd.concat(
        [_steps(world, requests, log, preset, seed), _rivals(world, log, preset, seed)],
        ignore_index=True,
    )
    frame = _with_duplicates(frame, preset, seed)
    frame = frame[frame["arrived_market_us"] < until_us]
    return frame.sort_values(["arrived_market_us", "event_id"], ignore_index=True)


def _steps(world: World, requests: Requests, log: Log, preset: Preset, seed: int) -> pd.DataFrame:
    at_us = np.array([at for at, _, _ in log.steps], dtype=np.int64)
    kind = np.array([kind for _, kind, _ in log.steps], dtype=np.int64)
    request, lead, agent, fee, position = (
        np.array([getattr(look, name) for _, _, look in log.steps], dtype=np.int64)
        for name in ("request", "lead", "agent", "fee_cents", "position")
    )
    who = (requests.key[request], world.leads.key[lead])
    reasons = np.array(list(preset.returns.reasons), dtype=object)
    reason = reasons[pick(preset.returns.reasons.values(), uniform(seed, Stream.REASON, *who))]
    names = np.array([each.name.lower() for each in Kind], dtype=object)[kind]
    ids = requests.ids[request]
    waited = _transport_us(preset, seed, *who, kind.astype(np.uint64), may_be_late=True)
    ranked_us = requests.at_us[request] + _transport_us(preset, seed, requests.key[request])
    return pd.DataFrame(
        {
            "event_id": np.array(
                [
                    f"{name}-{place:02d}-{step}"
                    for name, place, step in zip(ids, position, names, strict=True)
                ],
                dtype=object,
            ),
            "request_id": ids,
            "agent_id": world.agents.ids[agent],
            "lead_id": world.leads.ids[lead],
            "kind": names,
            "at_market_us": at_us,
            "arrived_market_us": np.maximum(at_us + waited, ranked_us),
            "price_cents": np.where(kind == Kind.PURCHASE, fee, 0),
            "reason": np.where(kind == Kind.RETURN, reason, "").astype(object),
        }
    )


def _rivals(world: World, log: Log, preset: Preset, seed: int) -> pd.DataFrame:
    """Purchases without a ranking, by buyers that are not in agents.parquet."""
    lead_ids = [world.leads.ids[bought.lead] for bought in log.rivals]
    who = [rival_id(bought.rival) for bought in log.rivals]
    ids = [f"{rival}-{lead}-purchase" for rival, lead in zip(who, lead_ids, strict=True)]
    at_us = np.array([bought.at_us for bought in log.rivals], dtype=np.int64)
    waited = _transport_us(preset, seed, keys_of(ids), may_be_late=True)
    return pd.DataFrame(
        {
            "event_id": np.array(ids, dtype=object),
            "request_id": np.full(len(ids), "", dtype=object),
            "agent_id": np.array(who, dtype=object),
            "lead_id": np.array(lead_ids, dtype=object),
            "kind": np.full(len(ids), "purchase", dtype=object),
            "at_market_us": at_us,
            "arrived_market_us": at_us + waited,
            "price_cents": np.array([bought.fee_cents for bought in log.rivals], dtype=np.int64),
            "reason": np.full(len(ids), "", dtype=object),
        }
    )


def _with_duplicates(frame: pd.DataFrame, preset: Preset, seed: int) -> pd.DataFrame:
    """The events, and those that were delivered twice once more, some minutes later."""
    rule = preset.arrival
    key = keys_of(frame["event_id"])
    twice = uniform(seed, Stream.DUPLICATE, key) < rule.duplicate_share
    minutes = rule.duplicate_minutes_mean * exponential(seed, Stream.DUPLICATE_DELAY, key[twice])
    again = frame[twice]
    later = again["arrived_market_us"] + (minutes * 60 * US_PER_SECOND).astype(np.int64) + 1
    return pd.concat([frame, again.assign(arrived_market_us=later)], ignore_index=True)


def _arrived(
    requests: Requests, log: Log, preset: Preset, until_us: int, seed: int
) -> tuple[I64, NDArray[np.bool_]]:
    """When each ranking of the log arrived, and whether it did before `until_us`."""
    rows = log.slates.answered("number")
    arrived_us = requests.at_us[rows] + _transport_us(preset, seed, requests.key[rows])
    return arrived_us, arrived_us < until_us


def _transport_us(preset: Preset, seed: int, *who: U64, may_be_late: bool = False) -> I64:
    """Time between an event and its arrival: seconds, or hours for the late few."""
    rule = preset.arrival
    seconds = rule.seconds_mean * exponential(seed, Stream.ARRIVAL, *who, 0)
    if may_be_late:
        late = uniform(seed, Stream.LATE, *who) < rule.late_share
        hours = rule.late_hours_mean * exponential(seed, Stream.ARRIVAL, *who, 1)
        seconds = seconds + late * hours * US_PER_HOUR / US_PER_SECOND
    return np.asarray(seconds * US_PER_SECOND, dtype=np.int64)
