"""Source `simplyrets`: listings of the SimplyRETS API, GET /properties.

A payload is an array of listings, or one listing. Areas are square feet; a lot comes as a
number with a unit, as acres, or as text ('127X146', sides in feet). Baths are counted by
kind, and their total is mostly null.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiqleads.contracts.listing_feed import PROMISES
from aiqleads.ingest import terms
from aiqleads.ingest.columns import contract_frame, problem_frame
from aiqleads.ingest.feeds import Feed
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed, Source
from aiqleads.ingest.trees import Records, shape

#: codes of property.type
_TYPES = {
    "RES": "Residential",
    "RNT": "Residential Lease",
    "CND": "Condominium",
    "MLF": "Multi Family",
    "LND": "Land",
    "FRM": "Farm",
    "CRE": "Commercial Sale",
    "COM": "Commercial Sale",
}
_BATHS = {
    "full": "property.bathsFull",
    "three_quarter": "property.bathsThreeQuarter",
    "half": "property.bathsHalf",
}
_RENT = frozenset({"rnt", "rental", "residentiallease", "commerciallease"})


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Listings of an answer, in the contract's units; what could not be read is a problem."""
    records = Records(chunk.rows[RECORD].tolist(), chunk.rows.index)
    zone = feed.market.timezone
    addresses, units = _addresses(records)
    lon, lat = terms.points(records.numbers("lon", "geo.lng"), records.numbers("lat", "geo.lat"))
    types = [_TYPES.get(str(each), each) for each in records.raw("property.type")]
    finer = records.raw("property.subType")
    columns: dict[str, object] = {
        "key": records.texts("key", "mlsId"),
        "mls_id": records.texts("mls_id", "listingId"),
        "status": terms.statuses("status", records, records.raw("mls.status")),
        "offer": _offers(records),
        "list_price_cents": records.cents("list_price_cents", "listPrice"),
        "close_price_cents": records.cents("close_price_cents", "sales.closePrice"),
        "listed": records.days("listed", "listDate", timezone=zone),
        "closed": records.days("closed", "sales.closeDate", timezone=zone),
        "modified_us": records.moments("modified_us", "modified", timezone="UTC"),
        "property_type": terms.kinds(
            "property_type", records, [sub or main for sub, main in zip(finer, types, strict=True)]
        ),
        "address": addresses,
        "unit": units,
        "city": records.texts("city", "address.city"),
        "state": records.read("state", records.raw("address.state"), terms.state),
        "zip": records.read("zip", records.raw("address.postalCode"), terms.zip5),
        "beds": records.numbers("beds", "property.bedrooms"),
        "baths": _baths(records),
        "living_area_sqft": records.numbers("living_area_sqft", "property.area"),
        "lot_area_sqft": _lots(records),
        "year_built": records.numbers("year_built", "property.yearBuilt"),
        "days_on_market": records.numbers("days_on_market", "mls.daysOnMarket"),
        "lon": lon,
        "lat": lat,
        "agent_key": records.texts("agent_key", "agent.id"),
    }
    return Parsed(
        rows=contract_frame(PROMISES, columns, chunk.rows.index),
        problems=problem_frame(records.problems),
        columns=shape(records.records),
    )


def _offers(records: Records) -> list[str]:
    types = records.raw("property.type")
    return ["rent" if terms.squeezed(str(each)) in _RENT else "sale" for each in types]


def _addresses(records: Records) -> tuple[list[str | None], list[str | None]]:
    """Street addresses without the unit that `full` ends with, and the units."""
    units = records.texts("unit", "address.unit")
    numbers = records.texts("address", "address.streetNumberText", "address.streetNumber")
    names = records.texts("address", "address.streetName")
    addresses: list[str | None] = []
    for at, written in enumerate(records.texts("address", "address.full")):
        street, unit = terms.without_unit(written)
        addresses.append(street or " ".join(filter(None, (numbers[at], names[at]))) or None)
        units[at] = units[at] or unit
    return addresses, units


def _baths(records: Records) -> NDArray[np.float64]:
    counts = {key: records.numbers("baths", path) for key, path in _BATHS.items()}
    return terms.baths(counts, records.numbers("baths", "property.bathrooms"))


def _lots(records: Records) -> NDArray[np.float64]:
    """Lot in square feet: with its unit, else by acres, else as somebody wrote it."""
    name = "lot_area_sqft"
    sizes, units = records.raw("property.lotSizeArea"), records.raw("property.lotSizeAreaUnits")
    sized = terms.areas(name, records, sizes, units, default=None)
    acres = records.numbers(name, "property.acres") * terms.SQFT_PER_ACRE
    # Free text: what is no area there ('Irregular') is no fault of its row.
    written = np.array([_written(each) for each in records.raw("property.lotSize")])
    return np.where(np.isnan(sized), np.where(np.isnan(acres), written, acres), sized)


def _written(value: object) -> float:
    try:
        size = terms.area(value)
    except ValueError:
        size = None
    return float("nan") if size is None else size


SOURCE = Source(
    name="simplyrets",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="pull",
    proof="none",
    formats=("json", "ndjson"),
    records="",
    about="Listings of multiple listing services through the SimplyRETS API.",
    specification="https://docs.simplyrets.com/api",
    tested_on="two listings of the public demo, and fixtures from the specification",
    parse=parse,
)
