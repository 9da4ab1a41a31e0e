"""No sale without consent: asked at the hold, and again just before each sale.

Consents are in the room `leads`, sales in the room `commerce`, and no transaction spans both.
So whoever takes a consent back writes that down first and closes the lead's unsold slots
second. A sale asks first and sells second: it sees what was written, or finds its slot closed,
or was there before, and then its buyer is told. `settle` does the second step again for
whoever died between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, Engine

from aiqleads.commerce import events, licences
from aiqleads.errors import InvalidInput, Refused
from aiqleads.ingest.reach import contact_keys
from aiqleads.store import consents as rows
from aiqleads.store import holds, orders, returns
from aiqleads.store.bulk import parts
from aiqleads.store.consents import Consent, Counts, Kind
from aiqleads.store.database import reader
from aiqleads.store.holds import Item
from aiqleads.store.leads import opened
from aiqleads.store.orders import OrderItem
from aiqleads.store.returns import Notice
from aiqleads.store.sources import withheld_leads
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

#: order.failure where a lead could not be sold any more when its payment was ready
CONSENT_ENDED = "consent-ended"
HOLD_ENDED, DO_NOT_CONTACT = "hold-ended", "do-not-contact"
_LEADS_AT_ONCE = 100
_ENDED = "its person is not to be contacted any more"


@dataclass(frozen=True)
class Answer:
    """By lead, the consent that it may be sold by now, or the refusal that says why not."""

    consents: dict[str, Consent]
    problems: dict[str, Refused]


class Register:
    """Asks the room `leads` which leads may be sold at this moment, by what consent, to whom.

    licensed: the markets whose leads take a licence, see `licences.asking`.
    """

    def __init__(self, leads: Engine, licensed: licences.Asking = MappingProxyType({})) -> None:
        self._leads = leads
        self.licensed = licensed

    def states(self, lead_ids: Sequence[str]) -> dict[str, str]:
        """By lead that takes a licence: of which state."""
        if not self.licensed:
            return {}
        with reader(self._leads).connect() as connection:
            return licences.states(connection, self.licensed, lead_ids)

    def look(self, lead_ids: Sequence[str], now_us: int) -> Answer:
        """What is true of each lead now (wall us)."""
        with reader(self._leads).connect() as connection:
            withheld = withheld_leads(connection, lead_ids)
            live = rows.live(connection, lead_ids, now_us)
        problems = {each: _withheld(each) for each in lead_ids if each in withheld}
        problems |= {
            each: _suppressed(each)
            for each in lead_ids
            if each not in live and each not in withheld
        }
        return Answer({k: v for k, v in live.items() if k not in problems}, problems)

    def check(self, lead_ids: Sequence[str], now_us: int) -> dict[str, Consent]:
        """The consents of all these leads.

        Refused `lead-withheld` 409 or `suppressed` 409 (lead_id) for the first without one.
        """
        found = self.look(lead_ids, now_us)
        if found.problems:
            raise found.problems[min(found.problems)]
        return found.consents


def _withheld(lead_id: str) -> Refused:
    detail = f"the lead {lead_id} is not sold now: its source is paused or took it back"
    return Refused("lead-withheld", detail, lead_id=lead_id)


def _suppressed(lead_id: str) -> Refused:
    detail = f"the lead {lead_id} is not sold: there is no consent of its person that holds"
    return Refused("suppressed", detail, lead_id=lead_id)


# --- a sale ------------------------------------------------------------------------


def lock_scarce(connection: Connection, consents: Mapping[str, Consent]) -> None:
    """Locks all slots of the leads that fewer agents may buy than there are slots.

    Of any other lead the slots alone keep the number of buyers within the consent.
    """
    places = holds.places(connection, sorted(consents))
    scarce = [each for each, consent in consents.items() if places.get(each, 0) > consent.sellers]
    if scarce:
        holds.slots_of(connection, sorted(scarce))


def of_items(
    connection: Connection,
    order_id: str,
    items: Sequence[Item | OrderItem],
    found: Mapping[str, Consent] | None,
) -> dict[str, Consent]:
    """What the sale of each lead in an order rests on, after `lock_scarce`; by lead.

    found: asked just now; None: what was noted when the leads were held. Refused `suppressed`
    409 for a lead without any, `lead-sold` 409 where the consent's number of agents is
    reached.
    """
    if found is None:
        found = holds.noted_consents(connection, items)
    missing = [item.lead_id for item in items if item.lead_id not in found]
    if missing:
        raise _suppressed(missing[0])
    mine = {item.lead_id: found[item.lead_id] for item in items}
    proofs = sorted({each.submission_id for each in mine.values()})
    told = orders.disclosed(connection, sorted(mine), proofs, without=order_id)
    for lead_id, consent in mine.items():
        count = sum(lead_id == lead or consent.submission_id == who for lead, who in told)
        if count >= consent.sellers:
            detail = f"the person of {lead_id} agreed to {consent.sellers} agents, who have it"
            raise Refused(
                "lead-sold",
                detail,
                lead_id=lead_id,
                yours=False,
                limit="consent_sellers",
                value=consent.sellers,
                used=count,
            )
    return mine


# --- taken back, suppressed --------------------------------------------------------


@dataclass(frozen=True)
class Stopped:
    """What came of a suppression or a revocation.

    contacts: that were read; anew: of these, those that were not noted before; unreadable:
    neither an e-mail nor a phone. leads: of these people. slots of `closed` of them were
    closed, `holders` lost a hold and `buyers` were told not to call any more.
    """

    contacts: int
    anew: int
    unreadable: int
    leads: int
    closed: int
    holders: int
    buyers: int


@dataclass(frozen=True)
class Lifted:
    """What came of lifting suppressions: contacts read, of these lifted, unreadable."""

    contacts: int
    lifted: int
    unreadable: int


def suppress(
    leads: Engine,
    commerce: Engine,
    vault: Vault,
    contacts: Sequence[str],
    reason: str,
    by: str,
    now_us: int,
) -> Stopped:
    """Nobody with one of these e-mails or phones is sold from now on; safe to repeat.

    by: the operator's key, or `cli`. InvalidInput where none of them can be read.
    """
    digests, unreadable = _digests(vault, contacts)
    if not digests:
        raise InvalidInput("none of these is an e-mail or a phone")
    return _stop(leads, commerce, "suppressed", digests, [], (reason, by), unreadable, now_us)


def lift(leads: Engine, vault: Vault, contacts: Sequence[str], by: str, now_us: int) -> Lifted:
    """Ends suppressions. Slots that they closed stay closed: only other leads are sold again."""
    digests, unreadable = _digests(vault, contacts)
    with writing(leads) as connection:
        count = rows.lift(connection, digests, by, now_us)
    return Lifted(len(contacts) - unreadable, count, unreadable)


def revoke(
    leads: Engine,
    commerce: Engine,
    vault: Vault,
    reason: str,
    by: str,
    now_us: int,
    *,
    lead_id: str | None = None,
    contact: str | None = None,
) -> Stopped:
    """A person takes back what they agreed to until now; a later consent is a new one.

    Name the person by a lead or by an e-mail or phone. UnknownName for no such lead,
    InvalidInput for neither, both, or what cannot be read.
    """
    if (lead_id is None) == (contact is None):
        raise InvalidInput("name either a lead or a contact")
    if contact is not None:
        digests, unreadable = _digests(vault, [contact])
        if unreadable:
            raise InvalidInput("this is neither an e-mail nor a phone")
        return _stop(leads, commerce, "revoked", digests, [], (reason, by), 0, now_us)
    with reader(leads).connect() as connection:
        mine = rows.leads_of_person(connection, str(lead_id))
        sealed = rows.sealed_contacts(connection, mine)
    said = opened(vault, sealed)
    texts = [each[name] for each in said for name in ("email", "phone") if each.get(name)]
    digests, _ = _digests(vault, texts)
    return _stop(leads, commerce, "revoked", digests, mine, (reason, by), 0, now_us)


def counts(leads: Engine) -> Counts:
    """How many contacts are noted."""
    with reader(leads).connect() as connection:
        return rows.counts(connection)


def _digests(vault: Vault, contacts: Sequence[str]) -> tuple[list[bytes], int]:
    """Keyed digests of the contacts, and how many could not be read."""
    keys = [contact_keys(each) for each in contacts]
    flat = dict.fromkeys(key for some in keys for key in some)
    return vault.match(flat), sum(not some for some in keys)


def _stop(
    leads: Engine,
    commerce: Engine,
    kind: Kind,
    digests: Sequence[bytes],
    lead_ids: Sequence[str],
    why: tuple[str, str],
    unreadable: int,
    now_us: int,
) -> Stopped:
    # Noted first: from here on nothing of them can be held or checked out.
    with writing(leads) as connection:
        anew = rows.note(connection, kind, digests, *why, now_us)
        theirs = sorted({*lead_ids, *rows.leads_with(connection, digests)})
        if kind == "revoked":
            rows.revoke(connection, theirs, now_us)
    closed, holders, buyers = _close(commerce, theirs, now_us)
    return Stopped(len(digests), anew, unreadable, len(theirs), closed, holders, buyers)


def _close(commerce: Engine, lead_ids: Sequence[str], now_us: int) -> tuple[int, int, int]:
    """Closes what is not sold of the leads and tells holders and buyers; safe to repeat."""
    with reader(commerce).connect() as connection:
        known = sorted(holds.places(connection, lead_ids))
    closed = holders = buyers = 0
    for some in parts(known, _LEADS_AT_ONCE):
        with writing(commerce) as connection:
            before = holds.unsold(connection, some)
            closed += len(before)
            for lead_id in some:
                losers = holds.close(connection, lead_id, now_us) if lead_id in before else []
                for agent_id in losers:
                    text = f"your hold of {lead_id} ended: {_ENDED}"
                    holders += _tell(connection, agent_id, HOLD_ENDED, lead_id, text, now_us)
                for agent_id in returns.buyers_of(connection, lead_id):
                    text = f"do not call or write to the person of {lead_id} any more: {_ENDED}"
                    buyers += _tell(connection, agent_id, DO_NOT_CONTACT, lead_id, text, now_us)
    return closed, holders, buyers


def _tell(
    connection: Connection, agent_id: str, kind: str, lead_id: str, text: str, now_us: int
) -> int:
    told = Notice(f"{kind}:{lead_id}:{agent_id}", agent_id, kind, lead_id, text, now_us)
    return events.notify(connection, told)


def settle(leads: Engine, commerce: Engine, now_us: int) -> int:
    """Does what a suppression or revocation left undone; how many leads it found.

    Closes slots of such leads that are still open, as a hold may have been granted while it
    was written down, and tells buyers who do not know yet.
    """
    with reader(leads).connect() as connection:
        stopped = sorted(rows.stopped_leads(connection))
    with reader(commerce).connect() as connection:
        left = holds.unsold(connection, stopped)
        left |= returns.buyers_untold(connection, stopped, DO_NOT_CONTACT)
    if left:
        _close(commerce, sorted(left), now_us)
    return len(left)
