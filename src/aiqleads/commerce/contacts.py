"""Whom an agent knows already: so that it does not pay for its own customers.

An agent uploads e-mails and phones; what is kept are digests that are keyed and its own. When
it holds a lead whose person is among them, it is told. That answer could be used to find out
who is behind a lead on offer, by uploading guesses. So a contact answers only for leads that
came a day after it, whatever else is in the list; the same statements run whether anything
matches or not; and there are so many answers a day, after which a hold is a hold.
`contacts.toml` holds the figures.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from aiqleads.commerce.limits import seconds_until
from aiqleads.domain import US_PER_DAY, US_PER_HOUR
from aiqleads.errors import InvalidInput, Refused
from aiqleads.ingest.reach import contact_keys
from aiqleads.shop_files import Table, read
from aiqleads.store import consents, holds, orders
from aiqleads.store import contacts as rows
from aiqleads.store.consents import Person
from aiqleads.store.database import reader
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

_HEADING = re.compile(r"e-?mail|phone|mobile|cell|tel", re.IGNORECASE)
_CONTACT = re.compile(r"@|(?:\d\D*){7}")
_LONGEST_CELL = 1_000


@dataclass(frozen=True)
class Rules:
    """What stands in `contacts.toml`, checked."""

    version: str
    hours_before: int
    uploads_per_day: int
    stored: int
    answers_per_day: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Rules:
        """Builds the rules from TOML; InvalidInput says which figure cannot be."""
        figures = [each.name for each in fields(cls)]
        top = Table("contacts.toml", dict(raw), figures)
        least = {"answers_per_day": 0}
        return cls(
            version=top.text("version"),
            **{name: top.whole(name, least.get(name, 1)) for name in figures[1:]},
        )


RULES = Rules.parse(read(Path(__file__).with_name("contacts.toml")))


@dataclass(frozen=True)
class Upload:
    """What came of an upload: contacts added, known before, unreadable, and all that there are."""

    added: int
    known: int
    unreadable: int
    stored: int


@dataclass(frozen=True)
class Use:
    """An agent's list in figures; `frees_us` (wall): when the day's figures start again."""

    stored: int
    uploaded_today: int
    answered_today: int
    frees_us: int


def contacts_in(text: str) -> list[str]:
    """E-mails and phones of a CSV, or of lines.

    With a heading its columns of e-mails and phones, otherwise every cell that looks like one.
    """
    try:
        table = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""))
        ]
    except csv.Error as problem:
        raise InvalidInput("this is no CSV") from problem
    if not table:
        return []
    named = [at for at, cell in enumerate(table[0]) if _HEADING.search(cell)]
    if named and not any(_CONTACT.search(cell) for cell in table[0]):
        cells: Iterable[str] = (row[at] for row in table[1:] for at in named if at < len(row))
        return [cell[:_LONGEST_CELL] for cell in cells if cell]
    return [cell[:_LONGEST_CELL] for row in table for cell in row if _CONTACT.search(cell)]


def upload(
    commerce: Engine, vault: Vault, agent_id: str, contacts: Sequence[str], now_us: int
) -> Upload:
    """Adds to the agent's list; a contact that is there keeps the time at which it came.

    Refused `contact-limit-reached` 403 (limit, value, used, fits, retry_after of the daily
    one): then nothing is added. UnknownName for a stranger.
    """
    keys = [contact_keys(each) for each in contacts]
    digests = set(_own(vault, agent_id, vault.match({key for some in keys for key in some})))
    unreadable = sum(not some for some in keys)
    day_us = now_us - now_us % US_PER_DAY
    with writing(commerce) as connection:
        holds.lock_agent(connection, agent_id)
        fresh = digests - rows.known(connection, agent_id, digests)
        stored = rows.stored(connection, agent_id)
        used = rows.uploaded(connection, agent_id, day_us)
        _check("contacts_per_day", RULES.uploads_per_day, used, len(fresh), now_us)
        _check("contacts_stored", RULES.stored, stored, len(fresh), None)
        rows.add(connection, agent_id, fresh, now_us)
        rows.count_upload(connection, agent_id, day_us, len(fresh))
    return Upload(len(fresh), len(digests) - len(fresh), unreadable, stored + len(fresh))


def _check(limit: str, most: int, used: int, more: int, now_us: int | None) -> None:
    if used + more <= most:
        return
    free = {} if now_us is None else {"retry_after": seconds_until(_tomorrow(now_us), now_us)}
    raise Refused(
        "contact-limit-reached",
        f"{used} of {most} are used; {more} more do not fit",
        status=403,
        limit=limit,
        value=most,
        used=used,
        fits=max(0, most - used),
        **free,
    )


def _tomorrow(now_us: int) -> int:
    return now_us - now_us % US_PER_DAY + US_PER_DAY


def forget(commerce: Engine, agent_id: str) -> int:
    """Empties the agent's list; how many there were. What was used of the day stays used."""
    with writing(commerce) as connection:
        holds.lock_agent(connection, agent_id)
        return rows.drop(connection, agent_id)


def use(commerce: Engine, agent_id: str, now_us: int) -> Use:
    """How many contacts there are, and what is used of the day."""
    day_us = now_us - now_us % US_PER_DAY
    with reader(commerce).connect() as connection:
        _, answers = rows.answered(connection, agent_id, [], day_us)
        return Use(
            rows.stored(connection, agent_id),
            rows.uploaded(connection, agent_id, day_us),
            answers,
            _tomorrow(now_us),
        )


def duplicate(lead_ids: Sequence[str]) -> Refused:
    """The refusal of leads whose people the agent knows; it does not say from where."""
    detail = f"you know the person of {', '.join(lead_ids)} already"
    return Refused("duplicate-for-buyer", detail, lead_ids=list(lead_ids))


def answer(
    leads: Engine,
    commerce: Engine,
    vault: Vault,
    agent_id: str,
    lead_ids: Sequence[str],
    now_us: int,
) -> list[str]:
    """Those of the leads whose person the agent is told that it knows, in their order.

    It knows who was in its list `hours_before` the lead first came, and whom it has bought as
    another lead. What is told is noted, and told again whenever it is asked; beyond the day's
    number nothing more is told, and the statements are those of an agent who knows nobody.
    """
    if not lead_ids:
        return []
    with reader(leads).connect() as connection:
        people = consents.people_of(connection, lead_ids)
    day_us = now_us - now_us % US_PER_DAY
    own = _own_digests(vault, agent_id, people)
    newest_us = max((each.arrived_us for each in people.values()), default=0)
    ahead_us = RULES.hours_before * US_PER_HOUR
    others = sorted({other for each in people.values() for other in each.others})
    with reader(commerce).connect() as connection:
        came = rows.before(connection, agent_id, own, newest_us - ahead_us)
        bought = orders.bought(connection, agent_id, others)
        told, count = rows.answered(connection, agent_id, lead_ids, day_us)
    matched = {
        lead_id
        for digest, mine in own.items()
        for lead_id in mine
        if digest in came and came[digest] <= people[lead_id].arrived_us - ahead_us
    } | {lead_id for lead_id, each in people.items() if each.others & bought}
    fresh = [each for each in lead_ids if each in matched - told]
    if fresh and count < RULES.answers_per_day:
        told |= _tell(commerce, agent_id, fresh, day_us, now_us)
    return [each for each in lead_ids if each in matched & told]


def _tell(
    commerce: Engine, agent_id: str, fresh: Sequence[str], day_us: int, now_us: int
) -> set[str]:
    """Notes as many answers as the day has left, under the agent's lock; those noted."""
    with writing(commerce) as connection:
        holds.lock_agent(connection, agent_id)
        told, count = rows.answered(connection, agent_id, fresh, day_us)
        room = max(0, RULES.answers_per_day - count)
        more = [each for each in fresh if each not in told][:room]
        rows.note_answers(connection, agent_id, more, now_us)
    return told | set(more)


def _own(vault: Vault, agent_id: str, digests: Iterable[bytes]) -> list[bytes]:
    """What an agent's list has for these digests: nothing that another list would have."""
    return vault.match(f"contact|{agent_id}|{digest.hex()}" for digest in digests)


def _own_digests(
    vault: Vault, agent_id: str, people: Mapping[str, Person]
) -> dict[bytes, list[str]]:
    """The digests by which the agent would have these leads' people, with the leads."""
    leads_of: dict[bytes, list[str]] = {}
    for lead_id, person in people.items():
        for digest in person.digests:
            leads_of.setdefault(digest, []).append(lead_id)
    return dict(zip(_own(vault, agent_id, leads_of), leads_of.values(), strict=True))
