"""Leads of iHomefinder's real-estate search pages, forwarded as XML.

A LeadList holds Lead elements: ThisDataProvider/Snapshot (Date 5/16/2022 and Time
3:23:37 PM, in the zone of the market), Contact (Note, Name, Email, Address in parts,
PhoneList), LeadSource, ListingNumber. The note is prose: a heading, the listing's address,
then 'Listing Number: .. Comments: ..'; the listing's address is the place of the lead,
the address parts of the contact are where the person lives. A lead is somebody who asks
about a listing, hence a buyer, unless the feed file says otherwise. RecordID counts within
a message only, so the key is a digest of the lead itself.
"""

from __future__ import annotations

import re
from datetime import datetime
from xml.etree.ElementTree import Element, tostring
from zoneinfo import ZoneInfo

from aiqleads.domain import US_PER_SECOND, Intent
from aiqleads.ingest.answers import Forms, Problem, Submission, content_key, parsed
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import every, get, prose, shape, text

_LABEL = re.compile(
    r"(Listing Number|Comments|Listing Agent MLS ID|Listing Office MLS ID|Price|Bedrooms|"
    r"Bathrooms|Square Feet|Property Type|Type|Timeframe|Financing|City|Zip)\s*:\s*",
    re.IGNORECASE,
)
_HOUSE = (
    "StreetNumber",
    "StreetDirection",
    "StreetName",
    "StreetType",
    "Street",
    "StreetAddress",
)
_WHERE = {"City": "city", "State": "state", "StateOrProvince": "state", "Zip": "zip",
          "PostalCode": "zip", "UnitNumber": "unit"}  # fmt: skip
_OTHERS = ("LeadSource", "LeadSubsource", "ListingNumber", "ProgressStatus",
           "Contact.PreferredWayToContact", "Contact.Role")  # fmt: skip


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of a lead list."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    for row, record in zip(records.index.tolist(), records.tolist(), strict=True):
        if isinstance(record, Element) and get(record, "Contact") is not None:
            submissions.append(_submission(row, record, forms))
        else:
            problems.append((row, "key", "key: a Lead element with a Contact", None))
    seen = shape(records.tolist())
    return parsed(submissions, problems, SOURCE.name, records.index, seen)


def _submission(row: int, lead: Element, forms: Forms) -> Submission:
    told = [(name, _said(lead, path)) for name, path in _CONTACT]
    told += [("phone", found) for each in every(lead, "Contact.PhoneList.Phone")
             if (found := _said(each, "Number"))]  # fmt: skip
    told += _note(get(lead, "Contact.Note") or "")
    told += _home(lead)
    told += [(name, _said(lead, name)) for name in _OTHERS]
    made = Submission(
        row=row,
        key=content_key(tostring(lead, encoding="unicode")),
        told=[(name, value) for name, value in told if value],
        asked=forms.of(_said(lead, "LeadSource")),
        intent=Intent.BUY,
    )
    made.received_us = _received_us(lead, forms.timezone)
    if made.received_us is None:
        made.warnings.append("time not readable")
    return made


_CONTACT = (
    ("first_name", "Contact.Name.First"),
    ("last_name", "Contact.Name.Last"),
    ("email", "Contact.Email"),
)


def _said(node: Element, path: str) -> str:
    """A text without spaces around it, '' for none."""
    found = get(node, path)
    return (text(found) or "") if isinstance(found, str) else ""


def _received_us(lead: Element, timezone: str) -> int | None:
    snapshot = "ThisDataProvider.Snapshot"
    written = f"{_said(lead, f'{snapshot}.Date')} {_said(lead, f'{snapshot}.Time')}"
    try:
        local = datetime.strptime(written, "%m/%d/%Y %I:%M:%S %p").replace(
            tzinfo=ZoneInfo(timezone)
        )
    except ValueError:
        return None
    return int(local.timestamp()) * US_PER_SECOND


def _note(note: str) -> list[tuple[str, str]]:
    """What the note says: the listing's address, then its labelled values."""
    whole = prose(note) or ""
    parts = _LABEL.split(whole)
    told: list[tuple[str, str]] = []
    head = [line.strip() for line in parts[0].splitlines() if line.strip()]
    heading = [line for line in head if line.endswith(":")]
    address = [line for line in head if not line.endswith(":")]
    if heading:
        told.append(("request", heading[0].rstrip(":")))
    if address and re.search(r"\d|,", address[0]):
        told.append(("property_address", address[0].replace(";", ",")))
        address = address[1:]
    told += [("note", line) for line in address]
    for name, value in zip(parts[1::2], parts[2::2], strict=True):
        told.append(("message" if name.lower() == "comments" else name, value.strip()))
    return told


def _home(lead: Element) -> list[tuple[str, str]]:
    """Where the person lives, by the parts of the contact's address."""
    where = "Contact.Address"
    street = " ".join(said for name in _HOUSE if (said := _said(lead, f"{where}.{name}")))
    parts = [(ours, _said(lead, f"{where}.{name}")) for name, ours in _WHERE.items()]
    return [("street_address", street), *parts]


SOURCE = Source(
    name="ihomefinder",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="push",
    proof="hmac",
    formats=("xml",),
    records="Lead",
    about=(
        "Enquiries about listings from iHomefinder's search pages. The place is the "
        "listing's, from the note. Consent is the feed file's: the format carries none."
    ),
    specification="https://www.agentwebsite.net/help/answer/142",
    tested_on="the sample of that page and fixtures written from it",
    parse=parse,
)
