"""What columns of the contracts are called in the RESO Data Dictionary 2.0.

Names of the dictionary's resource Property (https://ddwiki.reso.org/display/DDW20). A
column without one has none there: RESO counts bathrooms by kind, this project in halves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aiqleads.contracts.promise import Promise

#: of the home that a row is about
HOME = {
    "property_type": "PropertySubType",
    "address": "UnparsedAddress",
    "unit": "UnitNumber",
    "city": "City",
    "state": "StateOrProvince",
    "zip": "PostalCode",
    "lon": "Longitude",
    "lat": "Latitude",
    "beds": "BedroomsTotal",
    "rooms": "RoomsTotal",
    "living_area_sqft": "LivingArea",
    "lot_area_sqft": "LotSizeSquareFeet",
    "year_built": "YearBuilt",
}


def with_reso_names(promises: Iterable[Promise], **own: str) -> tuple[Promise, ...]:
    """The promises with the dictionary's names of HOME, and `own` for other columns."""
    names = HOME | own
    return tuple(replace(each, reso=names.get(each.name, "")) for each in promises)
