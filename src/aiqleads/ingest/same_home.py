"""Which listings offer the same home, in whatever source, and which offered it first.

A home is told by its door: house number, street, unit and ZIP, in the short forms of the
US Postal Service (Publication 28), so that `12 North Main Street, Apt 4` and `12 N MAIN ST
#4` are one. Without a house number or ZIP it is told by its point to 1e-5 degrees (about a
metre), its unit and its kind; a middle of a ZIP or city is nobody's point. What can be
told by neither has no home_id.

Of the listings that offer a home for sale (or for rent), the first is the one listed
first; one without a day comes after those with one, equal ones go by their id. All others
repeat it. The answer does not depend on the order in which the listings came.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache

import numpy as np
import pandas as pd
from sqlalchemy import Connection, bindparam, select, update

from aiqleads.ingest.ids import named
from aiqleads.ingest.reach import plain
from aiqleads.store.bulk import parts
from aiqleads.store.tables import listing

#: USPS Publication 28: directions, and the kinds of street that portals write out
_SHORT_FORMS = (
    "north n,south s,east e,west w,northeast ne,northwest nw,southeast se,southwest sw,"
    "street st,avenue ave,av ave,road rd,drive dr,lane ln,court ct,boulevard blvd,place pl,"
    "circle cir,terrace ter,trail trl,parkway pkwy,highway hwy,square sq,heights hts,"
    "first 1st,second 2nd,third 3rd,fourth 4th,fifth 5th,sixth 6th,seventh 7th,eighth 8th,"
    "ninth 9th,tenth 10th"
)
_SHORT = dict(pair.split() for pair in _SHORT_FORMS.split(","))
_WORD = re.compile(r"[a-z0-9]+")
_UNIT = re.compile(r"(?:\b(?:apt|apartment|unit|suite|ste)\b\.?\s*#?|#)\s*([a-z0-9-]+)")
_NEVER = 2**62


@lru_cache(maxsize=50_000)
def door(address: str, unit: str, zip_code: str) -> str:
    """A home's door in one writing, '' where the address does not tell it."""
    line = plain(address)
    written = _UNIT.search(line)
    if written:
        line = line[: written.start()] + " " + line[written.end() :]
    words = _WORD.findall(line.split(",")[0].replace(".", ""))
    if not zip_code or len(words) < 2 or not words[0][0].isdigit():
        return ""
    street = " ".join(_SHORT.get(word, word) for word in words)
    return f"{street}|{_unit(unit) or (_unit(written[1]) if written else '')}|{zip_code[:5]}"


def _unit(text: str) -> str:
    bare = "".join(_WORD.findall(_UNIT.sub(r"\1", plain(text))))
    return bare.lstrip("0")


def home_ids(listings: pd.DataFrame) -> list[str | None]:
    """The home of each listing, None where it cannot be told.

    Columns address, unit, zip, lon, lat (degrees WGS 84), place_precision, property_type.
    """
    texts = (
        ["" if pd.isna(text) else str(text) for text in listings[name].tolist()]
        for name in ("address", "unit", "zip", "property_type")
    )
    address, unit, zip_code, kind = texts
    lon, lat = (
        np.rint(listings[name].to_numpy(np.float64, na_value=np.nan) * 1e5)
        for name in ("lon", "lat")
    )
    point = (listings["place_precision"] == "point").to_numpy() & np.isfinite(lon + lat)
    told: list[str] = [door(*each) for each in zip(address, unit, zip_code, strict=True)]
    for at in np.flatnonzero(point).tolist():
        if not told[at]:
            told[at] = f"{lon[at]:.0f}|{lat[at]:.0f}|{_unit(unit[at])}|{kind[at].lower()}"
    ids = named("A", told)
    return [home if text else None for home, text in zip(ids, told, strict=True)]


def same_homes(
    connection: Connection, market: str, fresh: pd.DataFrame
) -> dict[str, list[str | None]]:
    """home_id and repeat_of of fresh listings; stored ones that repeat them now say so.

    fresh: the columns of `home_ids`, listing_id, offer, and listed_us (null for unknown).
    A listing that is stored already is told anew.
    """
    homes = home_ids(fresh)
    ids, offers = fresh["listing_id"].tolist(), fresh["offer"].tolist()
    days = [_NEVER if pd.isna(day) else int(day) for day in fresh["listed_us"].tolist()]
    offered: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for home, offer, day, who in zip(homes, offers, days, ids, strict=True):
        if home is not None:
            offered[home, offer].append((day, who))
    said: dict[str, str | None] = {}
    renewed = set(ids)
    columns = (listing.c.home_id, listing.c.offer, listing.c.listed_us, listing.c.listing_id)
    query = select(*columns, listing.c.repeat_of).where(listing.c.market == market)
    for some in parts(sorted({home for home, _ in offered})):
        for home, offer, day, who, repeats in connection.execute(
            query.where(listing.c.home_id.in_(some))
        ):
            if who not in renewed and (home, offer) in offered:
                offered[home, offer].append((_NEVER if day is None else day, who))
                said[who] = repeats
    repeat_of: dict[str, str | None] = {}
    for group in offered.values():
        first = min(group)[1]
        repeat_of |= {who: None if who == first else first for _, who in group}
    changed = [
        {"of": who, "first": repeat_of[who]} for who, was in said.items() if was != repeat_of[who]
    ]
    if changed:
        connection.execute(
            update(listing)
            .where(listing.c.listing_id == bindparam("of"))
            .values(repeat_of=bindparam("first")),
            changed,
        )
    return {"home_id": homes, "repeat_of": [repeat_of.get(who) for who in ids]}
