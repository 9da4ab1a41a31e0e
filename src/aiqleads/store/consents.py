"""What people agreed to, what they took back, and who is not to be sold at all.

Functions take a connection to the room `leads`. A person is known by the keyed digests of
e-mail and phone (`match_key`), so what is noted of a contact counts for every lead of its
person: those in store, and those that come later. Nothing here loads pandas: the shop asks
before every hold and every sale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from aiqleads.errors import UnknownName
from aiqleads.store.bulk import parts
from aiqleads.store.tables import consent, lead, match_key, submission, suppression

Kind = Literal["suppressed", "revoked"]


@dataclass(frozen=True)
class Consent:
    """What a sale rests on, as it was found at `checked_us` (wall).

    submission_id: what came with the consent. proof: certificate or the source's own id.
    sellers: to how many agents the person may be sold.
    """

    submission_id: str
    proof: str
    sellers: int
    checked_us: int


@dataclass(frozen=True)
class Counts:
    """Contacts that are suppressed, that were revoked, and that were lifted again."""

    suppressed: int = 0
    revoked: int = 0
    lifted: int = 0


_theirs = lead.alias("theirs")


def _of_person(*columns: Any) -> Select[Any]:
    """The columns over each lead with the digests of all that its person ever sent."""
    return (
        select(lead.c.lead_id, *columns)
        .select_from(lead)
        .join(_theirs, _theirs.c.person_id == lead.c.person_id)
        .join(submission, submission.c.lead_id == _theirs.c.lead_id)
        .join(match_key, match_key.c.submission_id == submission.c.submission_id)
    )


_in_force = suppression.c.lifted_us.is_(None)


def live(connection: Connection, lead_ids: Sequence[str], now_us: int) -> dict[str, Consent]:
    """The consent by which each lead may be sold now; a lead that may not be is left out.

    Of several that were not taken back the one counts that allows most agents, and of those
    the newest. None does while one of the person's contacts is suppressed.
    """
    stopped, revoked = _stops(connection, lead_ids)
    query = (
        select(
            submission.c.lead_id,
            submission.c.submission_id,
            consent.c.proof,
            consent.c.sellers,
            consent.c.given_us,
        )
        .join(consent, consent.c.submission_id == submission.c.submission_id)
        .where(consent.c.revoked_us.is_(None))
        .order_by(consent.c.sellers, consent.c.given_us, submission.c.submission_id)
    )
    found: dict[str, Consent] = {}
    for some in parts(lead_ids):
        for row in connection.execute(query.where(submission.c.lead_id.in_(some))):
            if row.lead_id not in stopped and row.given_us > revoked.get(row.lead_id, -1):
                found[row.lead_id] = Consent(row.submission_id, row.proof, row.sellers, now_us)
    return found


def _stops(connection: Connection, lead_ids: Sequence[str]) -> tuple[set[str], dict[str, int]]:
    """Leads of suppressed people, and until when the others' consents were taken back."""
    query = _of_person(suppression.c.kind, suppression.c.since_us).join(
        suppression, and_(suppression.c.digest == match_key.c.digest, _in_force)
    )
    stopped: set[str] = set()
    revoked: dict[str, int] = {}
    for some in parts(lead_ids):
        for row in connection.execute(query.where(lead.c.lead_id.in_(some))):
            if row.kind == "suppressed":
                stopped.add(row.lead_id)
            else:
                revoked[row.lead_id] = max(row.since_us, revoked.get(row.lead_id, -1))
    return stopped, revoked


def stopped_leads(connection: Connection) -> set[str]:
    """Leads that cannot be sold because of a suppression or a revocation."""
    noted = _leads_with(select(suppression.c.digest).where(_in_force))
    taken_back = (
        select(submission.c.lead_id)
        .join(consent, consent.c.submission_id == submission.c.submission_id)
        .where(consent.c.revoked_us.is_not(None))
    )
    touched = {*connection.scalars(noted), *connection.scalars(taken_back)}
    return touched - live(connection, sorted(touched), 0).keys()


def _leads_with(digests: Any) -> Select[Any]:
    """Leads of the people who have one of these digests."""
    people = (
        select(lead.c.person_id)
        .join(submission, submission.c.lead_id == lead.c.lead_id)
        .join(match_key, match_key.c.submission_id == submission.c.submission_id)
        .where(match_key.c.digest.in_(digests))
    )
    return select(lead.c.lead_id).where(lead.c.person_id.in_(people))


def leads_with(connection: Connection, digests: Iterable[bytes]) -> list[str]:
    """Leads of the people who have one of these digests, sorted."""
    found: set[str] = set()
    for some in parts(digests):
        found.update(connection.scalars(_leads_with(some)))
    return sorted(found)


def leads_of_person(connection: Connection, lead_id: str) -> list[str]:
    """The lead and all others of its person, sorted; UnknownName for no such lead."""
    person = select(lead.c.person_id).where(lead.c.lead_id == lead_id)
    found = connection.scalars(select(lead.c.lead_id).where(lead.c.person_id.in_(person)))
    if not (leads := sorted(found)):
        raise UnknownName(f"no lead {lead_id!r}")
    return leads


def sealed_contacts(
    connection: Connection, lead_ids: Sequence[str]
) -> list[tuple[str, str, bytes]]:
    """(submission_id, key_id, contact) of all that was sent about these leads."""
    query = select(submission.c.submission_id, submission.c.key_id, submission.c.contact)
    return [
        (row.submission_id, row.key_id, row.contact)
        for some in parts(lead_ids)
        for row in connection.execute(query.where(submission.c.lead_id.in_(some)))
    ]


# --- notes -------------------------------------------------------------------------


def note(
    connection: Connection,
    kind: Kind,
    digests: Iterable[bytes],
    reason: str,
    by: str,
    now_us: int,
) -> int:
    """Suppresses contacts, or notes that what they agreed to is taken back; how many anew.

    One that is noted already keeps its first reason; a revocation reaches until now again.
    """
    rows = [
        {"digest": digest, "kind": kind, "since_us": now_us, "reason": reason, "noted_by": by}
        for digest in sorted(set(digests))
    ]
    if not rows:
        return 0
    known: set[bytes] = set()
    for some in parts([row["digest"] for row in rows]):
        there = suppression.c.digest.in_(some) & (suppression.c.kind == kind) & _in_force
        known.update(connection.scalars(select(suppression.c.digest).where(there)))
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(suppression)
    anew = {name: statement.excluded[name] for name in ("since_us", "reason", "noted_by")}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["digest", "kind"],
            set_={**anew, "lifted_us": None, "lifted_by": None},
            where=suppression.c.lifted_us.is_not(None) | (suppression.c.kind == "revoked"),
        ),
        rows,
    )
    return len(rows) - len(known)


def lift(connection: Connection, digests: Iterable[bytes], by: str, now_us: int) -> int:
    """Ends suppressions; how many there were. What was revoked stays so."""
    count = 0
    for some in parts(digests):
        mine = suppression.c.digest.in_(some) & (suppression.c.kind == "suppressed") & _in_force
        ended = update(suppression).where(mine).values(lifted_us=now_us, lifted_by=by)
        count += connection.execute(ended).rowcount
    return count


def revoke(connection: Connection, lead_ids: Sequence[str], now_us: int) -> int:
    """Takes back every consent of these leads that is live; how many there were."""
    count = 0
    for some in parts(lead_ids):
        mine = select(submission.c.submission_id).where(submission.c.lead_id.in_(some))
        fresh = consent.c.submission_id.in_(mine) & consent.c.revoked_us.is_(None)
        count += connection.execute(update(consent).where(fresh).values(revoked_us=now_us)).rowcount
    return count


def counts(connection: Connection) -> Counts:
    """How many contacts are noted."""
    query = select(suppression.c.kind, _in_force.label("on"), func.count())
    rows = connection.execute(query.group_by(suppression.c.kind, _in_force)).all()
    of = {(kind, bool(on)): n for kind, on, n in rows}
    return Counts(of.get(("suppressed", True), 0), of.get(("revoked", True), 0), _lifted(of))


def _lifted(of: Mapping[tuple[str, bool], int]) -> int:
    return sum(n for (_, on), n in of.items() if not on)


def last_change_us(connection: Connection) -> int:
    """When somebody was suppressed, lifted, or took a consent back last (wall); 0: never."""
    times: tuple[ColumnElement[Any], ...] = (
        func.max(suppression.c.since_us),
        func.max(suppression.c.lifted_us),
        func.max(consent.c.revoked_us),
    )
    return max(connection.scalar(select(each)) or 0 for each in times)


def broken_sales(
    connection: Connection, sales: Sequence[tuple[str, str, int]], slack_us: int
) -> list[str]:
    """Of sales as (lead, submission, checked_us) the leads that rest on no consent.

    Nobody sent such a submission, or its consent had been taken back more than `slack_us`
    before it was checked.
    """
    revoked: dict[str, int | None] = {}
    query = select(submission.c.submission_id, consent.c.revoked_us).outerjoin(
        consent, consent.c.submission_id == submission.c.submission_id
    )
    for some in parts({who for _, who, _ in sales}):
        rows = connection.execute(query.where(submission.c.submission_id.in_(some)))
        revoked.update({row.submission_id: row.revoked_us for row in rows})
    return [
        lead_id
        for lead_id, who, checked_us in sales
        if who not in revoked or (revoked[who] or checked_us) < checked_us - slack_us
    ]


def sources_of(connection: Connection, submission_ids: Sequence[str]) -> dict[str, str]:
    """The source that each submission came from; one that is not there is left out."""
    query = select(submission.c.submission_id, submission.c.source)
    return {
        row.submission_id: row.source
        for some in parts(submission_ids)
        for row in connection.execute(query.where(submission.c.submission_id.in_(some)))
    }


# --- who is behind a lead ----------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """What tells whether an agent knows a lead's person.

    digests: keys of all that the person sent. arrived_us (wall): when the lead first came.
    others: the person's other leads.
    """

    digests: frozenset[bytes]
    arrived_us: int
    others: frozenset[str]


def people_of(connection: Connection, lead_ids: Sequence[str]) -> dict[str, Person]:
    """The people behind these leads; a lead of which nothing was sent is left out."""
    digests: dict[str, set[bytes]] = {}
    others: dict[str, set[str]] = {}
    arrived: dict[str, int] = {}
    came = select(submission.c.lead_id, func.min(submission.c.arrived_us))
    same = select(lead.c.lead_id, _theirs.c.lead_id).join(
        _theirs,
        and_(_theirs.c.person_id == lead.c.person_id, _theirs.c.lead_id != lead.c.lead_id),
    )
    for some in parts(lead_ids):
        mine = submission.c.lead_id.in_(some)
        arrived.update(
            (row[0], row[1])
            for row in connection.execute(came.where(mine).group_by(submission.c.lead_id))
        )
        for lead_id, digest in connection.execute(
            _of_person(match_key.c.digest).where(lead.c.lead_id.in_(some))
        ):
            digests.setdefault(lead_id, set()).add(digest)
        for lead_id, other in connection.execute(same.where(lead.c.lead_id.in_(some))):
            others.setdefault(lead_id, set()).add(other)
    return {
        lead_id: Person(
            frozenset(digests.get(lead_id, ())), at_us, frozenset(others.get(lead_id, ()))
        )
        for lead_id, at_us in arrived.items()
    }
