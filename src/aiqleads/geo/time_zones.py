"""In which time zones an address of the United States may lie, by its ZIP or its state.

The first three digits of a ZIP are a sorting area, which may span a border of time zones (as
set in 49 CFR part 71, and as the tz database names them). Where one does, all its zones are
given: who needs to be sure takes what holds in each of them.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

Zones = tuple[str, ...]

_EASTERN, _CENTRAL = "America/New_York", "America/Chicago"
_MOUNTAIN, _PACIFIC = "America/Denver", "America/Los_Angeles"
_ARIZONA, _ALASKA, _ALEUTIANS = "America/Phoenix", "America/Anchorage", "America/Adak"
_HAWAII, _PUERTO_RICO, _GUAM = "Pacific/Honolulu", "America/Puerto_Rico", "Pacific/Guam"
_SAMOA = "Pacific/Pago_Pago"

#: where nothing is known of an address but that it is in the 48 states that touch
CONTIGUOUS: Zones = (_EASTERN, _CENTRAL, _MOUNTAIN, _PACIFIC)

_LETTERS = {
    "E": _EASTERN,
    "C": _CENTRAL,
    "M": _MOUNTAIN,
    "P": _PACIFIC,
    "A": _ARIZONA,
    "K": _ALASKA,
    "L": _ALEUTIANS,
    "H": _HAWAII,
    "R": _PUERTO_RICO,
    "G": _GUAM,
    "S": _SAMOA,
}
# First sorting area of each run, and the zones up to the next one; '' where none is a place
# of the United States (fields of the armed forces).
_AREAS = """
005 E  006 R  010 E  090 -  100 E  324 EC 325 C  326 E  340 -  341 E  350 C  368 EC 369 C
373 EC 374 E  375 C  376 E  377 EC 378 E  380 C  398 E  401 EC 402 E  420 C  425 E  426 EC
427 EC 430 E  463 C  465 EC 466 E  469 EC 470 E  475 EC 476 EC 478 E  479 EC 480 E  498 EC
500 C  575 CM 577 M  580 C  585 CM 587 C  588 CM 590 M  600 C  677 CM 679 C  690 CM 693 M
700 C  739 CM 740 C  798 CM 799 M  800 M  835 MP 836 M  838 P  840 M  850 A  859 AM 861 A
864 A  865 AM 870 M  885 M  889 P  898 MP 900 P  962 -  967 H  969 G  970 P  979 MP 980 P
995 KL 996 K
"""
_STATES = """
AK KL AL CE AR C AS S AZ AM CA P CO M CT E DC E DE E FL EC GA E GU G HI H IA C ID MP IL C
IN EC KS CM KY EC LA C MA E MD E ME E MI EC MN C MO C MP G MS C MT M NC E ND CM NE CM NH E
NJ E NM M NV MP NY E OH E OK CM OR MP PA E PR R RI E SC E SD CM TN EC TX CM UT M VA E VI R
VT E WA P WI C WV E WY M
"""


def _zones(letters: str) -> Zones:
    return tuple(_LETTERS[each] for each in letters.replace("-", ""))


@lru_cache
def _areas() -> tuple[list[int], list[Zones]]:
    words = _AREAS.split()
    return [int(each) for each in words[::2]], [_zones(each) for each in words[1::2]]


@lru_cache
def _states() -> dict[str, Zones]:
    words = _STATES.split()
    return {state: _zones(zones) for state, zones in zip(words[::2], words[1::2], strict=True)}


def zones_of(zip_code: str, state: str = "") -> Zones:
    """Names of the tz database in which the address may lie; () where neither tells.

    zip_code: five digits or more, '' for none. state: two letters of the Postal Service.
    """
    starts, zones = _areas()
    head = zip_code[:3]
    if len(zip_code) >= len("00000") and head.isascii() and head.isdigit():
        at = bisect_right(starts, int(head)) - 1
        if at >= 0 and zones[at]:
            return zones[at]
    return _states().get(state.strip().upper(), ())
