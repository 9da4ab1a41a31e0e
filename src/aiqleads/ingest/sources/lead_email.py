"""Leads that portals and sites send by e-mail.

Two forms are read. Mails with the meta tags of the Real Estate Lead Metadata Specification
1.0 (lead_name, lead_email, lead_phone, lead_type, lead_property_address, lead_message ..,
anywhere in the HTML part, since some senders put them into the body; a bare HTML file is
read as well): lead_type is Buyer where it is not given, Renter is refused. And plain or
HTML mails with labelled lines ('Name: ..', 'Phone: ..', 'Property Address: ..', also with
the value on the next line), as portals write them about an enquiry on a listing.

The key is the Message-ID, else a digest of what was said. Fields about other people (an
assigned agent, a loan or title officer) stay among the answers. The feed file's form is
found by lead_source, else by the domain of the sender.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import EmailMessage

from lxml import etree

from aiqleads.domain import Intent
from aiqleads.ingest.answers import Forms, Problem, Submission, content_key, parsed, question_key
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mails import address, header, texts
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import kinds, moment_us, prose

_LINE = re.compile(r"[*•>-]?\s*([A-Za-z][A-Za-z0-9 /'?#&()-]{1,60}?)\s*:\s*(.*)\Z")
_REACH_WORDS = "email e_mail email_address phone phone_number mobile cell telephone mobile_phone"
_LABEL_WORDS = (
    "name full_name first_name last_name your_name contact_name buyer_name customer_name "
    "address street_address home_address property property_address listing_address city "
    "state zip zip_code postal_code property_type home_type price list_price budget "
    "price_range max_price beds bedrooms baths bathrooms sqft square_feet lot_size "
    "year_built timeline timeframe time_frame move_in_date financing pre_approved "
    "message comments comment notes mls mls_id mls_number listing_id listing_number "
    "lead_type lead_source source interest i_am_looking_to buying_or_selling "
    "preferred_contact_method best_time_to_call property_city property_state property_zip"
)
_BLOCK_WORDS = "p div br tr table li ul ol dd dt h1 h2 h3 h4 section"
#: a label in a mail has to be one of these: prose has colons too
_LABELS = frozenset(f"{_REACH_WORDS} {_LABEL_WORDS}".split())
_LONG = ("message", "comments", "comment", "notes")
#: without one of these nobody can be reached
_REACH = frozenset(_REACH_WORDS.split())
_BLOCKS = frozenset(_BLOCK_WORDS.split())
_HIDDEN = ("script", "style", "title")
_LONGEST_KEY = 100
_SPEC = "lead_information_version"


class _Page:
    """Takes events of lxml's parser: meta tags named lead_.., visible text line by line."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, str]] = []
        self._lines: list[list[str]] = [[]]
        self._hidden = 0

    def start(self, tag: str, given: Mapping[str, str]) -> None:
        name = given.get("name", "").strip().lower()
        if tag == "meta" and name.startswith("lead_"):
            self.tags.append((name, given.get("content", "")))
        self._hidden += tag in _HIDDEN
        # Cells of one row stay on one line, so that 'Name: | Jane' reads as a label.
        if tag in _BLOCKS:
            self._lines.append([])

    def end(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN
        if tag in _BLOCKS:
            self._lines.append([])
        elif tag in ("td", "th"):
            self._lines[-1].append(" ")

    def data(self, text: str) -> None:
        if not self._hidden:
            self._lines[-1].append(text)

    def comment(self, text: str) -> None:
        """Nothing that anybody sees."""

    def close(self) -> list[str]:
        """The lines."""
        return [" ".join("".join(each).split()) for each in self._lines]


def _page(source: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Meta tags and visible lines of HTML, however badly it is written."""
    page = _Page()
    parser = etree.HTMLParser(target=page, encoding="utf-8", recover=True)
    try:
        parser.feed(source.replace("\0", "").encode("utf-8", "replace"))
        lines = parser.close()
    except etree.LxmlError:
        lines = page.close()
    return page.tags, lines


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Leads of mails and of bare HTML bodies."""
    submissions: list[Submission] = []
    problems: list[Problem] = []
    shapes: list[dict[str, object]] = []
    records, forms = chunk.rows[RECORD], Forms(feed)
    for row, record in zip(records.index.tolist(), records.tolist(), strict=True):
        told = _told(record)
        shapes.append(dict(told))
        if any(question_key(name).removeprefix("lead_") in _REACH for name, _ in told):
            submissions.append(_submission(row, record, told, forms))
        else:
            rule = "email: a lead's meta tags or labelled lines in the mail"
            problems.append((row, "email", rule, None))
    return parsed(submissions, problems, SOURCE.name, records.index, kinds(shapes))


def _told(record: object) -> list[tuple[str, str]]:
    """What a mail says about a lead: its meta tags, else its labelled lines."""
    html, plain = _bodies(record)
    tags, shown = _page(html)
    if tags:
        return [(name, prose(value) or "") for name, value in tags if value.strip()]
    for lines in (plain.splitlines(), shown):
        told = _labelled(lines)
        if told:
            break
    if told and isinstance(record, EmailMessage) and not _has_email(told):
        reply = address(record, "Reply-To")
        if reply:
            told.append(("reply_to", reply))
    return told


def _has_email(told: list[tuple[str, str]]) -> bool:
    return any(question_key(name) in ("email", "e_mail", "email_address") for name, _ in told)


def _bodies(record: object) -> tuple[str, str]:
    """HTML and plain text of a mail, the first part of each."""
    if not isinstance(record, EmailMessage):
        return (record, "") if isinstance(record, str) else ("", "")
    first: dict[str, str] = {}
    for kind, text_ in texts(record):
        first.setdefault(kind, text_)
    return first.get("text/html", ""), first.get("text/plain", "")


def _labelled(lines: list[str]) -> list[tuple[str, str]]:
    """Label and value of the lines; the value may follow on the next line, messages on more."""
    told: list[tuple[str, list[str]]] = []
    still_open = long = False
    for line in map(str.strip, lines):
        found = _LINE.match(line)
        key = question_key(found[1]) if found is not None else ""
        if found is not None and key in _LABELS:
            told.append((found[1], [found[2].strip()]))
            long, still_open = key in _LONG, key in _LONG or not found[2].strip()
        elif still_open and long and line.startswith("--"):
            still_open = False
        elif still_open and (line or long):
            told[-1][1].append(line)
            still_open = long
    joined = [(label, "\n".join(said).strip()) for label, said in told]
    return [(label, said) for label, said in joined if said]


def _submission(row: int, record: object, told: list[tuple[str, str]], forms: Forms) -> Submission:
    said = dict(told)
    sender = message_id = ""
    date: str | None = None
    if isinstance(record, EmailMessage):
        sender = address(record, "From").rpartition("@")[2].lower()
        message_id = header(record, "Message-ID").strip("<>")
        date = header(record, "Date") or None
        told = [*told, ("subject", header(record, "Subject"))]
    made = Submission(
        row=row,
        key=message_id
        if 0 < len(message_id) <= _LONGEST_KEY
        else content_key(*(f"{name}={value}" for name, value in told)),
        told=[(name, value) for name, value in told if name != _SPEC],
        asked=forms.of(said.get("lead_source") or sender),
        intent=Intent.BUY,
    )
    try:
        made.received_us = moment_us(date, forms.timezone)
    except ValueError:
        made.warnings.append("time not readable")
    return made


SOURCE = Source(
    name="lead_email",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="mail",
    proof="hmac",
    formats=("email", "html"),
    records="",
    about=(
        "Lead mails of portals and agents' sites: meta tags of the lead metadata "
        "specification, or labelled lines. Consent is the feed file's: mails carry none."
    ),
    specification=(
        "Real Estate Lead Metadata Specification 1.0, https://www.leadmetadata.org and "
        "https://support.topproducer.com/fivestreet/lead-metadata-specification; labelled "
        "lines have none"
    ),
    tested_on=(
        "an excerpt of the specification's example (without a place) and mails written from "
        "the specification"
    ),
    parse=parse,
)
