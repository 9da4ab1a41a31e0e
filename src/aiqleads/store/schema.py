"""Profiles of feeds and what changed in them, in the leads room.

A batch of many parts keeps the profiles of some, evenly spread, and a source those of its
last batches: a baseline needs no more. Findings are kept for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from aiqleads.contracts.schema_drift import Finding, Past
from aiqleads.contracts.schema_profile import Profile
from aiqleads.store.tables import schema_finding, schema_profile
from aiqleads.store.transactions import insert_missing

#: batches of a baseline, and at most so many parts of each
BATCHES, PARTS = 16, 5
#: batches in a row that show a change, after which it is what is normal
LASTING = 5
_KEPT_BATCHES, _KEPT_PARTS = 2 * BATCHES, 2 * PARTS
_LONGEST_COLUMN, _LONGEST_DETAIL = 120, 400


@dataclass(frozen=True)
class Kept:
    """A stored profile. closed: whether it is complete, else it gathers rows of small parts.

    drifted: column -> severity of its change, as long as that was not accepted. restarts:
    columns whose baseline begins here. required: columns that the source needs.
    """

    batch_id: str
    part: int
    at_us: int
    closed: bool
    profile: Profile
    drifted: Mapping[str, str] = field(default_factory=dict)
    restarts: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    @property
    def past(self) -> Past:
        """The same as a part of a baseline's history."""
        drifted = frozenset(self.drifted)
        return Past(self.batch_id, self.at_us, self.profile, drifted, self.restarts)

    @property
    def body(self) -> str:
        """What the table keeps of it as JSON."""
        return json.dumps(
            {
                "drifted": dict(self.drifted),
                "restarts": sorted(self.restarts),
                "required": sorted(self.required),
                **self.profile.to_json(),
            },
            separators=(",", ":"),
        )

    @classmethod
    def of(cls, batch_id: str, part: int, at_us: int, closed: bool, body: str) -> Kept:
        """The profile of a row of the table."""
        given = json.loads(body)
        return cls(
            batch_id,
            part,
            at_us,
            closed,
            Profile.from_json(given),
            given["drifted"],
            frozenset(given["restarts"]),
            frozenset(given["required"]),
        )


def keep(connection: Connection, market: str, source: str, kept: Kept) -> None:
    """Writes a profile in the place of an earlier one of the same part, if there is any.

    A baseline that began in that one begins in this one.
    """
    key = _key(market, source, kept.batch_id, kept.part)
    earlier = connection.execute(select(schema_profile).where(key)).first()
    if earlier is not None and (restarts := _kept(earlier).restarts):
        kept = Kept(**{**vars(kept), "restarts": kept.restarts | restarts, "closed": True})
    connection.execute(delete(schema_profile).where(key))
    connection.execute(
        insert(schema_profile).values(
            market=market,
            source=source,
            batch_id=kept.batch_id,
            part=kept.part,
            rows=kept.profile.rows,
            closed=kept.closed,
            at_us=kept.at_us,
            profile=kept.body,
        )
    )
    if kept.closed:
        _thin(connection, market, source, kept.batch_id)


def opened(connection: Connection, market: str, source: str) -> Kept | None:
    """The profile that gathers small parts of a source."""
    mine = _of(market, source) & ~schema_profile.c.closed
    row = connection.execute(select(schema_profile).where(mine)).first()
    return None if row is None else _kept(row)


def all_opened(connection: Connection, before_us: int) -> list[tuple[str, str]]:
    """(market, source) of the profiles that gather rows since before a time, wall clock."""
    waiting = ~schema_profile.c.closed & (schema_profile.c.at_us < before_us)
    asked = select(schema_profile.c.market, schema_profile.c.source).where(waiting)
    return [(row.market, row.source) for row in connection.execute(asked)]


def drop(connection: Connection, market: str, source: str, batch_id: str, part: int) -> None:
    """Forgets a profile."""
    connection.execute(delete(schema_profile).where(_key(market, source, batch_id, part)))


#: (batch_id, at_us, body) of closed profiles, oldest first
History = tuple[tuple[str, int, str], ...]


def history(connection: Connection, market: str, source: str, besides: str = "") -> History:
    """The closed profiles of the last BATCHES batches, at most PARTS of each, evenly spread.

    besides: a batch that is left out, but for the parts in which a baseline begins.
    """
    table = schema_profile.c
    order = (table.at_us, table.batch_id, table.part)
    closed = _of(market, source) & table.closed
    # One short column first: the profiles are long, and most are not wanted.
    keys = connection.execute(
        select(table.batch_id, table.part, table.at_us).where(closed).order_by(*order)
    ).all()
    parts: dict[str, list[int]] = {}
    for row in keys:
        if row.batch_id != besides:
            parts.setdefault(row.batch_id, []).append(row.part)
    wanted = {
        (batch_id, part)
        for batch_id in list(parts)[-BATCHES:]
        for part in _spread(parts[batch_id], PARTS)
    }
    batches = [*list(parts)[-BATCHES:], besides]
    rows = connection.execute(
        select(table.batch_id, table.part, table.at_us, table.profile)
        .where(closed & table.batch_id.in_(batches))
        .order_by(*order)
    ).all()
    return tuple(
        (row.batch_id, row.at_us, row.profile)
        for row in rows
        if (row.batch_id, row.part) in wanted
        or (row.batch_id == besides and '"restarts":[]' not in row.profile)
    )


def past_of(found: History) -> list[Past]:
    """A history, read."""
    return [_past(batch_id, at_us, body) for batch_id, at_us, body in found]


@lru_cache(maxsize=256)
def _past(batch_id: str, at_us: int, body: str) -> Past:
    return Kept.of(batch_id, 0, at_us, True, body).past


def accept(
    connection: Connection, market: str, source: str, columns: Sequence[str] | None = None
) -> list[str]:
    """Makes the changes found last the normal state of a source; returns their columns.

    From the first of the parts in a row that showed it, a column's baseline begins anew, so
    that the same payload goes in when it is tried again. columns: only these.
    """
    kept = _all(connection, market, source)
    accepted = {name for each in kept for name in each.drifted}
    accepted &= accepted if columns is None else set(columns)
    for name in sorted(accepted):
        last = max(i for i, each in enumerate(kept) if name in each.drifted)
        first = last
        while first and name in kept[first - 1].drifted:
            first -= 1
        _restart(kept, name, first)
    _write(connection, market, source, kept)
    return sorted(accepted)


def adopt(connection: Connection, market: str, source: str) -> list[str]:
    """Accepts what the last LASTING batches all showed, if nothing of it breaks the source."""
    table = schema_profile.c
    found = select(table.profile).where(_of(market, source) & table.closed)
    newest = connection.execute(found.order_by(table.at_us.desc(), table.part.desc()).limit(1))
    body = newest.scalar()
    if body is None or '"drifted":{}' in body:
        return []
    kept = [each for each in _all(connection, market, source) if each.closed]
    batches = list(dict.fromkeys(each.batch_id for each in kept))[-LASTING:]
    if len(batches) < LASTING:
        return []
    run = [each for each in kept if each.batch_id in batches]
    lasting = {name for name, severity in run[-1].drifted.items() if severity == "warn"}
    for batch_id in batches:
        lasting &= {name for each in run if each.batch_id == batch_id for name in each.drifted}
    for name in sorted(lasting):
        first = next(i for i, each in enumerate(kept) if each in run and name in each.drifted)
        _restart(kept, name, first)
    _write(connection, market, source, kept)
    return sorted(lasting)


def _restart(kept: list[Kept], name: str, first: int) -> None:
    """From the part `first` on the column is as it should be."""
    for i, each in enumerate(kept[first:], first):
        drifted = {column: how for column, how in each.drifted.items() if column != name}
        changed: dict[str, Any] = {"drifted": drifted}
        if i == first:
            # A baseline can begin only in a profile that is complete.
            changed |= {"restarts": each.restarts | {name}, "closed": True}
            changed["profile"] = each.profile.closed()
        kept[i] = Kept(**{**vars(each), **changed})


def _write(connection: Connection, market: str, source: str, kept: Sequence[Kept]) -> None:
    for each in kept:
        key = _key(market, source, each.batch_id, each.part)
        changed = {"profile": each.body, "closed": each.closed}
        connection.execute(update(schema_profile).where(key).values(changed))


def _all(connection: Connection, market: str, source: str) -> list[Kept]:
    table = schema_profile.c
    asked = select(schema_profile).where(_of(market, source))
    asked = asked.order_by(table.at_us, table.batch_id, table.part)
    return [_kept(row) for row in connection.execute(asked)]


def _thin(connection: Connection, market: str, source: str, batch_id: str) -> None:
    """Drops profiles that no baseline will need."""
    table = schema_profile.c
    mine = _of(market, source) & table.closed
    most = connection.execute(
        select(func.max(table.part)).where(mine & (table.batch_id == batch_id))
    ).scalar_one()
    stride = 1
    while most // stride >= _KEPT_PARTS:
        stride *= 2
    if stride > 1:
        rest = mine & (table.batch_id == batch_id) & (table.part % stride != 0)
        connection.execute(delete(schema_profile).where(rest))
    newest = func.max(table.at_us)
    batches = connection.execute(
        select(table.batch_id).where(mine).group_by(table.batch_id).order_by(newest.desc())
    ).scalars()
    old = list(batches)[_KEPT_BATCHES:]
    if old:
        connection.execute(delete(schema_profile).where(mine & table.batch_id.in_(old)))


def _spread(parts: Sequence[int], most: int) -> list[int]:
    """At most so many of the parts, evenly."""
    if len(parts) <= most:
        return list(parts)
    return [parts[i * len(parts) // most] for i in range(most)]


def _of(market: str, source: str) -> ColumnElement[bool]:
    return (schema_profile.c.market == market) & (schema_profile.c.source == source)


def _key(market: str, source: str, batch_id: str, part: int) -> ColumnElement[bool]:
    table = schema_profile.c
    return _of(market, source) & (table.batch_id == batch_id) & (table.part == part)


def _kept(row: Row[Any]) -> Kept:
    return Kept.of(row.batch_id, row.part, row.at_us, row.closed, row.profile)


# --- findings ------------------------------------------------------------------------


def keep_findings(
    connection: Connection,
    market: str,
    source: str,
    batch_id: str,
    part: int,
    findings: Sequence[Finding],
    now_us: int,
) -> None:
    """Keeps each finding once a batch: with the first part that showed it."""
    table = schema_finding.c
    mine = (table.market == market) & (table.source == source) & (table.batch_id == batch_id)
    earlier = connection.execute(select(table.column, table.kind).where(mine))
    told = {(row.column, row.kind) for row in earlier}
    rows = [
        {
            "market": market,
            "source": source,
            "batch_id": batch_id,
            "part": part,
            "column": finding.column[:_LONGEST_COLUMN],
            "kind": finding.kind,
            "severity": finding.severity,
            "detail": finding.detail[:_LONGEST_DETAIL],
            "p_value": finding.p_value,
            "at_us": now_us,
        }
        for finding in findings
        if (finding.column[:_LONGEST_COLUMN], finding.kind) not in told
    ]
    insert_missing(connection, schema_finding, rows)


def findings_of(connection: Connection, source: str) -> list[dict[str, Any]]:
    """All findings of a source, newest first, as rows of the table."""
    table = schema_finding.c
    asked = select(schema_finding).where(table.source == source)
    asked = asked.order_by(table.at_us.desc(), table.batch_id, table.part, table.column)
    return [dict(row) for row in connection.execute(asked).mappings()]
