"""Source `reso`: resource Property of a RESO Web API server.

The specification is RESO Web API Core over OData 4 with the names of the RESO Data
Dictionary 2.0; fields of dictionary 1.7 that servers still send are read too. A payload is
a page ({"value": [..]}) or a single entity. Enumerations come in the standard spelling or
the legacy one of OData ('ActiveUnderContract').
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

_STREET = (
    "StreetNumber",
    "StreetDirPrefix",
    "StreetName",
    "StreetSuffix",
    "StreetSuffixModifier",
    "StreetDirSuffix",
)
_BATHS = {
    "full": "BathroomsFull",
    "three_quarter": "BathroomsThreeQuarter",
    "half": "BathroomsHalf",
    "partial": "BathroomsPartial",
    "one_quarter": "BathroomsOneQuarter",
}


def parse(chunk: Chunk, feed: Feed) -> Parsed:
    """Listings of a page, in the contract's units; what could not be read is a problem."""
    records = Records(chunk.rows[RECORD].tolist(), chunk.rows.index)
    zone = feed.market.timezone
    lon, lat = _points(records)
    addresses, units = _addresses(records)
    columns: dict[str, object] = {
        "key": records.texts("key", "ListingKey", "ListingKeyNumeric"),
        "mls_id": records.texts("mls_id", "ListingId"),
        "status": terms.statuses("status", records, records.raw("StandardStatus")),
        "offer": _offers(records),
        "list_price_cents": records.cents("list_price_cents", "ListPrice"),
        "close_price_cents": records.cents("close_price_cents", "ClosePrice"),
        "listed": records.days("listed", "ListingContractDate", "OnMarketDate", timezone=zone),
        "closed": records.days("closed", "CloseDate", timezone=zone),
        "modified_us": records.moments("modified_us", "ModificationTimestamp", timezone="UTC"),
        "property_type": terms.kinds(
            "property_type", records, records.raw("PropertySubType", "PropertyType")
        ),
        "address": addresses,
        "unit": units,
        "city": records.texts("city", "PostalCity", "City"),
        "state": records.read("state", records.raw("StateOrProvince"), terms.state),
        "zip": records.read("zip", records.raw("PostalCode"), terms.zip5),
        "beds": records.numbers("beds", "BedroomsTotal"),
        "baths": _baths(records),
        "living_area_sqft": terms.areas(
            "living_area_sqft", records, records.raw("LivingArea"), records.raw("LivingAreaUnits")
        ),
        "lot_area_sqft": _lots(records),
        "year_built": records.numbers("year_built", "YearBuilt"),
        "days_on_market": records.numbers("days_on_market", "DaysOnMarket"),
        "lon": lon,
        "lat": lat,
        "agent_key": records.texts(
            "agent_key", "ListAgentKey", "ListAgentMlsId", "ListAgentKeyNumeric"
        ),
        "url": records.texts("url", "ListingURL"),
    }
    return Parsed(
        rows=contract_frame(PROMISES, columns, chunk.rows.index),
        problems=problem_frame(records.problems),
        columns=shape(records.records),
    )


def _offers(records: Records) -> list[str]:
    types = records.raw("PropertyType")
    return ["rent" if "lease" in str(each).lower() else "sale" for each in types]


def _addresses(records: Records) -> tuple[list[str | None], list[str | None]]:
    """Street addresses and units: of their fields, else as the agent wrote them in one."""
    parts = [records.texts("address", name) for name in _STREET]
    numeric = records.texts("address", "StreetNumberNumeric")
    cities = records.texts("city", "City")
    units = records.texts("unit", "UnitNumber")
    addresses: list[str | None] = []
    for at, written in enumerate(records.texts("address", "UnparsedAddress")):
        words = [each[at] for each in parts]
        # Without a name the fields are a number that finds no home.
        if words[2]:
            words[0] = words[0] or numeric[at]
            addresses.append(" ".join(filter(None, words)))
            continue
        street, unit = terms.without_unit(_before_city(written, cities[at]))
        addresses.append(street)
        units[at] = units[at] or unit
    return addresses, units


def _before_city(written: str | None, city: str | None) -> str | None:
    """An address without the city and all that may follow it."""
    if written is None or city is None:
        return written
    end = written.lower().rfind(f", {city.lower()}")
    return written if end < 0 else written[:end]


def _baths(records: Records) -> NDArray[np.float64]:
    counts = {key: records.numbers("baths", name) for key, name in _BATHS.items()}
    # BathroomsTotal is what dictionary 1.1 called it.
    return terms.baths(counts, records.numbers("baths", "BathroomsTotalInteger", "BathroomsTotal"))


def _lots(records: Records) -> NDArray[np.float64]:
    """Lot in square feet, from whichever of its three fields is filled."""
    name = "lot_area_sqft"
    lot = records.numbers(name, "LotSizeSquareFeet")
    acres = records.numbers(name, "LotSizeAcres") * terms.SQFT_PER_ACRE
    sizes, units = records.raw("LotSizeArea"), records.raw("LotSizeUnits")
    sized = terms.areas(name, records, sizes, units, default=None)
    return np.where(np.isnan(lot), np.where(np.isnan(acres), sized, acres), lot)


def _points(records: Records) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude, of dictionary 1.x also a GeoJSON point in Coordinates."""
    lon = records.numbers("lon", "Longitude", "Coordinates.coordinates.0")
    lat = records.numbers("lat", "Latitude", "Coordinates.coordinates.1")
    return terms.points(lon, lat)


SOURCE = Source(
    name="reso",
    kind="listing",
    rights="analyse",
    cost_cents=0,
    door="pull",
    proof="none",
    formats=("json", "ndjson"),
    records="value",
    about="Listings of a multiple listing service by the RESO Web API.",
    specification="RESO Web API Core 2.0 and RESO Data Dictionary 2.0 (reso.org)",
    tested_on="payloads of the RESO commander's own tests, and fixtures from the specification",
    parse=parse,
)
