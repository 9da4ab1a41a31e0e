"""Leads, their contacts and repeats, and the quarantine, in the room `leads`.

Writers take a connection, so that everything about a batch stands in one transaction.
Nothing here loads pandas: the serving worker reads contacts through this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from aiqleads.errors import UnknownName
from aiqleads.store.database import reader
from aiqleads.store.tables import batch, lead, lead_duplicate, quarantine
from aiqleads.store.tables import lead_contact as contact

Row = Mapping[str, Any]

#: rule of a row that a payload holds twice: the export repeated it, nobody wrote again
SAME_ROW = "same row again"
_MANY = 500  # keys in one IN (...)
_CONTACT = ("name", "email", "phone", "invented")
# A lead's name and origin never change; its submissions are counted from its repeats.
_FIXED = {"lead_id", "market", "source", "source_key", "submissions"}


def _parts(keys: Iterable[str]) -> Iterator[list[str]]:
    every = list(keys)
    return (every[at : at + _MANY] for at in range(0, len(every), _MANY))


def next_batch_number(connection: Connection, market: str, source: str, sha256: str) -> int:
    """1 for a payload's first batch, and so on."""
    same = (batch.c.market == market, batch.c.source == source, batch.c.payload_sha256 == sha256)
    return 1 + connection.execute(select(func.count()).where(*same)).scalar_one()


def last_columns(connection: Connection, market: str, source: str) -> str | None:
    """JSON of the columns of the newest batch of a source, None for the first."""
    newest = (
        select(batch.c.payload_columns)
        .where(batch.c.market == market, batch.c.source == source)
        .order_by(batch.c.ingested_us.desc(), batch.c.batch_id.desc())
        .limit(1)
    )
    return connection.execute(newest).scalar_one_or_none()


def add_batch(connection: Connection, row: Row) -> None:
    """Stores a batch; the database refuses counts that do not add up."""
    connection.execute(insert(batch), dict(row))


def stored_leads(connection: Connection, lead_ids: Iterable[str]) -> set[str]:
    """Which of these leads are stored."""
    found: set[str] = set()
    for some in _parts(lead_ids):
        found.update(connection.scalars(select(lead.c.lead_id).where(lead.c.lead_id.in_(some))))
    return found


def stored_repeats(connection: Connection, source_keys: Iterable[str]) -> dict[str, str]:
    """Source key -> lead, for those that were folded into a lead before."""
    found: dict[str, str] = {}
    columns = (lead_duplicate.c.source_key, lead_duplicate.c.lead_id)
    for some in _parts(source_keys):
        rows = connection.execute(
            select(*columns).where(
                lead_duplicate.c.source_key.in_(some), lead_duplicate.c.rule != SAME_ROW
            )
        )
        found.update((key, lead_id) for key, lead_id in rows)
    return found


def people_between(
    connection: Connection, market: str, from_us: int, until_us: int
) -> list[dict[str, Any]]:
    """What the search for repeats compares, of a market's leads received in the window."""
    people = select(
        lead.c.lead_id,
        lead.c.intent,
        contact.c.email,
        contact.c.phone,
        contact.c.name,
        lead.c.utm_x_m,
        lead.c.utm_y_m,
        lead.c.received_market_us,
    ).join(contact, contact.c.lead_id == lead.c.lead_id)
    window = lead.c.received_market_us.between(from_us, until_us)
    rows = connection.execute(people.where(lead.c.market == market, window)).mappings()
    return [dict(row) for row in rows]


def _unlike_stored(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """The rows that say something else than what is stored of their lead."""
    query = select(lead, *(contact.c[name] for name in _CONTACT if name not in lead.c)).join(
        contact, contact.c.lead_id == lead.c.lead_id
    )
    stored: dict[str, dict[str, Any]] = {}
    for some in _parts(row["lead_id"] for row in rows):
        found = connection.execute(query.where(lead.c.lead_id.in_(some))).mappings()
        stored |= {row["lead_id"]: dict(row) for row in found}
    said = [name for name in rows[0] if name not in _FIXED | {"batch_id"}] if rows else []
    return [row for row in rows if any(row[x] != stored[row["lead_id"]][x] for x in said)]


def put_leads(connection: Connection, new: Sequence[Row], known: Sequence[Row]) -> None:
    """Inserts new leads with their contacts, and brings known ones up to date.

    Rows: the columns of `lead` (without submissions) and name, email, phone. A known lead
    about which nothing changed is not touched: it keeps the batch that it came with.
    """
    columns = [column.name for column in lead.columns]
    if new:
        connection.execute(
            insert(lead), [{name: row.get(name, 1) for name in columns} for row in new]
        )
        connection.execute(insert(contact), [_contact(row) for row in new])
    if known := _unlike_stored(connection, known):
        changing = [name for name in columns if name not in _FIXED]
        statement = update(lead).where(lead.c.lead_id == bindparam("of"))
        connection.execute(
            statement.values({name: bindparam(name) for name in changing}),
            [{"of": row["lead_id"], **{name: row[name] for name in changing}} for row in known],
        )
        person = update(contact).where(contact.c.lead_id == bindparam("of"))
        connection.execute(
            person.values({name: bindparam(name) for name in _CONTACT}),
            [{"of": row["lead_id"], **_contact(row)} for row in known],
        )


def _contact(row: Row) -> dict[str, Any]:
    return {
        "lead_id": row["lead_id"],
        "name": row["name"],
        "email": row["email"],
        "phone": row["phone"],
        "invented": bool(row["invented"]),
    }


def add_repeats(connection: Connection, rows: Sequence[Row]) -> None:
    """Stores repeats that are not stored yet, and counts each lead's submissions anew."""
    if not rows:
        return
    kept: set[tuple[str, str]] = set()
    for some in _parts(row["source_key"] for row in rows):
        columns = (lead_duplicate.c.source, lead_duplicate.c.source_key)
        found = connection.execute(select(*columns).where(columns[1].in_(some)))
        kept.update((source, key) for source, key in found)
    fresh = [dict(row) for row in rows if (row["source"], row["source_key"]) not in kept]
    if not fresh:
        return
    connection.execute(insert(lead_duplicate), fresh)
    wrote_again = (
        select(func.count())
        .where(lead_duplicate.c.lead_id == lead.c.lead_id, lead_duplicate.c.rule != SAME_ROW)
        .scalar_subquery()
    )
    touched = sorted({row["lead_id"] for row in fresh})
    for some in _parts(touched):
        connection.execute(
            update(lead).where(lead.c.lead_id.in_(some)).values(submissions=1 + wrote_again)
        )


def put_quarantine(
    connection: Connection, market: str, source: str, sha256: str, rows: Sequence[Row]
) -> None:
    """Keeps the present verdict on a payload: rows of its earlier batches give way."""
    earlier = select(batch.c.batch_id).where(
        batch.c.market == market, batch.c.source == source, batch.c.payload_sha256 == sha256
    )
    connection.execute(delete(quarantine).where(quarantine.c.batch_id.in_(earlier)))
    if rows:
        connection.execute(insert(quarantine), [dict(row) for row in rows])


def quarantine_counts(engine: Engine) -> dict[str, int]:
    """Quarantined rows by rule, most frequent first; a row may break several rules."""
    count = func.count().label("rows")
    rows = select(quarantine.c.rule, count).group_by(quarantine.c.rule)
    with reader(engine).connect() as connection:
        found = connection.execute(rows.order_by(count.desc(), quarantine.c.rule))
        return {row.rule: row.rows for row in found}


def lead_contact(engine: Engine, lead_id: str) -> dict[str, Any]:
    """name, email, phone ('' for none given) and invented (bool) of a lead's person.

    Whether the caller may see it is not asked here. UnknownName for no such lead.
    """
    query = select(contact).where(contact.c.lead_id == lead_id)
    with reader(engine).connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise UnknownName(f"no lead {lead_id!r}")
    return dict(row)


def lead_row(engine: Engine, lead_id: str) -> dict[str, Any]:
    """The columns of one lead; whether the caller may see them is not asked here.

    UnknownName for no such lead.
    """
    with reader(engine).connect() as connection:
        row = connection.execute(select(lead).where(lead.c.lead_id == lead_id)).mappings().first()
    if row is None:
        raise UnknownName(f"no lead {lead_id!r}")
    return dict(row)


def lead_rows(engine: Engine, market: str) -> list[dict[str, Any]]:
    """Every lead of a market that has a place, by id; keys are the columns of `lead`."""
    query = select(lead).where(lead.c.market == market, lead.c.cell.is_not(None))
    with reader(engine).connect() as connection:
        rows = connection.execute(query.order_by(lead.c.lead_id)).mappings()
        return [dict(row) for row in rows]


def submission_rows(engine: Engine, market: str) -> list[tuple[str, int]]:
    """(lead_id, received_market_us) of everything people sent about the placed leads."""
    placed = (lead.c.market == market, lead.c.cell.is_not(None))
    first = select(lead.c.lead_id, lead.c.received_market_us).where(*placed)
    again = (
        select(lead_duplicate.c.lead_id, lead_duplicate.c.received_market_us)
        .join(lead, lead.c.lead_id == lead_duplicate.c.lead_id)
        .where(*placed, lead_duplicate.c.rule != SAME_ROW)
    )
    with reader(engine).connect() as connection:
        rows = [*connection.execute(first), *connection.execute(again)]
    return sorted((lead_id, at_us) for lead_id, at_us in rows)
