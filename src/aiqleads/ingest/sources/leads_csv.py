"""Source `leads_csv`: any table of people's enquiries, read as [people] of a market file says.

docs/how-to/map-a-table.md tells how to write that section. Where its `rights` are
`analyse`, nobody agreed to be contacted by a buyer: no contact is asked for, and the
leads are never sold.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from aiqleads.contracts.lead_feed import PROMISES
from aiqleads.errors import InvalidInput
from aiqleads.ingest import columns
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.mapped import Mapped
from aiqleads.ingest.market import Market, PeopleFeed
from aiqleads.ingest.payload import Chunk
from aiqleads.ingest.source import Parsed, Source

#: ours in the market file -> column of the contract
_NUMBERS = {
    "price": "ask_price_cents",
    "lon": "lon",
    "lat": "lat",
    "beds": "beds",
    "living_area": "living_area_sqft",
    "lot_area": "lot_area_sqft",
    "year_built": "year_built",
    "consent_sellers": "consent_sellers",
}
_TEXTS = (
    "name",
    "email",
    "phone",
    "address",
    "unit",
    "city",
    "state",
    "zip",
    "timeline",
    "financing",
    "consent_text",
    "consent_version",
    "consent_channel",
    "consent_proof",
)


def _section(market: Market) -> PeopleFeed:
    if market.people is None:
        raise InvalidInput(f"market {market.name} has no [people] section that maps a table")
    return market.people


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Renames and converts; people's details stay as written, `people.clean` reads them.

    Consent is what the columns say, else the feed file's words for this source, agreed to
    when the person wrote. Every column of `answers` becomes a line of a JSON object.
    """
    section = _section(feed.market)
    table = Mapped(chunk, feed.market, section)
    known = set(table.given.columns)
    if absent := [name for name in section.answers if name not in known]:
        wanted = dict.fromkeys(absent, "answers")
        columns.require_columns(chunk.payload.name, known, wanted, f"market {feed.market.name}")
    made: dict[str, object] = {name: table.number(ours, name) for ours, name in _NUMBERS.items()}
    made |= {name: table.text(name) for name in _TEXTS}
    made["key"] = table.text("key", whole=True)
    made["baths"] = table.baths()
    made["intent"] = _intent(table, feed)
    made["property_type"] = table.word("property_type", feed.options.property_type or "unknown")
    made["received_us"] = table.moment("received", "received_us", section.date_format)
    made["consent_us"] = table.moment("consented", "consent_us", section.date_format)
    made["answers"] = _answers(table.given, section)
    made["test"], made["warnings"] = False, ""
    rows = columns.contract_frame(PROMISES, made, table.index)
    located = rows["lon"].notna() & rows["lat"].notna()
    rows["place_precision"] = np.where(located, "point", "none").astype(object)
    if section.rights == "sell":
        rows = _with_consent(rows, feed)
    return Parsed(
        rows=rows,
        problems=columns.problem_frame(table.problems),
        columns=columns.kinds(table.given),
    )


def _intent(table: Mapped, feed: Feed) -> pd.Series | None:
    said = table.text("intent")
    default = feed.options.intent
    return said if said is None or default is None else said.fillna(str(default))


def _with_consent(rows: pd.DataFrame, feed: Feed) -> pd.DataFrame:
    """Fills in the feed file's consent where a row brings none of its own."""
    consent = feed.options.consent
    if consent is None:
        return rows
    bare = rows["consent_text"].isna()
    words = {
        "consent_text": consent.text,
        "consent_version": consent.version,
        "consent_channel": consent.channel,
        "consent_sellers": float(consent.sellers),
    }
    for name, value in words.items():
        rows[name] = rows[name].mask(bare & rows[name].isna(), value)
    rows["consent_us"] = rows["consent_us"].mask(
        bare & rows["consent_us"].isna(), rows["received_us"]
    )
    return rows


def _answers(given: pd.DataFrame, section: PeopleFeed) -> pd.Series | None:
    if not section.answers:
        return None
    nothing = frozenset(word.lower() for word in section.nothing)
    said = [columns.text(given[name], nothing).tolist() for name in section.answers]
    made = []
    for values in zip(*said, strict=True):
        pairs = zip(section.answers, values, strict=True)
        made.append(json.dumps({name: value for name, value in pairs if value is not None}))
    return pd.Series(made, given.index, dtype=object)


SOURCE = Source(
    name="leads_csv",
    kind="lead",
    rights="sell",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "xlsx", "parquet"),
    records="",
    about="People's enquiries, as a market file maps their columns.",
    specification="docs/how-to/map-a-table.md",
    tested_on="real leads of X Education, an Excel workbook",
    parse=parse,
    section="people",
    needed=("key", "intent"),
)
