"""Source `jsonld`: pages that offer one home and say so in schema.org's words.

Owners who sell by themselves, and small brokers, publish a page a home; the facts are in
its JSON-LD blocks (or microdata): RealEstateListing, SingleFamilyResidence, Product with
an Offer. One page is one row; a page that offers no home, or several without saying which
is its own, is a problem of that row.
"""

from __future__ import annotations

from typing import Any

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.ingest import markup, terms
from aiqleads.ingest.columns import contract_frame, problem_frame
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import Records, cents, kinds

#: ItemAvailability -> StandardStatus
_AVAILABLE = {
    "instock": "Active",
    "onlineonly": "Active",
    "instoreonly": "Active",
    "limitedavailability": "Active",
    "backorder": "Pending",
    "reserved": "Pending",
    "preorder": "Coming Soon",
    "presale": "Coming Soon",
    "soldout": "Closed",
    "outofstock": "Closed",
    "discontinued": "Withdrawn",
}
_OFFERS = frozenset({"Offer", "AggregateOffer"})


def listing_of(source: str) -> dict[str, Any] | None:
    """Facts of the one home that a page offers, as the page writes them; None: no such home."""
    page = markup.read_page(source)
    return offered(markup.linked_data(page), page.url)


def offered(nodes: list[markup.Node], own: str | None) -> dict[str, Any] | None:
    """Facts of the home that a page's things offer, by the columns of the contract."""
    view = markup.offered_home(nodes, own)
    if not view:
        return None
    found = markup.found
    address, geo = markup.nested(view, "address"), markup.nested(view, "geo")
    area, lot = markup.nested(view, "floorSize"), markup.nested(view, "lotSize")
    asked = markup.nested(view, "priceSpecification")
    offer = [each for each in view if _OFFERS.intersection(each["@type"]) or "price" in each]
    written = None if address else found(view, "address")
    url = own or found(view, "url")
    homes = markup.home_types(view)
    return {
        "key": found(view, "identifier", "sku", "productID") or url,
        "status": found(offer, "availability"),
        "offer": _sale_or_rent(found(offer, "businessFunction"), asked, view),
        "price": found(offer, "price", "lowPrice") or found([asked], "price"),
        "currency": found(offer, "priceCurrency") or found([asked], "priceCurrency"),
        "listed": found(view, "datePosted", "validFrom"),
        "modified": found(view, "dateModified"),
        "property_type": homes[0] if homes else found(view, "accommodationCategory"),
        "address": found([address], "streetAddress") or written,
        "city": found([address], "addressLocality"),
        "state": found([address], "addressRegion"),
        "zip": found([address], "postalCode"),
        "beds": found(view, "numberOfBedrooms"),
        "baths": found(view, "numberOfBathroomsTotal", "numberOfBathrooms"),
        "full": found(view, "numberOfFullBathrooms"),
        "partial": found(view, "numberOfPartialBathrooms"),
        "area": found(view, "floorSize"),
        "area_unit": found([area], "unitCode", "unitText"),
        "lot": found(view, "lotSize"),
        "lot_unit": found([lot], "unitCode", "unitText"),
        "year_built": found(view, "yearBuilt"),
        "lon": found([geo], "longitude"),
        "lat": found([geo], "latitude"),
        "url": url,
    }


def _sale_or_rent(function: object, asked: markup.Node, view: list[markup.Node]) -> str:
    monthly = {"mon", "month", "months"}
    said = {str(asked.get(name, "")).lower() for name in ("unitCode", "unitText")}
    leased = str(function).endswith("LeaseOut") or any("leaseLength" in each for each in view)
    return "rent" if leased or said & monthly else "sale"


def _status(value: object) -> str | None:
    word = terms.squeezed(str(value).rpartition("/")[2])
    if word not in _AVAILABLE:
        raise ValueError("an ItemAvailability of schema.org")
    return _AVAILABLE[word]


def columns_of(records: Records, timezone: str) -> dict[str, object]:
    """Columns of the contract out of facts as `offered` gives them."""
    prices = [
        None if price is None else f"{currency or ''} {price}"
        for price, currency in zip(records.raw("price"), records.raw("currency"), strict=True)
    ]
    status = records.read("status", records.raw("status"), _status)
    counts = {key: records.numbers("baths", key) for key in ("full", "partial")}
    lon, lat = terms.points(records.numbers("lon", "lon"), records.numbers("lat", "lat"))
    streets = [terms.without_unit(each) for each in records.texts("address", "address")]
    said = records.raw("status")
    return {
        "key": records.texts("key", "key"),
        "status": [
            "Unknown" if given is None else read for given, read in zip(said, status, strict=True)
        ],
        "offer": [each or "sale" for each in records.texts("offer", "offer")],
        "list_price_cents": records.read("list_price_cents", prices, cents),
        "listed": records.days("listed", "listed", timezone=timezone),
        "modified_us": records.moments("modified_us", "modified", timezone=timezone),
        "property_type": terms.kinds("property_type", records, records.raw("property_type")),
        "address": [street for street, _ in streets],
        "unit": [unit for _, unit in streets],
        "city": records.texts("city", "city"),
        "state": records.read("state", records.raw("state"), terms.state),
        "zip": records.read("zip", records.raw("zip"), terms.zip5),
        "beds": records.numbers("beds", "beds"),
        "baths": terms.baths(counts, records.numbers("baths", "baths")),
        "living_area_sqft": terms.areas(
            "living_area_sqft", records, records.raw("area"), records.raw("area_unit")
        ),
        "lot_area_sqft": terms.areas(
            "lot_area_sqft", records, records.raw("lot"), records.raw("lot_unit")
        ),
        "year_built": records.numbers("year_built", "year_built"),
        "lon": lon,
        "lat": lat,
        "url": records.texts("url", "url"),
    }


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """One row a page, in the contract's units; what could not be read is a problem."""
    given = chunk.rows[RECORD].tolist()
    facts = [listing_of(each) if isinstance(each, str) else None for each in given]
    records = Records([each or {} for each in facts], chunk.rows.index)
    columns = columns_of(records, feed.market.timezone)
    for row, fact in zip(chunk.rows.index, facts, strict=True):
        if fact is None:
            records.problem(int(row), "key", "a page that offers one home", None)
    return Parsed(
        rows=contract_frame(PROMISES, columns, chunk.rows.index),
        problems=problem_frame(records.problems),
        columns=kinds(each for each in facts if each),
    )


SOURCE = Source(
    name="jsonld",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="pull",
    proof="none",
    formats=("html",),
    records="",
    about="Pages of owners who sell by themselves, by their schema.org data.",
    specification="https://schema.org/RealEstateListing; JSON-LD 1.1; HTML microdata",
    tested_on="fixtures from the specification",
    parse=parse,
)
