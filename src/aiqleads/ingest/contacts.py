"""Invented people: nobody is reached by an address under example.com or a 555-01xx number.

example.com and example.org are reserved by RFC 2606, the numbers 555-0100 to 555-0199 of
every area code for fiction by the North American Numbering Plan.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiqleads.ingest.draws import Keys, bits, uniform, whole

_FIRST = (
    "Ada Alan Alma Amos Anna Arlo Basil Bea Bert Boyd Cara Cecil Clara Cleo Cora Cyrus Dale "
    "Dora Earl Edith Edna Elsa Emil Enid Ezra Faye Fern Ford Gail Glen Greta Gus Hazel Hugo "
    "Ida Ira Iris Ivan Jade Jane Joel June Kit Kurt Lena Leo Lila Lois Lyle Mabel Mae Mira "
    "Neil Nell Nina Nora Olga Opal Otis Otto Pearl Reed Rhea Rosa Ruby Saul Tess Theo Troy "
    "Una Vera Viola Wade Wes Willa Zane Zoe"
)
_LAST = (
    "Abbey Acorn Alder Anchor Arbor Ashby Aspen Barley Basalt Beacon Birch Bishop Bramble "
    "Bridge Brook Cairn Canal Cedar Chapel Clover Comet Copper Corbel Cove Crane Dale Dawn "
    "Delta Dover Elder Ember Falcon Fenn Fern Field Flint Forge Fox Frost Gable Garnet Glade "
    "Granite Grove Hale Harbor Hatch Hawk Hazel Heath Heron Holly Holt Ivory Juniper Kestrel "
    "Lake Lark Laurel Linden Lock Maple Marsh Meadow Mill Moss North Oaks Orchard Otter Park "
    "Pebble Pine Plover Quarry Quill Raven Reed Ridge River Rowan Sable Sage Slate Sorrel "
    "Spruce Stone Tansy Thorn Vale Violet Walnut Warren Wells Willow Wren Yarrow"
)
#: people who leave out one of the two ways to reach them
_NO_PHONE, _NO_EMAIL = 0.12, 0.08


def _area_codes(keys: Keys) -> np.ndarray:
    """Area codes 2xx..9xx that are neither service codes (x11) nor 555."""
    codes = [code for code in range(201, 990) if code % 100 != 11 and code != 555]
    return np.array(codes)[whole(keys, "contact area", 0, len(codes) - 1)]


def phones(keys: Keys, what: str = "contact line") -> list[str]:
    """Numbers +1-AAA-555-01NN, one a key."""
    lines = whole(keys, what, 0, 99)
    return [
        f"+1-{area}-555-01{line:02d}"
        for area, line in zip(_area_codes(keys).tolist(), lines.tolist(), strict=True)
    ]


def _drawn(words: str, keys: Keys, what: str) -> np.ndarray:
    known = np.array(words.split())
    return known[whole(keys, what, 0, len(known) - 1)]


def contacts(keys: Keys) -> pd.DataFrame:
    """Columns name, email, phone (empty text where the person gave none), one row a key.

    Everybody can be reached in at least one way.
    """
    first = _drawn(_FIRST, keys, "contact first")
    last = _drawn(_LAST, keys, "contact last")
    tags = [format(int(tag), "06x") for tag in bits(keys, "contact tag") >> np.uint64(40)]
    emails = [
        f"{one}.{two}.{tag}@example.com".lower()
        for one, two, tag in zip(first, last, tags, strict=True)
    ]
    silent = uniform(keys, "contact silent")
    people = pd.DataFrame({"email": emails, "phone": phones(keys)}, dtype=object)
    people.insert(0, "name", [f"{one} {two}" for one, two in zip(first, last, strict=True)])
    people.loc[silent < _NO_PHONE, "phone"] = ""
    people.loc[silent >= 1 - _NO_EMAIL, "email"] = ""
    return people
