"""What sources call things, in the words of the RESO Data Dictionary 2.0.

Every reading gives None where nothing is said and raises ValueError, whose text is a rule
such as 'a StandardStatus of RESO', for a word that nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aiqleads.contracts.listing_feed import STATUSES
from aiqleads.ingest import people
from aiqleads.ingest.people import read_state, read_zip
from aiqleads.ingest.trees import Records, number, text

SQFT_PER_ACRE = 43_560.0
SQFT_PER_SQM = 10.763_910_416_709_722
#: what a home is called where its source does not say
UNKNOWN_KIND = "unknown"
#: full bath or part of one -> baths
BATHS = {"full": 1.0, "three_quarter": 0.75, "half": 0.5, "partial": 0.5, "one_quarter": 0.25}

#: of PropertySubType, with the kinds of PropertyType that have no finer word
_KINDS = [
    "Agriculture",
    "Apartment",
    "Boat Slip",
    "Business",
    "Cabin",
    "Condominium",
    "Co-Ownership",
    "Deeded Parking",
    "Duplex",
    "Farm",
    "Hotel/Motel",
    "Industrial",
    "Manufactured Home",
    "Manufactured On Land",
    "Mixed Use",
    "Mobile Home",
    "Mobile Home Park",
    "Multi Family",
    "Office",
    "Own Your Own",
    "Quadruplex",
    "Ranch",
    "Retail",
    "Single Family Residence",
    "Stock Cooperative",
    "Tenancy in Common",
    "Timeshare",
    "Townhouse",
    "Triplex",
    "Unimproved Land",
    "Warehouse",
    "Business Opportunity",
    "Commercial Lease",
    "Commercial Sale",
    "Land",
    "Manufactured In Park",
    "Residential",
    "Residential Income",
    "Residential Lease",
]
#: other words for them, squeezed
_KIND_SYNONYMS = {
    "singlefamily": "Single Family Residence",
    "singlefamilyhome": "Single Family Residence",
    "house": "Single Family Residence",
    "condo": "Condominium",
    "townhome": "Townhouse",
    "coop": "Stock Cooperative",
    "multifamilyresidence": "Multi Family",
    "manufactured": "Manufactured Home",
    "lot": "Unimproved Land",
    "vacantland": "Unimproved Land",
    "sfr": "Single Family Residence",
    "resi": "Residential",  # codes of PropertyType, as other parts of the dictionary use them
    "rlse": "Residential Lease",
    "rinc": "Residential Income",
    "homeunknown": UNKNOWN_KIND,
    "other": UNKNOWN_KIND,
}
_STATUS_SYNONYMS = {
    "unavailable": "Unknown",
    "cancelled": "Canceled",
    "contingent": "Active Under Contract",
    "undercontract": "Active Under Contract",
    "sold": "Closed",
}
_AREAS = {
    "squarefeet": 1.0,
    "sqft": 1.0,
    "sf": 1.0,
    "ft2": 1.0,
    "ftk": 1.0,  # UN/CEFACT codes, as schema.org uses them: FTK, MTK, ACR, HAR
    "acres": SQFT_PER_ACRE,
    "acre": SQFT_PER_ACRE,
    "ac": SQFT_PER_ACRE,
    "acr": SQFT_PER_ACRE,
    "squaremeters": SQFT_PER_SQM,
    "sqm": SQFT_PER_SQM,
    "m2": SQFT_PER_SQM,
    "mtk": SQFT_PER_SQM,
    "hectares": 10_000 * SQFT_PER_SQM,
    "har": 10_000 * SQFT_PER_SQM,
}
#: characters of an address or an area that are looked into
_LONGEST = 200
_SIDES = re.compile(r"(\d{1,5}(?:\.\d+)?)'?\s*[xX×]\s*(\d{1,5}(?:\.\d+)?)'?")
_AREA = re.compile(r"([\d,]*\.?\d+)\s*([^\d\s].*)?")


@lru_cache(maxsize=4096)
def squeezed(word: str) -> str:
    """Letters and digits in lower case: 'Active Under Contract', 'ActiveUnderContract' and
    'ACTIVE_UNDER_CONTRACT' are one word."""
    return "".join(each for each in word.lower() if each.isalnum())


# squeezed spelling -> the word as the dictionary writes it
_STATUS_OF = {**{squeezed(word): word for word in STATUSES}, **_STATUS_SYNONYMS}
_KIND_OF = {**{squeezed(word): word for word in _KINDS}, **_KIND_SYNONYMS}


@lru_cache(maxsize=1024)
def _status(word: str) -> str:
    found = _STATUS_OF.get(squeezed(word))
    if found is None:
        raise ValueError("a StandardStatus of RESO")
    return found


def status(value: object) -> str | None:
    """StandardStatus, of the dictionary's word, its legacy OData spelling or a synonym."""
    word = text(value)
    return None if word is None else _status(word)


def kind(value: object) -> str | None:
    """Kind of home: PropertySubType or PropertyType where known, else the word as given."""
    word = text(value)
    return None if word is None else _KIND_OF.get(squeezed(word), word)


def state(value: object) -> str | None:
    """Two letters of the US Postal Service, of a code or a name."""
    word = text(value)
    if word is None:
        return None
    code = read_state(word)
    if code is None:
        raise ValueError("a state of the US")
    return code


def zip5(value: object) -> str | None:
    """Five digits; ZIP+4, floats and lost leading zeros are read."""
    word = text(value)
    if word is None:
        return None
    code, _ = read_zip(word)
    if code is None:
        raise ValueError("a ZIP")
    return code


def statuses(column: str, records: Records, values: Sequence[object]) -> list[str | None]:
    """Statuses of a chunk: 'Unknown' where nothing is said, a problem where the word is."""
    read = records.read(column, values, status)
    said = [value is not None and value != "" for value in values]
    return [each if there else "Unknown" for each, there in zip(read, said, strict=True)]


def kinds(column: str, records: Records, values: Sequence[object]) -> list[str]:
    """Kinds of home of a chunk."""
    return [each or UNKNOWN_KIND for each in records.read(column, values, kind)]


def areas(
    column: str,
    records: Records,
    sizes: Sequence[object],
    units: Sequence[object],
    default: float | None = 1.0,
) -> NDArray[np.float64]:
    """Areas of a chunk in square feet; an unknown unit is a problem of its row.

    default: of one without a unit; None: it may be anything and is left out.
    """
    made = np.full(len(sizes), np.nan)
    for at, (size, unit) in enumerate(zip(sizes, units, strict=True)):
        if size is None or (default is None and not unit):
            continue
        try:
            read = area(size, unit, default)
        except ValueError as error:
            records.problem(int(records.index[at]), column, str(error), f"{size} {unit or ''}")
        else:
            made[at] = np.nan if read is None else read
    return made


def points(
    lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points, missing where both are 0: that stands for "not known"."""
    nowhere = (lon == 0) & (lat == 0)
    return np.where(nowhere, np.nan, lon), np.where(nowhere, np.nan, lat)


def area_factor(unit: object, default: float | None = 1.0) -> float:
    """What an area in `unit` is multiplied by to be in square feet; ValueError if unknown.

    default: where no unit is given; None: then too the unit is unknown.
    """
    word = text(unit)
    factor = default if word is None else _AREAS.get(squeezed(word))
    if factor is None:
        raise ValueError("an area in square feet, square meters, acres or hectares")
    return factor


def area(value: object, unit: object = None, default: float | None = 1.0) -> float | None:
    """Square feet of an area: a number with its unit beside it, or '0.25 acres', '60 x 120'.

    The product of two sides is taken in feet.
    """
    if isinstance(value, str):
        if len(value) > _LONGEST:
            raise ValueError("an area in a few words")
        sides = _SIDES.search(value)
        if sides:
            return float(sides[1]) * float(sides[2]) or None
        written = _AREA.fullmatch(value.strip())
        if written and written[2]:
            value, unit = written[1], written[2].strip(" .")
    size = number(value)
    return None if size is None else size * area_factor(unit, default)


def baths(
    counts: Mapping[str, NDArray[np.float64]], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bathrooms of a chunk, a half bath counted as 0.5; NaN stands for "not said".

    counts: by keys of BATHS, with at least 'full'. total: of all bathrooms, each counted
    as one (RESO's BathroomsTotalInteger); used for what the counts leave open.
    """
    said = sum(~np.isnan(each) for each in counts.values())
    rooms = np.add.reduce([np.nan_to_num(each) for each in counts.values()])
    whole = np.add.reduce([BATHS[key] * np.nan_to_num(each) for key, each in counts.items()])
    rest = np.nan_to_num(np.maximum(total - rooms, 0))
    no_full = np.isnan(counts["full"])
    # Of a home with full baths alone, what the total has beyond them are half baths.
    missed = np.where(no_full, rest, np.where(said == 1, BATHS["half"] * rest, 0.0))
    return np.where(said == 0, total, whole + missed)


def without_unit(address: str | None) -> tuple[str | None, str | None]:
    """(street address, unit) as `people` reads them; no unit of None and of long texts."""
    if address is None or len(address) > _LONGEST:
        return address, None
    return people.without_unit(address)
