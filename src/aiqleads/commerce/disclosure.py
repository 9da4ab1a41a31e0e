"""What the buyer of a lead gets, and nobody else: the person, and what may be done with it.

Whoever calls has made sure that the agent bought the lead. The same facts go out over HTTP,
in a webhook, by e-mail and as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine

from aiqleads.commerce.calling import FROM, UNTIL, CallingHours, calling_hours
from aiqleads.domain import moment
from aiqleads.geo.time_zones import CONTIGUOUS, zones_of
from aiqleads.store import do_not_call, leads
from aiqleads.store.leads import Person
from aiqleads.store.vault import Vault

#: facts of a lead that its buyer sees as they are
FACTS = (
    "intent",
    "property_type",
    "timeline",
    "financing",
    "ask_price_cents",
    "currency",
    "beds",
    "baths",
    "living_area_sqft",
    "lot_area_sqft",
    "garage_area_sqft",
    "rooms",
    "year_built",
    "source",
    "submissions",
    "quality",
)
DoNotCall = Literal["listed", "not_listed", "unknown"]


@dataclass(frozen=True)
class Disclosure:
    """A sold lead as its buyer gets it.

    facts: FACTS by name. lon, lat: degrees WGS 84, None without a place; precision says how
    well that is known. do_not_call: whether the phone number is in the do-not-call list that
    was taken in last. invented: what of it nobody gave, by name, '' for a real lead.
    """

    lead_id: str
    person: Person
    lon: float | None
    lat: float | None
    precision: str
    facts: Mapping[str, Any]
    calling: CallingHours
    do_not_call: DoNotCall
    invented: str


def disclose(
    leads_room: Engine,
    commerce: Engine,
    vault: Vault,
    lead_ids: Iterable[str],
    now_us: int,
    timezone_of: Callable[[str], str | None],
) -> dict[str, Disclosure]:
    """The leads' people by lead_id; leads that are not in store are left out.

    timezone_of: time zone of a market by its name, for a lead without ZIP and state.
    """
    wanted = list(dict.fromkeys(lead_ids))
    rows = leads.lead_rows(leads_room, wanted)
    people = leads.people(leads_room, vault, rows)
    phones = {lead_id: person.phone for lead_id, person in people.items()}
    listed = do_not_call.listed(commerce, vault, phones.values(), now_us)
    return {
        lead_id: Disclosure(
            lead_id,
            people[lead_id],
            rows[lead_id]["lon"],
            rows[lead_id]["lat"],
            rows[lead_id]["place_precision"],
            {name: rows[lead_id][name] for name in FACTS},
            calling_hours(_zones(people[lead_id], rows[lead_id], timezone_of), now_us),
            listed.get(phones[lead_id], "unknown"),
            rows[lead_id]["invented"],
        )
        for lead_id in wanted
        if lead_id in people
    }


def _zones(
    person: Person, row: Mapping[str, Any], timezone_of: Callable[[str], str | None]
) -> tuple[str, ...]:
    """By the person's address, else by the lead's ZIP, else the market's; at worst all."""
    found = zones_of(person.zip, person.state) or zones_of(row["zip"] or "")
    if found:
        return found
    market = timezone_of(row["market"])
    return (market,) if market else CONTIGUOUS


#: who the person is, in the order in which it is shown
CONTACT = ("name", "email", "phone", "address", "unit", "city", "state", "zip", "invented")


def as_json(made: Disclosure) -> dict[str, Any]:
    """The disclosure as it goes over the wire; times in UTC."""
    person, calling = made.person, made.calling
    contact = {name: getattr(person, name) for name in CONTACT}
    return {
        "lead_id": made.lead_id,
        "contact": contact | {"do_not_call": made.do_not_call},
        "place": {"lon": made.lon, "lat": made.lat, "precision": made.precision},
        "facts": dict(made.facts),
        "answers": dict(person.answers),
        "consents": [
            {
                "text": each.text,
                "text_version": each.text_version,
                "channel": each.channel,
                "given_at": moment(each.given_us),
                "source": each.source,
                "proof": each.proof,
                "sellers": each.sellers,
                "revoked_at": None if each.revoked_us is None else moment(each.revoked_us),
            }
            for each in person.consents
        ],
        "calling": {
            "time_zones": list(calling.zones),
            "from": f"{FROM:%H:%M}",
            "until": f"{UNTIL:%H:%M}",
            "open_now": calling.open_now,
            "opens_at": moment(calling.opens_us),
            "closes_at": moment(calling.closes_us),
        },
        "invented": made.invented,
    }
