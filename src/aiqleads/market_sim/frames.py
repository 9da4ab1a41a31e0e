"""The log of a simulated market as the frames that a real market would have written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from aiqleads.domain import US_PER_HOUR, US_PER_SECOND
from aiqleads.market_sim import policy
from aiqleads.market_sim.arrivals import Requests
from aiqleads.market_sim.draws import U64, Stream, exponential, pick, uniform
from aiqleads.market_sim.play import Kind, Log, Slate
from aiqleads.market_sim.presets import Preset
from aiqleads.market_sim.world import I64, TIERS, World


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


def rankings_frame(
    world: World, requests: Requests, log: Log, preset: Preset, seed: int
) -> pd.DataFrame:
    """One row for each ranking that was shown, in the order of time."""
    rows = np.array(sorted(log.slates), dtype=np.int64)
    at_us = requests.at_us[rows]
    random = requests.random[rows]
    return pd.DataFrame(
        {
            "request_id": requests.ids[rows],
            "agent_id": world.agents.ids[requests.agent[rows]],
            "at_market_us": at_us,
            "arrived_market_us": at_us + _transport_us(preset, seed, requests.key[rows]),
            "model_version": policy.MODEL_VERSION,
            "variant": np.where(random, policy.RANDOM, policy.HAND).astype(object),
            "snapshot_version": f"simulated-{preset.name}",
            "device": np.where(requests.mobile[rows], "mobile", "desktop").astype(object),
            "preset": preset.name,
        }
    )


def impressions_frame(world: World, requests: Requests, log: Log) -> pd.DataFrame:
    """One row for each lead of each ranking, with the policy's exact propensity."""
    slates = _slates(log)
    return pd.DataFrame(
        {
            **_pairs(world, requests, log),
            "position": _joined([np.arange(1, len(s.lead) + 1) for s in slates], np.int32),
            "propensity": _joined([s.propensity for s in slates]),
            "price_cents": _joined([s.fee_cents for s in slates], np.int64),
        }
    )


def oracle_frame(world: World, requests: Requests, log: Log) -> pd.DataFrame:
    """The truth of the model for each lead of each ranking; see `market_sim.oracle`."""
    slates = _slates(log)
    relevance = _joined([s.relevance for s in slates])
    return pd.DataFrame(
        {
            **_pairs(world, requests, log),
            "relevance": relevance,
            "p_purchase": _joined([s.p_purchase for s in slates]),
            "would_purchase": _joined([s.would_purchase for s in slates], np.bool_),
            "score_full": relevance,
            "score_known": _joined([s.score_known for s in slates]),
            "p_return": _joined([s.p_return for s in slates]),
        }
    )


def interactions_frame(
    world: World, requests: Requests, log: Log, preset: Preset, *, end_us: int, seed: int
) -> pd.DataFrame:
    """One row for each step that arrived before `end_us`, in the order of arrival."""
    at_us = np.array([at for at, _, _ in log.steps], dtype=np.int64)
    kind = np.array([kind for _, kind, _ in log.steps], dtype=np.int64)
    request = np.array([look.request for _, _, look in log.steps], dtype=np.int64)
    lead = np.array([look.lead for _, _, look in log.steps], dtype=np.int64)
    agent = np.array([look.agent for _, _, look in log.steps], dtype=np.int64)
    fee = np.array([look.fee_cents for _, _, look in log.steps], dtype=np.int64)
    position = [look.position for _, _, look in log.steps]
    who = (requests.key[request], world.leads.key[lead])
    reasons = np.array(list(preset.returns.reasons), dtype=object)
    reason = reasons[pick(preset.returns.reasons.values(), uniform(seed, Stream.REASON, *who))]
    names = [Kind(code).name.lower() for code in kind]
    ids = requests.ids[request]
    frame = pd.DataFrame(
        {
            "event_id": [
                f"{name}-{place:02d}-{step}"
                for name, place, step in zip(ids, position, names, strict=True)
            ],
            "request_id": ids,
            "agent_id": world.agents.ids[agent],
            "lead_id": world.leads.ids[lead],
            "kind": np.array(names, dtype=object),
            "at_market_us": at_us,
            "arrived_market_us": at_us
            + _transport_us(preset, seed, *who, kind.astype(np.uint64), may_be_late=True),
            "price_cents": np.where(kind == Kind.PURCHASE, fee, 0),
            "reason": np.where(kind == Kind.RETURN, reason, ""),
        }
    )
    frame = frame[frame["arrived_market_us"] < end_us]
    return frame.sort_values(["arrived_market_us", "event_id"], ignore_index=True)


def _transport_us(preset: Preset, seed: int, *who: U64, may_be_late: bool = False) -> I64:
    """Time between an event and its arrival: seconds, or hours for the late few."""
    rule = preset.arrival
    seconds = rule.seconds_mean * exponential(seed, Stream.ARRIVAL, *who, 0)
    if may_be_late:
        late = uniform(seed, Stream.LATE, *who) < rule.late_share
        hours = rule.late_hours_mean * exponential(seed, Stream.ARRIVAL, *who, 1)
        seconds = seconds + late * hours * US_PER_HOUR / US_PER_SECOND
    return np.asarray(seconds * US_PER_SECOND, dtype=np.int64)


def _slates(log: Log) -> list[Slate]:
    return [log.slates[number] for number in sorted(log.slates)]


def _pairs(world: World, requests: Requests, log: Log) -> dict[str, NDArray[np.object_]]:
    """Columns request_id and lead_id of every lead of every ranking."""
    numbers = sorted(log.slates)
    counts = [len(log.slates[number].lead) for number in numbers]
    lead = _joined([log.slates[number].lead for number in numbers], np.int64)
    return {
        "request_id": np.repeat(requests.ids[np.array(numbers, dtype=np.int64)], counts),
        "lead_id": world.leads.ids[lead],
    }


def _joined(parts: Iterable[NDArray[Any]], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype, copy=False)
