"""Which leads can still be had, as one comparison at read time; nothing sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from aiqleads.commerce.limits import held_too_long
from aiqleads.store import holds as rows
from aiqleads.store.database import reader


def unavailable(
    engine: Engine, lead_ids: Sequence[str] | None, now_us: int, agent_id: str | None = None
) -> set[str]:
    """Leads (of `lead_ids`, or of all) that this agent could not hold at `now_us` (wall).

    Those without a slot that is free or expired, those that the agent has bought or holds
    already, and those that it held and must let be (`limits.held_too_long`). A lead whose
    slots were never made is available.
    """
    with reader(engine).connect() as connection:
        left = rows.open_slots(connection, lead_ids, now_us)
        taken = {lead_id for lead_id, count in left.items() if count == 0}
        if agent_id is None:
            return taken
        mine = rows.leads_of(connection, agent_id, now_us)
        tier = rows.tier_of(connection, agent_id)
        past = rows.past_of(connection, agent_id, lead_ids, now_us) if tier is not None else {}
    if tier is not None:
        mine |= {
            lead_id for lead_id, each in past.items() if held_too_long(tier, lead_id, each, now_us)
        }
    return taken | (mine if lead_ids is None else mine.intersection(lead_ids))


def slots_left(engine: Engine, lead_ids: Sequence[str], now_us: int) -> dict[str, int]:
    """How many agents could hold each lead now; leads whose slots were never made are absent."""
    with reader(engine).connect() as connection:
        return rows.open_slots(connection, lead_ids, now_us)
