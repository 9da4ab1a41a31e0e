"""Source `zillow`: listing data of Zillow, as dumps and as saved pages of one home.

Dumps (CSV, Parquet, JSON) have a row a home; some cells hold JSON, such as the address and
the history of prices, some dumps write Python's spelling of it. A page holds the home in
the state that its script starts from (`__NEXT_DATA__`), under a key for each query, beside
homes nearby; else in its JSON-LD blocks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.ingest import columns as tables
from aiqleads.ingest import markup, terms
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RAGGED, RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.sources import jsonld
from aiqleads.ingest.trees import Records, cents, day, every, get, shape

_STATUSES = {
    "forsale": "Active",
    "forrent": "Active",
    "recentlysold": "Closed",
    "foreclosed": "Unknown",
    "preforeclosure": "Unknown",
    "foreclosure": "Active",
    "forauction": "Active",
    "offmarket": "Unknown",
    "other": "Unknown",
}
#: cells that hold trees
_NESTED = ("address", "priceHistory", "resoFacts", "attributionInfo")
_BATHS = {
    "full": "resoFacts.bathroomsFull",
    "three_quarter": "resoFacts.bathroomsThreeQuarter",
    "half": "resoFacts.bathroomsHalf",
    "one_quarter": "resoFacts.bathroomsOneQuarter",
}
_ZPID = re.compile(r"/([0-9]{1,12})_zpid")
_HOST = "https://www.zillow.com"


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Listings of a dump, or the home of each page; what could not be read is a problem."""
    zone = feed.market.timezone
    if RECORD not in chunk.rows:
        return _table(chunk, zone)
    given = chunk.rows[RECORD].tolist()
    if not any(isinstance(each, str) for each in given):
        records = Records(given, chunk.rows.index)
        return _parsed(records, zone, shape(given))
    return _pages(chunk, given, zone)


def _table(chunk: Chunk, zone: str) -> Parsed:
    rows = chunk.rows.drop(columns=RAGGED, errors="ignore")
    tables.require_columns(
        chunk.payload.name, rows.columns, {"zpid": "key", "homeStatus": "status"}, "source zillow"
    )
    records = Records(rows.to_dict("records"), rows.index)
    records.problems += tables.ragged_problems(chunk.rows, chunk.ragged)
    for name in _NESTED:
        if name in rows:
            _unfold(records, name)
    return _parsed(records, zone, tables.kinds(rows))


def _unfold(records: Records, name: str) -> None:
    """Replaces the text of a cell by the tree that it writes."""
    trees = records.read(name, [each[name] for each in records.records], _tree)
    for record, tree in zip(records.records, trees, strict=True):
        record[name] = tree


def _tree(cell: object) -> Any:
    """An object or a list; None for an empty cell, the text itself of a plain address."""
    if not isinstance(cell, str):
        return None if isinstance(cell, float) else cell
    written = cell.strip()
    if not written.startswith(("{", "[")):
        return written or None
    try:
        return json.loads(written, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise ValueError("an object as JSON") from None


def _pages(chunk: Chunk, given: list[Any], zone: str) -> Parsed:
    """A row for each page: by its script's state, else by its JSON-LD blocks."""
    read = [home_of(each) if isinstance(each, str) else None for each in given]
    states = [each if each and "zpid" in each else None for each in read]
    facts = [each if each and "zpid" not in each else None for each in read]
    index = chunk.rows.index
    stateful = _parsed(Records([each or {} for each in states], index), zone, {})
    linked = Records([each or {} for each in facts], index)
    rows = stateful.rows
    other = tables.contract_frame(PROMISES, jsonld.columns_of(linked, zone), index)
    by_facts = [each is not None for each in facts]
    rows.loc[by_facts] = other.loc[by_facts]
    for row, fact in zip(index, read, strict=True):
        if fact is None:
            linked.problem(int(row), "key", "a page that offers one home", None)
    problems = [*stateful.problems.itertuples(index=False, name=None), *linked.problems]
    return Parsed(
        rows=rows,
        problems=tables.problem_frame(problems),
        columns=shape([each for each in read if each]),
    )


def home_of(source: str) -> dict[str, Any] | None:
    """The home that a page is about: Zillow's own object, else facts of its JSON-LD blocks.

    None for a page of search results, of a building or of no home at all.
    """
    page = markup.read_page(source)
    for name, _, script in page.scripts:
        if name == "__NEXT_DATA__":
            home = _of_state(markup.read_json(script), page.url)
            if home is not None:
                return home
    facts = jsonld.offered(markup.linked_data(page), page.url)
    zpid = _ZPID.search(str(facts["url"])) if facts else None
    return {**facts, "key": zpid[1]} if facts and zpid else facts


def _of_state(state: Any, own: str | None) -> dict[str, Any] | None:
    """The property of the page's own zpid among those that its queries brought."""
    props = get(state, "props.pageProps")
    if not isinstance(props, dict):
        return None
    caches = [
        markup.read_json(each) if isinstance(each, str) else each
        for path in ("componentProps.gdpClientCache", "gdpClientCache")
        for each in every(props, path)
    ]
    answers = [each for cache in caches if isinstance(cache, dict) for each in cache.values()]
    homes = [each["property"] for each in answers if isinstance(each, dict) and "property" in each]
    homes = [each for each in homes if isinstance(each, dict) and each.get("zpid")]
    asked = get(props, "componentProps.zpid") or get(props, "zpid")
    for home in homes:
        if str(home["zpid"]) == str(asked) or (own and f"/{home['zpid']}_zpid" in own):
            # Answers of several queries about one home complete each other.
            same = [each for each in homes if str(each["zpid"]) == str(home["zpid"])]
            return {k: v for each in reversed(same) for k, v in each.items() if v is not None}
    return homes[0] if len(homes) == 1 and not asked and not own else None


def _parsed(records: Records, zone: str, seen: dict[str, str]) -> Parsed:
    statuses = _statuses(records)
    offers = [
        "rent" if terms.squeezed(str(each)) == "forrent" else "sale"
        for each in records.raw("homeStatus")
    ]
    histories = [
        _history(each, zone) if isinstance(each, list) else []
        for each in records.raw("priceHistory")
    ]
    lon, lat = terms.points(records.numbers("lon", "longitude"), records.numbers("lat", "latitude"))
    streets = [
        terms.without_unit(each)
        for each in records.texts(
            "address", "streetAddress", "address.streetAddress", "address/streetAddress"
        )
    ]
    made: dict[str, object] = {
        "key": records.texts("key", "zpid"),
        "mls_id": records.texts("mls_id", "mlsid", "attributionInfo.mlsId"),
        "status": statuses,
        "offer": offers,
        "listed": _listed(records, histories, statuses, zone),
        "modified_us": records.moments("modified_us", "timestamp", timezone="UTC"),
        "property_type": terms.kinds("property_type", records, records.raw("homeType")),
        "address": [street for street, _ in streets],
        "unit": [unit for _, unit in streets],
        "city": records.texts("city", "city", "address.city", "address/city"),
        "state": records.read(
            "state", records.raw("state", "address.state", "address/state"), terms.state
        ),
        "zip": records.read(
            "zip", records.raw("zipcode", "address.zipcode", "address/zipcode"), terms.zip5
        ),
        "beds": records.numbers("beds", "bedrooms"),
        "baths": _baths(records),
        "living_area_sqft": terms.areas(
            "living_area_sqft",
            records,
            records.raw("livingAreaValue", "livingArea"),
            records.raw("livingAreaUnits", "livingAreaUnitsShort"),
        ),
        "lot_area_sqft": _lots(records),
        "year_built": records.numbers("year_built", "yearBuilt"),
        "days_on_market": records.numbers("days_on_market", "daysOnZillow"),
        "lon": lon,
        "lat": lat,
        "agent_key": records.texts("agent_key", "attributionInfo.agentLicenseNumber"),
        "url": _urls(records),
        **_prices(records, histories, statuses, zone),
    }
    index = records.index
    return Parsed(
        rows=tables.contract_frame(PROMISES, made, index),
        problems=tables.problem_frame(records.problems),
        columns=seen,
    )


def _statuses(records: Records) -> list[str | None]:
    values = records.raw("homeStatus")
    known = [_STATUSES.get(terms.squeezed(str(each)), each) for each in values]
    return terms.statuses("status", records, known)


def _history(events: list[Any], zone: str) -> list[tuple[Any, str, float | None]]:
    """(day, what happened, cents) of a history, oldest first; unreadable events left out."""
    made = []
    for event in events:
        if isinstance(event, Mapping):
            try:
                when = day(event.get("date") or event.get("time"), zone)
                price = cents(event.get("price"))
            except ValueError:
                continue
            if when is not None:
                made.append((when, terms.squeezed(str(event.get("event"))), price))
    return sorted(made, key=lambda each: each[0])


def _listed(
    records: Records,
    histories: list[list[tuple[Any, str, float | None]]],
    statuses: list[str | None],
    zone: str,
) -> pd.Series:
    """First day of the present offer: after the sale before it, if there was one."""
    made = records.days("listed", "datePosted", "datePostedString", timezone=zone)
    for at, history in enumerate(histories):
        past = [each[0] for each in history if each[1] == "sold"]
        # Of a home that is sold the last sale ends the offer, so the one before opens it.
        since = past[:-1] if statuses[at] == "Closed" else past
        shown = [
            when
            for when, what, _ in history
            if what.startswith("listed") and not (since and when <= since[-1])
        ]
        if shown and pd.isna(made.iloc[at]):
            made.iloc[at] = pd.Timestamp(shown[0])
    return made


def _prices(
    records: Records,
    histories: list[list[tuple[Any, str, float | None]]],
    statuses: list[str | None],
    zone: str,
) -> dict[str, object]:
    """List and close price and day of the sale; only a closed listing has the latter two.

    `price` of a home that is sold is what was paid, as is that of its history's last sale.
    """
    price = records.cents("list_price_cents", "price")
    paid = records.cents("close_price_cents", "lastSoldPrice")
    closed = records.days("closed", "dateSold", "dateSoldString", timezone=zone)
    for at, history in enumerate(histories):
        if statuses[at] != "Closed":
            paid[at], closed.iloc[at] = np.nan, pd.NaT
            continue
        sales = [each for each in history if each[1] == "sold"]
        if sales:
            closed.iloc[at] = pd.Timestamp(sales[-1][0])
            paid[at] = paid[at] if sales[-1][2] is None else sales[-1][2]
        paid[at] = price[at] if np.isnan(paid[at]) else paid[at]
        asked = [
            each[2]
            for each in history
            if each[1].startswith(("listed", "pricechange")) and each[2] is not None
        ]
        price[at] = asked[-1] if asked else np.nan
    return {"list_price_cents": price, "close_price_cents": paid, "closed": closed}


def _baths(records: Records) -> NDArray[np.float64]:
    """By the counts of each kind where there are any; else `bathrooms` as it stands there."""
    counts = {key: records.numbers("baths", path) for key, path in _BATHS.items()}
    total = records.numbers("baths", "bathrooms")
    # A total of 2.5 is in halves already: it says nothing of how many rooms there are.
    return np.where(total % 1 > 0, total, terms.baths(counts, total))


def _lots(records: Records) -> NDArray[np.float64]:
    """By value and unit; `lotSize` alone is in square feet."""
    name = "lot_area_sqft"
    sized = terms.areas(
        name, records, records.raw("lotAreaValue"), records.raw("lotAreaUnits"), default=None
    )
    plain = terms.areas(name, records, records.raw("lotSize"), [None] * len(sized))
    return np.where(np.isnan(sized), plain, sized)


def _urls(records: Records) -> list[str | None]:
    paths = records.texts("url", "url", "hdpUrl")
    return [_HOST + each if each and each.startswith("/") else each for each in paths]


SOURCE = Source(
    name="zillow",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="file",
    proof="none",
    formats=("csv", "parquet", "json", "ndjson", "html"),
    records="",
    about="Zillow's listing data: dumps with nested JSON, and saved pages of one home.",
    specification="field names as Zillow's pages carry them; Zillow publishes none",
    tested_on="fixtures after public dumps and pages, with invented homes",
    parse=parse,
)
