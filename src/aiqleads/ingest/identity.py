"""What the linkage compares of a submission: names, contacts and home, in one writing.

Every field comes out the same whichever source wrote it: capitals, accents, `Reed, Ada`,
titles, `(419) 555-0123`, `Street` for `St`. Nothing is looked up elsewhere, and a field
that cannot be told is ''.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiqleads.ingest.nicknames import full_forms
from aiqleads.ingest.reach import email_of, phone_of, plain

Texts = NDArray[np.object_]
Floats = NDArray[np.float64]

#: generations, written after the name
_SUFFIXES = {"jr": "jr", "junior": "jr", "sr": "sr", "senior": "sr", "ii": "ii", "iii": "iii"}
_SUFFIXES |= {"iv": "iv", "2nd": "ii", "3rd": "iii"}
_TITLES = frozenset(("mr", "mrs", "ms", "miss", "mx", "dr", "prof", "md", "phd", "esq", "rev"))
_WORD = re.compile(r"[a-z0-9][a-z0-9']*")
_PARTNER = re.compile(r"\s*(?:&|\+|/|\band\b).*")
#: 555-0100..0199 are kept for fiction: any number of invented people have the same
_FICTION = re.compile(r"\d{3}55501\d\d")
_UNIT = re.compile(r"(?:\b(?:apt|apartment|unit|suite|ste)\b\.?\s*#?|#)\s*([a-z0-9-]+)")
#: directions and kinds of street, which sources shorten or leave out (USPS Publication 28)
_SIDES = "n s e w ne nw se sw north south east west"
_KINDS = (
    "street st avenue ave av road rd drive dr lane ln court ct boulevard blvd way place pl "
    "circle cir terrace ter trail trl parkway pkwy highway hwy square sq loop"
)
_STREET_SIDES, _STREET_KINDS = frozenset(_SIDES.split()), frozenset(_KINDS.split())
_SOUNDS = str.maketrans("bfpvcgjkqsxzdtlmnraeiouy", "111122222222334556000000", "hw'-")


class Name(NamedTuple):
    """Parts of a name in lower case without accents, '' where there is none."""

    first: str
    middle: str
    last: str
    suffix: str


class Street(NamedTuple):
    """House number, the street's own words and the unit, '' where there is none."""

    number: str
    stem: str
    unit: str


@dataclass(frozen=True, eq=False)
class Identities:
    """Fields of n submissions as arrays of shape (n,); texts hold '' for missing.

    phone: ten digits. local: the e-mail before the @. x, y: metres of a UTM zone, NaN
    unless the place is a point. at_us: received, market clock, microseconds.
    """

    first: Texts
    middle: Texts
    last: Texts
    suffix: Texts
    email: Texts
    local: Texts
    phone: Texts
    number: Texts
    stem: Texts
    unit: Texts
    zip: Texts
    x: Floats
    y: Floats
    at_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at_us)

    def taken(self, at: NDArray[np.int64]) -> Identities:
        """The submissions at these positions, in that order."""
        return Identities(**{each.name: getattr(self, each.name)[at] for each in fields(self)})

    def joined(self, more: Identities) -> Identities:
        """These submissions, then those."""
        parts = (
            (each.name, np.concatenate([getattr(self, each.name), getattr(more, each.name)]))
            for each in fields(self)
        )
        return Identities(**dict(parts))


@lru_cache(maxsize=20_000)
def name_of(text: str) -> Name:
    """Parts of a name; of a couple (`Ada & Tom Reed`) the one named first.

    A double surname is known by its first part, as people drop the second.
    """
    before, comma, after = plain(text).partition(",")
    if comma and not set(_WORD.findall(after)) <= _SUFFIXES.keys() | _TITLES:
        before, after = f"{after} {before}", ""
    both = f"{before} {after}"
    words = [word for word in _WORD.findall(_PARTNER.sub("", both)) if word not in _TITLES]
    partnered = _PARTNER.search(both)
    suffixes = [_SUFFIXES[word] for word in words[1:] if word in _SUFFIXES]
    parts = [word for at, word in enumerate(words) if at == 0 or word not in _SUFFIXES]
    if partnered and len(parts) == 1:
        parts += _WORD.findall(both)[-1:]
    suffix = suffixes[0] if suffixes else ""
    if len(parts) < 2:
        return Name(parts[0] if parts else "", "", "", suffix)
    if len(parts) > 2 and f" {parts[-2]}-{parts[-1]}" in f" {both}":
        parts = parts[:-1]
    return Name(parts[0], parts[1] if len(parts) > 2 else "", parts[-1], suffix)


def in_fiction(phone: str) -> bool:
    """Whether ten digits are a number that the numbering plan keeps for fiction."""
    return _FICTION.fullmatch(phone) is not None


@lru_cache(maxsize=20_000)
def street_of(address: str, unit: str) -> Street:
    """Parts of an address; unit: given apart from it, '' where it was not."""
    line = plain(address).replace(".", "")
    if written := _UNIT.search(line):
        line = _UNIT.sub(" ", line)
    words = _WORD.findall(line.split(",")[0])
    number = words.pop(0) if words and words[0][0].isdigit() else ""
    if len(words) > 1 and words[0] in _STREET_SIDES:
        words = words[1:]
    kind = next((at for at, word in enumerate(words) if at and word in _STREET_KINDS), len(words))
    given = _WORD.findall(_UNIT.sub(r"\1", plain(unit)))
    door = "".join(given) or (written[1] if written else "")
    return Street(number, " ".join(words[:kind]), door.lstrip("0"))


@lru_cache(maxsize=20_000)
def sound(word: str) -> str:
    """A Soundex code (letter and three digits) of a word in lower case, '' for none."""
    if not word:
        return ""
    coded = word.translate(_SOUNDS)
    kept = [after for before, after in pairwise(coded) if before != after]
    digits = "".join(each for each in kept if each.isdigit() and each != "0")
    return word[0] + (digits + "000")[:3]


@lru_cache(maxsize=20_000)
def name_sound(first: str, last: str) -> str:
    """How a full name sounds, whichever part came first and whatever its short form.

    '' where a part is missing or an initial.
    """
    if len(first) < 2 or len(last) < 2:
        return ""
    return "|".join(sorted((sound(min(full_forms(first))), sound(min(full_forms(last))))))


def identities(people: pd.DataFrame) -> Identities:
    """Reads name, email, phone, address, unit, zip, utm_x_m, utm_y_m, received_market_us.

    Texts may be None, NaN or ''. place_precision, where there is such a column, says which
    points are of a home: the middle of a ZIP is not.
    """
    names = [name_of(text) for text in _texts(people["name"])]
    emails = [email_of(text) for text in _texts(people["email"])]
    pairs = zip(_texts(people["address"]), _texts(people["unit"]), strict=True)
    streets = [street_of(address, unit) for address, unit in pairs]
    x, y = (people[name].to_numpy(np.float64, na_value=np.nan) for name in ("utm_x_m", "utm_y_m"))
    if "place_precision" in people:
        point = people["place_precision"].to_numpy() == "point"
        x, y = np.where(point, x, np.nan), np.where(point, y, np.nan)
    return Identities(
        first=_column([each.first for each in names]),
        middle=_column([each.middle for each in names]),
        last=_column([each.last for each in names]),
        suffix=_column([each.suffix for each in names]),
        email=_column(emails),
        local=_column([each.split("@")[0] for each in emails]),
        phone=_column([phone_of(text) for text in _texts(people["phone"])]),
        number=_column([each.number for each in streets]),
        stem=_column([each.stem for each in streets]),
        unit=_column([each.unit for each in streets]),
        zip=_column([text.strip()[:5] for text in _texts(people["zip"])]),
        x=x,
        y=y,
        at_us=people["received_market_us"].to_numpy(np.int64),
    )


def _texts(column: pd.Series) -> list[str]:
    return ["" if pd.isna(text) else str(text) for text in column.tolist()]


def _column(texts: list[str]) -> Texts:
    made = np.empty(len(texts), object)
    made[:] = texts
    return made
