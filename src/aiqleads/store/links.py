"""Links between submissions, the keys that find them, and what they make of leads.

Only SQL is here: who is linked is `aiqleads.ingest.linkage`'s to say. A row of `link`
whose probability is under one half is a pair that is known to be apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from aiqleads.errors import UnknownName
from aiqleads.store.bulk import insert_columns, parts
from aiqleads.store.tables import lead, link, match_key, submission

#: least probability of a row of `link` that says: one person
LINKED = 0.5


@dataclass(frozen=True)
class Stored:
    """A stored submission and the leads it has to do with.

    own_lead_id: the lead that it made, None where it joined another's at once; own_merged:
    whether that lead gave way to another since.
    """

    submission_id: str
    lead_id: str
    source: str
    source_key: str
    rule: str
    market: str
    intent: str
    received_market_us: int
    own_lead_id: str | None
    own_merged: bool


@dataclass(frozen=True)
class Known:
    """What the table says of a pair: its weight, and whether it links."""

    weight: float
    apart: bool
    undone: bool
    explanation: str

    @property
    def holds(self) -> bool:
        """Whether the two are taken for one person."""
        return not (self.apart or self.undone)


def block_sizes(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
    """How many submissions have each key; keys that none has are left out."""
    sizes: dict[bytes, int] = {}
    column = match_key.c.digest
    for some in parts(digests):
        query = select(column, func.count()).where(column.in_(some)).group_by(column)
        sizes.update((digest, size) for digest, size in connection.execute(query))
    return sizes


def block_members(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, list[str]]:
    """Submissions that have each key, in no order."""
    members: dict[bytes, list[str]] = defaultdict(list)
    for some in parts(digests):
        query = select(match_key.c.digest, match_key.c.submission_id)
        for digest, who in connection.execute(query.where(match_key.c.digest.in_(some))):
            members[digest].append(who)
    return dict(members)


def keys_of(connection: Connection, submission_ids: Iterable[str]) -> dict[str, set[bytes]]:
    """The digests of each submission; those without are left out."""
    keys: dict[str, set[bytes]] = defaultdict(set)
    for some in parts(submission_ids):
        query = select(match_key.c.submission_id, match_key.c.digest)
        for who, digest in connection.execute(query.where(match_key.c.submission_id.in_(some))):
            keys[who].add(digest)
    return dict(keys)


def known_pairs(
    connection: Connection, submission_ids: Iterable[str]
) -> dict[tuple[str, str], Known]:
    """Every pair of the table with one of these submissions."""
    found: dict[tuple[str, str], Known] = {}
    for some in parts(submission_ids):
        for end in (link.c.a, link.c.b):
            for row in connection.execute(select(link).where(end.in_(some))):
                apart, undone = row.probability < LINKED, row.undone_us is not None
                found[row.a, row.b] = Known(row.weight, apart, undone, row.explanation)
    return found


def reached(connection: Connection, submission_ids: Iterable[str]) -> dict[tuple[str, str], Known]:
    """The pairs of the whole components (by links that hold) of these submissions."""
    pairs: dict[tuple[str, str], Known] = {}
    seen: set[str] = set()
    border = set(submission_ids)
    while border:
        found = known_pairs(connection, sorted(border))
        seen |= border
        ends = {end for ab, each in found.items() if each.holds for end in ab}
        pairs |= found
        border = ends - seen
    return pairs


def stored(connection: Connection, submission_ids: Iterable[str]) -> dict[str, Stored]:
    """These submissions as stored; those that are not are left out."""
    own = lead.alias("own")
    made_by = and_(own.c.source == submission.c.source, own.c.source_key == submission.c.source_key)
    query = (
        select(
            submission.c.submission_id,
            submission.c.lead_id,
            submission.c.source,
            submission.c.source_key,
            submission.c.rule,
            lead.c.market,
            lead.c.intent,
            submission.c.received_market_us,
            own.c.lead_id,
            own.c.merged_into.is_not(None),
        )
        .join(lead, lead.c.lead_id == submission.c.lead_id)
        .join(own, made_by, isouter=True)
    )
    rows: dict[str, Stored] = {}
    for some in parts(submission_ids):
        for row in connection.execute(query.where(submission.c.submission_id.in_(some))):
            rows[row[0]] = Stored(*row)
    return rows


def put_keys(connection: Connection, keys: Mapping[str, Collection[bytes]]) -> None:
    """Replaces the keys of these submissions."""
    for some in parts(keys):
        connection.execute(delete(match_key).where(match_key.c.submission_id.in_(some)))
    rows = sorted((digest, who) for who, digests in keys.items() for digest in digests)
    digests, ids = [row[0] for row in rows], [row[1] for row in rows]
    insert_columns(connection, match_key, {"digest": digests, "submission_id": ids})


def put_links(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    dropped: Iterable[tuple[str, str]],
) -> None:
    """Stores what is known of pairs now; a pair that was taken back stays so.

    rows: columns a, b, weight, probability, same_wish, explanation.
    """
    gone = delete(link).where(
        link.c.a == bindparam("one"), link.c.b == bindparam("two"), link.c.undone_us.is_(None)
    )
    ends = [{"one": a, "two": b} for a, b in {*dropped, *((row["a"], row["b"]) for row in rows)}]
    if ends:
        connection.execute(gone, ends)
    undone: set[tuple[str, str]] = set()
    for some in parts(row["a"] for row in rows):
        query = select(link.c.a, link.c.b).where(link.c.a.in_(some), link.c.undone_us.is_not(None))
        undone.update((a, b) for a, b in connection.execute(query))
    fresh = [dict(row) for row in rows if (row["a"], row["b"]) not in undone]
    if fresh:
        connection.execute(insert(link), fresh)


def take_back(connection: Connection, a: str, b: str, now_us: int) -> None:
    """Marks the link of a pair (a < b) as undone; UnknownName where none holds."""
    holds = (link.c.a == a, link.c.b == b, link.c.undone_us.is_(None), link.c.probability >= LINKED)
    done = connection.execute(update(link).where(*holds).values(undone_us=now_us))
    if not done.rowcount:
        raise UnknownName(f"no link between {a!r} and {b!r}")


def split_off(connection: Connection, lead_ids: Mapping[str, str]) -> None:
    """Makes leads for submissions that had none of their own: lead_id -> submission_id.

    Their facts are those of the lead that they were part of, as nothing else was kept.
    It goes before fresh submissions are stored that join such a lead; twice is as once.
    """
    copied = [column for column in lead.columns if column.name not in _OWN]
    for lead_id, who in sorted(lead_ids.items()):
        query = select(
            literal(lead_id),
            literal(lead_id),
            submission.c.source,
            submission.c.source_key,
            submission.c.batch_id,
            submission.c.received_market_us,
            lead.c.expires_market_us - lead.c.received_market_us + submission.c.received_market_us,
            literal(1),
            *copied,
        ).join(lead, lead.c.lead_id == submission.c.lead_id)
        there = select(_OTHER.c.lead_id).where(_OTHER.c.lead_id == lead_id).exists()
        query = query.where(submission.c.submission_id == who, ~there)
        names = [*_OWN, *(column.name for column in copied)]
        connection.execute(insert(lead).from_select(names, query))


_OTHER = lead.alias("other")
_OWN = (
    "lead_id",
    "person_id",
    "source",
    "source_key",
    "batch_id",
    "received_market_us",
    "expires_market_us",
    "submissions",
)


def revive(connection: Connection, lead_ids: Iterable[str]) -> None:
    """Leads that were merged stand for themselves again."""
    for some in parts(sorted(lead_ids)):
        connection.execute(update(lead).where(lead.c.lead_id.in_(some)).values(merged_into=None))


def move(connection: Connection, moves: Iterable[tuple[str, str, str]]) -> None:
    """Puts submissions under leads: (submission_id, lead_id, rule)."""
    rows = [{"who": who, "to": lead_id, "why": rule} for who, lead_id, rule in moves]
    if rows:
        connection.execute(
            update(submission)
            .where(submission.c.submission_id == bindparam("who"))
            .values(lead_id=bindparam("to"), rule=bindparam("why")),
            rows,
        )


def merge(connection: Connection, merges: Iterable[tuple[str, str]]) -> None:
    """Leads that give way to others: (loser, winner)."""
    rows = [{"loser": loser, "winner": winner} for loser, winner in merges]
    if rows:
        for column in (lead.c.lead_id, lead.c.merged_into):
            connection.execute(
                update(lead)
                .where(column == bindparam("loser"))
                .values(merged_into=bindparam("winner")),
                rows,
            )


def put_people(connection: Connection, person_of: Mapping[str, str]) -> None:
    """Says of leads which person they are of: lead_id -> person_id."""
    rows = [{"of": lead_id, "who": person} for lead_id, person in person_of.items()]
    if rows:
        changed = or_(lead.c.person_id != bindparam("who"), lead.c.person_id.is_(None))
        connection.execute(
            update(lead)
            .where(lead.c.lead_id == bindparam("of"), changed)
            .values(person_id=bindparam("who")),
            rows,
        )


def count_submissions(connection: Connection, lead_ids: Iterable[str]) -> None:
    """Counts the submissions of these leads anew."""
    number = select(func.count()).where(submission.c.lead_id == lead.c.lead_id).scalar_subquery()
    for some in parts(sorted(set(lead_ids))):
        connection.execute(update(lead).where(lead.c.lead_id.in_(some)).values(submissions=number))


def links_of_lead(connection: Connection, lead_id: str) -> list[dict[str, Any]]:
    """The rows of `link` about a lead's submissions, heaviest first.

    UnknownName for no such lead.
    """
    there = select(lead.c.lead_id).where(lead.c.lead_id == lead_id)
    if connection.execute(there).first() is None:
        raise UnknownName(f"no lead {lead_id!r}")
    own = select(submission.c.submission_id).where(submission.c.lead_id == lead_id)
    query = select(link).where(or_(link.c.a.in_(own), link.c.b.in_(own)))
    rows = connection.execute(query.order_by(link.c.weight.desc(), link.c.a, link.c.b))
    return [dict(row) for row in rows.mappings()]
