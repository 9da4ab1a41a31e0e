"""Interactions that the service was told of or caused itself, idempotent by event id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from aiqleads.domain import InteractionKind
from aiqleads.store.tables import interaction
from aiqleads.store.transactions import insert_missing, writing


@dataclass(frozen=True)
class Interaction:
    """What an agent did with a lead; `event_id` is unique within the agent."""

    event_id: str
    agent_id: str
    lead_id: str
    request_id: str | None
    kind: InteractionKind
    at_market_us: int


def record(engine: Engine, events: Sequence[Interaction], now_us: int) -> int:
    """Stores events that arrived at `now_us` (wall clock); returns how many were new.

    An event that is known already is left as it is. Ids are kept per agent, so nobody
    can occupy another agent's.
    """
    rows = [
        {
            "event_id": f"{event.agent_id}:{event.event_id}",
            "agent_id": event.agent_id,
            "lead_id": event.lead_id,
            "request_id": event.request_id,
            "kind": str(event.kind),
            "at_market_us": event.at_market_us,
            "arrived_us": now_us,
        }
        for event in events
    ]
    with writing(engine) as connection:
        return insert_missing(connection, interaction, rows)
