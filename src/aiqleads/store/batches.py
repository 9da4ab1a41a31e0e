"""Batches and their quarantine, in the room `leads`. Nothing here loads pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from aiqleads.errors import UnknownName
from aiqleads.store.bulk import insert_columns, parts
from aiqleads.store.database import reader
from aiqleads.store.tables import batch, quarantine

State = Literal["open", "done", "stopped"]
COUNTS = ("rows_read", "accepted", "incomplete", "updated", "duplicates", "quarantined")


@dataclass(frozen=True)
class Batch:
    """One batch: rows_read = accepted + updated + duplicates + quarantined."""

    batch_id: str
    source: str
    market: str
    payload_sha256: str
    state: State
    rows_read: int
    accepted: int
    incomplete: int
    updated: int
    duplicates: int
    quarantined: int


_FIELDS = tuple(batch.c[name] for name in Batch.__dataclass_fields__)


#: in the id of a batch that was made of rows in quarantine
REPLAY = "-replay-"


def newest(connection: Connection, market: str, source: str, sha256: str) -> Batch | None:
    """The last batch of a payload (replays apart), None where it never came."""
    of = _of_payload(market, source, sha256) & ~batch.c.batch_id.contains(REPLAY)
    order = (batch.c.ingested_us.desc(), batch.c.batch_id.desc())
    row = connection.execute(select(*_FIELDS).where(of).order_by(*order).limit(1)).first()
    return None if row is None else Batch(*row)


def next_number(connection: Connection, market: str, source: str, sha256: str) -> int:
    """1 for a payload's first batch, and so on."""
    of = _of_payload(market, source, sha256)
    return 1 + connection.execute(select(func.count()).select_from(batch).where(of)).scalar_one()


def find(connection: Connection, batch_id: str) -> Batch:
    """One batch; UnknownName where there is none of that name."""
    row = connection.execute(select(*_FIELDS).where(batch.c.batch_id == batch_id)).first()
    if row is None:
        raise UnknownName(f"no batch {batch_id!r}")
    return Batch(*row)


def begin(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Stores batches that have read nothing yet.

    rows: batch_id, source, market, path, payload_sha256, contract_version, ingested_us.
    """
    nothing = dict.fromkeys((*COUNTS, "cost_cents"), 0)
    connection.execute(insert(batch), [{**row, **nothing, "state": "open"} for row in rows])


def count(
    connection: Connection, batch_id: str, counts: Mapping[str, int], cost_cents: int = 0
) -> None:
    """Adds what a chunk came to; the database refuses counts that do not add up."""
    more = {name: batch.c[name] + counts.get(name, 0) for name in COUNTS}
    more["cost_cents"] = batch.c.cost_cents + cost_cents
    connection.execute(update(batch).where(batch.c.batch_id == batch_id).values(more))


def end(connection: Connection, batch_ids: Iterable[str], state: State) -> None:
    """Says how batches ended, or that one is open again."""
    connection.execute(
        update(batch).where(batch.c.batch_id.in_(list(batch_ids))).values(state=state)
    )


def _of_payload(market: str, source: str, sha256: str) -> Any:
    return (
        (batch.c.market == market) & (batch.c.source == source) & (batch.c.payload_sha256 == sha256)
    )


# --- quarantine ------------------------------------------------------------------------


def put_quarantine(connection: Connection, columns: Mapping[str, Sequence[Any]]) -> None:
    """Keeps rejected rows; columns: those of the table, of one length."""
    insert_columns(connection, quarantine, columns)


def forget_quarantine(
    connection: Connection, market: str, source: str, sha256: str, first_row: int, last_row: int
) -> None:
    """Drops earlier verdicts on some rows of a payload: the present one is what counts."""
    earlier = select(batch.c.batch_id).where(_of_payload(market, source, sha256))
    between = quarantine.c.row_number.between(first_row, last_row)
    connection.execute(delete(quarantine).where(quarantine.c.batch_id.in_(earlier), between))


def quarantine_counts(engine: Engine, batch_ids: Sequence[str] | None = None) -> dict[str, int]:
    """Rows in quarantine by rule, most frequent first; a row may break several rules.

    batch_ids: of these batches alone. Rows that were replayed since are left out.
    """
    rows = func.count().label("rows")
    query = select(quarantine.c.rule, rows).where(quarantine.c.replayed_batch_id.is_(None))
    if batch_ids is not None:
        query = query.where(quarantine.c.batch_id.in_(list(batch_ids)))
    query = query.group_by(quarantine.c.rule).order_by(rows.desc(), quarantine.c.rule)
    with reader(engine).begin() as connection:
        return {row.rule: row.rows for row in connection.execute(query)}


def quarantined_rows(
    connection: Connection, batch_id: str | None = None
) -> dict[str, dict[int, str]]:
    """Batch -> row number -> first rule, of rows that were not replayed; one batch or all."""
    query = select(quarantine.c.batch_id, quarantine.c.row_number, func.min(quarantine.c.rule))
    query = query.where(quarantine.c.replayed_batch_id.is_(None))
    if batch_id is not None:
        query = query.where(quarantine.c.batch_id == batch_id)
    query = query.group_by(quarantine.c.batch_id, quarantine.c.row_number)
    found: dict[str, dict[int, str]] = {}
    for of, number, rule in connection.execute(query.order_by(quarantine.c.batch_id)):
        found.setdefault(of, {})[number] = rule
    return found


def replayed(connection: Connection, batch_id: str, rows: Iterable[int], into: str) -> None:
    """Marks rows of a batch that hold by now: they went in with the batch `into`."""
    for some in parts(rows):
        of = (quarantine.c.batch_id == batch_id) & quarantine.c.row_number.in_(some)
        connection.execute(update(quarantine).where(of).values(replayed_batch_id=into))
