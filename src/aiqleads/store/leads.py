"""Leads, what people sent and agreed to, in the room `leads`.

Writers take a connection, so that everything about a chunk stands in one transaction.
Contacts are sealed; who reads them brings the vault. Nothing here loads pandas at import:
the serving worker reads contacts through this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    bindparam,
    delete,
    func,
    select,
    update,
)

from aiqleads.errors import UnknownName
from aiqleads.store.bulk import insert_columns, parts
from aiqleads.store.database import reader
from aiqleads.store.tables import consent, lead, match_key, submission
from aiqleads.store.vault import Vault

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, Sequence[Any]]

#: what a sealed contact may hold, as JSON: the person, and where exactly they wrote about
CONTACT = (
    "name",
    "email",
    "phone",
    "address",
    "unit",
    "city",
    "state",
    "zip",
    "utm_x_m",
    "utm_y_m",
    "place_precision",
    "answers",
)
# A lead's name, person and origin never change by what its person writes again; its
# submissions are counted and it is merged by the linkage.
_FIXED = {"lead_id", "person_id", "market", "source", "source_key", "submissions", "merged_into"}
_READ_ROWS = 50_000


# --- what was sent ---------------------------------------------------------------------


def stored_content(connection: Connection, submission_ids: Iterable[str]) -> dict[str, bytes]:
    """Digest of what each submission said when it was stored; new ones are left out."""
    found: dict[str, bytes] = {}
    columns = (submission.c.submission_id, submission.c.content)
    for some in parts(submission_ids):
        rows = connection.execute(select(*columns).where(submission.c.submission_id.in_(some)))
        found.update((who, content) for who, content in rows)
    return found


def stored_leads(connection: Connection, lead_ids: Iterable[str]) -> set[str]:
    """Which of these leads are stored."""
    found: set[str] = set()
    for some in parts(lead_ids):
        found.update(connection.scalars(select(lead.c.lead_id).where(lead.c.lead_id.in_(some))))
    return found


def add_leads(connection: Connection, rows: Columns) -> None:
    """Inserts leads; columns: all of the table."""
    insert_columns(connection, lead, rows)


def add_submissions(connection: Connection, rows: Columns) -> None:
    """Inserts submissions; columns: all of the table."""
    insert_columns(connection, submission, rows)


def put_consents(connection: Connection, rows: Columns) -> None:
    """Keeps what people agreed to, in the place of what the same submissions said before.

    What was revoked stays so, unless it was agreed to anew since.
    """
    revoked: dict[str, int] = {}
    for some in parts(rows["submission_id"]):
        mine = consent.c.submission_id.in_(some)
        query = select(consent.c.submission_id, consent.c.revoked_us)
        taken_back = connection.execute(query.where(mine, consent.c.revoked_us.is_not(None)))
        revoked.update((row.submission_id, row.revoked_us) for row in taken_back)
        connection.execute(delete(consent).where(mine))
    ids, given = rows["submission_id"], rows["given_us"]
    still = [
        revoked[who] if who in revoked and at_us <= revoked[who] else None
        for who, at_us in zip(ids, given, strict=True)
    ]
    insert_columns(connection, consent, {**rows, "revoked_us": still})


def drop_consents(connection: Connection, submission_ids: Iterable[str]) -> None:
    """Forgets the consents of submissions that come without one now."""
    for some in parts(submission_ids):
        connection.execute(delete(consent).where(consent.c.submission_id.in_(some)))


def renew_leads(connection: Connection, rows: Columns) -> None:
    """Brings the facts of stored leads up to date; a merged one stays merged."""
    changing = [name for name in rows if name not in _FIXED]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in changing}
    statement = update(lead).where(lead.c.lead_id == bindparam("of"))
    given = [
        {"of": of, **{f"new_{name}": value for name, value in zip(changing, row, strict=True)}}
        for of, *row in zip(rows["lead_id"], *(rows[name] for name in changing), strict=True)
    ]
    if given:
        connection.execute(statement.values(values), given)


# Not arrived_us: when a person first came decides who knew them before.
_RENEWED = ("batch_id", "row_number", "received_market_us")
_SEALED = ("key_id", "contact", "content", "invented")


def renew_submissions(connection: Connection, rows: Columns) -> None:
    """What stored submissions say now; the leads that they belong to stay."""
    changing = (*_RENEWED, *_SEALED)
    statement = update(submission).where(submission.c.submission_id == bindparam("of"))
    given = [
        {"of": of, **{f"new_{name}": value for name, value in zip(changing, row, strict=True)}}
        for of, *row in zip(rows["submission_id"], *(rows[name] for name in changing), strict=True)
    ]
    if given:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in changing}
        connection.execute(statement.values(values), given)


def key_times(
    connection: Connection, digests: Iterable[bytes], from_us: int, until_us: int
) -> dict[bytes, list[tuple[int, str]]]:
    """When submissions with these keys came, market clock: digest -> (received, submission)."""
    found: dict[bytes, list[tuple[int, str]]] = {}
    between = submission.c.received_market_us.between(from_us, until_us)
    query = select(match_key.c.digest, submission.c.received_market_us, submission.c.submission_id)
    query = query.join(submission, submission.c.submission_id == match_key.c.submission_id)
    for some in parts(digests):
        for digest, at_us, who in connection.execute(
            query.where(match_key.c.digest.in_(some), between)
        ):
            found.setdefault(digest, []).append((at_us, who))
    return found


# --- contacts --------------------------------------------------------------------------


def submission_contacts(
    connection: Connection, vault: Vault, submission_ids: Sequence[str]
) -> pd.DataFrame:
    """Contacts of submissions, opened, with what the linkage compares besides.

    Indexed by submission_id: market, intent, received_market_us, and CONTACT; a person
    whose key was destroyed has none of the latter.
    """
    import pandas as pd

    columns = (
        submission.c.submission_id,
        submission.c.key_id,
        submission.c.contact,
        submission.c.received_market_us,
        lead.c.market,
        lead.c.intent,
    )
    query = select(*columns).join(lead, lead.c.lead_id == submission.c.lead_id)
    rows = [
        row
        for some in parts(submission_ids)
        for row in connection.execute(query.where(submission.c.submission_id.in_(some)))
    ]
    contacts = opened(vault, [(row[0], row[1], row[2]) for row in rows])
    made = [
        {"market": row.market, "intent": row.intent, "received_market_us": row.received_market_us}
        | each
        for row, each in zip(rows, contacts, strict=True)
    ]
    names = ["market", "intent", "received_market_us", *CONTACT]
    frame = pd.DataFrame(made, index=[row[0] for row in rows], columns=names, dtype=object)
    number = {"received_market_us": "int64", "utm_x_m": "float64", "utm_y_m": "float64"}
    return frame.astype(number)


def opened(vault: Vault, sealed: Sequence[tuple[str, str, bytes]]) -> list[dict[str, Any]]:
    """Contacts of (submission_id, key_id, contact), {} where the key was destroyed.

    A contact is sealed under the name of its submission.
    """
    ids = [each[1] for each in sealed]
    texts = vault.unseal(ids, [each[0] for each in sealed], [each[2] for each in sealed])
    return [{} if text is None else json.loads(text) for text in texts]


@dataclass(frozen=True)
class Consent:
    """What a person agreed to with one submission; times are microseconds, UTC."""

    text: str
    text_version: str
    channel: str
    given_us: int
    source: str
    proof: str
    sellers: int
    revoked_us: int | None


@dataclass(frozen=True)
class Person:
    """Who is behind a lead, as far as their key was not destroyed; '' for what is not known.

    answers: question -> answer, word for word. invented: nobody is behind it. consents: of
    every submission that came with one, newest first.
    """

    name: str
    email: str
    phone: str
    address: str
    unit: str
    city: str
    state: str
    zip: str
    answers: Mapping[str, Any]
    invented: bool
    consents: tuple[Consent, ...]


_CONTACT_WAYS = ("name", "email", "phone")
_ADDRESS = ("address", "unit", "city", "state", "zip")


def market_and_zip(
    connection: Connection, lead_ids: Iterable[str]
) -> dict[str, tuple[str, str | None]]:
    """By lead: its market, and the ZIP of its home where that is known."""
    query = select(lead.c.lead_id, lead.c.market, lead.c.zip)
    return {
        row.lead_id: (row.market, row.zip)
        for some in parts(lead_ids)
        for row in connection.execute(query.where(lead.c.lead_id.in_(some)))
    }


def people(engine: Engine, vault: Vault, lead_ids: Iterable[str]) -> dict[str, Person]:
    """The person of each lead; leads that nobody knows are left out.

    Name, e-mail and phone are each as the newest submission gave it that did; an address is
    that of one submission, the newest that has one. A lead that gave way to another has what
    its own submission said. Whether the caller may see them is not asked here.
    """
    wanted = list(dict.fromkeys(lead_ids))
    with reader(engine).connect() as connection:
        rows = _sent(connection, wanted, submission.c.lead_id)
        # What a lead was made of went to the lead that it gave way to; its buyer keeps it.
        missing = set(wanted) - {row.lead_id for row in rows}
        rows += _sent(connection, missing, lead.c.lead_id)
    said = opened(vault, [(row.submission_id, row.key_id, row.contact) for row in rows])
    found: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    for row, each in zip(rows, said, strict=True):
        found.setdefault(row.lead_id, []).append((row, each))
    return {lead_id: _person(sent) for lead_id, sent in found.items()}


def _sent(connection: Connection, lead_ids: Iterable[str], of: ColumnElement[str]) -> list[Any]:
    """Submissions with their consents, newest first: those under the leads (`of` is the
    submission's lead_id), or the one that made each (`of` is the lead's)."""
    columns = (
        of.label("lead_id"),
        submission.c.submission_id,
        submission.c.key_id,
        submission.c.contact,
        submission.c.invented,
        *(consent.c[name] for name in _CONSENT),
    )
    newest = (submission.c.received_market_us.desc(), submission.c.submission_id)
    joined = submission.outerjoin(consent, consent.c.submission_id == submission.c.submission_id)
    if of is lead.c.lead_id:
        same = (submission.c.source == lead.c.source) & (
            submission.c.source_key == lead.c.source_key
        )
        joined = joined.join(lead, same)
    query = select(*columns).select_from(joined).order_by(of, *newest)
    return [
        row for some in parts(lead_ids) for row in connection.execute(query.where(of.in_(some)))
    ]


_CONSENT = tuple(each.name for each in fields(Consent))


def _person(sent: Sequence[tuple[Any, dict[str, Any]]]) -> Person:
    """From (row, opened contact) of one lead's submissions, newest first."""
    said = [each for _, each in sent]
    ways = {
        name: next((str(each[name]) for each in said if each.get(name)), "")
        for name in _CONTACT_WAYS
    }
    whole = next((each for each in said if each.get("address")), None)
    whole = whole or next((each for each in said if any(map(each.get, _ADDRESS))), {})
    answers: dict[str, Any] = {}
    for each in reversed(said):
        answers |= _answers(each.get("answers"))
    return Person(
        **ways,
        **{name: str(whole.get(name) or "") for name in _ADDRESS},
        answers=answers,
        invented=all(row.invented for row, _ in sent),
        consents=tuple(
            Consent(**{name: getattr(row, name) for name in _CONSENT})
            for row, _ in sent
            if row.text is not None
        ),
    )


def _answers(text: str | None) -> dict[str, Any]:
    """Answers as they are kept: a JSON object, or words that were none."""
    if not text:
        return {}
    try:
        read = json.loads(text)
    except ValueError:
        read = text
    return read if isinstance(read, dict) else {"answers": read}


def lead_contact(engine: Engine, vault: Vault, lead_id: str) -> dict[str, Any]:
    """name, email, phone ('' for none) and invented (bool) of a lead's person.

    As `people` has them. UnknownName for no such lead.
    """
    person = people(engine, vault, [lead_id]).get(lead_id)
    if person is None:
        raise UnknownName(f"no lead {lead_id!r}")
    return {name: getattr(person, name) for name in (*_CONTACT_WAYS, "invented")}


# --- leads -----------------------------------------------------------------------------


def lead_row(engine: Engine, lead_id: str) -> dict[str, Any]:
    """The columns of one lead; whether the caller may see them is not asked here.

    UnknownName for no such lead.
    """
    row = lead_rows(engine, [lead_id]).get(lead_id)
    if row is None:
        raise UnknownName(f"no lead {lead_id!r}")
    return row


def lead_rows(engine: Engine, lead_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The columns of leads by id; those that nobody knows are left out."""
    with reader(engine).connect() as connection:
        return {
            row["lead_id"]: dict(row)
            for some in parts(lead_ids)
            for row in connection.execute(select(lead).where(lead.c.lead_id.in_(some))).mappings()
        }


def _on_offer(market: str) -> ColumnElement[bool]:
    return (lead.c.market == market) & (lead.c.waits == "") & lead.c.merged_into.is_(None)


def count_on_offer(engine: Engine, market: str) -> int:
    """How many leads of a market wait for nothing."""
    query = select(func.count()).select_from(lead).where(_on_offer(market))
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


def lead_columns(engine: Engine, market: str, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Columns of the leads that wait for nothing, by lead_id, some thousand rows at a time."""
    query = select(*(lead.c[name] for name in names)).where(_on_offer(market))
    yield from _blocks(engine, query.order_by(lead.c.lead_id))


def submission_columns(engine: Engine, market: str) -> Iterator[list[list[Any]]]:
    """lead_id and received_market_us of all that was sent about those leads, in that order."""
    columns = (submission.c.lead_id, submission.c.received_market_us)
    query = select(*columns).join(lead, lead.c.lead_id == submission.c.lead_id)
    yield from _blocks(engine, query.where(_on_offer(market)).order_by(*columns))


def _blocks(engine: Engine, query: Any) -> Iterator[list[list[Any]]]:
    with reader(engine).connect() as connection:
        answer = connection.execution_options(stream_results=True).execute(query)
        for rows in answer.partitions(_READ_ROWS):
            yield [list(column) for column in zip(*rows, strict=True)]
