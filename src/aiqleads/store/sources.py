"""Which sources may come in and be sold: paused, stopped, and batches taken back.

No row means that a source is active. Functions take a connection to the room `leads`, so
that an ingest asks inside its own transaction. Nothing here loads pandas: the shop asks
before every hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Connection, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from aiqleads.errors import Refused, UnknownName
from aiqleads.store.tables import batch, lead, source_state

State = Literal["active", "paused", "stopped"]
_MANY = 500  # keys in one IN (...)


@dataclass(frozen=True)
class SourceState:
    """active; paused by an operator; or stopped by schema drift. changed_us: wall clock."""

    state: State = "active"
    reason: str = ""
    changed_us: int = 0


@dataclass(frozen=True)
class Held:
    """What is in store of a source: batches, those of them taken back, leads."""

    batches: int = 0
    recalled: int = 0
    leads: int = 0


def state_of(connection: Connection, source: str) -> SourceState:
    """How a source stands now."""
    return all_states(connection).get(source, SourceState())


def all_states(connection: Connection) -> dict[str, SourceState]:
    """Every source whose state was ever changed."""
    rows = connection.execute(select(source_state).order_by(source_state.c.source))
    return {row.source: SourceState(row.state, row.reason, row.changed_us) for row in rows}


def require_active(connection: Connection, source: str) -> None:
    """Refused `source-paused` unless the source is active."""
    now = state_of(connection, source)
    if now.state != "active":
        why = f": {now.reason}" if now.reason else ""
        detail = f"the source '{source}' is {now.state}{why}; `aiqleads source resume {source}`"
        raise Refused("source-paused", detail, source=source, state=now.state)


def pause(connection: Connection, source: str, reason: str, now_us: int) -> SourceState:
    """An operator pauses a source: nothing more comes in, nothing of it is sold."""
    return _set(connection, source, SourceState("paused", reason, now_us))


def stop(connection: Connection, source: str, reason: str, now_us: int) -> SourceState:
    """A source is stopped because its feed changed; one that was paused stays paused."""
    now = state_of(connection, source)
    if now.state == "paused":
        return now
    return _set(connection, source, SourceState("stopped", reason, now_us))


def resume(connection: Connection, source: str, now_us: int) -> SourceState:
    """A source comes in and is sold again."""
    return _set(connection, source, SourceState("active", "", now_us))


def _set(connection: Connection, source: str, now: SourceState) -> SourceState:
    row = {"state": now.state, "reason": now.reason, "changed_us": now.changed_us}
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(source_state).values(source=source, **row)
    connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=row))
    return now


# --- batches taken back ------------------------------------------------------------


def recall(
    connection: Connection,
    source: str,
    reason: str,
    now_us: int,
    *,
    batch_id: str | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
) -> list[str]:
    """Takes batches of a source back and returns their ids, also those taken back before.

    One batch, or those ingested (wall clock) in [since_us, until_us); all without bounds.
    UnknownName where there is none.
    """
    wanted = [batch.c.source == source]
    if batch_id is not None:
        wanted.append(batch.c.batch_id == batch_id)
    if since_us is not None:
        wanted.append(batch.c.ingested_us >= since_us)
    if until_us is not None:
        wanted.append(batch.c.ingested_us < until_us)
    ids = list(connection.scalars(select(batch.c.batch_id).where(*wanted).order_by("batch_id")))
    if not ids:
        which = f"the batch '{batch_id}'" if batch_id is not None else "a batch in that time"
        raise UnknownName(f"the source '{source}' has no such thing as {which}")
    fresh = update(batch).where(*wanted, batch.c.recalled_us.is_(None))
    connection.execute(fresh.values(recalled_us=now_us, recall_reason=reason))
    return ids


def leads_of(connection: Connection, batch_ids: Iterable[str]) -> list[str]:
    """Ids of the leads whose facts came with these batches, sorted."""
    found: set[str] = set()
    for some in _parts(sorted(batch_ids)):
        found.update(connection.scalars(select(lead.c.lead_id).where(lead.c.batch_id.in_(some))))
    return sorted(found)


def withheld_leads(connection: Connection, lead_ids: Sequence[str] | None = None) -> set[str]:
    """Leads (of `lead_ids`, or of all) that may not be sold now.

    Their source is paused or stopped, or their batch was taken back.
    """
    bad = or_(_inactive(), batch.c.recalled_us.is_not(None))
    query = select(lead.c.lead_id).join(batch, batch.c.batch_id == lead.c.batch_id).where(bad)
    if lead_ids is None:
        return set(connection.scalars(query)) if _anything_withheld(connection) else set()
    found: set[str] = set()
    for some in _parts(list(lead_ids)):
        found.update(connection.scalars(query.where(lead.c.lead_id.in_(some))))
    return found


def _inactive() -> ColumnElement[bool]:
    names = select(source_state.c.source).where(source_state.c.state != "active")
    return lead.c.source.in_(names)


def _anything_withheld(connection: Connection) -> bool:
    """Whether a look through all leads is worth it."""
    count = select(func.count())
    paused = count.select_from(source_state).where(source_state.c.state != "active")
    recalled = count.select_from(batch).where(batch.c.recalled_us.is_not(None))
    return bool(connection.scalar(paused) or connection.scalar(recalled))


def last_change_us(connection: Connection) -> int:
    """When a source's state changed last, or a batch was taken back (wall clock); 0: never."""
    changed = connection.scalar(select(func.max(source_state.c.changed_us)))
    recalled = connection.scalar(select(func.max(batch.c.recalled_us)))
    return max(changed or 0, recalled or 0)


def held(connection: Connection) -> dict[str, Held]:
    """What is in store, by source."""
    batches = {
        row.source: (row.batches, row.recalled)
        for row in connection.execute(
            select(
                batch.c.source,
                func.count().label("batches"),
                func.count(batch.c.recalled_us).label("recalled"),
            ).group_by(batch.c.source)
        )
    }
    counted = select(lead.c.source, func.count()).group_by(lead.c.source)
    leads = {row.source: row[1] for row in connection.execute(counted)}
    return {
        source: Held(*batches.get(source, (0, 0)), leads.get(source, 0))
        for source in sorted({*batches, *leads})
    }


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[at : at + _MANY] for at in range(0, len(keys), _MANY))
