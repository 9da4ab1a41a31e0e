"""How alike two submissions are: levels of six comparisons, and what each level weighs.

The model adds weights in the manner of Fellegi and Sunter (1969): the log2 odds that any
two submissions are one person, plus a weight for the level of each comparison. A weight
starts as log2(m / u), m and u being the chances of the level among pairs of one person and
among pairs of two, as splink estimates them; a regression then takes off what several
comparisons say together (see `train_linkage`). An exact name counts for more the rarer it
is (Winkler 2000: u gives way to the name's share of the population). The weights stand in
linkage_model.json; the levels are only here, and splink's training asks for them.

A household shares its home, its surname and often a phone or an e-mail, all for one
reason; counted apart they would make one person of it. So what is shared at one home has
levels of its own, and the comparisons that it repeats are silent there.

- first: first names; silent where `home` says it. `another` is a veto: two known, unlike
  names are two people, as are two that look nothing alike.
- last: surnames, away from a common home.
- home: same home (by door, or points at most 30 m apart where an address is missing) with
  or without the name; same building (one side names a unit, the other none); other unit;
  near; same ZIP; elsewhere. Silent at one home where an e-mail or phone is shared, too.
- email, phone: `at one home` is an exact one there. A phone number that came again after
  RECYCLED_DAYS is a level of its own, as is one that is kept for fiction. `mere name`: the
  e-mails are alike only since both are made of the name.
- suffix: generations, of one name at one door, where father and son are to be told apart.
  `another` (Jr, Sr) is a veto, too, wherever the homes are.

Where a value is missing a comparison says nothing: level NULL, weight 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler
from rapidfuzz.process import cpdist

from aiqleads.domain import US_PER_DAY
from aiqleads.ingest.identity import Identities, Texts, in_fiction
from aiqleads.ingest.nicknames import forms, full_forms, is_known

Levels = NDArray[np.int8]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]

NULL = -1
#: comparison -> its levels; a level's number is its place here
LEVELS: dict[str, tuple[str, ...]] = {
    "first": ("exact", "short form", "similar", "initial", "unclear", "another"),
    "last": ("exact", "similar", "another"),
    "home": (
        "same home, same name",
        "same home, same surname",
        "same home, other name",
        "same building, same name",
        "same building",
        "other unit",
        "near",
        "same ZIP",
        "elsewhere",
    ),
    "email": ("exact", "exact, at one home", "similar", "mere name", "another"),
    "phone": (
        "exact",
        "exact, at one home",
        "exact, long after",
        "exact, of fiction",
        "similar",
        "another",
    ),
    "suffix": ("neither", "same", "one only", "another"),
}
RECYCLED_DAYS = 270
_FIRST_VETO = LEVELS["first"].index("another")
_SUFFIX_VETO = LEVELS["suffix"].index("another")
_SAME_DOOR_M, _NEAR_M = 30.0, 150.0
_ALIKE, _UNCLEAR = 0.88, 0.70
_ALIKE_STREET, _ALIKE_EMAIL = 0.90, 0.94


@dataclass(frozen=True)
class Model:
    """Weights of the levels, log2. prior: log2 odds before any comparison.

    threshold: least sum at which a pair is linked. u_exact: chance that two people have a
    name in common; shares: first and last -> name -> share of the population; floors: the
    least share that is believed; rarity: by how much a name's rarity counts.
    """

    prior: float
    threshold: float
    weights: dict[str, NDArray[np.float64]]
    u_exact: dict[str, float]
    shares: dict[str, dict[str, float]]
    floors: dict[str, float]
    rarity: dict[str, float]
    about: str

    @classmethod
    def of(cls, told: dict[str, Any]) -> Model:
        """From what linkage_model.json says."""
        levels = told["comparisons"]
        return cls(
            prior=told["prior"],
            threshold=told["threshold"],
            weights={
                name: np.array([level["weight"] for level in levels[name]]) for name in LEVELS
            },
            u_exact={name: levels[name][0]["u"] for name in told["floors"]},
            shares=name_shares(),
            floors=told["floors"],
            rarity=told["rarity"],
            about=f"{told['trained']}: {told['about']}",
        )


@cache
def name_shares() -> dict[str, dict[str, float]]:
    """first and last -> name in lower case -> share of the US population.

    Shares among women, men and all, of the US census and the Social Security
    Administration, as Faker's provider for the United States lists them.
    """
    from faker.providers.person.en_US import Provider as Names

    made: dict[str, dict[str, float]] = {"first": {}, "last": {}}
    for kind, part, listed in (
        ("first", 0.5, Names.first_names_female),
        ("first", 0.5, Names.first_names_male),
        ("last", 1.0, Names.last_names),
    ):
        for name, share in listed.items():
            made[kind][name.lower()] = made[kind].get(name.lower(), 0.0) + part * share
    return made


@cache
def trained_model() -> Model:
    """The model that comes with the package."""
    text = files("aiqleads.ingest").joinpath("linkage_model.json").read_text(encoding="utf-8")
    return Model.of(json.loads(text))


@dataclass(frozen=True, eq=False)
class Compared:
    """n pairs: levels int8 (n,) by comparison, and the first and last name in common.

    common holds the name where the level is exact, else ''.
    """

    levels: dict[str, Levels]
    common: dict[str, Texts]

    @property
    def vetoed(self) -> Flags:
        """Pairs that cannot be one person, whatever else agrees; shape (n,)."""
        by_first = self.levels["first"] == _FIRST_VETO
        return np.asarray(by_first | (self.levels["suffix"] == _SUFFIX_VETO), dtype=np.bool_)


def compare(people: Identities, i: Positions, j: Positions) -> Compared:
    """Levels of the pairs (i, j), each of shape (n,); the order in a pair does not matter."""
    one, two = people.taken(i), people.taken(j)
    firsts, lasts = _names_in_order(one, two)
    first = _first_level(firsts, (one.middle, two.middle))
    last = _surname_level(lasts)
    place = _place(one, two)
    at_home = (place == _DOOR) | (place == _BUILDING)
    email, phone = _email_level(one, two, at_home), _phone_level(one, two, at_home)
    shared = at_home & ((email == 1) | (phone == 1))
    surname = np.isin(last, (0, 1))
    name = surname & np.isin(first, (0, 1, 2))
    told = at_home & surname & ~shared
    first_heard = np.where(told & (first != _FIRST_VETO), np.int8(NULL), first)
    last_heard = np.where(at_home, np.int8(NULL), last)
    levels = {
        "first": first_heard,
        "last": last_heard,
        "home": np.where(shared, np.int8(NULL), _home_level(place, surname, name)),
        "email": email,
        "phone": phone,
        "suffix": _suffix_level(one.suffix, two.suffix, name & at_home),
    }
    return Compared(
        levels=levels,
        common={
            "first": np.where(first_heard == 0, firsts[0], ""),
            "last": np.where(last_heard == 0, lasts[0], ""),
        },
    )


def weigh(compared: Compared, model: Model) -> dict[str, NDArray[np.float64]]:
    """log2 weights (n,) of each comparison; their sum and `model.prior` are the log2 odds."""
    made = {}
    for name, level in compared.levels.items():
        weight = np.where(level == NULL, 0.0, model.weights[name][level])
        if name in model.shares:
            weight = weight + _rarity(name, compared.common[name], model)
        made[name] = weight
    return made


def _rarity(name: str, common: Texts, model: Model) -> NDArray[np.float64]:
    shares, floor = model.shares[name], model.floors[name]
    u = model.u_exact[name]
    share = [max(shares.get(word, 0.0), floor) if word else u for word in common]
    return model.rarity[name] * np.log2(u / np.array(share, np.float64))


def _names_in_order(one: Identities, two: Identities) -> tuple[tuple[Texts, Texts], ...]:
    """First and last names of both sides, turned around in those who wrote them so.

    A single word is a surname where it is the other's surname.
    """
    sides = []
    for own, other in ((one, two), (two, one)):
        lone = (own.last == "") & (own.first != "") & (other.last != "")
        lone &= _alike(own.first, other.last) >= _ALIKE
        sides.append((np.where(lone, "", own.first), np.where(lone, own.first, own.last)))
    (first, last), (other_first, other_last) = sides
    full = (first != "") & (last != "") & (other_first != "") & (other_last != "")
    crossed = np.minimum(_alike(first, other_last), _alike(last, other_first))
    straight = np.maximum(_alike(first, other_first), _alike(last, other_last))
    swapped = full & (crossed >= _ALIKE) & (crossed > straight)
    return (
        (first, np.where(swapped, other_last, other_first)),
        (last, np.where(swapped, other_first, other_last)),
    )


def _alike(a: Texts, b: Texts) -> NDArray[np.float64]:
    """Jaro-Winkler similarity, 0 for missing texts; shape (n,)."""
    alike = cpdist(a, b, scorer=JaroWinkler.similarity, dtype=np.float64)
    return np.where((a != "") & (b != ""), alike, 0.0)


def _one_slip(a: Texts, b: Texts) -> Flags:
    """Whether one letter typed, left out, changed or moved tells the texts apart."""
    edits = cpdist(a, b, scorer=DamerauLevenshtein.distance, score_cutoff=1, dtype=np.int32)
    return np.asarray(edits <= 1)


def _first_level(firsts: tuple[Texts, Texts], middles: tuple[Texts, Texts]) -> Levels:
    pairs = zip(*firsts, *middles, strict=True)
    return np.fromiter((_first_names(*_in_order(*each)) for each in pairs), np.int8, len(firsts[0]))


def _in_order(a: str, b: str, a_middle: str, b_middle: str) -> tuple[str, str, str, str]:
    """Both sides in one order, so that a pair has one level."""
    return (
        (a, b, a_middle, b_middle) if (a, a_middle) <= (b, b_middle) else (b, a, b_middle, a_middle)
    )


@lru_cache(maxsize=100_000)
def _first_names(a: str, b: str, a_middle: str, b_middle: str) -> int:
    """Level of two first names; middle names or initials: somebody may go by them."""
    if not a or not b:
        return NULL
    if a == b:
        return 0
    if not full_forms(a).isdisjoint(full_forms(b)):
        return 1
    if len(a) == 1 or len(b) == 1:
        letter, name = (a, b) if len(a) == 1 else (b, a)
        return 3 if any(form[0] == letter for form in forms(name)) else _FIRST_VETO
    if a == b_middle or b == a_middle:
        return 3
    # Of two known names neither is a slip of the other.
    if is_name(a) and is_name(b):
        return _FIRST_VETO
    if any(DamerauLevenshtein.distance(x, y) <= 1 for x in forms(a) for y in forms(b)):
        return 2
    alike = max(
        JaroWinkler.similarity(x, y) for x in full_forms(a) | {a} for y in full_forms(b) | {b}
    )
    return 2 if alike >= _ALIKE else 4 if alike >= _UNCLEAR else _FIRST_VETO


def is_name(word: str) -> bool:
    """Whether this is a first name in use, by the US shares or the list of short forms."""
    return is_known(word) or word in name_shares()["first"]


def _surname_level(lasts: tuple[Texts, Texts]) -> Levels:
    a, b = lasts
    similar = (_alike(a, b) >= _ALIKE) | _one_slip(a, b)
    conditions = [(a == "") | (b == ""), a == b, similar]
    return np.select(conditions, [NULL, 0, 1], 2).astype(np.int8)


#: how two places lie to each other
_DOOR, _BUILDING, _OTHER_UNIT, _NEAR, _SAME_ZIP, _ELSEWHERE = range(6)


def _place(one: Identities, two: Identities) -> Levels:
    told = (one.number != "") & (two.number != "") & (one.stem != "") & (two.stem != "")
    zips = (one.zip != "") & (two.zip != "")
    same_zip = zips & (one.zip == two.zip)
    house = told & (one.number == two.number) & (same_zip | ~zips)
    house &= (one.stem == two.stem) | (_alike(one.stem, two.stem) >= _ALIKE_STREET)
    units = (one.unit != "").astype(int) + (two.unit != "")
    apart = np.hypot(one.x - two.x, one.y - two.y)  # NaN compares as false
    conditions = [
        house & (units == 2) & (one.unit != two.unit),
        house & (units == 1),
        house | (~told & (apart <= _SAME_DOOR_M)),
        apart <= _NEAR_M,
        same_zip,
        told | zips | np.isfinite(apart),
    ]
    values = [_OTHER_UNIT, _BUILDING, _DOOR, _NEAR, _SAME_ZIP, _ELSEWHERE]
    return np.select(conditions, values, NULL).astype(np.int8)


def _home_level(place: Levels, surname: Flags, name: Flags) -> Levels:
    door, building = place == _DOOR, place == _BUILDING
    conditions = [door & name, door & surname, door, building & name, building, place == NULL]
    beyond = place + 3  # other unit and so on follow the five levels of one building
    return np.select(conditions, [0, 1, 2, 3, 4, NULL], beyond).astype(np.int8)


def _email_level(one: Identities, two: Identities, at_home: Flags) -> Levels:
    a, b = one.email, two.email
    exact = a == b
    similar = (one.local == two.local) & np.array([len(text) >= 6 for text in one.local], bool)
    similar |= _one_slip(a, b) | (_alike(a, b) >= _ALIKE_EMAIL)
    names = zip(one.local, one.first, one.last, two.local, two.first, two.last, strict=True)
    mere = (
        np.array([_mere_name(*each[:3]) and _mere_name(*each[3:]) for each in names], bool)
        if len(a)
        else np.zeros(0, bool)
    )
    conditions = [(a == "") | (b == ""), exact & at_home, exact, similar & mere, similar]
    return np.select(conditions, [NULL, 1, 0, 3, 2], 4).astype(np.int8)


def _mere_name(local: str, first: str, last: str) -> bool:
    """Whether an e-mail says no more than the name: ada.reed, reedada, areed."""
    letters = "".join(letter for letter in local if letter.isalnum())
    return bool(first and last) and letters in (
        first + last,
        last + first,
        first[0] + last,
        last + first[0],
    )


def _phone_level(one: Identities, two: Identities, at_home: Flags) -> Levels:
    a, b = one.phone, two.phone
    exact = a == b
    fiction = np.array([in_fiction(x) for x in a], bool)
    late = np.abs(one.at_us - two.at_us) > RECYCLED_DAYS * US_PER_DAY
    similar = ~fiction & _one_slip(a, b)
    missing = (a == "") | (b == "")
    conditions = [missing, exact & fiction, exact & at_home, exact & late, exact, similar]
    return np.select(conditions, [NULL, 3, 1, 2, 0, 4], 5).astype(np.int8)


def _suffix_level(a: Texts, b: Texts, namesakes: Flags) -> Levels:
    given = (a != "").astype(int) + (b != "")
    conditions = [(given == 2) & (a != b), ~namesakes, given == 0, given == 2]
    return np.select(conditions, [3, NULL, 0, 1], 2).astype(np.int8)
