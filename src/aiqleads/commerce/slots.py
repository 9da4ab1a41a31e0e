"""The places of a lead: as many as agents may buy it, made once, so capacity is structural."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from aiqleads.errors import InvalidInput
from aiqleads.store import holds as rows
from aiqleads.store.database import reader
from aiqleads.store.transactions import writing


def ensure(engine: Engine, leads: Iterable[tuple[str, int]]) -> int:
    """Makes the slots of leads that have none, from (lead_id, max_buyers); returns how many
    leads were new.

    Safe to repeat: a lead that has slots keeps exactly those, whatever `max_buyers` says
    now. InvalidInput for a `max_buyers` below 1.
    """
    buyers = dict(leads)
    for lead_id, count in buyers.items():
        if count < 1:
            raise InvalidInput(f"max_buyers of {lead_id} is {count}, must be at least 1")
    with reader(engine).connect() as connection:
        missing = rows.missing_slots(connection, list(buyers))
    if missing:
        with writing(engine) as connection:
            # Asked again under the write lock: another worker may have been first.
            missing = rows.missing_slots(connection, sorted(missing))
            rows.add_slots(connection, {lead_id: buyers[lead_id] for lead_id in sorted(missing)})
    return len(missing)


def close(engine: Engine, lead_id: str, now_us: int) -> list[str]:
    """Takes a lead off the market: what is not sold never will be, and holds of it end.

    Returns the agents whose live hold that ended. Safe to repeat.
    """
    with writing(engine) as connection:
        return rows.close(connection, lead_id, now_us)
