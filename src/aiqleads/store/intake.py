"""What became of the batches of every source: rows, reasons, quality, sales and returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Column, ColumnElement, Connection, case, func, select

from aiqleads.domain import InteractionKind
from aiqleads.store.orders import SOLD
from aiqleads.store.sources import SourceState, all_states
from aiqleads.store.tables import batch, interaction, lead, order_item, orders, quarantine

_AT_ONCE = 500


@dataclass(frozen=True)
class BatchFigures:
    """One batch. quality: mean of its leads, 0 to 1, None where it has none.

    leads: that it brought. sold, returned: sales of them (a lead may be sold to several).
    ingested_us: wall clock, when it began.
    """

    batch_id: str
    source: str
    market: str
    state: str
    ingested_us: int
    rows_read: int
    accepted: int
    incomplete: int
    updated: int
    duplicates: int
    quarantined: int
    cost_cents: int
    recalled: bool
    recall_reason: str
    leads: int = 0
    quality: float | None = None
    sold: int = 0
    returned: int = 0


@dataclass(frozen=True)
class SourceFigures:
    """All of one source. batches: oldest first. rules: of quarantined rows -> rows.

    waits: why leads are not on offer -> leads. currency: of its leads.
    """

    source: str
    standing: SourceState = field(default_factory=SourceState)
    batches: tuple[BatchFigures, ...] = ()
    rules: Mapping[str, int] = field(default_factory=dict)
    waits: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"


def intake(leads: Connection, commerce: Connection) -> list[SourceFigures]:
    """Every source that brought a batch or has a state, by name.

    leads, commerce: connections to those rooms, which need not be the same database.
    """
    batches: dict[str, list[BatchFigures]] = {}
    for each in _batches(leads, *_sales(leads, commerce)):
        batches.setdefault(each.source, []).append(each)
    states = all_states(leads)
    rules = _counted(leads, quarantine.c.source, quarantine.c.rule)
    why = case((lead.c.merged_into.is_not(None), "merged"), else_=lead.c.waits)
    waits = _counted(leads, lead.c.source, why)
    money = select(lead.c.source, func.min(lead.c.currency).label("unit")).group_by(lead.c.source)
    currencies = {row.source: str(row.unit) for row in leads.execute(money)}
    return [
        SourceFigures(
            source,
            states.get(source, SourceState()),
            tuple(batches.get(source, ())),
            rules.get(source, {}),
            {why: n for why, n in waits.get(source, {}).items() if why},
            currencies.get(source, "USD"),
        )
        for source in sorted(batches.keys() | states.keys())
    ]


def _batches(
    connection: Connection, sold: Mapping[str, int], returned: Mapping[str, int]
) -> list[BatchFigures]:
    made = select(
        lead.c.batch_id, func.count().label("leads"), func.avg(lead.c.quality).label("quality")
    )
    leads = {row.batch_id: row for row in connection.execute(made.group_by(lead.c.batch_id))}
    asked = select(batch).order_by(batch.c.ingested_us, batch.c.batch_id)
    return [
        BatchFigures(
            batch_id=row.batch_id,
            source=row.source,
            market=row.market,
            state=row.state,
            ingested_us=row.ingested_us,
            rows_read=row.rows_read,
            accepted=row.accepted,
            incomplete=row.incomplete,
            updated=row.updated,
            duplicates=row.duplicates,
            quarantined=row.quarantined,
            cost_cents=row.cost_cents,
            recalled=row.recalled_us is not None,
            recall_reason=row.recall_reason or "",
            leads=leads[row.batch_id].leads if row.batch_id in leads else 0,
            quality=float(leads[row.batch_id].quality) if row.batch_id in leads else None,
            sold=sold.get(row.batch_id, 0),
            returned=returned.get(row.batch_id, 0),
        )
        for row in connection.execute(asked)
    ]


def _sales(leads: Connection, commerce: Connection) -> tuple[Counter[str], Counter[str]]:
    """Sales and returned sales, by the batch of the lead."""
    bought = select(order_item.c.lead_id, orders.c.agent_id)
    bought = bought.join(orders, orders.c.order_id == order_item.c.order_id)
    bought = bought.where(orders.c.state.in_(SOLD))
    sales = {(row.lead_id, row.agent_id) for row in commerce.execute(bought)}
    back = select(interaction.c.lead_id, interaction.c.agent_id)
    back = back.where(interaction.c.kind == str(InteractionKind.RETURN))
    returns = {(row.lead_id, row.agent_id) for row in commerce.execute(back)} & sales
    batch_of = _batch_of(leads, {lead_id for lead_id, _ in sales})
    counted = [
        Counter(batch_of[lead_id] for lead_id, _ in pairs if lead_id in batch_of)
        for pairs in (sales, returns)
    ]
    return counted[0], counted[1]


def _batch_of(connection: Connection, lead_ids: Iterable[str]) -> dict[str, str]:
    ids = sorted(lead_ids)
    found: dict[str, str] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = lead.c.lead_id.in_(ids[start : start + _AT_ONCE])
        asked = select(lead.c.lead_id, lead.c.batch_id).where(some)
        found.update({row.lead_id: row.batch_id for row in connection.execute(asked)})
    return found


def _counted(
    connection: Connection, source: Column[str], reason: ColumnElement[str]
) -> dict[str, dict[str, int]]:
    """Source -> reason -> how many, the commonest first."""
    asked = select(source, reason, func.count()).group_by(source, reason)
    found: dict[str, dict[str, int]] = {}
    for name, why, count in sorted(connection.execute(asked), key=lambda row: (-row[2], row[1])):
        found.setdefault(name, {})[why] = count
    return found
