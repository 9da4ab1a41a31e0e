"""Leads in ADF 1.0, the Auto-lead Data Format, as far as they are about homes.

ADF is XML (or a mail that carries such XML) with prospect elements: id, requestdate,
vehicle (interest buy, lease, sell, trade-in or test-drive; price, finance, comments),
customer (contact with name parts, phones of several types, e-mail, address; timeframe,
comments), vendor, provider. The format was made for cars, and most of what comes is about
one: a prospect whose vehicle has a make, a model, a year or a VIN is refused with a rule
that says so. Senders that use it for real estate leave those empty or write a word like
'Real Estate' or 'House' as make or model; their interest is read as it stands, the price
of the vehicle as that of the home, the customer's address as the place.

The attributes' defaults are those of the DTD (interest 'buy'), which is itself no valid
XML: it writes typographic quotes. No DTD is read.
"""

from __future__ import annotations

import re
from email.message import EmailMessage
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from aiqleads.domain import Intent
from aiqleads.ingest.answers import (
    Forms,
    Problem,
    Submission,
    content_key,
    parsed,
    read_property_type,
)
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mails import texts
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import cents, every, get, moment_us, prose, shape, text

ABOUT_A_VEHICLE = "property_type: a home, not a vehicle"
_INTEREST = {"buy": Intent.BUY, "sell": Intent.SELL}
# What only a car has; of year, make and model real estate may make other use.
_CAR_ONLY = ("vin", "odometer", "transmission", "trim", "doors", "bodystyle", "stock")
_OPEN = re.compile(r"(?i)<adf\b")
_CAR = ("year", "make", "model")
_A_HOME = re.compile(
    r"(?i)real\s?estate|property|home|house|condo|town|land|lot\b|apartment|residen|n/?a\b|none|"
    r"unknown|-+\Z|duplex|family"
)


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of prospects."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    prospects = [_prospect(each) for each in records.tolist()]
    for row, prospect in zip(records.index.tolist(), prospects, strict=True):
        if isinstance(prospect, str):
            problems.append((row, "key", prospect, None))
        elif _is_about_a_vehicle(prospect):
            said = " ".join(_said(prospect, f"vehicle.{name}") for name in _CAR)
            problems.append((row, "property_type", ABOUT_A_VEHICLE, said))
        else:
            submissions.append(_submission(row, prospect, forms))
    seen = shape(prospects)
    return parsed(submissions, problems, SOURCE.name, records.index, seen)


def _prospect(record: object) -> Element | str:
    """The prospect of a record, or the rule that it breaks."""
    if isinstance(record, EmailMessage):
        return _mailed(record)
    if isinstance(record, Element) and get(record, "customer") is not None:
        return record
    return "key: a prospect with a customer"


def _mailed(mail: EmailMessage) -> Element | str:
    """The prospect of a mail: ADF stands in one of its parts, mostly the plain text."""
    for _, content in texts(mail):
        opened, closed = _OPEN.search(content), content.lower().rfind("</adf")
        if opened is None or closed < opened.start():
            continue
        ended = content.find(">", closed) + 1 or len(content)
        try:
            whole = fromstring(content[opened.start() : ended], forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError):
            return "key: ADF that is well-formed XML"
        inside = every(whole, "prospect")
        if len(inside) != 1:
            return "key: one prospect in a mail"
        return _prospect(inside[0])
    return "key: a mail with ADF in it"


def _is_about_a_vehicle(prospect: Element) -> bool:
    for vehicle in every(prospect, "vehicle"):
        if any(_said(vehicle, name) for name in _CAR_ONLY):
            return True
        if vehicle.get("interest") in ("trade-in", "test-drive"):
            return True
        said = [_said(vehicle, name) for name in _CAR]
        if any(said) and not any(_A_HOME.search(each) for each in said[1:] if each):
            return True
    return False


def _said(node: Element, path: str) -> str:
    found = get(node, path)
    return (text(found) or "") if isinstance(found, str) else ""


def _submission(row: int, prospect: Element, forms: Forms) -> Submission:
    vehicle = next(iter(every(prospect, "vehicle")), None)
    customer = next(iter(every(prospect, "customer")))
    provider = _said(prospect, "provider.name")
    made = Submission(
        row=row,
        key=_key(prospect),
        told=[(name, value) for name, value in _told(prospect, customer, vehicle) if value],
        asked=forms.of(provider),
    )
    interest = "" if vehicle is None else vehicle.get("interest", "buy")
    made.intent = _INTEREST.get(interest)
    if interest == "lease":
        made.told.append(("intent", "lease"))
    try:
        requested = _said(prospect, "requestdate") or None
        made.received_us = moment_us(requested, forms.timezone)
    except ValueError:
        made.warnings.append("time not readable")
    if vehicle is not None:
        made.columns |= _asked(made, vehicle)
    return made


def _key(prospect: Element) -> str:
    """The sender's id with its source, else a digest of the prospect."""
    for each in every(prospect, "id"):
        said = (each.text or "").strip() or each.get("sequence", "").strip()
        if said:
            return f"{each.get('source', '').strip()}:{said}"[:100].lstrip(":")
    return content_key(tostring(prospect, encoding="unicode"))


def _told(prospect: Element, customer: Element, vehicle: Element | None) -> list[tuple[str, str]]:
    told = _names(customer)
    told += [("email", text(each.text) or "") for each in every(customer, "contact.email")]
    phones = sorted(every(customer, "contact.phone"), key=_phone_order)
    told += [("phone", text(each.text) or "") for each in phones]
    told += _address(customer)
    told.append(("timeline", _said(customer, "timeframe.description")))
    told.append(("message", prose(get(customer, "comments")) or ""))
    for name in ("earliestdate", "latestdate"):
        told.append((name, _said(customer, f"timeframe.{name}")))
    if vehicle is not None:
        words = [word for name in _CAR[1:] if (word := _said(vehicle, name))]
        kind = next((word for word in words if read_property_type(word)), "")
        told.append(("property_type", kind))
        told += [("vehicle", word) for word in words if word != kind]
        told.append(("financing", _said(vehicle, "finance.method")))
        told.append(("comments", prose(get(vehicle, "comments")) or ""))
    told += [("provider", _said(prospect, "provider.name")),
             ("service", _said(prospect, "provider.service"))]  # fmt: skip
    return told


def _phone_order(phone: Element) -> tuple[bool, bool]:
    """The preferred number first, faxes and pagers last."""
    return phone.get("preferredcontact") != "1", phone.get("type") in ("fax", "pager")


def _names(customer: Element) -> list[tuple[str, str]]:
    """The full name, else its parts in the order they are spoken."""
    parts: dict[str, str] = {}
    for each in every(customer, "contact.name"):
        part = each.get("part", "full").lower()
        parts.setdefault({"surname": "last"}.get(part, part), text(each.text) or "")
    if parts.get("full"):
        return [("name", parts["full"])]
    return [("name", " ".join(filter(None, map(parts.get, ("first", "middle", "last")))))]


def _address(customer: Element) -> list[tuple[str, str]]:
    addresses = every(customer, "contact.address")
    if not addresses:
        return []
    # A home rather than an office, where both are given.
    best = min(addresses, key=lambda each: each.get("type") == "work")
    streets = sorted(every(best, "street"), key=lambda each: each.get("line", "1"))
    return [
        ("street_address", " ".join(said for each in streets if (said := text(each.text)))),
        ("unit", _said(best, "apartment")),
        ("city", _said(best, "city")),
        ("state", _said(best, "regioncode")),
        ("zip", _said(best, "postalcode")),
        ("country", _said(best, "country")),
    ]


def _asked(made: Submission, vehicle: Element) -> dict[str, object]:
    """The price of the home: asked or offered, else what the buyer finances in total."""
    given = [*every(vehicle, "price"), *every(vehicle, "finance.amount")]
    for each in given:
        if each.get("type", "total") in ("monthly", "downpayment", "invoice", "msrp"):
            continue
        try:
            found = cents(text(each.text))
        except ValueError:
            made.warnings.append("ask_price not readable")
            continue
        if found:
            return {"ask_price_cents": found}
    return {}


SOURCE = Source(
    name="adf",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="mail",
    proof="hmac",
    formats=("xml", "email"),
    records="prospect",
    about=(
        "Leads in the Auto-lead Data Format, in XML or in a mail; those about a vehicle are "
        "refused. Consent is the feed file's: the format carries none."
    ),
    specification="ADF 1.0, Auto-lead Data Format, and its DTD (adfxml.info)",
    tested_on=(
        "a published example (about a car) and fixtures about homes, written from the specification"
    ),
    parse=parse,
)
